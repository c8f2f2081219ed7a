"""Curricula: from the state of learning to weights over levels, and when to go on.

A level is a difficulty, or the part of it whose programs have only some of the operations. A
strategy is a pure function of a `Curriculum` (what is taught) and a `State` (how far it has got);
its weights are given over `Curriculum.levels`:

    >>> curriculum = Curriculum("naive", levels_up_to(Difficulty(length=3)))
    >>> curriculum.weights(State(level=1))
    [0.0, 1.0, 0.0]
    >>> curriculum.judge(State(level=1), accuracy=0.97)
    State(level=2, accuracies=())
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keras_l2e.language import programs
from keras_l2e.language.tasks import Difficulty, grid

# Of the strategy `review`.
REVIEW_AT_TARGET = 0.5


@dataclass(frozen=True)
class Level:
    """What is taught at a time.

    Attributes:
        difficulty: of every example.
        operations: those of `programs.OPERATIONS` that its programs are made of; empty: no program
            is left out.
    """

    difficulty: Difficulty
    operations: frozenset[str] = frozenset()

    def keeps(self, program: str) -> bool:
        """Whether a program of the difficulty belongs to the level."""
        if not self.operations:
            return True
        return self.operations.issuperset(
            programs.count_operations(program, self.difficulty.nesting)
        )

    def as_dict(self) -> dict:
        """The level as history.jsonl holds it."""
        operations = {"operations": sorted(self.operations)} if self.operations else {}
        return {**self.difficulty._asdict(), **operations}


def levels_up_to(target: Difficulty, first_operations: Iterable[str] = ()) -> list[Level]:
    """The difficulties in the order of the paper's naive curriculum, `target` last.

    With `first_operations`, all of them come twice: first for programs of these operations only.
    """
    first = frozenset(first_operations)
    rounds = [first, frozenset()] if first else [first]
    return [Level(difficulty, operations) for operations in rounds for difficulty in grid(target)]


class State(NamedTuple):
    """How far the curriculum has got.

    Attributes:
        level: index of the current level among the curriculum's levels.
        accuracies: token accuracies of the evaluations at this level so far, oldest first.
    """

    level: int = 0
    accuracies: tuple[float, ...] = ()


@dataclass(frozen=True)
class Curriculum:
    """What is taught and how.

    Attributes:
        strategy: a name in STRATEGIES.
        levels: easiest first, the target last.
        mix_share: the share of examples that `combined` takes from `mix`, and `review` from the
            levels so far. The paper gives no ratio; its released code draws one example in five.
        advance_threshold: token accuracy above which a level counts as mastered (paper: 0.95).
        patience: evaluations without progress after which a level is left although it is not
            mastered (the released code of the paper compares with five evaluations earlier).
        min_progress: token accuracy gained over so many evaluations that counts as progress.
    """

    strategy: str
    levels: Sequence[Level]
    mix_share: float = 0.2
    advance_threshold: float = 0.95
    patience: int = 5
    min_progress: float = 0.02

    def start(self) -> State:
        """The state before any training."""
        return State(0 if self.strategy in CLIMBING else len(self.levels) - 1)

    def weights(self, state: State) -> list[float]:
        """The probability of each level in the training examples; sums to 1."""
        return STRATEGIES[self.strategy](self, state)

    def current(self, state: State) -> Level:
        """The level whose accuracy decides about going on."""
        return self.levels[state.level]

    def at_target(self, state: State) -> bool:
        """Whether the current level is the target, where the curriculum stays."""
        return state.level == len(self.levels) - 1

    def judge(self, state: State, accuracy: float) -> State:
        """The state after an evaluation with this token accuracy at the current level.

        Goes one level on if the accuracy is above the threshold, or if it has not grown by
        `min_progress` over the last `patience` evaluations, so that no level holds the run up for
        ever.
        """
        accuracies = (*state.accuracies, accuracy)
        if self.at_target(state):
            return state
        if accuracy > self.advance_threshold or self._stands_still(accuracies):
            return State(state.level + 1)
        return State(state.level, accuracies)

    def _stands_still(self, accuracies: Sequence[float]) -> bool:
        if len(accuracies) <= self.patience:
            return False
        recent, before = accuracies[-self.patience :], accuracies[: -self.patience]
        return max(recent) < max(before) + self.min_progress


def _one(curriculum: Curriculum, level: int) -> list[float]:
    return _uniform(curriculum, [level])


def _uniform(curriculum: Curriculum, levels: Sequence[int]) -> list[float]:
    weights = [0.0] * len(curriculum.levels)
    for level in levels:
        weights[level] = 1 / len(levels)
    return weights


def _sum(*parts: tuple[float, list[float]]) -> list[float]:
    return [
        sum(share * weight for (share, _), weight in zip(parts, weights, strict=True))
        for weights in zip(*(weights for _, weights in parts), strict=True)
    ]


def baseline(curriculum: Curriculum, state: State) -> list[float]:
    """Every example at the target difficulty (paper, section 4)."""
    return _one(curriculum, len(curriculum.levels) - 1)


def naive(curriculum: Curriculum, state: State) -> list[float]:
    """Every example at the current difficulty, which rises level by level (paper, section 4)."""
    return _one(curriculum, state.level)


def mix(curriculum: Curriculum, state: State) -> list[float]:
    """Every example at a difficulty of its own, uniform over all levels (paper, section 4)."""
    return _uniform(curriculum, range(len(curriculum.levels)))


def combined(curriculum: Curriculum, state: State) -> list[float]:
    """Every example from `naive`'s current difficulty or from `mix` (paper, section 4)."""
    return _sum(
        (1 - curriculum.mix_share, naive(curriculum, state)),
        (curriculum.mix_share, mix(curriculum, state)),
    )


def review(curriculum: Curriculum, state: State) -> list[float]:
    """`naive` that does not forget: some examples come from any of the levels so far.

    Ours, not the paper's. The share of these is `mix_share` on the way and half at the target,
    where there is time to practise; each level is drawn in proportion to its number, for the last
    ones were practised least.
    """
    share = REVIEW_AT_TARGET if curriculum.at_target(state) else curriculum.mix_share
    numbers = range(1, state.level + 2)
    reviewed = [level / sum(numbers) for level in numbers]
    harder = [0.0] * (len(curriculum.levels) - len(reviewed))
    return _sum((1 - share, naive(curriculum, state)), (share, reviewed + harder))


def frontier(curriculum: Curriculum, state: State) -> list[float]:
    """Most at the current difficulty, the rest just below, just above, and anywhere below.

    Ours, not the paper's: 55% at the current level, 25% over the three levels below it, 10% one
    above, 10% over all levels up to the current one. Shares without a level fall to the current.
    """
    level = state.level
    below = range(max(0, level - 3), level) or [level]
    above = min(level + 1, len(curriculum.levels) - 1)
    return _sum(
        (0.55, _one(curriculum, level)),
        (0.25, _uniform(curriculum, below)),
        (0.10, _one(curriculum, above)),
        (0.10, _uniform(curriculum, range(level + 1))),
    )


Strategy = Callable[[Curriculum, State], list[float]]
STRATEGIES: dict[str, Strategy] = {
    "baseline": baseline,
    "naive": naive,
    "mix": mix,
    "combined": combined,
    "review": review,
    "frontier": frontier,
}
# Strategies whose weights follow the current level; the others are at the target from the start.
CLIMBING = frozenset({"naive", "combined", "review", "frontier"})
