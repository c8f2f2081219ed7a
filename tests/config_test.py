"""flags.cfg: written, read back, of release 0.1.0, and held against the run that goes on."""

import dataclasses
from pathlib import Path

import pytest

from keras_l2e import config as configs
from keras_l2e import settings
from keras_l2e.config import Config, Run
from keras_l2e.errors import UsageError
from keras_l2e.language.tasks import TASKS, Difficulty

RESULTS = Path(__file__).parents[1] / "results"


@pytest.mark.skipif(not RESULTS.exists(), reason="needs the checkout's results")
def test_runs_of_release_0_1_0_are_read():
    # Of later releases; some have target forms that only their benchmark knows.
    later = {*(RESULTS / "traces").rglob("flags.cfg")}
    paths = sorted({*RESULTS.rglob("flags.cfg")} - later)
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
