import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_l2e.language.tasks import Difficulty, grid
from keras_l2e.teaching.teachers import CLIMBING, STRATEGIES, Curriculum, Level, State, levels_up_to
from keras_l2e.training import Run

FIVE = levels_up_to(Difficulty(5))

# One row per strategy: weights over five levels at the first, the middle and the last of them.
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
        [
            0.25 / 2 + 0.1 / 3,
            0.25 / 2 + 0.1 / 3,
            0.55 + 0.1 / 3,
            0.1,
            0,
        ],
        [
            0.1 / 5,
            0.25 / 3 + 0.1 / 5,
            0.25 / 3 + 0.1 / 5,
            0.25 / 3 + 0.1 / 5,
            0.55 + 0.1 + 0.1 / 5,
        ],
    ),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights(strategy):
    curriculum = Curriculum(strategy, FIVE)
    found = [curriculum.weights(State(level)) for level in (0, 2, 4)]
    for weights, expected in zip(found, WEIGHTS[strategy], strict=True):
        assert weights == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("target", [(1, 1), (2, 1), (1, 2), (9, 1), (12, 10), (65, 1)])
def test_weights_are_a_distribution_in_every_state(strategy, target):
    levels = levels_up_to(Difficulty(*target))
    for mix_share in (0.0, 0.2, 1.0):
        curriculum = Curriculum(strategy, levels, mix_share)
        for level in range(len(levels)):
            weights = curriculum.weights(State(level))
            assert len(weights) == len(levels)
            assert min(weights) >= 0
            assert sum(weights) == pytest.approx(1, rel=1e-12)
            # The difficulty that is judged is always taught.
            assert weights[level] > 0 or strategy not in CLIMBING


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_do_not_depend_on_the_accuracies(strategy):
    curriculum = Curriculum(strategy, FIVE)
    assert curriculum.weights(State(1)) == curriculum.weights(State(1, (0.1, 0.2)))


@pytest.mark.parametrize(
    ("mix_share", "alike"), [(0.0, "naive"), (1.0, "mix")], ids=["no mix", "mix only"]
)
def test_the_share_of_mix_reaches_from_naive_to_mix(mix_share, alike):
    for level in range(5):
        weights = Curriculum("combined", FIVE, mix_share).weights(State(level))
        assert weights == pytest.approx(Curriculum(alike, FIVE).weights(State(level)))


@pytest.mark.parametrize(
    ("strategy", "start"),
    [("baseline", 4), ("naive", 0), ("mix", 4), ("combined", 0), ("review", 0), ("frontier", 0)],
)
def test_start(strategy, start):
    curriculum = Curriculum(strategy, FIVE)
    assert curriculum.start() == State(start)
    assert curriculum.at_target(curriculum.start()) == (start == 4)
    assert curriculum.current(curriculum.start()) == FIVE[start]


def test_every_strategy_has_its_rows():
    assert set(WEIGHTS) == set(STRATEGIES) > CLIMBING


@pytest.mark.parametrize("strategy", sorted(CLIMBING))
def test_lengths_rise_to_the_target_s_then_the_nesting(strategy):
    """The paper's naive: past the target length, length returns to 1 and nesting rises by 1."""
    curriculum = Curriculum(strategy, levels_up_to(Difficulty(3, 2)))
    state = curriculum.start()
    visited = []
    for _ in range(8):
        visited.append(curriculum.current(state))
        state = curriculum.judge(state, 1.0)
    expected = [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2), (3, 2), (3, 2)]
    assert visited == [Level(Difficulty(*difficulty)) for difficulty in expected]


def test_first_operations_have_levels_of_their_own_before_the_others():
    levels = levels_up_to(Difficulty(2, 2), ["pair", "ifstat"])
    assert [level.difficulty for level in levels] == 2 * grid(Difficulty(2, 2))
    assert [level.operations for level in levels] == [{"pair", "ifstat"}] * 4 + [set()] * 4
    assert levels[3].as_dict() == {"length": 2, "nesting": 2, "operations": ["ifstat", "pair"]}
    assert levels[-1].as_dict() == {"length": 2, "nesting": 2}


@pytest.mark.parametrize(
    ("program", "nesting", "kept"),
    [
        ("print((1+2))", 1, True),
        ("print(12)", 1, False),  # equality
        ("print(12)", 2, False),
        ("print((1+(7 if 3>4 else 5)))", 2, True),
        ("print((1+2))", 2, False),  # a sum of what equality gave
        ("print((3*4))", 1, False),
        ("a=1;\nprint((a+2))", 1, False),
        ("a=1\nfor x in range(3):a+=(4-2)\nprint(a)", 2, False),
    ],
)
def test_a_level_keeps_programs_of_its_operations_only(program, nesting, kept):
    difficulty = Difficulty(2, nesting)
    assert Level(difficulty, frozenset({"pair", "ifstat"})).keeps(program) == kept
    assert Level(difficulty).keeps(program)


