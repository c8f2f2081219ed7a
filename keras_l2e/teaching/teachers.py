"""The paper's strategies and ours as teachers, and the table of all.

    >>> teacher = naive(advance_threshold=0.95, patience=5)
    >>> state = teacher.start([Difficulty(1), Difficulty(2), Difficulty(3)])
    >>> teacher.weights(state)
    [1.0, 0.0, 0.0]
    >>> state = teacher.update(state, {0: Score(0.97, 0.9), 1: Score(0.4, 0.0)})
    >>> teacher.weights(state)
    [0.0, 1.0, 0.0]

A name in TEACHERS stands for a function of settings, those fields of a `Config` that it has
parameters for.
"""

from collections.abc import Callable, Mapping, Sequence

from keras_l2e.language.tasks import Difficulty
from keras_l2e.teaching.bandits import BANDITS
from keras_l2e.teaching.teacher import Score, State, Teacher

# Of the teacher `review`.
REVIEW_AT_TARGET = 0.5
# Accuracy gained over `patience` evaluations that counts as progress.
MIN_PROGRESS = 0.02


def baseline() -> Teacher:
    """Every example at the target difficulty (paper, section 4)."""
    return _unmoved(lambda num_levels: _uniform(num_levels, [num_levels - 1]))


def mix() -> Teacher:
    """Every example at a difficulty of its own, uniform over all levels (paper, section 4)."""
    return _unmoved(lambda num_levels: _uniform(num_levels, range(num_levels)))


def naive(advance_threshold: float, patience: int, mastered_by: str = "token_accuracy") -> Teacher:
    """Every example at the current difficulty, which rises level by level (paper, section 4)."""
    return _climbing(_one, advance_threshold, patience, mastered_by)


def combined(
    mix_share: float, advance_threshold: float, patience: int, mastered_by: str = "token_accuracy"
) -> Teacher:
    """Every example from `naive`'s current difficulty or from `mix` (paper, section 4).

    The paper gives no ratio; its released code draws one example in five from `mix`.
    """

    def weights(num_levels: int, level: int) -> list[float]:
        everywhere = _uniform(num_levels, range(num_levels))
        return _sum((1 - mix_share, _one(num_levels, level)), (mix_share, everywhere))

    return _climbing(weights, advance_threshold, patience, mastered_by)


def review(
    mix_share: float, advance_threshold: float, patience: int, mastered_by: str = "token_accuracy"
) -> Teacher:
    """`naive` that does not forget: some examples come from any of the levels so far.

    Ours, not the paper's. The share of these is `mix_share` on the way and half at the target,
    where there is time to practise; each level is drawn in proportion to its number, for the last
    ones were practised least.
    """

    def weights(num_levels: int, level: int) -> list[float]:
        share = REVIEW_AT_TARGET if level == num_levels - 1 else mix_share
        numbers = range(1, level + 2)
        reviewed = [number / sum(numbers) for number in numbers]
        harder = [0.0] * (num_levels - len(reviewed))
        return _sum((1 - share, _one(num_levels, level)), (share, reviewed + harder))

    return _climbing(weights, advance_threshold, patience, mastered_by)


def frontier(
    advance_threshold: float, patience: int, mastered_by: str = "token_accuracy"
) -> Teacher:
    """Most at the current difficulty, the rest just below, just above, and anywhere below.

    Ours, not the paper's: 55% at the current level, 25% over the three levels below it, 10% one
    above, 10% over all levels up to the current one. Shares without a level fall to the current.
    """

    def weights(num_levels: int, level: int) -> list[float]:
        below = range(max(0, level - 3), level) or [level]
        above = min(level + 1, num_levels - 1)
        return _sum(
            (0.55, _one(num_levels, level)),
            (0.25, _uniform(num_levels, below)),
            (0.10, _one(num_levels, above)),
            (0.10, _uniform(num_levels, range(level + 1))),
        )

    return _climbing(weights, advance_threshold, patience, mastered_by)


TEACHERS: dict[str, Callable[..., Teacher]] = {
    "baseline": baseline,
    "naive": naive,
    "mix": mix,
    "combined": combined,
    "review": review,
    "frontier": frontier,
    **BANDITS,
}


def _unmoved(weights: Callable[[int], list[float]]) -> Teacher:
    """A teacher that looks at nothing."""
    return Teacher(
        start=lambda levels: {"num_levels": len(levels)},
        weights=lambda state: weights(state["num_levels"]),
        update=lambda state, scores: state,
    )


def _climbing(
    weights: Callable[[int, int], list[float]],
    advance_threshold: float,
    patience: int,
    mastered_by: str,
) -> Teacher:
    """A teacher that goes from level to level, and weighs them by the one it has come to.

    A level is left when its accuracy, the field `mastered_by` of `Score`, is above the threshold,
    or has not grown by MIN_PROGRESS over the last `patience` evaluations, so that none holds the
    run up for ever (the released code of the paper compares with five evaluations earlier). After a
    mastered level the next one is looked at in the same epoch, so that easy levels do not cost an
    epoch each.
    """

    def start(levels: Sequence[Difficulty]) -> State:
        return {"num_levels": len(levels), "level": 0, "accuracies": []}

    def update(state: State, scores: Mapping[int, Score]) -> State:
        level, accuracies = state["level"], state["accuracies"]
        while level < state["num_levels"] - 1:
            accuracy = getattr(scores[level], mastered_by)
            accuracies = [*accuracies, accuracy]
            mastered = accuracy > advance_threshold
            if not mastered and not _stands_still(accuracies, patience):
                break
            level, accuracies = level + 1, []
            if not mastered:
                break
        return {**state, "level": level, "accuracies": accuracies}

    return Teacher(
        start, weights=lambda state: weights(state["num_levels"], state["level"]), update=update
    )


def _stands_still(accuracies: Sequence[float], patience: int) -> bool:
    if len(accuracies) <= patience:
        return False
    recent, before = accuracies[-patience:], accuracies[:-patience]
    return max(recent) < max(before) + MIN_PROGRESS


def _one(num_levels: int, level: int) -> list[float]:
    return _uniform(num_levels, [level])


def _uniform(num_levels: int, levels: Sequence[int]) -> list[float]:
    weights = [0.0] * num_levels
    for level in levels:
        weights[level] = 1 / len(levels)
    return weights


def _sum(*parts: tuple[float, list[float]]) -> list[float]:
    return [
        sum(share * weight for (share, _), weight in zip(parts, weights, strict=True))
        for weights in zip(*(weights for _, weights in parts), strict=True)
    ]
