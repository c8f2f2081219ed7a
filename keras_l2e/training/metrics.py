"""What is counted: token_accuracy (teacher-forced) and exact_match (free-running).

    >>> free_token_accuracy(["123"], ["1234"])
    0.75

Every function returns one number for a list of at least one example.
"""

from collections.abc import Sequence

import numpy as np


def token_accuracy(num_right: Sequence[int], num_tokens: Sequence[int]) -> float:
    """Right target positions / target positions, EOS included, each predicted from the true prefix.

    The paper's accuracy. `num_right` and `num_tokens` count one example's positions each.
    """
    return float(np.sum(num_right) / np.sum(num_tokens))


def exact_match(targets: Sequence[str], outputs: Sequence[str]) -> float:
    """The share of free-running outputs that equal their target."""
    return float(
        np.mean([target == output for target, output in zip(targets, outputs, strict=True)])
    )


def free_token_accuracy(targets: Sequence[str], outputs: Sequence[str]) -> float:
    """Equal positions / the longer of both lengths, summed over examples; EOS left out."""
    pairs = list(zip(targets, outputs, strict=True))
    equal = sum(a == b for pair in pairs for a, b in zip(*pair, strict=False))
    return equal / sum(max(len(target), len(output)) for target, output in pairs)
