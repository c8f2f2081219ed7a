"""The functions that are exported: what they read and refuse, and the files of a SavedModel."""

import itertools
import random
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import small_network

from keras_l2e import config as configs
from keras_l2e import export
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.language import forms, vocabulary
from keras_l2e.language.tasks import ANYWHERE, TASKS
from keras_l2e.networks import MODELS, lstm, models, saved_model, text


@pytest.fixture(scope="module")
def served(random_network):
    """The signature of a network of programs with random weights."""
    return tf.saved_model.load(str(random_network[1])).signatures["serving_default"]


@pytest.fixture(scope="module")
def ask(addition_9):
    """Texts and their answers by the functions of addition_9 as `export` writes them."""
    module = saved_model.Module(addition_9.model, addition_9.interface)

    def ask(*texts):
        found = module.serve(tf.constant(texts))
        return [
            (output.decode(), probability)
            for output, probability in zip(*(found[k].numpy() for k in found), strict=True)
        ]

    return ask


def test_names_of_outputs_are_text_to_tensorflow_serving(served):
    """It encodes as base64 whatever ends with _bytes; and it reads rows only by the batch."""
    assert set(served.structured_outputs) == {"output", "probability"}
    assert set(served.structured_input_signature[1]) == {"program"}
    specs = [*served.structured_outputs.values(), *served.structured_input_signature[1].values()]
    assert all(spec.shape.as_list() == [None] for spec in specs)


def test_what_files_and_terminals_add_makes_no_difference(ask):
    ((output, probability),) = ask("print(12+34)")
    assert output == "46" and probability > 0.9
    marks, starts, ends = (
        ("", "\ufeff"),
        ("", "\n", " \r\n"),
        ("", "\n", "\r\n", "\r", " \t\f", "\n "),
    )
    texts = ["".join(parts) for parts in itertools.product(marks, starts, ["print(12+34)"], ends)]
    for found in ask(*texts):
        assert found == (output, pytest.approx(probability, abs=1e-6))


@pytest.mark.parametrize(
    "program",
    ["print(12 + 34)", " print(12+34)", "print(12+34) 5", "print(12+\n34)", "print(12+34)\n5"],
)
def test_white_space_that_was_not_trained_gives_no_answer(ask, program):
    assert ask(program, "print(12+34)")[0] == ("", 0)
    assert ask("print(12+34)", program)[0][0] == "46"


@pytest.mark.parametrize("task", TASKS)
def test_a_task_s_own_white_space_is_read_and_no_other(task):
    rng, white_space = random.Random(task), TASKS[task].white_space
    texts = []
    for level in TASKS[task].difficulties():
        texts += [TASKS[task].generate(rng, level).program for _ in range(20)]
    assert not text.has_stray_white_space(tf.constant(texts), white_space).numpy().any()
    assert all(forms.clean(program) == program for program in texts)
    # One more character of it anywhere is one too many, if `clean` leaves it there.
    spaced = []
    for program in texts:
        position = rng.randrange(len(program) + 1)
        spaced.append(forms.clean(program[:position] + " " + program[position:]))
    strayed = text.has_stray_white_space(tf.constant(spaced), white_space).numpy().tolist()
    assert strayed == [program != other for program, other in zip(texts, spaced, strict=True)]
    reasons = [forms.why_unknown(program, white_space) for program in spaced]
    assert [reason is not None for reason in reasons] == strayed
    assert not text.has_stray_white_space(tf.constant(spaced), ANYWHERE).numpy().any()


def test_work_without_an_end_has_no_answer(monkeypatch):
    interface = configs.Config(task="addition", target_form="trace").interface
    module = saved_model.Module(small_network(), interface)
    ids = tf.constant([vocabulary.encode("46;46")] * 2)
    decoded = ids, tf.fill([2, 5], 0.5), None, tf.constant([True, False]), tf.constant([True] * 2)
    monkeypatch.setattr(module, "_decode", lambda program: decoded)
    found = module.serve(tf.constant(["print(12+34)"] * 2))
    assert found["output"].numpy().tolist() == [b"46", b""]
    assert found["probability"].numpy().tolist() == [0.5**5, 0]
    assert found["work"].numpy().tolist() == [b"46;46"] * 2


@pytest.mark.parametrize(
    "name", ["saved_model.pb", saved_model.DESCRIPTION, "variables/variables.index"]
)
def test_a_file_that_was_altered_or_is_missing_is_found(random_network, tmp_path, name):
    folder = shutil.copytree(random_network[1], tmp_path / "model")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(WorkError) as error:
        saved_model.load(folder)
    assert str(error.value) == f"{folder} is not a whole SavedModel: {name} was altered"
    (folder / name).unlink()
    with pytest.raises(WorkError, match=r"is not a whole SavedModel: .*No such file"):
        saved_model.load(folder)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_answers_as_before_once_it_is_saved(name, tmp_path):
    interface = configs.Config(task="addition", target_length=2, model=name).interface
    network, texts = small_network(model=name), ["print(1+2)", "", "print(12+34)"]
    saved_model.save(network, interface, tmp_path / "new")
    functions, read = saved_model.load(tmp_path / "new")
    assert read == interface
    before = saved_model.serve_many(saved_model.Module(network, interface), texts, shows_work=False)
    found = saved_model.serve_many(functions, texts, shows_work=False)
    assert found["output"].tolist() == before["output"].tolist()
    np.testing.assert_allclose(found["probability"], before["probability"], rtol=1e-5)


def test_a_network_is_written_whole_or_not_at_all(random_network, tmp_path, monkeypatch):
    def fail(module, path, signatures):
        shutil.copytree(random_network[1], path, dirs_exist_ok=True)
        raise tf.errors.ResourceExhaustedError(None, None, "disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    interface = configs.Config().interface
    with pytest.raises(WorkError, match="new cannot be written: disk full"):
        saved_model.save(random_network[0], interface, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_an_export_where_there_is_a_gpu_answers_where_there_is_none(
    small_run, tmp_path, monkeypatch, capsys
):
    """By the entry point, into a folder that is not there yet."""
    list_devices = tf.config.list_logical_devices
    network, load = [], models.load
    monkeypatch.setattr(models, "load", lambda path: network.append(load(path)) or network[0])
    output = tmp_path / "new/exported"
    arguments = export.Arguments(workdir=str(small_run.folder), output=str(output))
    with monkeypatch.context() as patch:
        patch.setattr(
            tf.config,
            "list_logical_devices",
            lambda kind=None: ["GPU:0"] if kind == "GPU" else list_devices(kind),
        )
        export.main(arguments)
    assert capsys.readouterr().out == f"saved_model: {output}\n"
    lstms = [layer for layer in network[0]._flatten_layers() if isinstance(layer, lstm.LSTM)]
    assert [layer.use_cudnn for layer in lstms] == ["auto"] * 2
    found = [saved_model.load(folder)[0] for folder in (output, small_run.folder / "saved_model")]
    programs = tf.constant(["print(12+34)", "print(5+6)", "print(99+99)", "print(0)"])
    answers, expected = (functions.serve(programs) for functions in found)
    assert answers["output"].numpy().tolist() == expected["output"].numpy().tolist()
    np.testing.assert_allclose(answers["probability"], expected["probability"], rtol=1e-4)
    assert len(found[0].decode_steps(programs[:0])["characters"]) == 0
    with pytest.raises(UsageError, match="exists; name a new one"):
        export.main(arguments)
