"""Teachers that follow learning: each level is an arm, and what is learnt there its reward.

After every epoch all levels are looked at, and a teacher shares out the next one:

    >>> teacher = online(seed=1)
    >>> state = teacher.start([Difficulty(1), Difficulty(2)])
    >>> teacher.weights(state)
    [0.5, 0.5]
    >>> state = teacher.update(state, {0: Score(0.5, 0.2), 1: Score(0.1, 0.0)})
    >>> [round(weight, 3) for weight in teacher.weights(state)]
    [0.95, 0.05]

TSCL is Teacher-Student Curriculum Learning (arXiv 1707.00183); its teachers are those of the code
that was released for addition, and their score is the share of whole answers that are right, as
there. Random choices come from the run's seed and the number of the epoch.
"""

import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_l2e.language.tasks import Difficulty
from keras_l2e.teaching.teacher import Score, State, Teacher

# What TSCL thinks of an arm that it knows too little of.
UNKNOWN = 1.0
# Exp3.S: rewards are rescaled so that these quantiles of all so far become -1 and 1.
LOW, HIGH = 20, 80

# What a teacher keeps from epoch to epoch, `weights` among it.
Memory = dict[str, Any]


class Seen(NamedTuple):
    """What progress is estimated from.

    Attributes:
        scores: of each level, oldest first.
        progress: of each level, as it was thought before.
        epoch: its number.
        rng: of this epoch.
        rate, window: `--progress_rate`, `--progress_window`.
    """

    scores: list[list[float]]
    progress: list[float]
    epoch: int
    rng: random.Random
    rate: float
    window: int


def _tscl(estimate: Callable[[Seen], list[float]]) -> Callable[..., Teacher]:
    """A teacher of TSCL, which estimates progress so."""

    def teacher(
        seed: int,
        progress_rate: float = 0.1,
        progress_window: int = 10,
        policy: str = "greedy",
        exploration: float = 0.1,
        temperature: float = 4e-4,
        absolute_progress: bool = True,
    ) -> Teacher:
        def weights(progress: list[float], rng: random.Random) -> list[float]:
            values = [abs(value) if absolute_progress else value for value in progress]
            if policy == "boltzmann":
                return _softmax(values, temperature)
            return _explore(_one_of_best(values, rng), exploration)

        def learn(memory: Memory, found: list[Score], epoch: int) -> Memory:
            rng = _random(seed, epoch)
            new = [score.exact_match or 0.0 for score in found]
            kept = memory.get("scores") or [[] for _ in new]
            scores = [[*old, x][-progress_window - 1 :] for old, x in zip(kept, new, strict=True)]
            before = memory.get("progress") or [0.0] * len(new)
            seen = Seen(scores, before, epoch, rng, progress_rate, progress_window)
            progress = estimate(seen)
            return {"scores": scores, "progress": progress, "weights": weights(progress, rng)}

        return _following(learn)

    teacher.__doc__ = estimate.__doc__
    return teacher


def _online(seen: Seen) -> list[float]:
    """Progress at a level moves by `progress_rate` towards the last change of its score (TSCL)."""
    changes = [_changes(level, seen.window)[-1] for level in seen.scores]
    return _move(seen.progress, changes, seen.rate)


def _naive_slope(seen: Seen) -> list[float]:
    """Every `progress_window` epochs progress moves towards the slope over these (TSCL, naive)."""
    if seen.epoch % seen.window:
        return seen.progress
    return _move(seen.progress, _window(seen), seen.rate)


def _window(seen: Seen) -> list[float]:
    """Progress at a level is the slope over its last `progress_window` scores (TSCL)."""
    return [_slope(level[-seen.window :]) for level in seen.scores]


def _sampling(seen: Seen) -> list[float]:
    """Progress at a level is one of its last changes, drawn at random (TSCL, after Thompson)."""
    return [seen.rng.choice(_changes(level, seen.window)) for level in seen.scores]


def _changes(scores: list[float], window: int) -> list[float]:
    """A level's last changes, so many at most; the first of all is from 0, as in TSCL's code."""
    known = scores if len(scores) > window else [0.0, *scores]
    return [after - before for before, after in itertools.pairwise(known)]


online, naive_slope, window, sampling = map(_tscl, (_online, _naive_slope, _window, _sampling))


def uniform_arms(seed: int, exploration: float = 0.1) -> Teacher:
    """Any level for an epoch, but for the share of exploration: what TSCL's are to beat."""

    def update(state: State, scores: Mapping[int, Score]) -> State:
        epoch = state["epoch"] + 1
        chosen = _one_of_best([0.0] * len(state["weights"]), _random(seed, epoch))
        return {"epoch": epoch, "weights": _explore(chosen, exploration)}

    return Teacher(_start, lambda state: state["weights"], update)


