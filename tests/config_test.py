"""flags.cfg: written, read back, of release 0.1.0, and held against the run that goes on."""

import dataclasses
from pathlib import Path

import pytest

from keras_l2e import command_line, settings
from keras_l2e import config as configs
from keras_l2e.config import Config, Run
from keras_l2e.errors import UsageError
from keras_l2e.language.tasks import TASKS, Difficulty

RESULTS = Path(__file__).parents[1] / "results"


@pytest.fixture
def write(tmp_path):
    """Writes the folder of a run with these lines in its flags.cfg, or with this config."""

    def write(content="", name="run"):
        (folder := tmp_path / name).mkdir()
        if isinstance(content, Config):
            configs.write(folder, content)
        else:
            (folder / "flags.cfg").write_bytes(content)
        return folder

    return write


def test_every_setting_is_written_once_and_is_a_flagfile(write):
    config = Config(learning_rate=1e-05, tie_encoder_decoder=True, data_dir="a b", seed=7)
    folder = write(config)
    lines = (folder / "flags.cfg").read_text().splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        f"--{n}" for n in sorted(settings.of(Run))
    ]
    assert configs.read(folder) == config
    run = command_line.parse(Run, ["train", f"--flagfile={folder / 'flags.cfg'}"])
    assert run == Run(workdir=str(folder), **dataclasses.asdict(config))
    assert run.config == config and type(run.config) is Config


@pytest.mark.skipif(not RESULTS.exists(), reason="needs the checkout's results")
def test_runs_of_release_0_1_0_are_read():
    paths = sorted(RESULTS.rglob("flags.cfg"))
    assert len(paths) > 100
    removed = set()
    for path in paths:
        config = configs.read(path.parent)
        found = dict(line.removeprefix("--").split("=", 1) for line in path.read_text().split())
        removed |= found.keys() - settings.of(Run).keys()
        for name, text in found.items():
            if name in settings.of(Config):
                assert str(getattr(config, name)) == text, f"{path}: {name}"
    assert removed == set(configs.REMOVED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--no_such_flag=1\n", "{}/flags.cfg: unknown flag --no_such_flag"),
        (b"--workdir=run\n--seed=x\n", "{}/flags.cfg: --seed=x: an integer in the range [0, "),
        (b"--seed=1\n", "{}/flags.cfg: --workdir is required"),
        (b"--workdir=\xff\n", "{}/flags.cfg: 'utf-8' codec"),
        (b"--workdir=run\nseed\n", "{}/flags.cfg: unexpected argument 'seed'"),
    ],
)
def test_flags_that_cannot_be_read(write, content, message):
    folder = write(content)
    with pytest.raises(UsageError) as error:
        configs.read(folder)
    assert str(error.value).startswith(message.format(folder))


def test_folders_without_a_run(tmp_path, write):
    with pytest.raises(UsageError) as error:
        configs.read(tmp_path / "missing")
    missing = tmp_path / "missing"
    assert str(error.value) == f"no training run in {missing}: {missing}/flags.cfg is missing"
    folder = write(Config())
    with pytest.raises(UsageError, match=r"no finished training in .*: model.keras is missing"):
        configs.read_finished(folder)
    (folder / "model.keras").write_bytes(b"")
    assert configs.read_finished(folder) == Config()


def test_a_run_goes_on_with_its_own_settings(tmp_path):
    config = Config()
    configs.check_same(tmp_path, config, config)
    # Where its data lie is no part of what it computes.
    configs.check_same(tmp_path, dataclasses.replace(config, data_dir="elsewhere"), config)
    with pytest.raises(UsageError) as error:
        configs.check_same(tmp_path, dataclasses.replace(config, hidden_dim=9), config)
    assert str(error.value) == (
        f"{tmp_path} was started with --hidden_dim=256, not --hidden_dim=9; take another --workdir"
    )


@pytest.mark.parametrize("schedule", ["constant", "plateau", "cosine", "target_cosine"])
def test_more_epochs_are_allowed_where_those_before_stay_the_same(tmp_path, schedule):
    config = Config(learning_rate_schedule=schedule, num_epochs=5)
    more, fewer = (dataclasses.replace(config, num_epochs=n) for n in (6, 4))
    with pytest.raises(UsageError, match="--num_epochs=5, not --num_epochs=4; take another"):
        configs.check_same(tmp_path, fewer, config)
    if schedule in configs.OPEN_ENDED:
        configs.check_same(tmp_path, more, config)
        return
    with pytest.raises(UsageError) as error:
        configs.check_same(tmp_path, more, config)
    assert str(error.value) == (
        f"{tmp_path} was started with --num_epochs=5, not --num_epochs=6; take another --workdir"
    )


@pytest.mark.parametrize(
    ("task", "length", "nesting", "target_form", "longest"),
    [
        ("addition", 3, 1, "answer", (14, 4)),
        ("addition", 3, 1, "trace", (14, 4)),
        ("addition", 3, 1, "reversed_trace", (14, 4 + 1 + 4)),
        ("copy", 7, 1, "answer", (7, 7)),
        ("program", 1, 1, "answer", (37, 3)),
        # A loop's four rounds.
        ("program", 1, 1, "trace", (37, 4 * 4)),
        ("program", 1, 1, "reversed_trace", (37, 4 * 4 + 1 + 3)),
    ],
)
def test_what_must_be_known_of_a_network(task, length, nesting, target_form, longest):
    config = Config(
        task=task,
        target_length=length,
        target_nesting=nesting,
        input_form="reverse_double",
        target_form=target_form,
    )
    assert config.target == Difficulty(length, nesting)
    assert config.levels[0] == Difficulty(1) and len(config.levels) == length * nesting
    interface = config.interface
    assert interface[:5] == (task, "reverse_double", target_form, length, nesting)
    assert (interface.longest_program, interface.longest_written) == longest
    assert interface.white_space == TASKS[task].white_space


@pytest.mark.parametrize(
    ("advance_metric", "target_form", "mastered_by"),
    [
        ("auto", "answer", "token_accuracy"),
        # One wrong character among many of work is enough for a wrong answer.
        ("auto", "trace", "exact_match"),
        ("auto", "reversed_trace", "exact_match"),
        ("token_accuracy", "trace", "token_accuracy"),
        ("exact_match", "answer", "exact_match"),
    ],
)
def test_what_counts_as_mastered(advance_metric, target_form, mastered_by):
    config = Config(advance_metric=advance_metric, target_form=target_form)
    assert config.mastered_by == mastered_by
