import random

import pytest

from keras_l2e.data import candidates
from keras_l2e.data.candidates import Candidates, first_distinct, quotas
from keras_l2e.language.programs import SPLITS, digest, split_of
from keras_l2e.language.tasks import Difficulty


def choose_one_by_one(chosen):
    """What `choose` is to give: each split's first candidates, distinct ones but for training."""
    found, seen = {split: [] for split in SPLITS}, set()
    for i in range(chosen.num_candidates):
        program = chosen.candidate(i).program
        split, known = split_of(program), digest(program) in seen
        seen.add(digest(program))
        if len(found[split]) < chosen.split_sizes[split] and (split == "train" or not known):
            found[split].append(i)
    return found


# Classes that run out of distinct programs, and one that does not.
@pytest.mark.parametrize("task", ["copy", "addition", "program"])
@pytest.mark.parametrize(("length", "size"), [(1, 150), (3, 150), (1, 1)])
@pytest.mark.parametrize("block_size", [1, 37, 1_000_000])
def test_blocks_come_together_as_one_pass_chooses(task, length, size, block_size, monkeypatch):
    monkeypatch.setattr(candidates, "BLOCK", block_size)
    chosen = Candidates(task, Difficulty(length), size)
    expected = choose_one_by_one(chosen)
    assert {split: list(numbers) for split, numbers in chosen.choose().items()} == expected

    found = [chosen.scan(block) for block in range(chosen.num_blocks)]
    random.Random(f"{task}/{length}").shuffle(found)
    taken = quotas([(part["block"], len(part["train"])) for part in found], size)
    in_order = sorted(found, key=lambda part: part["block"])
    train = [i for part in in_order for i in part["train"][: taken[part["block"]]]]
    assert train == expected["train"]
    for split in SPLITS[1:]:
        first = first_distinct([part[split] for part in found], chosen.split_sizes[split])
        assert sorted(first.values()) == expected[split]
