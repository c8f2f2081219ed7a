import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_l2e.language import vocabulary
from keras_l2e.language.tasks import TASKS
from keras_l2e.language.vocabulary import BOS, CHARACTERS, EOS, PAD, SIZE


def test_ids_never_move():
    """Every trained network and every exported one depends on them."""
    assert CHARACTERS == "\n ()*+-0123456789:;<=>abcdefghijlnoprstx"
    assert [vocabulary.encode(character) for character in CHARACTERS] == [[i] for i in range(1, 41)]
    assert (PAD, BOS, EOS, SIZE) == (0, 41, 42, 43)


@given(st.text(st.sampled_from(CHARACTERS), max_size=80))
def test_decode_inverts_encode(text):
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == vocabulary.decode(np.array(ids, np.int32)) == text


@pytest.mark.parametrize("task", TASKS)
def test_every_example_can_be_encoded(task):
    rng = random.Random(task)
    for difficulty in TASKS[task].difficulties():
        for text in TASKS[task].generate(rng, difficulty):
            assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "character", "position"),
    [
        ("k", "'k'", 0),
        ("print(1/2)", "'/'", 7),
        ("1\r\n", r"'\r'", 1),
        ("1é2é", "'é'", 1),
        ("12\ud800", r"'\ud800'", 2),
        ("1\x00", r"'\x00'", 1),
    ],
)
def test_unknown_characters_are_named(text, character, position):
    with pytest.raises(ValueError) as caught:
        vocabulary.encode(text)
    message = str(caught.value)
    assert message.startswith(f"unknown character {character} at position {position}; ")
    assert message.endswith(repr(CHARACTERS))


@pytest.mark.parametrize(
    ("ids", "wrong", "position"),
    [([PAD], 0, 0), ([1, BOS], 41, 1), ([1, 2, EOS, 3], 42, 2), ([SIZE], 43, 0), ([8, -1], -1, 1)],
)
def test_ids_that_are_no_character_are_named(ids, wrong, position):
    with pytest.raises(ValueError) as caught:
        vocabulary.decode(ids)
    assert str(caught.value) == f"id {wrong} at position {position} is no character"