def exp3s(
    batches_per_epoch: int, exp3s_exploration: float = 0.05, exp3s_step: float = 1e-3
) -> Teacher:
    """Exp3.S, rewarded by validation gain (Graves et al., arXiv 1704.03003).

    There an arm is pulled at each step, and its reward is divided by its probability, so that what
    is hardly pulled is not thought to be worth little. Here all arms are looked at after an epoch:
    their reward is token_accuracy, which moves with the loss, after it minus before, divided by
    nothing, so that what was hardly taught has hardly a gain.
    """

    def learn(memory: Memory, found: list[Score], epoch: int) -> Memory:
        scores = [score.token_accuracy or 0.0 for score in found]
        powers, rewards = memory.get("powers") or [1.0] * len(found), memory.get("rewards") or []
        if "scores" in memory:
            gains = [now - before for now, before in zip(scores, memory["scores"], strict=True)]
            rewards = [*rewards, *gains]
            rescaled = _rescale(gains, rewards)
            # Less the largest, which changes no share, so that no power overflows.
            largest = max(rescaled)
            steps = [exp3s_step * batches_per_epoch * (x - largest) for x in rescaled]
            grown = _in_proportion([x * math.exp(y) for x, y in zip(powers, steps, strict=True)])
            # Each arm gets a share of what the others have, 1 / t at step t in the source; this is
            # what has come together over an epoch.
            others = max(1, len(grown) - 1)
            powers = [(1 - 1 / epoch) * x + (1 - x) / epoch / others for x in grown]
        return {
            "scores": scores,
            "rewards": rewards,
            "powers": powers,
            "weights": _explore(_in_proportion(powers), exp3s_exploration),
        }

    return _following(learn)


def space(
    progress_rate: float = 0.1, exploration: float = 0.1, absolute_progress: bool = True
) -> Teacher:
    """Kinds of examples at each level by solve rate and progress, after SPaCe (arXiv 2508.05015).

    Taken over is its idea: clusters of alike examples, here of one operation at one level, are the
    arms, and both how often a cluster is solved and how fast that grows decide how much of it is
    taught, so that what is always or never solved is hardly taught. The rule is ours: p (1 - p) of
    a cluster's solve rate p, and its progress as in `online`, added up; nothing where p is 0 or 1.
    """

    def learn(memory: Memory, found: list[Score], epoch: int) -> Memory:
        rates = [score.exact_match or 0.0 for score in found]
        before = memory.get("rates") or rates
        changes = [now - then for now, then in zip(rates, before, strict=True)]
        progress = _move(memory.get("progress") or [0.0] * len(rates), changes, progress_rate)
        gains = [abs(value) if absolute_progress else max(0.0, value) for value in progress]
        values = [
            p * (1 - p) + gain if 0 < p < 1 else 0.0 for p, gain in zip(rates, gains, strict=True)
        ]
        weights = _explore(_in_proportion(values), exploration)
        return {"rates": rates, "progress": progress, "weights": weights}

    return _following(learn)._replace(of_kinds=True)


def learnability(exploration: float = 0.1) -> Teacher:
    """Levels by p (1 - p), p the share of their answers that are right: neither known nor hopeless.

    The form in which the idea recurs, as in arXiv 2408.15099.
    """

    def learn(memory: Memory, found: list[Score], epoch: int) -> Memory:
        rates = [score.exact_match or 0.0 for score in found]
        shares = _in_proportion([rate * (1 - rate) for rate in rates])
        return {"weights": _explore(shares, exploration)}

    return _following(learn)


BANDITS: dict[str, Callable[..., Teacher]] = {
    "online": online,
    "naive_slope": naive_slope,
    "window": window,
    "sampling": sampling,
    "exp3s": exp3s,
    "learnability": learnability,
    "space": space,
    "random": uniform_arms,
}


def _following(learn: Callable[[Memory, list[Score], int], Memory]) -> Teacher:
    """A teacher that looks at all levels, and keeps what `learn` gives, `weights` among it."""

    def update(state: State, scores: Mapping[int, Score]) -> State:
        epoch = state["epoch"] + 1
        found = [scores[level] for level in range(len(state["weights"]))]
        return {"epoch": epoch, **learn(state, found, epoch)}

    return Teacher(_start, lambda state: state["weights"], update)


def _start(levels: Sequence[Difficulty]) -> State:
    return {"epoch": 0, "weights": [1 / len(levels)] * len(levels)}


def _random(seed: int, epoch: int) -> random.Random:
    return random.Random(f"{seed}/{epoch}")


def _move(values: list[float], targets: list[float], rate: float) -> list[float]:
    return [x + rate * (target - x) for x, target in zip(values, targets, strict=True)]


def _slope(values: list[float]) -> float:
    """Of the line through values one epoch apart, by least squares."""
    if len(values) < 2:
        return UNKNOWN
    return statistics.linear_regression(range(len(values)), values).slope


def _one_of_best(values: list[float], rng: random.Random) -> list[float]:
    """All for the largest value; of several, for any one."""
    largest = max(values)
    best = rng.choice([i for i, value in enumerate(values) if value == largest])
    return [float(i == best) for i in range(len(values))]


def _explore(weights: list[float], share: float) -> list[float]:
    return [(1 - share) * weight + share / len(weights) for weight in weights]


def _in_proportion(values: list[float]) -> list[float]:
    total = sum(values)
    return [value / total if total else 1 / len(values) for value in values]


def _softmax(logits: list[float], temperature: float) -> list[float]:
    largest = max(logits)
    return _in_proportion([math.exp((logit - largest) / temperature) for logit in logits])


def _rescale(gains: list[float], rewards: list[float]) -> list[float]:
    """Gains on a scale from -1 to 1, the quantiles of all rewards; what lies outside is clipped.

    Where most rewards are equal, both quantiles may be; all else lies outside then.
    """
    if len(rewards) < 2:
        return [0.0] * len(gains)
    percentiles = statistics.quantiles(rewards, n=100, method="inclusive")
    low, high = percentiles[LOW - 1], percentiles[HIGH - 1]
    if low == high:
        return [float((gain > low) - (gain < low)) for gain in gains]
    return [max(-1.0, min(1.0, 2 * (gain - low) / (high - low) - 1)) for gain in gains]
