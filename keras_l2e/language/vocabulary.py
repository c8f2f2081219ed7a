"""The 40 characters of the program class and three special ids, in Python and in TensorFlow.

    >>> encode("print(3)")
    [36, 37, 31, 34, 39, 3, 11, 4]
    >>> decode([36, 37, 31, 34, 39, 3, 11, 4])
    'print(3)'

Ids: PAD 0 fills up a batch, 1..40 are the characters in the order of CHARACTERS, BOS 41 starts the
decoder, EOS 42 ends every text that is read or written. TensorFlow is imported inside the functions
that need it, so that texts and ids can be shown without it.
"""

import string

CHARACTERS = "\n ()*+-" + string.digits + ":;<=>" + "abcdefghijlnoprstx"
PAD = 0
BOS = len(CHARACTERS) + 1
EOS = len(CHARACTERS) + 2
SIZE = len(CHARACTERS) + 3

_ID_OF = {character: i for i, character in enumerate(CHARACTERS, start=1)}


def encode(text: str) -> list[int]:
    """The ids of a text's characters, without BOS or EOS.

    Raises:
        ValueError: names the first unknown character and its position.
    """
    try:
        return [_ID_OF[character] for character in text]
    except KeyError:
        position = next(i for i, character in enumerate(text) if character not in _ID_OF)
        raise ValueError(
            f"unknown character {text[position]!r} at position {position}; "
            f"the vocabulary is {CHARACTERS!r}"
        ) from None


def decode(ids) -> str:
    """The text of a sequence of character ids, without PAD, BOS or EOS among them.

    Raises:
        ValueError: names the first id that is no character and its position.
    """
    for position, i in enumerate(ids):
        if not 1 <= i <= len(CHARACTERS):
            raise ValueError(f"id {i} at position {position} is no character")
    return "".join(CHARACTERS[i - 1] for i in ids)


def encode_batch(texts):
    """Encodes a batch of texts by TensorFlow ops.

    Args:
        texts: string tensor, shape [n].

    Returns:
        Ragged int32 tensor, shape [n, (characters)]; PAD stands for a byte that is no character.
    """
    import tensorflow as tf

    table = [PAD] * 256
    for character, i in _ID_OF.items():
        table[ord(character)] = i
    # One flat lookup for the whole batch: splitting each text into one-character strings first
    # costs a memory allocation a character.
    text_bytes = tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)
    ids = tf.gather(tf.constant(table, tf.int32), tf.cast(text_bytes, tf.int32))
    return tf.RaggedTensor.from_row_lengths(ids, tf.strings.length(texts), validate=False)


def decode_batch(ids):
    """The texts of a batch of ids, each up to its first EOS; other special ids are left out.

    Args:
        ids: int tensor, shape [n, steps].

    Returns:
        String tensor, shape [n].
    """
    import tensorflow as tf

    ended = tf.cumsum(tf.cast(tf.equal(ids, EOS), tf.int32), axis=1) > 0
    return tf.strings.reduce_join(characters(tf.where(ended, PAD, ids)), axis=1)


def characters(ids):
    """One string per id: its character, or nothing for PAD, BOS and EOS; same shape as `ids`."""
    import tensorflow as tf

    return tf.gather(tf.constant(["", *CHARACTERS, "", ""]), ids)
