import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_l2e.language import forms, vocabulary
from keras_l2e.language.vocabulary import BOS, CHARACTERS, EOS, PAD
from keras_l2e.networks import text

TEXTS = st.lists(st.text(st.sampled_from(CHARACTERS), max_size=80), max_size=8)


@settings(max_examples=50)
@given(TEXTS)
def test_a_batch_is_encoded_and_decoded_as_its_texts_are(texts):
    ids = text.encode(tf.constant(texts, tf.string, [len(texts)]))
    assert ids.dtype == tf.int32
    assert ids.to_list() == [vocabulary.encode(one) for one in texts]
    decoded = text.decode(ids.to_tensor(PAD)).numpy()
    assert [one.decode() for one in decoded] == texts


@pytest.mark.parametrize("input_form", forms.INPUT_FORMS)
@settings(max_examples=20)
@given(texts=TEXTS)
def test_a_batch_of_programs_is_read_as_language_says(input_form, texts):
    found = text.encode_programs(tf.constant(texts, tf.string, [len(texts)]), input_form)
    expected = [
        [i for copy in forms.read(program, input_form) for i in [*vocabulary.encode(copy), EOS]]
        for program in texts
    ]
    longest = max(map(len, expected), default=0)
    assert found.dtype == tf.int32
    assert found.numpy().tolist() == [row + [PAD] * (longest - len(row)) for row in expected]


@pytest.mark.parametrize(
    ("ids", "written"),
    [
        ([8, 9, EOS, PAD], b"01"),
        # What a decoder writes after the end is not read.
        ([8, EOS, 9, EOS, 10], b"0"),
        ([EOS, 8, 9], b""),
        ([8, 9, 10], b"012"),
        ([PAD, 8, BOS, 9, PAD], b"01"),
        ([], b""),
    ],
)
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_a_text_ends_at_its_first_eos(ids, written, dtype):
    # The neighbour ends elsewhere.
    rows = tf.constant([ids, [11] * len(ids)], dtype)
    assert text.decode(rows).numpy().tolist() == [written, b"3" * len(ids)]


@pytest.mark.parametrize("name", forms.TARGET_FORMS)
@settings(max_examples=50)
@given(TEXTS)
def test_answers_are_found_as_language_says(name, written):
    form = forms.TARGET_FORMS[name]
    # Any character may be written, newlines among them, and none at all.
    written = ["", ";", "1\n2;3\n4", ";;5", "6;", *written]
    for ended in (True, False):
        flags = [ended] * len(written)
        found = text.answers(tf.constant(written), tf.constant(flags), form.separator).numpy()
        assert [answer.decode() for answer in found] == list(map(form.answer, written, flags))


@pytest.mark.parametrize("separator", [".", "+", "\\", "\n"])
def test_a_separator_is_no_pattern(separator):
    texts = tf.constant([f"12{separator}34{separator}5", "67", f"8{separator}9"])
    found = text.answers(texts, tf.constant([True, True, False]), separator)
    assert found.numpy().tolist() == [b"5", b"67", b""]
