"""Exports a trained network as a SavedModel that reads program text and writes what it prints.

    python -m keras_l2e.export --workdir=W --output=DIR
    python -m keras_l2e.export --pretrained=addition_9 --output=DIR

    serving_default(program: string[n]) -> {output: string[n], probability: float32[n]}

The SavedModel needs TensorFlow only. `decode_steps(program)` gives each step's characters and top
candidates. Text it cannot read (empty, unknown characters, longer than any program of the trained
difficulties) gives output "" and probability 0, and touches no other row.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from absl import flags

from keras_l2e import command_line, pretrained
from keras_l2e import config as run_flags
from keras_l2e import devices as runtime
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.language.tasks import TASKS, Difficulty, grid

if __name__ == "__main__":
    command_line.define_path("workdir", None, "Folder of the training run.", optional=True)
    flags.DEFINE_string(
        "pretrained", None, "Instead of --workdir: name of a network that comes with the package."
    )
    command_line.define_path("output", None, "Folder for the SavedModel; must be new. Required.")

# Beside the SavedModel: what `execute` needs to know of the run.
DESCRIPTION = "assets.extra/keras_l2e.json"
# The digest of every other file, as `sha256sum -c` reads it: TensorFlow does not notice an altered
# bit in a graph, which may give other answers.
SUMS = "assets.extra/SHA256SUMS"
NUM_CANDIDATES = 5


def export(config: SimpleNamespace, model, output: Path) -> None:
    """Writes a model as a SavedModel, whole or not at all.

    Args:
        config: the flags of the training run.
        model: a `keras.Model` of `models.MODELS`.
        output: the folder to write; what stands there is replaced.

    Raises:
        WorkError: it cannot be written.
    """
    import tensorflow as tf

    module = make_module(config, model)
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _without_cudnn(model):
            signatures = {"serving_default": module.serve}
            tf.saved_model.save(module, str(temporary), signatures=signatures)
    except tf.errors.OpError as error:  # TensorFlow's word for a full disk, say.
        shutil.rmtree(temporary, ignore_errors=True)
        raise WorkError(f"{output} cannot be written: {error.message}") from None
    (temporary / DESCRIPTION).parent.mkdir(exist_ok=True)
    (temporary / DESCRIPTION).write_text(json.dumps(describe(config), indent=1) + "\n")
    names = sorted(
        path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file()
    )
    lines = [f"{_digest(temporary / name)}  {name}\n" for name in names]
    (temporary / SUMS).write_text("".join(lines))
    if output.exists():
        shutil.rmtree(output)
    os.replace(temporary, output)


@contextlib.contextmanager
def _without_cudnn(model) -> Iterator[None]:
    """With a GPU, Keras would put an operation of cuDNN's into the graph, which no CPU has."""
    import keras

    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.LSTM)]
    settings = [layer.use_cudnn for layer in layers]
    for layer in layers:
        layer.use_cudnn = False
    try:
        yield
    finally:
        for layer, setting in zip(layers, settings, strict=True):
            layer.use_cudnn = setting


def describe(config: SimpleNamespace) -> dict:
    """What `execute` needs to know of a run besides its network, as JSON holds it."""
    return {
        "task": config.task,
        "input_form": config.input_form,
        "target_length": config.target_length,
        "target_nesting": config.target_nesting,
        "longest_program": _longest(config)[0],
    }


def _longest(config: SimpleNamespace) -> tuple[int, int]:
    """The longest program and target of the trained difficulties, in characters."""
    trained = grid(Difficulty(config.target_length, config.target_nesting))
    longest = map(TASKS[config.task].longest, trained)
    return tuple(max(lengths) for lengths in zip(*longest, strict=True))


def check(model_dir: Path) -> None:
    """Raises WorkError if a file of an exported SavedModel is not as it was written."""
    try:
        for line in (model_dir / SUMS).read_text("utf-8").splitlines():
            digest, name = line.split("  ")
            if _digest(model_dir / name) != digest:
                raise ValueError(f"{name} was altered")
    except (OSError, ValueError) as error:
        raise WorkError(f"{model_dir} is not a whole SavedModel: {error}") from None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_module(config: SimpleNamespace, model):
    """A `tf.Module` with the functions of the SavedModel, `serve` and `decode_steps`.

    Args:
        config: the flags of the training run.
        model: a `keras.Model` of `models.MODELS`.
    """
    import tensorflow as tf

    from keras_l2e.data import pipeline as input_pipeline
    from keras_l2e.language import vocabulary
    from keras_l2e.networks import decoding

    longest_program, longest_target = _longest(config)

    class Module(tf.Module):
        def __init__(self):
            super().__init__(name="learning_to_execute")
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="program")])
        def serve(self, program):
            ids, probabilities, _, ended, readable = self._decode(program)
            answered = readable & ended
            return {
                "output": tf.where(readable, vocabulary.decode_batch(ids), ""),
                "probability": tf.where(answered, tf.reduce_prod(probabilities, axis=1), 0.0),
            }

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="program")])
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
                "characters": tf.where(written, names(ids), ""),
                "probabilities": tf.where(written, picked, 0.0),
                "candidates": tf.where(written[:, :, None], names(top.indices), ""),
                "candidate_probabilities": tf.where(written[:, :, None], top.values, 0.0),
            }

        def _decode(self, program):
            lengths = tf.strings.length(program)
            possible = (lengths > 0) & (lengths <= longest_program)
            # Of a text of any length no more than that is looked at: ids take four bytes each.
            ids = vocabulary.encode_batch(tf.where(possible, program, ""))
            readable = possible & tf.reduce_all(ids != vocabulary.PAD, axis=1)
            # A row that cannot be read is replaced, so that it has no say in the batch's shape; a
            # row of our own is added, so that no batch is empty.
            texts = tf.concat([tf.where(readable, program, "0"), ["0"]], axis=0)
            states = self.model.get_layer("encoder")(
                input_pipeline.encode_programs(texts, config.input_form)
            )
            states = [state[:-1] for state in states]
            ids, logits = decoding.greedy_decode(
                self.model,
                states,
                max_steps=longest_target + 1,
                bos=vocabulary.BOS,
                eos=vocabulary.EOS,
            )
            step_probabilities = tf.nn.softmax(logits)
            picked = tf.gather(step_probabilities, ids, batch_dims=2)
            probabilities = tf.where(ids == vocabulary.PAD, 1.0, picked)
            ended = tf.reduce_any(ids == vocabulary.EOS, axis=1)
            return ids, probabilities, step_probabilities, ended, readable

    def names(ids):
        return tf.where(ids == vocabulary.EOS, "EOS", vocabulary.characters(ids))

    return Module()


def main(config: SimpleNamespace) -> None:
    workdir = pretrained.chosen(config.workdir, config.pretrained)
    run = run_flags.read_finished(workdir)
    output = command_line.check_folder("output", config.output)
    if output.exists():
        raise UsageError(f"--output={config.output} exists; name a new folder")
    runtime.load_tensorflow(run.onednn)
    from keras_l2e.networks import models

    output.parent.mkdir(parents=True, exist_ok=True)
    export(run, models.load(workdir / "model.keras"), output)
    print(f"SavedModel: {output}")


if __name__ == "__main__":
    command_line.run(main)
