"""What a teacher is: from what a network has learnt to the weights of what it is taught next.

A level is a difficulty; a run's levels go from the easiest to its target. A teacher is a start, a
rule for the weights and a rule for going on, and its state is anything that JSON holds:

    >>> teacher = Teacher(
    ...     start=lambda levels: {"num_levels": len(levels), "level": 0},
    ...     weights=lambda state: [float(i == state["level"]) for i in range(state["num_levels"])],
    ...     update=lambda state, scores: {**state, "level": int(scores[0].exact_match > 0.9)},
    ... )
    >>> state = teacher.start([Difficulty(1), Difficulty(2)])
    >>> teacher.weights(teacher.update(state, {0: Score(0.99, 0.95)}))
    [0.0, 1.0]
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_l2e.language.tasks import Difficulty

# What a teacher remembers between epochs, as JSON holds it.
State = Any


class Score(NamedTuple):
    """What was measured at a level after an epoch; None where it has no examples.

    Attributes:
        token_accuracy: teacher-forced.
        exact_match: free-running, of answers.
    """

    token_accuracy: float | None
    exact_match: float | None


class Arm(NamedTuple):
    """What a teacher gives a weight: a level, or one kind of its examples."""

    level: Difficulty
    kind: str = ""


class Teacher(NamedTuple):
    """How a network is taught.

    Attributes:
        start: the state before any training, from the levels.
        weights: the probability of each level in the training examples of an epoch; sums to 1.
        update: the state after an epoch, from the state before it and the scores of the levels.
            Scores are taken when they are asked for, so only levels looked at cost time.
        of_kinds: whether the kinds of examples that a task can draw are taught and looked at one by
            one; each level then stands for one of them, and comes as often as there are kinds.
    """

    start: Callable[[Sequence[Difficulty]], State]
    weights: Callable[[State], list[float]]
    update: Callable[[State, Mapping[int, Score]], State]
    of_kinds: bool = False

    def current(self, state: State) -> int:
        """The level to report, and to read schedules off: the hardest of those taught most."""
        weights = self.weights(state)
        return max(range(len(weights)), key=lambda level: (weights[level], level))


def share_out(arms: Sequence[Arm], weights: Sequence[float]) -> dict[Difficulty, dict[str, float]]:
    """Weights of arms by level and kind.

    >>> level = Difficulty(1)
    >>> share_out([Arm(level, "pair"), Arm(level, "ifstat")], [0.25, 0.75])
    {Difficulty(length=1, nesting=1): {'pair': 0.25, 'ifstat': 0.75}}
    """
    shares: dict[Difficulty, dict[str, float]] = {}
    for arm, weight in zip(arms, weights, strict=True):
        shares.setdefault(arm.level, {})[arm.kind] = weight
    return shares
