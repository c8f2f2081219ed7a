import inspect
import json
import math
import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_l2e
from keras_l2e.language.tasks import Difficulty, grid
from keras_l2e.settings import taken_by
from keras_l2e.teaching.bandits import BANDITS
from keras_l2e.teaching.teacher import Score, Teacher
from keras_l2e.teaching.teachers import MIN_PROGRESS, TEACHERS

FIVE = grid(Difficulty(5))
CLIMBING = ("naive", "combined", "review", "frontier")
SETTINGS = {
    "mix_share": 0.2,
    "advance_threshold": 0.95,
    "patience": 5,
    "mastered_by": "token_accuracy",
}
MASTERED_BY = st.sampled_from(Score._fields)

# One row per teacher: weights over five levels at the first, the middle and the last of them.
WEIGHTS = {
    "baseline": ([0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]),
    "naive": ([1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]),
    "mix": ([0.2] * 5, [0.2] * 5, [0.2] * 5),
    # 0.8 at the level, 0.2 over all five.
    "combined": (
        [0.84, 0.04, 0.04, 0.04, 0.04],
        [0.04, 0.04, 0.84, 0.04, 0.04],
        [0.04, 0.04, 0.04, 0.04, 0.84],
    ),
    # 0.2 over the levels so far, 0.5 at the target, in proportion to 1, 2, 3...
    "review": (
        [1, 0, 0, 0, 0],
        [0.2 / 6, 0.4 / 6, 0.8 + 0.6 / 6, 0, 0],
        [0.5 / 15, 1 / 15, 1.5 / 15, 2 / 15, 0.5 + 2.5 / 15],
    ),
    # 0.55 at the level, 0.25 over three below, 0.1 one above, 0.1 over all up to the level.
    "frontier": (
        [0.9, 0.1, 0, 0, 0],
        [0.25 / 2 + 0.1 / 3, 0.25 / 2 + 0.1 / 3, 0.55 + 0.1 / 3, 0.1, 0],
        [0.1 / 5, *[0.25 / 3 + 0.1 / 5] * 3, 0.55 + 0.1 + 0.1 / 5],
    ),
}


def make(name, **changes) -> Teacher:
    """The teacher with those of the settings that it takes."""
    parameters = inspect.signature(TEACHERS[name]).parameters
    return TEACHERS[name](**{key: (SETTINGS | changes)[key] for key in parameters})


def score(accuracy, mastered_by="token_accuracy"):
    """With 0 for what does not count."""
    return Score(0.0, 0.0)._replace(**{mastered_by: accuracy})


def scores(accuracy, mastered_by="token_accuracy"):
    """Every level that is looked at has this accuracy."""

    class Everywhere(dict):
        def __missing__(self, level):
            return score(accuracy, mastered_by)

    return Everywhere()


def states(teacher, levels=FIVE):
    """The states of a run that masters one level in each epoch, up to the target."""
    state = teacher.start(levels)
    yield state
    while (level := teacher.current(state)) < len(levels) - 1:
        found = {level: Score(1.0, 1.0), level + 1: Score(0.0, 0.0)}
        state = teacher.update(state, found)
        yield state


