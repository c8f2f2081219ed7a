"""Which examples make up a data set of one difficulty: pure functions, for one process or many.

Candidate i is a pure function of (task, difficulty, DATA_SEED, i), and its split one of its
program. Every split takes its candidates in order:

    >>> candidates = Candidates("addition", Difficulty(9), examples_per_difficulty=1)
    >>> candidates.candidate(0)
    Example(program='print(735221849+208143007)', target='943364856', trace='943364856')
    >>> {split: list(numbers) for split, numbers in candidates.choose().items()}
    {'train': [0], 'validation': [2], 'test': [6]}

Candidates are read block by block (`scan`): by one process until it has what it needs (`choose`),
or all at once by many, whose finds come together as the same choice (`first_distinct`, `quotas`).
"""

import heapq
import operator
import random
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keras_l2e.language import programs
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS, Difficulty

DATA_SEED = 1410_4615
# Candidates that a worker reads at a time: a fifth of a second.
BLOCK = 10_000


@dataclass(frozen=True)
class Candidates:
    """The candidates of one task at one difficulty, and how many of them are wanted.

    Attributes:
        task: a name in `tasks.TASKS`.
        difficulty: length and nesting.
        examples_per_difficulty: examples in the train split.
    """

    task: str
    difficulty: Difficulty
    examples_per_difficulty: int

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of examples each split has, unless the candidates do not yield so many."""
        n = self.examples_per_difficulty
        return {"train": n, "validation": min(n, 2_000), "test": min(n, 10_000)}

    @property
    def num_candidates(self) -> int:
        """Examples drawn at most: held-out splits of classes with few distinct programs end there.

        The train split, which keeps repeats, needs three for each of its examples on average, and
        3.4 in copy of length 2, of whose 100 texts only 29 are its own.
        """
        return 4 * self.examples_per_difficulty + 1_000

    def candidate(self, i: int) -> Example:
        """Example i before the choice of splits; the same for every size of the data set."""
        length, nesting = self.difficulty
        rng = random.Random(f"{self.task}/{length}/{nesting}/{DATA_SEED}/{i}")
        return TASKS[self.task].generate(rng, self.difficulty)

    def features(self, i: int) -> dict:
        """Candidate i as it is stored."""
        return {**self.candidate(i)._asdict(), **self.difficulty._asdict()}

    def choose(self) -> dict[str, Sequence[int]]:
        """The numbers of the candidates that make up each split, in order.

        The train split keeps repeats, which belong to the class's distribution. The others keep the
        first of candidates that are equal after renaming their variables.
        """
        sizes = self.split_sizes
        chosen = {"train": array("q"), "validation": {}, "test": {}}
        for block in range(self.num_blocks):
            found = self.scan(block)
            chosen["train"].extend(found["train"])
            for split in programs.SPLITS[1:]:
                chosen[split] = first_distinct([chosen[split], found[split]], sizes[split])
            if all(len(chosen[split]) >= size for split, size in sizes.items()):
                break
        held_out = {split: list(chosen[split].values()) for split in programs.SPLITS[1:]}
        return {"train": chosen["train"][: sizes["train"]], **held_out}

    @property
    def num_blocks(self) -> int:
        """Blocks that hold all candidates."""
        return -(-self.num_candidates // BLOCK)

    def scan(self, block: int) -> dict:
        """What one block of candidates offers to each split.

        Returns:
            "block": its number.
            "train": the numbers of its training candidates, in order.
            "validation", "test": digest -> number, of the first of equal candidates.
        """
        found = {"block": block, "train": array("q"), "validation": {}, "test": {}}
        last = min(self.num_candidates, (block + 1) * BLOCK)
        for i in range(block * BLOCK, last):
            digest = programs.digest(self.candidate(i).program)
            split = programs.split_of_digest(digest)
            if split == "train":
                found["train"].append(i)
            else:  # As bytes, because Beam's integers are signed.
                found[split].setdefault(digest.to_bytes(8, "big"), i)
        return found


def first_distinct(parts: Iterable[dict[bytes, int]], size: int) -> dict[bytes, int]:
    """Of the digests in all parts, each with its lowest number, the `size` with the lowest ones.

    Associative and commutative, and never larger than `size`, so it may be applied to any parts in
    any order before it is to the results: a digest of the answer has fewer than `size` others
    before it in every part, so no part loses it.

    >>> first_distinct([{b"a": 0, b"b": 1}, {b"c": 2, b"a": 3}, {b"c": 4}], size=2)
    {b'a': 0, b'b': 1}
    """
    lowest: dict[bytes, int] = {}
    for part in parts:
        for digest, number in part.items():
            lowest[digest] = min(number, lowest.get(digest, number))
    return dict(heapq.nsmallest(size, lowest.items(), key=operator.itemgetter(1)))


def quotas(sizes: Iterable[tuple[int, int]], size: int) -> dict[int, int]:
    """How many training candidates each block gives, if the first `size` of all are taken.

    Args:
        sizes: pairs of a block's number and of how many it has.
        size: how many are wanted.

    >>> quotas([(2, 30), (0, 40), (1, 35)], size=80)
    {0: 40, 1: 35, 2: 5}
    """
    taken = {}
    for block, available in sorted(sizes):
        taken[block] = min(available, size)
        size -= taken[block]
    return taken
