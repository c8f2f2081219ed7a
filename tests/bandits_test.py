"""Teachers that follow learning, on pupils whose learning curves are known."""

import inspect
import json

import numpy as np
import pytest

from keras_l2e.language.tasks import Difficulty, grid
from keras_l2e.teaching.bandits import BANDITS
from keras_l2e.teaching.teacher import Score

THREE = grid(Difficulty(3))
SETTINGS = {"seed": 1, "batches_per_epoch": 400}
TSCL = ("online", "naive_slope", "window", "sampling")
FOLLOWING = (*TSCL, "exp3s", "learnability", "space")


def make(name, **changes):
    taken = inspect.signature(BANDITS[name]).parameters
    settings = SETTINGS | changes
    return BANDITS[name](**{key: settings[key] for key in taken if key in settings})


def teach(teacher, curves):
    """The weights of every epoch, of a pupil whose accuracies are given epoch by epoch."""
    levels = grid(Difficulty(len(curves)))
    state, weights = teacher.start(levels), []
    for accuracies in zip(*curves, strict=True):
        state = teacher.update(state, {i: Score(x, x) for i, x in enumerate(accuracies)})
        # As a checkpoint keeps it.
        assert json.loads(json.dumps(state)) == state
        found = teacher.weights(state)
        assert len(found) == len(levels) and min(found) >= 0
        assert sum(found) == pytest.approx(1)
        weights.append(found)
    return weights


def mean(weights, level, first=0):
    chosen = [row[level] for row in weights[first:]]
    return sum(chosen) / len(chosen)


STANDING, KNOWN, RISING = [0.0] * 40, [1.0] * 40, [i / 40 for i in range(40)]


@pytest.mark.parametrize("name", FOLLOWING)
def test_what_is_being_learnt_is_taught(name):
    """One level is learnt, one is known, one is beyond the pupil."""
    weights = teach(make(name), [KNOWN, RISING, STANDING])
    assert mean(weights, 1, first=-10) > 0.8
    # The others keep what is spread over all.
    exploration = 0.05 if name == "exp3s" else 0.1
    assert min(map(min, weights)) >= exploration / 3 - 1e-9


@pytest.mark.parametrize("name", FOLLOWING)
def test_one_level_of_nine_that_is_learnt_is_found(name):
    weights = teach(make(name), [STANDING] * 4 + [RISING] + [STANDING] * 4)
    assert mean(weights, 4, first=-10) > 0.8


@pytest.mark.parametrize("name", BANDITS)
def test_before_anything_is_known_all_levels_are_taught_alike(name):
    teacher = make(name)
    assert teacher.weights(teacher.start(THREE)) == [1 / 3] * 3


@pytest.mark.parametrize("name", TSCL)
def test_what_is_forgotten_is_practised_if_progress_is_absolute(name):
    falling = [1 - i / 80 for i in range(40)]
    curves = [falling, KNOWN, STANDING]
    assert mean(teach(make(name), curves), 0, first=-10) > 0.8
    weights = teach(make(name, absolute_progress=False), curves)
    assert mean(weights, 0, first=-10) < 0.1


def test_exp3s_leaves_what_is_forgotten():
    """It follows gains: a loss is the worst reward there is."""
    weights = teach(make("exp3s"), [[1 - i / 80 for i in range(40)], KNOWN, STANDING])
    assert weights[-1][0] < 0.1


@pytest.mark.parametrize("name", ["learnability", "space"])
def test_what_was_known_and_is_not_any_more_is_taught(name):
    weights = teach(make(name), [[1 - i / 80 for i in range(40)], KNOWN, STANDING])
    assert mean(weights, 0, first=-10) > 0.8


def test_exp3s_by_its_formulas():
    """Rewards between the quantiles of all so far, steps of 400 draws, shares of 1 / t."""
    curves = np.array([[0.0, 0.5, 0.7, 0.75], [0.2, 0.4, 0.2, 0.3], [0.1, 0.1, 0.3, 0.3]])
    found = teach(make("exp3s", exp3s_step=0.01, exp3s_exploration=0.3), curves.tolist())
    powers, rewards = np.ones(3), []
    for epoch, gains in enumerate(np.diff(curves).T, start=2):
        rewards += gains.tolist()
        low, high = np.percentile(rewards, [20, 80])
        powers = powers * np.exp(0.01 * 400 * np.clip(2 * (gains - low) / (high - low) - 1, -1, 1))
        powers = (1 - 1 / epoch) * powers + 1 / epoch * (powers.sum() - powers) / 2
        np.testing.assert_allclose(found[epoch - 1], 0.7 * powers / powers.sum() + 0.1)


