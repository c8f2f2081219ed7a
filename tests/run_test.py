"""End to end on tiny sizes: training, stopped runs, evaluation, export, execution."""

import json
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from keras_l2e import config as run_flags
from keras_l2e import evaluate, execute, export, pretrained, train
from keras_l2e.data import pipeline as input_pipeline
from keras_l2e.data import stored as prepared_data
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.language import programs, vocabulary
from keras_l2e.language.tasks import TASKS, Difficulty, grid, has_long_carry
from keras_l2e.networks import lstm as layers
from keras_l2e.networks import models, optimizers
from keras_l2e.paper import comparisons
from keras_l2e.teaching import teachers as curriculum
from keras_l2e.training import run as training
from keras_l2e.training import workers
from keras_l2e.training.scoring import Scorer

TINY = [
    "--task=addition",
    "--target_length=2",
    "--input_form=reverse",
    "--examples_per_difficulty=300",
    "--num_epochs=12",
    "--batches_per_epoch=5",
    "--hidden_dim=16",
    "--embedding_dim=8",
    "--global_batch_size=32",
    "--validation_examples=50",
    "--test_examples=60",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def trained(run_command, folder):
    """The folder of a finished run and the process that left it."""
    process = run_command("train", *TINY, "--workdir=W", "--data_dir=data", cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder / "W", process


def read_weights(path):
    """The bytes of every weight in a .keras file."""
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as file:
        weights = {}
        h5py.File(file).visititems(
            lambda name, item: (
                weights.update({name: item[()].tobytes()})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    assert len(weights) == 9
    return weights


def test_it_leaves_every_file_and_says_nothing_but_progress(trained):
    workdir, process = trained
    assert process.stderr == ""
    assert sorted(path.name for path in workdir.iterdir()) == [
        "breakdown.png",
        "checkpoints",
        "evaluation.json",
        "exact_match.png",
        "flags.cfg",
        "history.jsonl",
        "learning_curve.png",
        "model.keras",
        "saved_model",
        "tensorboard",
        "timing.jsonl",
    ]
    for path in workdir.glob("*.png"):
        assert matplotlib.image.imread(path).std() > 0.01
    lines = process.stdout.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 12
    for i, line in enumerate(epochs, start=1):
        assert re.fullmatch(
            rf"epoch {i}/12  addition length [12]  loss \d\.\d+  "
            r"validation token_accuracy [\d.]+% exact_match [\d.]+%  \(target: [\d.]+%\)  "
            r"[\d,]+ programs/s  \d:\d\d:\d\d left at most",
            line,
        )
    assert "data: data (2 of 2 configs to build)" in lines
    assert lines[1].startswith("keras_l2e 0.1.0, tensorflow 2.21.") and "Python 3.1" in lines[1]
    assert lines[-1] == "results, plots and SavedModel: W"


def test_history_and_evaluation_depend_on_no_clock_and_no_place(trained):
    workdir, _ = trained
    history = [json.loads(line) for line in (workdir / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == list(range(1, 13))
    assert [line["num_examples"] for line in history] == list(range(160, 1921, 160))
    for line in history:
        assert sorted(line) == [
            "advanced_to",
            "difficulty",
            "epoch",
            "judged_by",
            "judged_token_accuracy",
            "learning_rate",
            "loss",
            "num_examples",
            "target_validation",
            "token_accuracy",
            "validation",
        ]
        assert 0 < line["validation"]["num_examples"] <= 50
    assert history[-1]["target_validation"]["num_examples"] == 50
    # A hundred 1-digit sums: their validation split is too small to judge by.
    assert history[0]["difficulty"] == {"length": 1, "nesting": 1}
    assert history[0]["judged_by"] == "training"
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    assert sorted(evaluation) == [
        "beyond_training",
        "by_carry_chain",
        "chance_token_accuracy",
        "input_form",
        "rows",
        "samples",
        "seed",
        "split",
        "task",
        "unequal_digits",
    ]
    names = ("task", "split", "input_form", "seed")
    assert [evaluation[name] for name in names] == ["addition", "test", "reverse", 1]
    for row in evaluation["rows"]:
        assert list(row) == [
            "length",
            "nesting",
            "num_examples",
            "token_accuracy",
            "exact_match",
            "free_token_accuracy",
            "answer_in_program",
        ]
    assert [(row["length"], row["nesting"]) for row in evaluation["rows"]] == [(1, 1), (2, 1)]
    assert evaluation["rows"][1]["num_examples"] == 60
    for row in evaluation["rows"]:
        kinds = [kind for kind in evaluation["by_carry_chain"] if kind["length"] == row["length"]]
        chains = [kind["carry_chain"] for kind in kinds]
        assert chains == list(range(row["length"] + 1))
        assert sum(kind["num_examples"] for kind in kinds) == row["num_examples"]
    beyond = [(row["length"], row["num_examples"]) for row in evaluation["beyond_training"]]
    assert beyond == [(3, 1000), (4, 1000)]
    (unequal,) = evaluation["unequal_digits"]
    assert (unequal["length"], unequal["shorter"]) == (2, 1)
    assert 500 < unequal["num_examples"] < 700  # A third of 2 * 90 * 10.
    timing = [json.loads(line) for line in (workdir / "timing.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in timing] == list(range(1, 13))
    assert all(line["seconds"] > 0 for line in timing)


def stop_after_an_epoch(process, signal_number):
    """Sends the signal after an epoch; gives the exit code and what stderr holds."""
    for line in process.stdout:
        if line.startswith("epoch "):
            process.send_signal(signal_number)
            break
    _, stderr = process.communicate()
    return process.returncode, stderr


def test_a_run_that_is_stopped_ends_as_one_left_alone(trained, folder, run_command, start_command):
    # With the flags the first one wrote; they name its folder, the command line another.
    workdir, _ = trained
    command = ["--workdir=again", f"--flagfile={workdir / 'flags.cfg'}"]
    again = folder / "again"
    stopped = "stopped; the same command goes on from what is finished\n"
    for signal_number, exit_code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start_command("train", *command, cwd=folder)
        assert stop_after_an_epoch(process, signal_number) == (exit_code, stopped)
        assert not (again / "evaluation.json").exists()
    # As if killed with a checkpoint half on the disk.
    newest = max((again / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    process = run_command("train", *command, cwd=folder)
    assert (process.returncode, process.stderr) == (0, "")
    assert f"again/checkpoints/{newest.name} is not a whole checkpoint" in process.stdout
    # Each of the two came after an epoch at the least, whose checkpoint there was; one is lost.
    (epoch,) = re.findall(r"^going on after epoch (\d+)$", process.stdout, re.MULTILINE)
    assert 1 <= int(epoch) < 12
    assert read_weights(again / "model.keras") == read_weights(workdir / "model.keras")
    for name in ("history.jsonl", "evaluation.json"):
        assert (again / name).read_text() == (workdir / name).read_text()
    lines = [(path / "flags.cfg").read_text().splitlines() for path in (again, workdir)]
    assert set(lines[0]) ^ set(lines[1]) == {"--workdir=W", "--workdir=again"}


def test_evaluation_repeats_itself(trained, folder, run_command):
    workdir, _ = trained
    shutil.copytree(workdir, folder / "copy")
    (folder / "copy/evaluation.json").write_text("{}")
    (folder / "copy/exact_match.png").unlink()
    process = run_command("evaluate", "--workdir=copy", cwd=folder)
    assert (process.returncode, process.stderr) == (0, "")
    text = (workdir / "evaluation.json").read_text()
    assert (folder / "copy/evaluation.json").read_text() == text
    assert (folder / "copy/exact_match.png").stat().st_size > 0
    assert "(not trained): token_accuracy" in process.stdout
    assert "replacing copy/evaluation.json" in process.stdout.splitlines()


@pytest.fixture(scope="module")
def run_with_network(trained, folder):
    """Runs an entry point as if the trained network came with the package, as `tiny`."""
    shutil.copytree(trained[0], folder / "networks/tiny")

    def run(name, *arguments):
        code = (
            "import pathlib, runpy, sys; from keras_l2e import pretrained; "
            f"pretrained.FOLDER = pathlib.Path({str(folder / 'networks')!r}); "
            f"runpy.run_module('keras_l2e.{name}', run_name='__main__', alter_sys=True)"
        )
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)

    return run


def test_a_network_of_the_package_is_evaluated(trained, folder, run_with_network):
    workdir, _ = trained
    network = folder / "networks/tiny"
    before = sorted((path, path.stat().st_mtime_ns) for path in network.rglob("*"))
    process = run_with_network("evaluate", "--pretrained=tiny", "--output=new/tiny.json")
    assert (process.returncode, process.stderr) == (0, "")
    last = process.stdout.splitlines()[-1]
    assert last.startswith("0.0 standard errors from the published figures at most (")
    assert (folder / "new/tiny.json").read_text() == (workdir / "evaluation.json").read_text()
    assert sorted((path, path.stat().st_mtime_ns) for path in network.rglob("*")) == before


def test_other_figures_than_the_published_ones_are_an_error(trained):
    workdir, _ = trained
    published = json.loads((workdir / "evaluation.json").read_text())
    evaluate.check_published(published, published)
    row = published["rows"][1]
    other = published | {"rows": [published["rows"][0], row | {"exact_match": 1.0}]}
    name = "exact_match at length 2, nesting 1"
    distance, worst = evaluate.compare(other, published)
    # The sampling error of a rate on 60 examples, four more of which are taken for half right.
    rate = (60 * row["exact_match"] + 2) / 64
    assert worst == name
    expected = (1 - row["exact_match"]) / math.sqrt(rate * (1 - rate) / 60)
    assert distance == pytest.approx(expected) and distance > 4
    with pytest.raises(WorkError, match=f"{distance:.1f} standard errors .*{name}.*; allowed 4"):
        evaluate.check_published(other, published)


def test_a_network_of_the_package_is_exported_and_executes(
    trained, folder, run_with_network, monkeypatch, capsys
):
    expected = execute.execute(trained[0] / "saved_model", "print(12+34)") + "\n"
    process = run_with_network("export", "--pretrained=tiny", "--output=exported")
    assert (process.returncode, process.stdout) == (0, "SavedModel: exported\n")
    process = run_with_network("execute", "print(12+34)")
    assert (process.returncode, process.stderr) == (0, "")
    rate = json.loads((trained[0] / "evaluation.json").read_text())["rows"][1]["exact_match"]
    measured = f"           exact_match {rate:.4f} at length 2\n"
    assert process.stdout == f"network    tiny (--model names another)\n{measured}{expected}"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(pretrained, "FOLDER", folder / "networks")
    # A network's name, an exported one, and the folder of a run without its SavedModel.
    for name in ("tiny", "exported", "networks/tiny"):
        execute.main(SimpleNamespace(model=name, arguments=["print(12+34)"], steps=False))
        assert capsys.readouterr().out == expected
    process = run_with_network("execute", "print(123+456)")
    assert (process.returncode, process.stdout) == (2, "")
    assert "there are tiny (task addition, length 2, nesting 1)" in process.stderr


def test_training_starts_from_a_network(trained, folder, make_run):
    workdir, _ = trained
    strategy = {"strategy": "naive", "advance_threshold": 0.0}
    run = make_run("from_tiny", initial_model=str(workdir), **strategy)
    expected = models.load(workdir / "model.keras").get_weights()
    assert_same(run.model.get_weights(), expected)
    # What it masters need not be learnt again.
    assert run.state.level == 1
    # So does their average: five steps do not lead far.
    run.train_epoch()
    for found, weight in zip(run.averaged.get_weights(), expected, strict=True):
        assert abs(found - weight).max() < 5 * run.learning_rate


def test_a_worker_that_does_not_see_the_chief_s_folder_is_told_so(folder, make_run, monkeypatch):
    monkeypatch.setattr(workers, "share", lambda strategy, value: 3)
    with pytest.raises(WorkError) as error:
        make_run("behind")
    assert str(error.value) == (
        f"{folder / 'behind'} ends with epoch 0 here and with 3 at the chief; "
        "all workers need the same folder"
    )


def test_a_run_goes_on_without_the_network_that_it_started_from(trained, folder):
    config = make_config(folder / "from_gone", initial_model=str(folder / "gone"))
    with pytest.raises(UsageError, match=r"no network .*gone"):
        train.settle(config, folder / "from_gone")
    (folder / "from_gone").mkdir()
    run_flags.write(folder / "from_gone", config)
    assert train.settle(config, folder / "from_gone").initial_model == str(folder / "gone")


def test_other_data_are_an_error_of_one_line(trained, folder, run_command):
    workdir, _ = trained
    shutil.copytree(folder / "data", folder / "other_data")
    info = folder / (
        f"other_data/learning_to_execute/addition_length_2_examples_300/"
        f"{prepared_data.VERSION}/dataset_info.json"
    )
    info.write_text(info.read_text().replace(f'"{prepared_data.VERSION}"', '"0.9.0"'))
    before = (workdir / "evaluation.json").read_text()
    process = run_command("evaluate", f"--workdir={workdir}", "--data_dir=other_data", cwd=folder)
    assert process.returncode == 1
    assert re.fullmatch(r"error: .*version 0\.9\.0 where .* is expected.*\n", process.stderr)
    assert (workdir / "evaluation.json").read_text() == before


PROGRAMS = ["print(12+34)", "print(5+6)", "print(99+99)", "print(0)"]
UNREADABLE = [
    "",
    "Print(1+2)",  # P is no character of the class.
    "print(123+45)",  # One character longer than any program of the trained difficulties.
    "print(1\u00b2)",  # Two bytes.
    b"print(\xff\xfe)",
]

# Runs where keras_l2e and Keras cannot be imported; prints what the SavedModel gives.
LOADER = """
import json, sys
sys.modules["keras_l2e"] = sys.modules["keras"] = None
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
programs = [bytes.fromhex(text) for text in json.loads(sys.argv[2])]
def as_lists(outputs):
    return {name: tf.strings.as_string(value).numpy().tolist() if value.dtype != tf.string
            else value.numpy().tolist() for name, value in outputs.items()}
results = {
    "batch": as_lists(serve(program=tf.constant(programs))),
    "none": as_lists(serve(program=tf.constant([], tf.string))),
    "steps": as_lists(model.decode_steps(tf.constant(programs))),
    "no_steps": as_lists(model.decode_steps(tf.constant([], tf.string))),
    "signature": str(serve.structured_input_signature) + str(serve.structured_outputs),
}
print(json.dumps(results, default=bytes.decode))
"""


@pytest.fixture(scope="module")
def served(trained, folder, run_command):
    """What an exported network gives for PROGRAMS and UNREADABLE in turn, in another process."""
    process = run_command("export", "--workdir=W", "--output=below/exported", cwd=folder)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == "SavedModel: below/exported\n"
    texts = [text if isinstance(text, bytes) else text.encode() for text in PROGRAMS + UNREADABLE]
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            LOADER,
            str(folder / "below/exported"),
            json.dumps([text.hex() for text in texts]),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_the_saved_model_gives_what_decoding_gives(trained, served):
    workdir, _ = trained
    scorer = Scorer(models.load(workdir / "model.keras"), "reverse", max_steps=4)
    programs = [program.encode() for program in PROGRAMS]
    scores = scorer.score(programs, [b"0"] * len(programs))
    assert served["batch"]["output"][: len(PROGRAMS)] == scores.outputs
    for probability in served["batch"]["probability"][: len(PROGRAMS)]:
        assert 0 <= float(probability) < 1
    for part in ("program", "string", "output", "probability", "float32"):
        assert part in served["signature"]


def test_rows_that_cannot_be_read_are_empty_and_harm_no_other(served):
    count = len(PROGRAMS)
    assert served["batch"]["output"][count:] == [""] * len(UNREADABLE)
    assert [float(p) for p in served["batch"]["probability"][count:]] == [0.0] * len(UNREADABLE)
    for row in served["steps"]["characters"][count:]:
        assert set(row) == {""}
    assert served["none"] == {"output": [], "probability": []}
    assert served["no_steps"]["characters"] == []


def test_steps_are_the_answer_one_by_one(served):
    steps = served["steps"]
    for i in range(len(PROGRAMS)):
        characters = [character for character in steps["characters"][i] if character]
        text = "".join(character for character in characters if character != "EOS")
        assert text == served["batch"]["output"][i]
        probabilities = [float(p) for p in steps["probabilities"][i]]
        product = math.prod(probabilities[: len(characters)])
        whole = float(served["batch"]["probability"][i])
        # Printed with six digits.
        assert whole == (pytest.approx(product, rel=1e-4) if characters[-1] == "EOS" else 0)
        for step, character in enumerate(characters):
            candidates = steps["candidates"][i][step]
            values = [float(p) for p in steps["candidate_probabilities"][i][step]]
            assert len(candidates) == 5 and candidates[0] == character
            assert values == sorted(values, reverse=True)
            assert values[0] == probabilities[step]


def test_execute(trained, folder, run_command, monkeypatch, capsys):
    (folder / "program.py").write_text("print(12+34)\n")
    assert execute._read_program([str(folder / "program.py")]) == "print(12+34)"
    assert execute._read_program(["print(12+34)"]) == "print(12+34)"
    assert execute._read_program(["print(1)" * 1000]) == "print(1)" * 1000
    process = run_command("execute", "--model=W", cwd=folder, input="print(12+34)\n")
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert lines[0] == "program    print(12+34)"
    assert lines[1].startswith("predicted  ")
    assert lines[2:4] == ["true       46", "wrong"]
    assert lines[4] == "character  probability"
    for line in lines[5:]:
        assert re.fullmatch(r"(\S|\\n| |EOS) +[01]\.\d{4}", line)
    # Step by step: what is written comes first, and nothing is more probable.
    monkeypatch.chdir(folder)
    execute.main(SimpleNamespace(model="W", arguments=["print(12+34)"], steps=True))
    table = capsys.readouterr().out.splitlines()[4:]
    assert table[0] == "step  characters and their probabilities, the first one is written"
    assert len(table) == len(lines) - 4
    for step, (row, line) in enumerate(zip(table[1:], lines[5:], strict=True), start=1):
        number, *cells = row.split()
        assert int(number) == step and len(cells) == 10  # Five characters, a probability each.
        assert cells[:2] == line.split()
        assert cells[1::2] == sorted(cells[1::2], reverse=True)


def make_config(folder, **changes):
    """The flags of a tiny run as `train` gets them."""
    values = flags.FlagValues()
    run_flags.define(values)
    values(["", *TINY, f"--workdir={folder}", f"--data_dir={folder.parent / 'data'}"])
    return SimpleNamespace(**values.flag_values_dict() | {"num_replicas": 2} | changes)


@pytest.fixture
def make_run(folder, two_replicas, build_here):
    """Makes a run in this process, on two replicas, with its data prepared."""

    def make(name, **changes):
        config = make_config(folder / name, **changes)
        prepared_data.prepare(
            config.task,
            grid(Difficulty(config.target_length, config.target_nesting)),
            config.data_dir,
            config.examples_per_difficulty,
            report=str,
        )
        (folder / name).mkdir()
        return training.Run(config, folder / name, two_replicas)

    return make


VARIANTS = {
    "paper": {
        "task": "program",
        "target_nesting": 2,
        "num_layers": 2,
        "tie_encoder_decoder": True,
        "embedding_dim": 16,
        "uniform_init": 0.08,
        "optimizer": "sgd",
        "learning_rate": 0.5,
        "learning_rate_schedule": "plateau",
        "loss_scale": "example",
        "clip_norm": 5.0,
        "average_decay": 0.0,
        "validate_all_levels": True,
        "num_epochs": 2,
    },
    "generated": {
        "task": "copy",
        "train_source": "generated",
        "input_form": "double",
        "strategy": "baseline",
        "optimizer": "adam",
        "learning_rate_schedule": "cosine",
        "average_decay": 0.5,
        "num_epochs": 2,
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_flags(folder, make_run, monkeypatch, name):
    # Of 300 of the easiest programs 90 are repeats, of harder ones at most 14.
    monkeypatch.setattr(training, "JUDGEABLE_REPEATS", 0.2)
    run = make_run(name, **VARIANTS[name])
    run.train()
    (folder / name / "history.jsonl").unlink()  # As if killed before it was written,
    run.restore()  # and started again.
    train.finish(run)
    lines = (folder / name / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.history
    assert_same(models.load(folder / name / "model.keras").get_weights(), averages(run))
    evaluation = json.loads((folder / name / "evaluation.json").read_text())
    task = TASKS[run.config.task]
    assert len(evaluation["rows"]) == 2 * run.config.target_nesting
    assert ("by_operation" in evaluation) == (name == "paper")
    if name == "generated":
        assert all(row["answer_in_program"] == 1.0 for row in evaluation["rows"])
    served = tf.saved_model.load(str(folder / name / "saved_model"))
    samples = evaluation["samples"]
    programs = [sample["program"] for sample in samples]
    outputs = served.signatures["serving_default"](program=tf.constant(programs))["output"]
    assert [output.decode() for output in outputs.numpy()] == [s["output"] for s in samples]
    assert [task.answer(program) for program in programs] == [s["target"] for s in samples]
    if name == "paper":
        check_levels(run, monkeypatch)


def check_levels(run, monkeypatch):
    """What --validate_all_levels leaves in the history of a run at four difficulties."""
    last = run.history[-1]
    judged_by = ["training", *["validation"] * 3]
    assert [
        (level["length"], level["nesting"], level["judged_by"]) for level in last["levels"]
    ] == [
        (*level.difficulty, by) for level, by in zip(run.curriculum.levels, judged_by, strict=True)
    ]
    target = {**run.target.as_dict(), "judged_by": "validation", **last["target_validation"]}
    assert last["levels"][-1] == target
    assert last["levels"][0]["token_accuracy"] == last["judged_token_accuracy"]
    monkeypatch.setattr(comparisons, "MASTERED", 0.0)
    seen = run.history[0]["num_examples"]
    assert comparisons.mastered(run.history) == [
        {**level.as_dict(), "num_examples": seen} for level in run.curriculum.levels
    ]


def averages(run):
    """The weights that a run's `averaged` is to have."""
    if not run.config.average_decay:
        return run.model.get_weights()
    return [average.numpy() for average in run.model.optimizer._model_variables_moving_average]


def assert_same(weights, expected):
    for found, weight in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(found, weight)


@pytest.mark.parametrize("decay", [0.9, 0.0])
def test_the_network_that_is_judged_has_the_averaged_weights(make_run, monkeypatch, decay):
    scored, judged = [], []

    def make_scorer(model, *arguments):
        scored.append(model)
        return Scorer(model, *arguments)

    monkeypatch.setattr(training, "Scorer", make_scorer)
    run = make_run(f"average_{decay}", average_decay=decay)
    judge = run.judge
    run.judge = lambda scores: judged.append(run.averaged.get_weights()) or judge(scores)
    run.train_epoch()
    assert scored == [run.averaged]
    for weights in (*judged, run.averaged.get_weights()):
        assert_same(weights, averages(run))
    pairs = zip(run.averaged.get_weights(), run.model.get_weights(), strict=True)
    assert {bool((averaged == raw).all()) for averaged, raw in pairs} == {decay == 0}
    # Also in a run that goes on, if only to be evaluated.
    run.save()
    run.averaged.set_weights([weight + 1 for weight in run.averaged.get_weights()])
    run.restore()
    assert_same(run.averaged.get_weights(), averages(run))


@pytest.fixture
def asked_batches(monkeypatch):
    """The shares and keywords that `input_pipeline.training_batches` is called with."""
    calls = []
    training_batches = input_pipeline.training_batches

    def record(sources, weights, **keywords):
        calls.append((weights, keywords))
        return training_batches(sources, weights, **keywords)

    monkeypatch.setattr(input_pipeline, "training_batches", record)
    return calls


def test_flags_reach_what_they_are_about(make_run, asked_batches):
    teaching = {"strategy": "combined", "mix_share": 0.3, "advance_threshold": 0.7, "patience": 7}
    network = {
        "hidden_dim": 12,
        "num_layers": 2,
        "embedding_dim": 6,
        "tie_encoder_decoder": True,
        "uniform_init": 0.05,
    }
    reading = {"input_form": "double", "loss_scale": "example"}
    run = make_run(
        "flags",
        **teaching,
        **network,
        **reading,
        optimizer="sgd",
        learning_rate=0.25,
        clip_norm=3.0,
        average_decay=0.75,
        sort_window=3,
        global_batch_size=24,
        batches_per_epoch=7,
    )
    levels = curriculum.levels_up_to(Difficulty(2))
    assert run.curriculum == curriculum.Curriculum(levels=levels, **teaching)
    for model in (run.model, run.averaged):
        assert model.arguments == {"vocabulary_size": vocabulary.SIZE, **network}
        assert 0.049 < max(abs(weight).max() for weight in model.get_weights()) <= 0.05
    optimizer = run.model.optimizer
    assert type(optimizer) is optimizers.SGD
    assert optimizer.learning_rate.numpy() == run.rate() == 0.25
    assert (optimizer.clip_norm, optimizer.use_ema, optimizer.ema_momentum) == (3.0, True, 0.75)
    run.model = ScriptedFit(run.model, [0.5])
    run.fit([0.25, 0.75])
    assert run.model.keywords["steps_per_epoch"] == 7
    expected = {**reading, "window": 3, "batch_size": 24, "num_batches": 7}
    assert len(asked_batches) == 2  # A replica each.
    for weights, keywords in asked_batches:
        assert weights == [0.25, 0.75]
        assert {name: keywords[name] for name in expected} == expected


def test_a_folder_is_new_if_the_first_file_of_a_run_was_not_finished(tmp_path):
    config = make_config(tmp_path)
    (tmp_path / ".tmp.0123abcd.flags.cfg").touch()
    train.settle(config, tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds other files"):
        train.settle(config, tmp_path)


def test_the_paper_is_named_when_its_network_is_trained(folder):
    def described(**changes):
        run = training.Run.__new__(training.Run)
        run.config = make_config(folder / "new", **changes)
        run.averaged = run.build_model()
        return run.describe()

    shape = {"num_layers": 2, "hidden_dim": 400, "embedding_dim": 400}
    line = described(**shape, tie_encoder_decoder=True)
    assert line.endswith("one stack reads and writes, 2,597,643 parameters (the paper's network)")
    assert "paper" not in described(**shape)


class ScriptedFit:
    """Stands in for a model: `fit` gives the token accuracies of a list."""

    def __init__(self, model, accuracies):
        self.optimizer = model.optimizer
        self.variables = model.variables
        self.trainable_variables = model.trainable_variables
        self.accuracies = list(accuracies)
        self.rates = []

    def fit(self, *args, **keywords):
        self.keywords = keywords
        self.rates.append(float(self.optimizer.learning_rate.numpy()))
        accuracy = self.accuracies[len(self.rates) - 1]
        return SimpleNamespace(history={"loss": [1.0], "token_accuracy": [accuracy]})


@pytest.fixture
def scripted_run(make_run):
    """Runs at the target; accuracies of training and exact matches of validation are given."""

    def make(name, accuracies, exact_matches=None, **changes):
        run = make_run(name, strategy="mix", num_epochs=len(accuracies), **changes)
        run.model = ScriptedFit(run.model, accuracies)
        run.save = run.report = lambda *args: None
        rates = exact_matches or [0.0] * len(accuracies)
        run.score = lambda *args: {
            "token_accuracy": 0.5,
            "exact_match": rates[run.epoch - 1],
            "num_examples": 50,
        }
        run.train()
        return run

    return make


def test_plateau_decays_the_rate_when_training_is_worse_than_five_epochs_before(scripted_run):
    run = scripted_run(
        "plateau",
        accuracies=[0.1, 0.2, 0.3, 0.2, 0.2, 0.15, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1, 0.05, 0.1, 0.9],
        learning_rate_schedule="plateau",
        learning_rate=0.5,
        min_learning_rate=0.33,
    )
    # The seventh epoch is worse than the second; then five epochs of the new rate are needed. The
    # thirteenth is worse than the eighth; 0.5 * 0.8**2 is below 0.33, so there is no fourteenth.
    expected = [0.5] * 7 + [0.4] * 6
    assert run.model.rates == pytest.approx(expected)
    assert [line["learning_rate"] for line in run.history] == pytest.approx(expected)
    assert run.is_over()


def test_cosine_goes_down_over_the_run(scripted_run):
    run = scripted_run(
        "cosine",
        accuracies=[0.5] * 4,
        learning_rate_schedule="cosine",
        learning_rate=0.5,
    )
    half = 0.5 * math.sqrt(0.5)
    assert run.model.rates == pytest.approx([0.5, (0.5 + half) / 2, 0.25, (0.5 - half) / 2])


@pytest.mark.parametrize("train_source", ["prepared", "generated"])
def test_long_carries_come_more_often_on_the_way(make_run, asked_batches, train_source):
    run = make_run(
        f"carries_{train_source}",
        strategy="naive",
        train_source=train_source,
        carry_share=0.9,
        batches_per_epoch=20,
    )

    def shares():
        """The shares of long carries among 640 two-digit sums, and of these themselves."""
        weights = run.curriculum.weights(curriculum.State(1))
        read = [
            vocabulary.decode_batch(inputs["encoder_token_ids"]).numpy()
            for inputs, _, _ in run.batches(run.examples(), weights, "none")
        ]
        texts = [text.decode() for batch in read for text in batch]
        assert len(texts) == 640 and {len(text) for text in texts} == {len("print(12+34)")}
        return sum(map(has_long_carry, texts)) / len(texts)

    def asked():
        """The shares of the sources: both levels, then the long carries of both."""
        run.batches(run.examples(), [0.25, 0.75], "none")
        return asked_batches[-1][0]

    assert asked() == pytest.approx([0.025, 0.075, 0.225, 0.675])
    on_the_way = shares()
    run.state = curriculum.State(1)
    assert asked() == [0.25, 0.75, 0, 0]
    at_target = shares()
    # Of two-digit sums 76% carry at least once; 4 sigma are 0.1 (300 are stored) and 0.03.
    assert abs(at_target - 0.756) < 0.1
    assert abs(on_the_way - (0.9 + 0.1 * at_target)) < 0.03


@pytest.mark.parametrize("train_source", ["prepared", "generated"])
def test_first_operations_come_first(make_run, train_source):
    first = {"equality", "pair"}
    run = make_run(
        f"first_operations_{train_source}",
        task="program",
        target_nesting=2,
        strategy="naive",
        train_source=train_source,
        first_operations=",".join(first),
        validation_examples=300,
    )

    def operations(texts):
        return set().union(*(programs.count_operations(text, nesting=2) for text in texts))

    def read():
        """The operations that the epoch's programs are made of."""
        weights = run.curriculum.weights(run.state)
        ids = [
            inputs["encoder_token_ids"]
            for inputs, _, _ in run.batches(run.examples(), weights, "none")
        ]
        batches = (vocabulary.decode_batch(rows).numpy() for rows in ids)
        return operations(text.decode() for batch in batches for text in batch)

    def judged():
        texts, _ = run.data[run.curriculum.current(run.state), "validation"]
        return operations(text.decode() for text in texts)

    run.state = curriculum.State(3)  # Of eight levels the last of the first ones: length 2.
    assert read() == judged() == first
    line = run.train_epoch()
    difficulty = {"length": 2, "nesting": 2}
    assert line["difficulty"] == {**difficulty, "operations": sorted(first)}
    # Of 300 programs of two operations one in nine has these alone.
    assert 10 < line["validation"]["num_examples"] < 60
    assert line["target_validation"]["num_examples"] == 300
    run.history.append(line)
    assert run.epochs_below_target() == 1
    run.state = curriculum.State(7)
    assert read() == judged() == set(programs.OPERATIONS)
    assert run.train_epoch()["difficulty"] == difficulty


def test_first_operations_that_no_stored_program_has_alone_end_the_run(make_run):
    with pytest.raises(WorkError, match=r"no stored example of length 1 nesting 2 \(smallmul\)"):
        make_run(
            "first_operations_missing",
            task="program",
            target_length=1,
            target_nesting=2,
            examples_per_difficulty=10,
            first_operations="smallmul",
        )


def test_batches_grow_with_the_difficulty(make_run):
    run = make_run("growing", strategy="naive", first_batch_size=6, num_epochs=3)
    sizes = []
    for level in (0, 1, 1):
        run.state = curriculum.State(level)
        sizes.append(run.batch_size())
        run.history.append(run.train_epoch())
    assert sizes == [6, 32, 32]
    assert [line["num_examples"] for line in run.history] == [30, 190, 350]


def test_target_cosine_goes_down_from_the_target_on(make_run):
    schedule = {"learning_rate_schedule": "target_cosine", "learning_rate": 0.5, "num_epochs": 6}
    run = make_run("target_cosine", strategy="naive", **schedule)
    rates = []
    for run.epoch, length in enumerate([1, 1, 2, 2, 2, 2]):
        rates.append(run.rate())
        run.history.append({"difficulty": {"length": length, "nesting": 1}})
    half = 0.5 * math.sqrt(0.5)
    down = [(0.5 + half) / 2, 0.25, (0.5 - half) / 2]
    assert rates == pytest.approx([0.5, 0.5, 0.5, *down])


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_two_good_epochs_running_end_the_run(scripted_run, schedule):
    run = scripted_run(
        f"stop_{schedule}",
        accuracies=[0.5] * 6,
        exact_matches=[0.95, 0.5, 0.9, 0.9, 1.0, 1.0],
        learning_rate_schedule=schedule,
        stop_at_exact_match=0.9,
    )
    assert len(run.history) == 4


@pytest.mark.parametrize("train_source", ["prepared", "generated"])
def test_every_epoch_level_and_seed_has_examples_of_its_own(make_run, train_source):
    changes = {"target_length": 4, "strategy": "mix", "train_source": train_source}
    first, second = (make_run(f"{train_source}_{seed}", seed=seed, **changes) for seed in (1, 2))

    def read(run):
        """The sums of four digits in the first batches of an epoch, in the order read."""
        weights = [0.0, 0.0, 0.0, 1.0]
        batches = run.batches(run.examples(), weights, "none").take(4)
        return [
            text
            for inputs, _, _ in batches
            for text in vocabulary.decode_batch(inputs["encoder_token_ids"]).numpy()
        ]

    epochs = [read(first), read(first)]
    assert epochs[0] == epochs[1]
    first.epoch = 1
    for other in (read(first), read(second)):
        assert len(other) == len(epochs[0]) == 128
        # Of 300 stored sums some come in two epochs, in another order.
        assert other != epochs[0]
        assert len(set(other) & set(epochs[0])) < (80 if train_source == "prepared" else 3)
    levels = {first.seed_of(level.difficulty, "train") for level in first.curriculum.levels}
    assert len(levels) == 4


def test_levels_that_are_mastered_are_left_at_once(make_run):
    run = make_run("levels", strategy="naive")
    accuracies = {Difficulty(1): 0.99, Difficulty(2): 0.5}
    splits = []

    def score(level, split, scores):
        splits.append(split)
        return {"token_accuracy": accuracies[level.difficulty]}

    run.score = score
    judged = run.judge({})
    assert judged == {
        "judged_by": "training",
        "judged_token_accuracy": 0.99,
        "advanced_to": {"length": 2, "nesting": 1},
    }
    # 29 sums of one digit are few to judge by, 300 of two digits enough.
    assert splits == ["train", "validation"]
    assert run.curriculum.at_target(run.state)
    judged = run.judge({})
    assert (judged["judged_by"], judged["advanced_to"]) == ("validation", None)


@pytest.mark.parametrize("poisoned", [True, False])
def test_a_loss_that_is_no_number_ends_the_run_and_names_the_batch(folder, make_run, poisoned):
    """Some steps into the second epoch: a rate that explodes, or a batch whose weight does."""
    name = f"nan_{poisoned}"
    run = make_run(name, strategy="baseline", batches_per_epoch=20)
    batches = run.batches

    def poison(examples, weights, input_form):
        dataset = batches(examples, weights, input_form)
        if run.epoch == 0 or input_form == "none":
            return dataset
        return dataset.enumerate().map(
            lambda i, batch: (*batch[:2], tf.where(i == 6, math.inf, batch[2]))
        )

    if poisoned:
        run.batches = poison
    else:
        save = run.save
        run.save = lambda: (save(), setattr(run, "learning_rate", 1e38))
    with pytest.raises(WorkError) as error:
        run.train()
    path = folder / name / "bad_batch.json"
    found = json.loads(path.read_text())
    step = found["step"]
    rate = r"0\.004" if poisoned else r"1e\+38"
    assert re.fullmatch(
        rf"the loss is (nan|inf) in epoch 2, from step {step} on \(learning rate {rate}\); "
        f"the programs of that step are in {path}; the epochs before it are kept in {path.parent}",
        str(error.value),
    )
    assert step == 7 if poisoned else 1 <= step <= 20
    assert (found["epoch"], len(found["programs"])) == (2, 32)
    stored = {
        (program.decode(), target.decode())
        for program, target in zip(*run.data[curriculum.Level(Difficulty(2)), "train"], strict=True)
    }
    # Also as they were drawn, not as they were read: backwards.
    assert set(zip(found["programs"], found["targets"], strict=True)) <= stored
    # The batch that the run met seventh, whatever its order within.
    (inputs, _, _), *_ = batches(run.examples(), [0.0, 1.0], "reverse").skip(step - 1).take(1)
    lengths = sorted(len(program) for program in found["programs"])
    read = (inputs["encoder_token_ids"].numpy() != 0).sum(axis=1) - 1
    assert sorted(read.tolist()) == lengths
    assert len(run.history) == 1
    assert [path.name for path in (folder / name / "checkpoints").iterdir()] == ["epoch_00001.npz"]


def test_the_threads_of_the_input_pipeline_do_not_change_the_batches(make_run, monkeypatch):
    run = make_run("threads", train_source="generated", batches_per_epoch=40)
    without_autotuning = input_pipeline._without_autotuning

    def batches(examples):
        return run.batches(examples, [0.5, 0.5], "none")

    def as_lists(batch, parts):
        return tf.nest.map_structure(lambda x: [part.numpy().tolist() for part in parts(x)], batch)

    def read(num_threads):
        """The shares of both replicas, which draw from the same examples."""

        def with_threads(dataset):
            options = tf.data.Options()
            options.threading.private_threadpool_size = num_threads
            return without_autotuning(dataset).with_options(options)

        monkeypatch.setattr(input_pipeline, "_without_autotuning", with_threads)
        examples = run.examples()
        distributed = input_pipeline.distribute(lambda: batches(examples), run.strategy)
        return [as_lists(batch, run.strategy.experimental_local_results) for batch in distributed]

    halves = [as_lists(batch, lambda x: tf.split(x, 2)) for batch in batches(run.examples())]
    assert len(halves) == 40
    for num_threads in (1, 2, 16):
        assert read(num_threads) == halves


def test_execute_what_is_learnt_by_heart(folder, make_run):
    # Ten digits: copy of length 1.
    run = make_run(
        "copy_1",
        task="copy",
        target_length=1,
        strategy="baseline",
        batches_per_epoch=150,
        num_epochs=1,
        learning_rate=0.02,
        average_decay=0.0,
    )
    run.train()
    model_dir = folder / "copy_1/saved_model"
    export.export(run.config, run.averaged, model_dir)
    for program in {
        program.decode() for program in run.data[curriculum.Level(Difficulty(1)), "train"][0]
    }:
        lines = execute.execute(model_dir, program).splitlines()
        assert lines[:4] == [
            f"program    {program}",
            f"predicted  {program}",
            f"true       {program}",
            "right",
        ]
        assert [line.split()[0] for line in lines[5:]] == [program, "EOS"]
    for text, reason in (
        ("", "program '': it is empty"),
        ("7\n8", r"program '7\n8': 3 characters; this network was trained on at most 1"),
        ("1A", "program '1A': unknown character 'A' at position 1"),
    ):
        with pytest.raises(UsageError) as error:
            execute.execute(model_dir, text)
        assert str(error.value) == reason


def test_an_export_where_there_is_a_gpu_answers_where_there_is_none(trained, folder, monkeypatch):
    workdir, _ = trained
    model, devices = models.load(workdir / "model.keras"), tf.config.list_logical_devices

    def with_a_gpu(kind=None):
        return ["GPU:0"] if kind == "GPU" else devices(kind)

    with monkeypatch.context() as patch:
        patch.setattr(tf.config, "list_logical_devices", with_a_gpu)
        export.export(run_flags.read_finished(workdir), model, folder / "from_gpu")
    lstms = [layer for layer in model._flatten_layers() if isinstance(layer, layers.LSTM)]
    assert [layer.use_cudnn for layer in lstms] == ["auto"] * 2
    programs = tf.constant(["print(1+2)", "print(34+56)"])
    answers, expected = (
        tf.saved_model.load(str(path)).signatures["serving_default"](program=programs)
        for path in (folder / "from_gpu", workdir / "saved_model")
    )
    assert answers["output"].numpy().tolist() == expected["output"].numpy().tolist()
    np.testing.assert_allclose(answers["probability"], expected["probability"], rtol=1e-4)


def test_an_export_to_a_full_disk_is_an_error_of_one_line(trained, tmp_path, monkeypatch):
    workdir, _ = trained

    def save(module, path, **kwargs):
        Path(path).mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", save)
    output = tmp_path / "full"
    with pytest.raises(WorkError, match="full cannot be written: No space left on device"):
        export.export(run_flags.read(workdir), models.load(workdir / "model.keras"), output)
    assert not list(tmp_path.iterdir())


def test_execute_says_what_is_no_program(trained):
    workdir, _ = trained
    lines = execute.execute(workdir / "saved_model", "print(1+)").splitlines()
    assert lines[2].startswith("true       unknown: ")
    assert "right" not in lines and "wrong" not in lines


@pytest.mark.parametrize(
    "name",
    [
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "assets.extra/keras_l2e.json",
        "assets.extra/SHA256SUMS",
    ],
)
@pytest.mark.parametrize("damage", ["cut", "missing", "altered"])
def test_a_broken_saved_model_is_an_error_of_one_line(trained, folder, name, damage):
    workdir, _ = trained
    model_dir = folder / f"broken_{damage}_{Path(name).name}"
    shutil.copytree(workdir / "saved_model", model_dir)
    data = bytearray((model_dir / name).read_bytes())
    data[len(data) // 2] ^= 1
    (model_dir / name).write_bytes(data[:100] if damage == "cut" else data)
    if damage == "missing":
        (model_dir / name).unlink()
    with pytest.raises(WorkError, match="is not a whole SavedModel") as error:
        execute.execute(model_dir, "print(1)")
    if damage != "missing" and not name.endswith("SUMS"):
        assert str(error.value).endswith(f": {name} was altered")


def test_an_altered_model_is_an_error_of_one_line_or_harmless(trained, folder):
    workdir, _ = trained
    path = folder / "altered.keras"
    data = (workdir / "model.keras").read_bytes()
    weights = [value.tobytes() for value in models.load(workdir / "model.keras").get_weights()]
    rng = random.Random(1)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            found = models.load(path).get_weights()
        except WorkError as error:
            assert str(error).startswith(f"{path} is not a whole model: ")
            refused += 1
        else:  # A date, say.
            assert [value.tobytes() for value in found] == weights
    assert refused > 40


class Limits:
    """What a process may not exceed, as `preexec_fn` takes it: stands in for a full disk."""

    def __init__(self, file_size):
        self.file_size = file_size

    def __call__(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_size, self.file_size))


def test_a_full_disk_is_an_error_of_one_line(trained, folder, run_command):
    """No file may be longer than a limit: a checkpoint is, or else the SavedModel."""
    workdir, _ = trained
    full = folder / "full"
    left_out = ["checkpoints", "evaluation.json", "model.keras", "saved_model"]
    shutil.copytree(workdir, full, ignore=lambda *_: left_out)
    command = ("train", *TINY, "--workdir=full", "--data_dir=data")

    def fail(limit, name, said):
        process = run_command(*command, cwd=folder, preexec_fn=Limits(limit))
        assert process.returncode == 1
        assert re.fullmatch(f"error: {said}\n", process.stderr)
        assert not (full / name).exists()
        assert not list(full.rglob(".*tmp*"))

    name = "checkpoints/epoch_00001.npz"
    fail(20_000, name, re.escape(f"File too large: full/{name}"))
    # As if there had been space for checkpoints all the time.
    shutil.copytree(workdir / "checkpoints", full / "checkpoints", dirs_exist_ok=True)
    fail(9_000, "saved_model", "full/saved_model cannot be written: .*File too large.*")
    assert not (full / "model.keras").exists()
    process = run_command(*command, cwd=folder)
    assert (process.returncode, process.stderr) == (0, "")
    assert read_weights(full / "model.keras") == read_weights(workdir / "model.keras")


def test_another_network_s_checkpoint_is_an_error_of_one_line(trained, folder, run_command):
    workdir, _ = trained
    other = folder / "other_shape"
    shutil.copytree(workdir, other, ignore=lambda *_: ["evaluation.json"])
    flags_file = other / "flags.cfg"
    flags_file.write_text(flags_file.read_text().replace("hidden_dim=16", "hidden_dim=12"))
    process = run_command(
        "train", f"--flagfile={flags_file}", f"--workdir={other.name}", cwd=folder
    )
    assert process.returncode == 1
    assert re.fullmatch(
        r"error: other_shape/checkpoints/epoch_00012\.npz is of another model: .* there, .* here\n",
        process.stderr,
    )


def test_a_long_epoch_is_noted_once(tmp_path, capsys):
    scores = {"token_accuracy": 0.5, "exact_match": 0.25}
    line = {
        **{"difficulty": {"length": 1, "nesting": 1}, "loss": 1.0, "num_examples": 8},
        **{"token_accuracy": 0.5, "learning_rate": 1.0},
        **{"validation": scores, "target_validation": scores},
    }
    run = SimpleNamespace(
        config=SimpleNamespace(task="addition", num_epochs=3),
        first_epoch=2,
        workdir=tmp_path,
        summary_writer=tf.summary.create_noop_writer(),
    )
    for epoch, seconds in [(2, 61), (3, 61)]:
        run.epoch = epoch
        training.Run.report(run, line, 8, seconds)
    out = capsys.readouterr().out
    assert out.count("note: a stopped run repeats the epoch under way, here 61 s") == 1
    run.epoch = 2
    training.Run.report(run, line, 8, 59)
    assert "note:" not in capsys.readouterr().out
