import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_l2e.data import candidates
from keras_l2e.data.candidates import Candidates, first_distinct, quotas
from keras_l2e.language import programs
from keras_l2e.language.tasks import Difficulty


# Classes that run out of distinct programs, and one that does not.
@pytest.mark.parametrize("task", ["copy", "addition", "program"])
@pytest.mark.parametrize(("length", "size"), [(1, 150), (3, 150), (1, 1), (1, 2_000)])
@pytest.mark.parametrize("block_size", [1, 37, 1_000_000])
def test_blocks_come_together_as_one_pass_chooses(task, length, size, block_size, monkeypatch):
    monkeypatch.setattr(candidates, "BLOCK", block_size)
    if block_size == 1 and size > 150:
        pytest.skip("says nothing new and takes seconds")
    chosen = Candidates(task=task, difficulty=Difficulty(length), examples_per_difficulty=size)
    found = [chosen.scan(block) for block in range(chosen.num_blocks)]
    random.Random(f"{task}/{length}").shuffle(found)
    expected = chosen.choose()
    taken = quotas([(part["block"], len(part["train"])) for part in found], size)
    in_order = sorted(found, key=lambda part: part["block"])
    train = [i for part in in_order for i in part["train"][: taken[part["block"]]]]
    assert train == list(expected["train"])
    for split in programs.SPLITS[1:]:
        first = first_distinct([part[split] for part in found], chosen.split_sizes[split])
        assert sorted(first.values()) == list(expected[split])


NUMBERED = st.dictionaries(st.integers(0, 30), st.integers(0, 10**6), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERED, max_size=8), st.integers(1, 12), st.data())
def test_parts_may_come_together_in_any_order_and_in_steps(parts, size, data):
    # As in a data set, a number is that of one candidate, which has one digest.
    parts = [{digest: 31 * i + digest for digest, i in part.items()} for part in parts]
    at_once = first_distinct(parts, size)
    assert len(at_once) <= size
    cut = data.draw(st.integers(0, len(parts)))
    shuffled = data.draw(st.permutations(parts))
    steps = [first_distinct(shuffled[:cut], size), first_distinct(shuffled[cut:], size)]
    assert first_distinct(steps, size) == at_once


def test_quotas_fill_the_first_blocks():
    assert quotas([(1, 5), (0, 3)], 20) == {0: 3, 1: 5}
    assert quotas([(1, 5), (0, 3)], 3) == {0: 3, 1: 0}
    assert quotas([], 3) == {}
