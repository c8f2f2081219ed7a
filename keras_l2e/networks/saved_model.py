"""A network as a SavedModel that reads program text and writes what the program prints.

    serving_default(program: string[n]) -> {output: string[n], probability: float32[n]}

Where the network shows its work there is also `work`, string [n]: all that it wrote, of which the
output is the part behind the last semicolon.

It needs TensorFlow only. `decode_steps(program)` gives each step's characters and top candidates.
Text it cannot read (empty, unknown characters, white space where the task's programs have none,
longer than any program of the trained difficulties) gives output "" and probability 0, and touches
no other row. A byte order mark, line ends of any system, blank lines and white space behind a line
make no difference.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_l2e.errors import WorkError
from keras_l2e.files import write_folder
from keras_l2e.language import vocabulary
from keras_l2e.language.forms import TARGET_FORMS, Interface
from keras_l2e.networks import text
from keras_l2e.networks.decoding import WORK_ROWS, greedy_decode, similar_lengths
from keras_l2e.networks.lstm import computing

# Beside the SavedModel: its `Interface`.
DESCRIPTION = "assets.extra/keras_l2e.json"
# The digest of every other file, as `sha256sum -c` reads it: TensorFlow does not notice an altered
# bit in a graph, which may give other answers.
SUMS = "assets.extra/SHA256SUMS"
NUM_CANDIDATES = 5
# Programs that `serve_many` answers together: a network that looks at its own past keeps that of
# all of them.
ROWS = 128
# What a description of release 0.1.0 lacks; its networks' steps are limited in their graphs.
_DEFAULTS = {"target_form": "answer", "longest_written": 0}
PROGRAMS = [tf.TensorSpec([None], tf.string, name="program")]


def serve_many(
    functions: Any, programs: Sequence[str | bytes], shows_work: bool
) -> dict[str, np.ndarray]:
    """What `serve` gives for programs, however many, in batches of similar lengths.

    Args:
        functions: a `Module`, or a SavedModel that was loaded.
        programs: texts.
        shows_work: whether work is written.
    """
    batches, places = similar_lengths(programs, WORK_ROWS if shows_work else ROWS)
    parts = [
        functions.serve(tf.constant([programs[i] for i in batch], tf.string)) for batch in batches
    ]
    return {name: np.concatenate([part[name] for part in parts])[places] for name in parts[0]}


class Module(tf.Module):
    """The functions of the SavedModel, `serve` and `decode_steps`."""

    def __init__(self, network, interface: Interface):
        """Args: a network of `models.build` and what it reads and writes."""
        super().__init__(name="learning_to_execute")
        self.model = network
        self.interface = interface

    @tf.function(input_signature=PROGRAMS, autograph=False)
    def serve(self, program):
        """The answers to n programs, and their probabilities."""
        ids, probabilities, _, ended, readable = self._decode(program)
        written = tf.where(readable, text.decode(ids), "")
        product = tf.reduce_prod(probabilities, axis=1)
        form = TARGET_FORMS[self.interface.target_form]
        return {
            "output": text.answers(written, ended, form.separator),
            "probability": tf.where(readable & ended, product, 0.0),
            **({"work": written} if form.work else {}),
        }

    @tf.function(input_signature=PROGRAMS, autograph=False)
    def decode_steps(self, program):
        """Each step of decoding; steps after an answer's end hold "" and probability 0.

        Returns:
            characters: string [n, steps], the character written, "EOS" for the end.
            probabilities: float32 [n, steps], of that character.
            candidates: string [n, steps, 5], the most probable characters, best first.
            candidate_probabilities: float32 [n, steps, 5].
        """
        ids, _, step_probabilities, _, readable = self._decode(program)
        written = (ids != vocabulary.PAD) & readable[:, None]
        top = tf.math.top_k(step_probabilities, NUM_CANDIDATES)
        picked = tf.gather(step_probabilities, ids, batch_dims=2)
        return {
            "characters": tf.where(written, _names(ids), ""),
            "probabilities": tf.where(written, picked, 0.0),
            "candidates": tf.where(written[:, :, None], _names(top.indices), ""),
            "candidate_probabilities": tf.where(written[:, :, None], top.values, 0.0),
        }

    def _decode(self, program):
        program = text.clean(program)
        lengths = tf.strings.length(program)
        possible = (lengths > 0) & (lengths <= self.interface.longest_program)
        # Of a text of any length no more than that is looked at: ids take four bytes each.
        ids = text.encode(tf.where(possible, program, ""))
        readable = possible & tf.reduce_all(ids != vocabulary.PAD, axis=1)
        readable &= ~text.has_stray_white_space(program, self.interface.white_space)
        # A row that cannot be read is replaced, so that it has no say in the batch's shape; a row
        # of our own is added, so that no batch is empty.
        texts = tf.concat([tf.where(readable, program, "0"), ["0"]], axis=0)
        state = self.model.get_layer("encoder")(
            text.encode_programs(texts, self.interface.input_form)
        )
        ids, logits = greedy_decode(
            self.model.get_layer("decoder"),
            tf.nest.map_structure(lambda x: x[:-1], state),
            max_steps=self.interface.longest_written + 1,
            bos=vocabulary.BOS,
            eos=vocabulary.EOS,
        )
        step_probabilities = tf.nn.softmax(logits)
        picked = tf.gather(step_probabilities, ids, batch_dims=2)
        probabilities = tf.where(ids == vocabulary.PAD, 1.0, picked)
        ended = tf.reduce_any(ids == vocabulary.EOS, axis=1)
        return ids, probabilities, step_probabilities, ended, readable


def _names(ids):
    return tf.where(ids == vocabulary.EOS, "EOS", text.characters(ids))


def save(network, interface: Interface, output: Path) -> None:
    """Writes a network as a SavedModel, whole or not at all.

    Args:
        network: of `models.build`.
        interface: what it reads and writes.
        output: the folder to write; what stands there is replaced.

    Raises:
        WorkError: it cannot be written.
    """
    module = Module(network, interface)
    try:
        with computing(network, use_cudnn=False):
            write_folder(output, functools.partial(_write, module))
    except tf.errors.OpError as error:  # TensorFlow's word for a full disk, say.
        raise WorkError(f"{output} cannot be written: {error.message}") from None


def _write(module: Module, folder: Path) -> None:
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    (folder / DESCRIPTION).parent.mkdir(exist_ok=True)
    (folder / DESCRIPTION).write_text(json.dumps(module.interface._asdict(), indent=1) + "\n")
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    lines = [f"{_digest(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines))


def load(folder: Path) -> tuple[Any, Interface]:
    """The functions of an exported SavedModel, and its `Interface`.

    Raises:
        WorkError: a file is missing, or not as it was written.
    """
    try:
        for line in (folder / SUMS).read_text("utf-8").splitlines():
            digest, name = line.split("  ")
            if _digest(folder / name) != digest:
                raise ValueError(f"{name} was altered")
        description = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        interface = Interface(**_DEFAULTS | description)
        return tf.saved_model.load(str(folder)), interface
    except (OSError, ValueError, TypeError, tf.errors.OpError) as error:
        raise WorkError(f"{folder} is not a whole SavedModel: {error}") from None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
