"""Texts as ids and ids as texts, a batch at a time, by TensorFlow ops; see `language.vocabulary`.

clean(["print(3) \\r\\n"])              ["print(3)"]
encode(["print(3)"])                     [[36, 37, 31, 34, 39, 3, 11, 4]]
encode_programs(["12", "3"], "reverse")  [[10, 9, 42], [11, 42, 0]]
decode([[11, 42, 0]])                    ["3"]
"""

import tensorflow as tf

from keras_l2e.language import forms, vocabulary
from keras_l2e.language.vocabulary import CHARACTERS, EOS, PAD


def clean(texts):
    """`language.forms.clean` for a batch of texts, string [n]; bytes need not be UTF-8."""
    for pattern, replacement in (
        ("^\ufeff", ""),
        (r"\r\n?", "\n"),
        (r"[ \t\f\n]*\n", "\n"),
        (r"^\n|[ \t\f\n]+$", ""),
    ):
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts


def has_stray_white_space(texts, white_space: str):
    """Whether a text has white space elsewhere than this regular expression says; bool [n]."""
    others = tf.strings.regex_replace(texts, white_space, "")
    return ~tf.strings.regex_full_match(others, r"[^ \n]*")


def encode(texts) -> tf.RaggedTensor:
    """The ids of a batch of texts.

    Args:
        texts: string tensor, shape [n].

    Returns:
        Int32, shape [n, (characters)]; PAD stands for a byte that is no character.
    """
    table = [PAD] * 256
    for character in CHARACTERS:
        (table[ord(character)],) = vocabulary.encode(character)
    # One flat lookup for the whole batch: splitting each text into one-character strings first
    # costs a memory allocation a character.
    text_bytes = tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)
    ids = tf.gather(tf.constant(table, tf.int32), tf.cast(text_bytes, tf.int32))
    return tf.RaggedTensor.from_row_lengths(ids, tf.strings.length(texts), validate=False)


def append_eos(ids: tf.RaggedTensor) -> tf.RaggedTensor:
    """Each row with EOS after its last id."""
    return tf.concat([ids, tf.fill([ids.nrows(), 1], EOS)], axis=1)


def encode_programs(programs, input_form: str):
    """Program texts as the encoder reads them.

    Args:
        programs: string tensor, shape [n].
        input_form: `none` gives text EOS; `reverse` the text read backwards, EOS; `double` text EOS
            text EOS; `reverse_double` both.

    Returns:
        Int32 tensor, shape [n, t], padded on the right with PAD to the longest.
    """
    ids = encode(programs)
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    dense = ids.to_tensor(PAD)
    if input_form.startswith("reverse"):
        dense = tf.reverse_sequence(dense, lengths, seq_axis=1)
    copies = [append_eos(tf.RaggedTensor.from_tensor(dense, lengths))]
    copies *= len(forms.read("", input_form))
    return tf.concat(copies, axis=1).to_tensor(PAD)


def decode(ids):
    """The texts of a batch of ids, each up to its first EOS; other special ids are left out.

    Args:
        ids: int tensor, shape [n, steps].

    Returns:
        String tensor, shape [n].
    """
    ended = tf.cumsum(tf.cast(tf.equal(ids, EOS), tf.int32), axis=1) > 0
    return tf.strings.reduce_join(characters(tf.where(ended, PAD, ids)), axis=1)


def answers(written, ended, separator: str):
    """`language.forms.TargetForm.answer` for a batch: texts, string [n], and bool [n]."""
    if not separator:
        return written
    found = tf.strings.regex_replace(written, f"(?s).*\\Q{separator}\\E", "")
    return tf.where(ended, found, "")


def characters(ids):
    """One string per id: its character, or nothing for PAD, BOS and EOS; same shape as `ids`."""
    return tf.gather(tf.constant(["", *CHARACTERS, "", ""]), ids)
