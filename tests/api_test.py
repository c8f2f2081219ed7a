"""The Python API: load, execute and train, in the process that the tests run in."""

import dataclasses
import importlib
import json
import shutil

import keras
import pytest
from conftest import snapshot

import keras_l2e
from keras_l2e import files, pretrained, tables
from keras_l2e.api import Answer
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.networks import saved_model


def test_functions_stay_functions_when_the_entry_points_are_imported():
    for name in ("train", "execute"):
        module = importlib.import_module(f"keras_l2e.{name}")
        assert module.__name__ == f"keras_l2e.{name}" and callable(module.main)
        function = getattr(keras_l2e, name)
        assert callable(function) and function.__module__ == "keras_l2e"
    from keras_l2e import execute

    assert execute is keras_l2e.execute


def test_a_text_and_a_list(addition_9):
    answer = addition_9.execute("print(123456789+987654321)")
    assert answer[:1] + answer[2:] == ("1111111110", "", True, "1111111110")
    assert 0.9 < answer.probability <= 1
    # A right sum, one that the network was not trained on, and two that it cannot read.
    texts = ["print(12+34)", "print(123456789+1)", "print(12 + 34)", "print(1/2)", ""]
    right, other, spaced, unreadable, empty = addition_9.execute(texts)
    assert right == addition_9.execute("print(12+34)")._replace(probability=right.probability)
    assert other.right is (other.output == "123456790") and other.true_output == "123456790"
    assert spaced == Answer("", 0, "", False, "46")
    assert unreadable == empty == Answer("", 0, "", None, None)
    assert addition_9.execute([]) == []
    # What stands for a byte of a command line that is no UTF-8.
    assert addition_9.execute("print(\udcff)") == Answer("", 0, "", None, None)


def test_many_programs_keep_their_places(addition_9):
    programs = [f"print({n}+{n})" for n in (*range(10, 310), 123456789, 11)]
    answers = addition_9.execute(programs)
    assert sum(answer.right for answer in answers) > 0.9 * len(programs)
    assert [answer.true_output for answer in answers] == [
        str(2 * int(program[6:].partition("+")[0])) for program in programs
    ]
    assert answers[-1] == answers[1]._replace(probability=answers[-1].probability)


def test_steps(addition_9):
    steps = addition_9.steps("print(12+34)")
    assert [step.character for step in steps] == ["4", "6", "EOS"]
    product = 1
    for step in steps:
        assert step.candidates[0] == (step.character, step.probability)
        assert len(step.candidates) == 5
        assert [p for _, p in step.candidates] == sorted((p for _, p in step.candidates))[::-1]
        product *= step.probability
    assert product == pytest.approx(addition_9.execute("print(12+34)").probability)
    assert addition_9.steps("print(12 + 34)") == addition_9.steps("") == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print(12+34)", None),
        (f"print({'1' * 9}+{'2' * 9}) \r\n", None),
        ("", "it is empty"),
        ("print(1/2)", "unknown character '/' at position 7"),
        ("print(1+ 2)", "white space at position 8, where no program of the task has any"),
        (
            f"print({'1' * 10}+{'2' * 9})",
            "27 characters; this network was trained on at most 26",
        ),
    ],
)
def test_why_a_program_cannot_be_read(addition_9, program, reason):
    assert addition_9.why_unreadable(program) == reason
    assert (addition_9.execute(program).probability == 0) == (reason is not None)


def test_what_is_known_of_a_network(addition_9):
    folder = pretrained.find("addition_9")
    assert (addition_9.config.task, addition_9.config.target_length) == ("addition", 9)
    assert addition_9.evaluation == tables.read_evaluation(folder / "evaluation.json")
    assert set(addition_9.model.input) == {"encoder_token_ids", "decoder_token_ids"}
    with pytest.raises(FileNotFoundError):
        _ = addition_9.history  # Only its card comes along.


def test_the_network_is_chosen_for_the_program():
    assert keras_l2e.execute("print(5+6)").right
    assert keras_l2e.execute("print((12345+6))").true_output == "12351"
    with pytest.raises(UsageError, match=r"program 'print\(535\+61\)': sums are of two numbers"):
        keras_l2e.execute("print(535+61)")


def test_a_run_and_its_saved_model_answer_alike(small_run):
    network = keras_l2e.load(small_run.folder)
    assert network.config == small_run.config
    assert network.history == small_run.history
    exported = keras_l2e.load(small_run.folder / "saved_model")
    assert exported.interface == network.interface == small_run.config.interface
    programs = ["print(1+2)", "print(34+56)", "print(1 +2)", "print(99+99)\r\n"]
    for one, other in zip(network.execute(programs), exported.execute(programs), strict=True):
        assert one._replace(probability=0) == other._replace(probability=0)
        assert one.probability == pytest.approx(other.probability, abs=1e-6)
    with pytest.raises(UsageError, match="only a run's folder has"):
        _ = exported.model