def test_every_teacher_has_its_row():
    assert set(WEIGHTS) | set(BANDITS) == set(TEACHERS)
    assert set(CLIMBING) < set(WEIGHTS)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name):
    visited = list(states(make(name)))
    found = [make(name).weights(visited[i]) for i in (0, len(visited) // 2, -1)]
    for weights, expected in zip(found, WEIGHTS[name], strict=True):
        assert weights == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("target", [(1, 1), (2, 1), (1, 2), (9, 1), (12, 10), (65, 1)])
def test_weights_are_a_distribution_in_every_state(name, target):
    levels = grid(Difficulty(*target))
    for mix_share in (0.0, 0.2, 1.0):
        teacher = make(name, mix_share=mix_share)
        for state in states(teacher, levels):
            weights = teacher.weights(state)
            assert len(weights) == len(levels) and min(weights) >= 0
            assert sum(weights) == pytest.approx(1, rel=1e-12)
            # The level that is reported is always taught.
            assert weights[teacher.current(state)] > 0


def test_the_teacher_of_the_documents_teaches(monkeypatch):
    """As it stands there, but for the training."""
    path = pathlib.Path(__file__).parents[1] / "docs" / "teachers.md"
    (code,) = re.findall("```python\\n(.*?)```", path.read_text(), re.DOTALL)
    trained = []
    monkeypatch.setattr(keras_l2e, "train", lambda *arguments: trained.append(arguments))
    monkeypatch.setitem(TEACHERS, "weakest", None)
    exec(code, {})
    ((config, _),) = trained
    teacher = TEACHERS[config.strategy](**taken_by(TEACHERS[config.strategy], config))
    state = teacher.update(
        teacher.start(FIVE), [Score(0.5, rate) for rate in (1, 0.9, 0.2, 0.4, 1)]
    )
    assert teacher.weights(state) == pytest.approx([0.02, 0.02, 0.92, 0.02, 0.02])


@pytest.mark.parametrize(("mix_share", "alike"), [(0.0, "naive"), (1.0, "mix")])
def test_the_share_of_mix_reaches_from_naive_to_mix(mix_share, alike):
    combined = make("combined", mix_share=mix_share)
    for state in states(combined):
        assert combined.weights(state) == pytest.approx(make(alike).weights(state))


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_current_level(name):
    """The paper's naive: past the target length, length returns to 1 and nesting rises by 1."""
    levels = grid(Difficulty(3, 2))
    assert levels == [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]
    teacher = make(name)
    visited = [teacher.current(state) for state in states(teacher, levels)]
    assert visited == ([0, 1, 2, 3, 4, 5] if name in CLIMBING else [5])


def test_the_current_level_is_the_hardest_of_those_taught_most():
    teacher = Teacher(start=lambda levels: {}, weights=lambda state: [0.1, 0.4, 0.4, 0.1], update=0)
    assert teacher.current({}) == 2


@pytest.mark.parametrize("name", WEIGHTS)
@given(st.lists(st.floats(0, 1), max_size=20), MASTERED_BY)
def test_a_state_survives_json(name, accuracies, mastered_by):
    """As a run keeps it in checkpoints, and sends it to other machines."""
    teacher = make(name, mastered_by=mastered_by)
    state = teacher.start(FIVE)
    for accuracy in accuracies:
        state = teacher.update(state, scores(accuracy, mastered_by))
    copy = json.loads(json.dumps(state))
    assert copy == state
    assert teacher.weights(copy) == teacher.weights(state)
    found = scores(0.3, mastered_by)
    assert teacher.update(copy, found) == teacher.update(state, found)


# Going on


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.95])
def test_a_level_is_mastered_above_the_threshold(threshold):
    teacher = make("naive", advance_threshold=threshold)
    state = teacher.start(FIVE)
    assert teacher.current(teacher.update(state, scores(threshold))) == 0
    above = {0: Score(math.nextafter(threshold, 1), 0.0), 1: Score(0.0, 0.0)}
    assert teacher.current(teacher.update(state, above)) == 1


def test_mastered_levels_are_left_in_one_epoch_and_no_other_is_looked_at():
    teacher = make("naive")
    found = {0: Score(1.0, 1.0), 1: Score(0.97, 0.5), 2: Score(0.3, 0.0)}
    state = teacher.update(teacher.start(FIVE), found)
    assert teacher.current(state) == 2 and state["accuracies"] == [0.3]
    assert teacher.current(teacher.update(state, scores(1.0))) == 4
    last = teacher.update(state, scores(1.0))
    assert teacher.update(last, {}) == last


def evaluations_at_the_first_level(teacher, accuracies, mastered_by="token_accuracy"):
    """How many of the accuracies it takes to leave it, None if they do not suffice."""
    state = teacher.start(FIVE)
    for count, accuracy in enumerate(accuracies, start=1):
        state = teacher.update(state, {0: score(accuracy, mastered_by), 1: Score(0.0, 0.0)})
        if teacher.current(state):
            assert teacher.current(state) == 1
            return count
    return None


@pytest.mark.parametrize(
    ("accuracies", "count"),
    [
        # Five evaluations without progress after the first one.
        ([0.5] * 6, 6),
        ([0.5] * 5, None),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 6),
        # Less progress than asked for is none; what is asked for is some.
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + 0.99 * MIN_PROGRESS], 6),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + MIN_PROGRESS], None),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + MIN_PROGRESS, 0, 0, 0, 0], None),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + MIN_PROGRESS, 0, 0, 0, 0, 0], 11),
        # A fall does not hold the level up, nor does a recovery from it.
        ([0.9, 0.1, 0.2, 0.3, 0.4, 0.5], 6),
        # Mastered before that.
        ([0.5, 0.5, 0.96], 3),
    ],
)
def test_a_level_is_left_after_five_evaluations_without_progress(accuracies, count):
    for name in Score._fields:
        teacher = make("naive", mastered_by=name)
        assert evaluations_at_the_first_level(teacher, accuracies, name) == count


@pytest.mark.parametrize("name", CLIMBING)
def test_by_default_characters_count(name):
    """As in the paper, and in runs that were begun before there was a choice."""
    default = inspect.signature(TEACHERS[name]).parameters["mastered_by"].default
    assert default == SETTINGS["mastered_by"] == "token_accuracy"


@pytest.mark.parametrize("name", ["baseline", "mix"])
def test_without_a_climb_nothing_is_looked_at(name):
    teacher = make(name)
    state = teacher.start(FIVE)
    assert teacher.update(state, {}) == state
