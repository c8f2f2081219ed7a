"""A whole run: what it says and leaves behind, and that it may be short of disk."""

import dataclasses
import json
import re
import resource
import shutil

import matplotlib.image
import pytest
import tensorflow as tf

import keras_l2e
from keras_l2e import config as configs
from keras_l2e import devices, files
from keras_l2e.errors import UsageError
from keras_l2e.language.tasks import TASKS
from keras_l2e.training import session
from keras_l2e.training.validation import RATES


def test_it_leaves_every_file(small_run):
    assert sorted(path.name for path in small_run.folder.iterdir()) == [
        ".lock",
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
    for path in small_run.folder.glob("*.png"):
        assert matplotlib.image.imread(path).std() > 0.01
    kept = sorted(path.name for path in (small_run.folder / "checkpoints").iterdir())
    assert kept == ["epoch_00004.npz", "epoch_00005.npz"]


def test_it_says_how_it_goes(small_run):
    lines = small_run.said.splitlines()
    assert lines[0] == f"workdir: {small_run.folder}"
    assert re.match(r"keras_l2e \d.*, tensorflow 2\.21\..*, Python 3\.1", lines[1])
    assert lines[2].startswith("replicas: 2, threads in each: 1, cores: ")
    assert f"data: {small_run.config.data_dir} (0 of 2 configs to build)" in lines
    assert lines[-1] == f"results, plots and SavedModel: {small_run.folder}"


def test_the_history_depends_on_no_clock_and_no_place(small_run):
    history = small_run.history
    assert [line["epoch"] for line in history] == [1, 2, 3, 4, 5]
    assert [line["num_examples"] for line in history] == [640, 1280, 1920, 2560, 3200]
    for line in history:
        assert list(line) == [
            "epoch",
            "num_examples",
            "difficulty",
            "loss",
            "token_accuracy",
            "learning_rate",
            "validation",
            "target_validation",
            "judged_by",
            "judged_token_accuracy",
            "advanced_to",
        ]
        for name in ("validation", "target_validation"):
            assert list(line[name]) == [*RATES, "num_examples"]
        assert 0 < line["validation"]["num_examples"] <= 50
        assert line["target_validation"]["num_examples"] == 50
    # A hundred 1-digit sums: their validation split is too small to judge by.
    assert history[0]["difficulty"] == {"length": 1, "nesting": 1}
    assert history[0]["judged_by"] == "training"
    assert history[-1]["difficulty"] == {"length": 2, "nesting": 1}
    assert history[-1]["judged_by"] == "validation"
    (advance,) = (line["advanced_to"] for line in history if line["advanced_to"])
    assert advance == {"length": 2, "nesting": 1}
    assert history[-1]["loss"] < history[0]["loss"]
    timing = [
        json.loads(line) for line in (small_run.folder / "timing.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in timing] == [1, 2, 3, 4, 5]
    assert all(0 < line["validation_seconds"] < line["seconds"] for line in timing)


@pytest.mark.slow
def test_a_full_disk_is_an_error_of_one_line(small_run, tmp_path, command, monkeypatch):
    """No file may be longer than a limit: a checkpoint is, or else the SavedModel."""
    full = tmp_path / "full"
    full.mkdir()
    shutil.copyfile(small_run.folder / "flags.cfg", full / "flags.cfg")
    monkeypatch.chdir(tmp_path)

    def fail(limit, name, said):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            found = command("train", f"--flagfile={full / 'flags.cfg'}", "--workdir=full")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert found.returncode == 1
        assert re.fullmatch(f"error: {said}\n", found.stderr)
        assert not (full / name).exists()
        assert not list(full.rglob(".*tmp*"))

    name = "checkpoints/epoch_00001.npz"
    fail(20_000, name, re.escape(f"File too large: full/{name}"))
    # As if there had been space for checkpoints all the time.
    shutil.copytree(small_run.folder / "checkpoints", full / "checkpoints", dirs_exist_ok=True)
    fail(9_000, "saved_model", "full/saved_model cannot be written: .*File too large.*")
    assert not (full / "model.keras").exists()


def test_a_run_goes_on_with_the_settings_it_was_started_with(small_run, tmp_path):
    elsewhere = dataclasses.replace(small_run.config, data_dir=str(tmp_path))
    left_open = {"num_replicas": 0, "threads_per_replica": 0, "onednn": "auto"}
    found = session.settle(dataclasses.replace(elsewhere, **left_open), small_run.folder)
    assert found == elsewhere
    with pytest.raises(UsageError) as error:
        session.settle(dataclasses.replace(elsewhere, hidden_dim=17), small_run.folder)
    assert str(error.value) == (
        f"{small_run.folder} was started with --hidden_dim=16, not --hidden_dim=17; "
        "take another --workdir"
    )


def test_a_new_run_is_told_what_was_left_open(small_run, tmp_path, monkeypatch):
    found = session.settle(dataclasses.replace(small_run.config, onednn="auto"), tmp_path / "new")
    assert found.onednn == devices.default_onednn()
    monkeypatch.setattr(devices, "num_gpus", lambda: 0)
    monkeypatch.setattr(devices, "num_cores", lambda: 8)
    left_open = dataclasses.replace(small_run.config, num_replicas=0, threads_per_replica=0)
    found = session.share_among_replicas(left_open)
    assert (found.num_replicas, found.threads_per_replica) == (2, 4)
    for changes, said in (
        ({"num_replicas": 9}, "--num_replicas=9; allowed 0 to 8"),
        ({"global_batch_size": 31}, "--global_batch_size=31; allowed multiples of the 2 replicas"),
    ):
        with pytest.raises(UsageError) as error:
            session.share_among_replicas(dataclasses.replace(small_run.config, **changes))
        assert str(error.value) == said


def test_a_folder_is_new_if_the_first_file_of_a_run_was_not_finished(small_run, tmp_path):
    (tmp_path / f"{files.UNFINISHED}flags.cfg").touch()
    session.settle(small_run.config, tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds other files"):
        session.settle(small_run.config, tmp_path)


def test_a_network_to_start_from_must_be_of_the_same_shape(small_run, tmp_path):
    config = dataclasses.replace(small_run.config, initial_model=str(small_run.folder))
    for changes in ({"hidden_dim": 17}, {"num_layers": 2}):
        with pytest.raises(UsageError, match=f"^--initial_model={small_run.folder}: .* weight"):
            session.train(dataclasses.replace(config, **changes), tmp_path / "new")
        assert [path.name for path in (tmp_path / "new").iterdir()] == [files.LOCK]


def test_a_network_to_start_from_must_have_as_many_heads(make_config, tmp_path):
    config = make_config(model="attention", num_heads=2)
    keras_l2e.train(config, tmp_path / "run")
    config = dataclasses.replace(config, initial_model=str(tmp_path / "run"), num_heads=4)
    with pytest.raises(UsageError, match=r"^--initial_model=.*: it has num_heads 2, this .* 4$"):
        keras_l2e.train(config, tmp_path / "new")


@pytest.mark.parametrize("workdir", ["run ", "a\nb", "~nobody_here/run", ""])
def test_a_folder_that_flags_cfg_could_not_hold_is_refused(small_run, tmp_path, workdir):
    folder = f"{tmp_path}/{workdir}" if workdir.startswith(("r", "a")) else workdir
    with pytest.raises(UsageError, match=r"(?s)--workdir.* (is needed|is required)$"):
        session.train(small_run.config, folder)
    assert not list(tmp_path.iterdir())


def test_a_run_goes_on_without_the_network_that_it_started_from(small_run, tmp_path):
    config = dataclasses.replace(small_run.config, initial_model=str(tmp_path / "gone"))
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match=r"no network .*gone"):
        session.settle(config, folder)
    folder.mkdir()
    configs.write(folder, config)
    assert session.settle(config, folder) == config


PAPER = {
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
}


@pytest.mark.slow
def test_settings_of_the_paper(make_config, tmp_path):
    config = make_config(**PAPER)
    folder = session.train(config, tmp_path / "run")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert len(evaluation["rows"]) == len(config.levels) == 4
    assert "by_operation" in evaluation
    served = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    samples = evaluation["samples"]
    programs = [sample["program"] for sample in samples]
    outputs = served(program=tf.constant(programs))["output"].numpy()
    assert [output.decode() for output in outputs] == [s["output"] for s in samples]
    answers = [TASKS[config.task].answer(program) for program in programs]
    assert answers == [s["target"] for s in samples]
