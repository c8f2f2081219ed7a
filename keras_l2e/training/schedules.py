"""What changes from epoch to epoch besides levels: examples, learning rate, batch size, end.

Pure functions of the config and of the history, the lines of history.jsonl so far.
"""

import math
from collections.abc import Sequence

from keras_l2e.config import Config
from keras_l2e.language.tasks import Difficulty

# "Each time training stops improving" (the paper, section 4): its released code sees that by an
# accuracy below the one of five evaluations before, and counts anew after each time.
PLATEAU_DECAY, PLATEAU_EPOCHS = 0.8, 5


def num_examples(history: Sequence[dict]) -> int:
    """Training examples of all finished epochs."""
    return history[-1]["num_examples"] if history else 0


def learning_rate(config: Config, history: Sequence[dict], undecayed: float) -> float:
    """The learning rate of the epoch to come; `undecayed` is what plateau has made of it."""
    epoch, num_epochs = len(history), config.num_epochs
    below_target = sum(line["difficulty"] != config.target._asdict() for line in history)
    starts = {"cosine": 0, "target_cosine": below_target}
    start = starts.get(config.learning_rate_schedule, num_epochs)
    if epoch <= start:
        return undecayed
    return undecayed * 0.5 * (1 + math.cos(math.pi * (epoch - start) / (num_epochs - start)))


def plateau(
    config: Config,
    history: Sequence[dict],
    undecayed: float,
    level: Difficulty,
    accuracy: float,
) -> float:
    """The learning rate after an epoch, before other schedules.

    With `plateau` it falls when an epoch at the target is worse than five before it at this rate.

    Args:
        level, accuracy: difficulty and token accuracy in training of the epoch that is to be added
            to the history.
    """
    if config.learning_rate_schedule != "plateau" or level != config.target:
        return undecayed
    before = [
        line["token_accuracy"]
        for line in history
        if (line["difficulty"], line["learning_rate"]) == (config.target._asdict(), undecayed)
    ]
    worse = len(before) >= PLATEAU_EPOCHS and accuracy < before[-PLATEAU_EPOCHS]
    return undecayed * PLATEAU_DECAY if worse else undecayed


def batch_size(config: Config, level: int) -> int:
    """Examples of each step, over all replicas, while the level of this index is current."""
    first, last = config.first_batch_size, config.global_batch_size
    steps = len(config.levels) - 1
    if not first or not steps:
        return last
    size = first + (last - first) * level / steps
    return max(1, round(size / config.num_replicas)) * config.num_replicas


def is_over(config: Config, history: Sequence[dict], undecayed: float) -> bool:
    """Whether the last epoch was the last one."""
    falls = config.learning_rate_schedule == "plateau"
    if len(history) >= config.num_epochs or (falls and undecayed < config.min_learning_rate):
        return True
    # The rate of a target without validation examples is None.
    recent = [line["target_validation"]["exact_match"] or 0 for line in history[-2:]]
    return len(recent) == 2 and min(recent) >= config.stop_at_exact_match > 0
