import random

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_l2e.language import vocabulary
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.language.vocabulary import BOS, CHARACTERS, EOS, PAD, SIZE

TEXTS = st.text(st.sampled_from(CHARACTERS), max_size=80)


def test_the_characters_are_those_of_the_class():
    assert CHARACTERS == "\n ()*+-0123456789:;<=>abcdefghijlnoprstx"
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 40


def test_ids():
    assert (PAD, BOS, EOS, SIZE) == (0, 41, 42, 43)
    assert [vocabulary.encode(character) for character in CHARACTERS] == [[i] for i in range(1, 41)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("\n", [1]),
        ("0", [8]),
        ("-907", [7, 17, 8, 15]),
        ("print(3)", [36, 37, 31, 34, 39, 3, 11, 4]),
        ("x", [40]),
    ],
)
def test_encoding(text, ids):
    assert vocabulary.encode(text) == ids
    assert vocabulary.decode(ids) == text
    (encoded,) = vocabulary.encode_batch(tf.constant([text])).to_list()
    assert encoded == ids


@given(TEXTS)
def test_decode_inverts_encode(text):
    assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize("task", TASKS)
def test_every_example_can_be_encoded(task):
    rng = random.Random(task)
    for difficulty in TASKS[task].difficulties():
        for text in TASKS[task].generate(rng, difficulty):
            assert vocabulary.decode(vocabulary.encode(text)) == text


def test_all_characters_occur_in_programs():
    rng = random.Random(0)
    drawn = (TASKS["program"].generate(rng, Difficulty(2, 5)) for _ in range(2_000))
    assert set("".join(example.program for example in drawn)) == set(CHARACTERS)


@pytest.mark.parametrize(
    ("text", "character", "position"),
    [
        ("k", "'k'", 0),
        ("print(1/2)", "'/'", 7),
        ("print(A)", "'A'", 6),
        ("1\t2", r"'\t'", 1),
        ("1\r\n", r"'\r'", 1),
        ("1é2é", "'é'", 1),
        ("12😀", "'😀'", 2),
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


def test_decode_takes_arrays():
    assert vocabulary.decode(np.array([36, 37, 31, 34, 39], np.int32)) == "print"


# In TensorFlow


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, max_size=8))
def test_a_batch_is_encoded_and_decoded_as_its_texts_are(texts):
    batch = vocabulary.encode_batch(tf.constant(texts, tf.string, [len(texts)]))
    assert batch.dtype == tf.int32
    assert batch.to_list() == [vocabulary.encode(text) for text in texts]
    decoded = vocabulary.decode_batch(batch.to_tensor(PAD))
    assert [text.decode() for text in decoded.numpy()] == texts


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (b"", []),
        (b"1k2", [9, PAD, 10]),
        # Every byte of a longer character counts.
        ("1é2".encode(), [9, PAD, PAD, 10]),
        ("😀".encode(), [PAD] * 4),
        # Not UTF-8 at all.
        (b"\xff\xfe1", [PAD, PAD, 9]),
        (b"1\xc3", [9, PAD]),
        (b"\x00\x7f\x80", [PAD] * 3),
    ],
)
def test_bytes_that_are_no_character_are_pad_and_spare_their_neighbours(text, ids):
    neighbours = vocabulary.encode("print(3)")
    batch = vocabulary.encode_batch(tf.constant([b"print(3)", text, b"print(3)"]))
    assert batch.to_list() == [neighbours, ids, neighbours]


def test_every_byte():
    batch = vocabulary.encode_batch(tf.constant([bytes(range(256))])).to_list()[0]
    known = {ord(character): i for i, character in enumerate(CHARACTERS, start=1)}
    assert batch == [known.get(byte, PAD) for byte in range(256)]


def test_batches_of_nothing():
    assert vocabulary.encode_batch(tf.constant([], tf.string)).to_list() == []
    assert vocabulary.encode_batch(tf.constant(["", ""])).to_list() == [[], []]
    assert vocabulary.decode_batch(tf.zeros([0, 3], tf.int32)).shape == (0,)
    assert vocabulary.decode_batch(tf.zeros([2, 0], tf.int32)).numpy().tolist() == [b"", b""]


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([8, 9, EOS, PAD], b"01"),
        # What a decoder writes after the end is not read.
        ([8, EOS, 9, EOS, 10], b"0"),
        ([EOS, 8, 9], b""),
        ([8, 9, 10], b"012"),
        ([PAD, 8, BOS, 9, PAD], b"01"),
        ([PAD, PAD], b""),
    ],
)
def test_a_text_ends_at_its_first_eos(ids, text):
    assert vocabulary.decode_batch(tf.constant([ids])).numpy().tolist() == [text]


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_rows_are_decoded_apart(dtype):
    ids = tf.constant([[8, EOS, 8], [8, 9, EOS], [9, 9, 9]], dtype)
    assert vocabulary.decode_batch(ids).numpy().tolist() == [b"0", b"01", b"111"]


def test_characters():
    ids = tf.constant([[PAD, 1, 40], [BOS, EOS, 8]])
    assert vocabulary.characters(ids).numpy().tolist() == [[b"", b"\n", b"x"], [b"", b"", b"0"]]


def test_in_graph_with_unknown_shapes():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def there_and_back(texts):
        return vocabulary.decode_batch(vocabulary.encode_batch(texts).to_tensor(PAD))

    assert there_and_back(["print(3)", "", "12"]).numpy().tolist() == [b"print(3)", b"", b"12"]
    assert there_and_back(tf.constant([], tf.string)).numpy().tolist() == []