def test_learnability_is_highest_at_a_half():
    (weights,) = teach(make("learnability", exploration=0.0), [[0.5], [0.9], [0.0]])
    assert weights == pytest.approx([0.25 / 0.34, 0.09 / 0.34, 0])
    (weights,) = teach(make("learnability"), [[0.0], [1.0], [0.0]])
    assert weights == pytest.approx([1 / 3] * 3)


def test_space_adds_what_is_half_known_and_what_is_being_learnt():
    teacher = make("space", exploration=0.0, progress_rate=0.5)
    weights = teach(teacher, [[0.5, 0.7, 0.7], [0.0, 0.6, 1.0], [0.0, 0.0, 0.0]])
    assert weights[0] == pytest.approx([1, 0, 0])  # Nothing has changed yet.
    # Progress is half of 0.2 at the first level, and of 0.6 at the second.
    values = [0.21 + 0.1, 0.24 + 0.3, 0]
    assert weights[1] == pytest.approx([value / sum(values) for value in values])
    # What is always solved is starved, however much was learnt there last.
    assert weights[2] == pytest.approx([1, 0, 0])


def test_the_control_knows_nothing():
    weights = teach(make("random"), [KNOWN, RISING, STANDING])
    assert {tuple(sorted(row)) for row in weights} == {
        tuple(sorted([0.9 + 0.1 / 3, *[0.1 / 3] * 2]))
    }
    assert all(sum(row[level] > 0.5 for row in weights) > 5 for level in range(3))


def test_progress_as_it_is_defined():
    """By hand, for scores 0.1, 0.3, 0.2 of one level."""
    curve = [[0.1, 0.3, 0.2]]
    found = {}
    for name, changes in (
        ("online", {"progress_rate": 0.5}),
        ("window", {"progress_window": 3}),
        ("naive_slope", {"progress_rate": 0.5, "progress_window": 3}),
    ):
        teacher = make(name, **changes)
        state = teacher.start([Difficulty(1)])
        for accuracy in curve[0]:
            state = teacher.update(state, {0: Score(0.0, accuracy)})
        (found[name],) = state["progress"]
    # Changes 0.1, 0.2, -0.1: halfway to each in turn. Slope of the line through all three: 0.05.
    assert found == pytest.approx({"online": 0.0125, "window": 0.05, "naive_slope": 0.025})


def test_sampling_draws_one_of_the_last_changes():
    """The first one is from 0."""
    teacher = make("sampling", progress_window=2)
    state, kept = teacher.start([Difficulty(1)]), {1: {0.1}, 2: {0.1, 0.2}, 3: {0.2, -0.1}}
    for number, accuracy in enumerate((0.1, 0.3, 0.2), start=1):
        state = teacher.update(state, {0: Score(0.0, accuracy)})
        assert {round(x, 6) for x in state["progress"]} <= kept[number]
        assert [len(scores) for scores in state["scores"]] == [number]
    state = teacher.update(state, {0: Score(0.0, 0.2)})
    assert state["scores"] == [[0.3, 0.2, 0.2]]


def test_boltzmann_weighs_by_progress():
    teacher = make("online", policy="boltzmann", temperature=0.1, progress_rate=1.0)
    (weights,) = teach(teacher, [[0.1], [0.0], [0.0]])
    assert weights[0] / weights[1] == pytest.approx(2.718281828)


@pytest.mark.parametrize("name", BANDITS)
def test_chance_is_the_seed_s(name):
    curves = [RISING, STANDING, STANDING]
    assert teach(make(name), curves) == teach(make(name), curves)
    if name in ("random", "sampling"):
        alike = [STANDING] * 3
        assert teach(make(name), alike) != teach(make(name, seed=2), alike)
