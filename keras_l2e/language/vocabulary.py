"""The 40 characters of the program class and three special ids.

    >>> encode("print(3)")
    [36, 37, 31, 34, 39, 3, 11, 4]
    >>> decode([36, 37, 31, 34, 39, 3, 11, 4])
    'print(3)'

Ids: PAD 0 fills up a batch, 1..40 are the characters in the order of CHARACTERS, BOS 41 starts the
decoder, EOS 42 ends every text that is read or written. `networks.text` does the same for batches,
in TensorFlow.
"""

import string
from collections.abc import Iterable

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


def decode(ids: Iterable[int]) -> str:
    """The text of a sequence of character ids, without PAD, BOS or EOS among them.

    Raises:
        ValueError: names the first id that is no character and its position.
    """
    for position, i in enumerate(ids):
        if not 1 <= i <= len(CHARACTERS):
            raise ValueError(f"id {i} at position {position} is no character")
    return "".join(CHARACTERS[i - 1] for i in ids)