# Going on


@pytest.mark.parametrize(
    ("accuracy", "state"),
    [
        (0.0, State(1, (0.0,))),
        (0.95, State(1, (0.95,))),
        (math.nextafter(0.95, 1), State(2)),
        (1.0, State(2)),
    ],
)
def test_a_level_is_mastered_above_the_threshold(accuracy, state):
    assert Curriculum("naive", FIVE).judge(State(1), accuracy) == state


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_the_threshold_can_be_chosen(threshold):
    curriculum = Curriculum("naive", FIVE, advance_threshold=threshold)
    assert curriculum.judge(State(), threshold).level == 0
    above = math.nextafter(threshold, 2)
    assert curriculum.judge(State(), above).level == 1


def evaluations_at_the_first_level(curriculum, accuracies):
    """How many of the accuracies it takes to leave it, None if they do not suffice."""
    state = State()
    for count, accuracy in enumerate(accuracies, start=1):
        state = curriculum.judge(state, accuracy)
        if state.level:
            assert state == State(1)
            return count
    return None


STEP = 1 / 16


@pytest.mark.parametrize(
    ("accuracies", "count"),
    [
        # Five evaluations without progress after the first one.
        ([0.5] * 6, 6),
        ([0.5] * 5, None),
        ([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 6),
        # Less progress than asked for is none; what is asked for is some.
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + 0.99 * STEP], 6),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + STEP], None),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + STEP, 0, 0, 0, 0], None),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + STEP, 0, 0, 0, 0, 0], 11),
        # A fall does not hold the level up, nor does a recovery from it.
        ([0.9, 0.1, 0.2, 0.3, 0.4, 0.5], 6),
        # Mastered before that.
        ([0.5, 0.5, 0.96], 3),
    ],
)
def test_a_level_is_left_after_five_evaluations_without_progress(accuracies, count):
    curriculum = Curriculum("naive", FIVE, min_progress=STEP)
    assert evaluations_at_the_first_level(curriculum, accuracies) == count


def most_evaluations(threshold, patience):
    """After the first, every `patience` evaluations must raise the best accuracy by STEP.

    It starts at 0 or above and must not pass the threshold, so it rises threshold / STEP times at
    most; the `patience` evaluations after that are in vain.
    """
    return 1 + patience * (math.floor(threshold / STEP) + 1)


def patient(threshold, patience):
    return Curriculum("naive", FIVE, 0.2, threshold, patience, min_progress=STEP)


@given(st.data(), st.integers(1, 12))
def test_no_level_holds_a_run_up_for_ever(data, patience):
    most = most_evaluations(0.75, patience)
    accuracies = data.draw(st.lists(st.floats(0, 1), min_size=most, max_size=most))
    curriculum = patient(0.75, patience)
    assert evaluations_at_the_first_level(curriculum, accuracies) <= most


@pytest.mark.parametrize("patience", [1, 5, 12])
def test_the_slowest_learner_takes_as_long_as_that(patience):
    """Just enough progress, as late as can be, up to just the threshold."""
    accuracies = (min(STEP * (i // patience), 0.75) for i in itertools.count())
    curriculum = patient(0.75, patience)
    most = most_evaluations(0.75, patience)
    assert evaluations_at_the_first_level(curriculum, accuracies) == most


@given(st.lists(st.floats(0, 1), max_size=100))
def test_levels_rise_one_by_one_and_the_target_is_never_left(accuracies):
    curriculum = Curriculum("combined", FIVE)
    state = curriculum.start()
    for accuracy in accuracies:
        before, state = state, curriculum.judge(state, accuracy)
        if before.level == 4:
            assert state == before
        else:
            assert state in (State(before.level + 1), State(before.level, state.accuracies))
            assert state.level > before.level or state.accuracies == (*before.accuracies, accuracy)
    assert curriculum.at_target(state) == (state.level == 4)


@pytest.mark.parametrize("strategy", ["baseline", "mix"])
def test_without_a_climb_the_target_is_judged_from_the_start(strategy):
    curriculum = Curriculum(strategy, FIVE)
    for accuracy in (0.0, 0.5, 1.0) * 5:
        assert curriculum.judge(curriculum.start(), accuracy) == curriculum.start()


@given(st.integers(0, 100), st.lists(st.floats(0, 1)), st.floats(0, 1))
def test_a_state_survives_json(level, accuracies, learning_rate):
    """As a run keeps it in checkpoints, and sends it to other machines."""
    run, other = Run.__new__(Run), Run.__new__(Run)
    run.state, run.learning_rate = State(level, tuple(accuracies)), learning_rate
    other.decide(json.loads(json.dumps(run.decisions())))
    assert isinstance(other.state, State)
    assert (other.state, other.learning_rate) == (run.state, run.learning_rate)