def test_a_saved_model_of_release_0_1_0_is_loaded(small_run, tmp_path):
    folder = shutil.copytree(small_run.folder / "saved_model", tmp_path / "old")
    description = json.loads((folder / saved_model.DESCRIPTION).read_text())
    for name in ("target_form", "longest_written", "white_space"):
        del description[name]
    (folder / saved_model.DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(WorkError, match=r"is not a whole SavedModel: .*keras_l2e.json was altered"):
        keras_l2e.load(folder)
    sums = (folder / saved_model.SUMS).read_text().splitlines()
    kept = [line for line in sums if "keras_l2e.json" not in line]
    (folder / saved_model.SUMS).write_text("\n".join(kept))
    old, new = keras_l2e.load(folder), keras_l2e.load(small_run.folder / "saved_model")
    assert old.execute("print(34+56)") == new.execute("print(34+56)")


@pytest.fixture
def copied_run(small_run, tmp_path):
    """A folder with all that the small run has left."""
    return shutil.copytree(small_run.folder, tmp_path / "run")


def test_a_finished_run_is_loaded_and_left_as_it_is(small_run, copied_run, capsys):
    before = snapshot(copied_run)
    network = keras_l2e.train(small_run.config, copied_run)
    assert capsys.readouterr().out == f"{copied_run} holds a finished run; nothing to do\n"
    assert network.folder == copied_run and network.evaluation == small_run.evaluation
    with pytest.raises(UsageError, match="--seed=1, not --seed=2"):
        keras_l2e.train(dataclasses.replace(small_run.config, seed=2), copied_run)
    assert snapshot(copied_run) == before


# Of Keras, not ours.
SETTINGS = {
    "floatx": "float64",
    "dtype_policy": keras.DTypePolicy("mixed_float16"),
    "max_epochs": 1,
    "max_steps_per_epoch": 1,
}


def test_a_run_goes_on_with_more_epochs_when_no_other_process_has_it(
    small_run, copied_run, others_settings
):
    others_settings(**SETTINGS)
    config = dataclasses.replace(small_run.config, num_epochs=small_run.config.num_epochs + 1)
    (unfinished := copied_run / ".tmp.history.jsonl").write_text("")
    with files.lock(copied_run), pytest.raises(UsageError) as error:
        keras_l2e.train(config, copied_run)
    assert str(error.value) == f"{copied_run} is in use by another process"
    assert unfinished.exists() and (copied_run / "evaluation.json").exists()

    network = keras_l2e.train(config, copied_run)
    assert not unfinished.exists()
    assert network.config == dataclasses.replace(config, data_dir=network.config.data_dir)
    assert network.history[:-1] == small_run.history and network.history[-1]["epoch"] == 6
    assert network.evaluation["rows"] != small_run.evaluation["rows"]
    assert isinstance(network.execute("print(1+2)").output, str)
    assert {variable.dtype for variable in network.model.trainable_variables} == {"float32"}


@pytest.mark.parametrize("checkpoints", ["damaged", "taken away"])
def test_of_a_run_that_cannot_go_on_nothing_is_lost(small_run, copied_run, checkpoints):
    if checkpoints == "damaged":
        for path in (copied_run / "checkpoints").iterdir():
            path.write_bytes(path.read_bytes()[:1000])
        message = f"no whole checkpoint in .*; remove {copied_run} to start afresh"
    else:
        shutil.rmtree(copied_run / "checkpoints")
        message = f"{copied_run} has no checkpoints, so it cannot go on"
    before = snapshot(copied_run)
    config = dataclasses.replace(small_run.config, num_epochs=small_run.config.num_epochs + 1)
    with pytest.raises(WorkError, match=message):
        keras_l2e.train(config, copied_run)
    assert snapshot(copied_run) == before


@pytest.mark.slow
def test_more_epochs_end_where_as_many_from_the_start_do(make_config, tmp_path, others_settings):
    few, more = (make_config(num_epochs=n, batches_per_epoch=3) for n in (1, 2))
    at_once = keras_l2e.train(more, tmp_path / "other")
    others_settings(**SETTINGS)
    keras_l2e.train(few, tmp_path / "run")
    went_on = keras_l2e.train(more, tmp_path / "run")
    assert went_on.config == at_once.config
    for name in ("history.jsonl", "evaluation.json"):
        assert (went_on.folder / name).read_bytes() == (at_once.folder / name).read_bytes()
    weights = zip(went_on.model.get_weights(), at_once.model.get_weights(), strict=True)
    assert all((one == other).all() for one, other in weights)


def test_a_run_that_ended_by_itself_has_no_use_for_more_epochs(small_run, copied_run, capsys):
    """As one does that --stop_at_exact_match ends."""
    files.write_json_lines(copied_run / "history.jsonl", small_run.history[:-1])
    keras_l2e.train(dataclasses.replace(small_run.config, num_epochs=9), copied_run)
    assert capsys.readouterr().out == f"{copied_run} holds a finished run; nothing to do\n"
