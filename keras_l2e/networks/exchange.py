"""Networks for other engines, as ONNX or LiteRT files: an encoder and a step of a decoder.

    encoder: encoder_token_ids int32 [n, t]            ->  state_*
    decoder: decoder_token_ids int32 [n, 1], state_*   ->  logits float32 [n, 1, v], next_state_*

What the ids stand for, and what else must be known to decode, is in network.json, and README.md
says it in words. In LiteRT n is 1, and t a number.
"""

import functools
import importlib.util
import json
import logging
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import keras
import tensorflow as tf

from keras_l2e.errors import UsageError, WorkError
from keras_l2e.files import write_folder
from keras_l2e.language import forms, vocabulary
from keras_l2e.language.forms import Interface
from keras_l2e.networks.lstm import computing

OPSET = 18
DESCRIPTION = "network.json"
SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}

# What the tensors of a state are, if the name of one is found here.
_STATES = {
    r"state_(.*lstm_)?[01]": """\
Of each LSTM there are two tensors, first h, then c. Where weights are read by themselves: Keras
keeps the gates of an LSTM in the order input, forget, candidate, output; the operation LSTM of ONNX
has input, output, forget, candidate.""",
    r"state_read_.*": """\
Of what is looked at (`read`: the program, `past`: what was written) the first are the keys, then
come the values, [n, heads, places, width], in a Transformer for each block, in a universal one of
`past` for each step. The encoder gives a past without places.""",
    r"state_mask|state_read_2": "`{}` tells the program from its padding.",
}


def save(network, interface: Interface, output: Path, format: str) -> None:
    """Writes the folder of a network, whole or not at all.

    Args:
        network: of `models.build`.
        interface: what it reads and writes.
        output: the folder to write.
        format: a key of SUFFIXES.

    Raises:
        UsageError: what converts it is not installed, or the format has no such network.
        WorkError: it cannot be converted.
    """
    if format == "onnx" and not importlib.util.find_spec("tf2onnx"):
        raise UsageError("ONNX files need tf2onnx: pip install 'keras_l2e[onnx]'")
    with computing(network, use_cudnn=False, portable=True):
        write_folder(output, functools.partial(_write, network, interface, format))


def _write(network, interface: Interface, format: str, folder: Path) -> None:
    encoder, decoder = _parts(network)
    signatures = (_open if format == "onnx" else _fixed)(encoder, decoder, interface)
    for model, signature in zip((encoder, decoder), signatures, strict=True):
        _convert(model, signature, folder / f"{model.name}{SUFFIXES[format]}")
    facts = {
        **interface._asdict(),
        "characters": vocabulary.CHARACTERS,
        "pad": vocabulary.PAD,
        "bos": vocabulary.BOS,
        "eos": vocabulary.EOS,
    }
    (folder / DESCRIPTION).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    (folder / "README.md").write_text(card(interface, signatures), "utf-8")


def _parts(network) -> tuple[keras.Model, keras.Model]:
    """The encoder and the decoder, with a name for each tensor of their state."""
    encoder, decoder = network.get_layer("encoder"), network.get_layer("decoder")
    ids = keras.Input([None], dtype="int32", name="encoder_token_ids")
    reading = keras.Model({ids.name: ids}, _named(encoder(ids)), name="encoder")
    ids = keras.Input([None], dtype="int32", name="decoder_token_ids")
    states = {
        name: keras.Input(x.shape[1:], dtype=x.dtype, name=name)
        for name, x in _named(decoder.input[1]).items()
    }
    state = keras.tree.pack_sequence_as(decoder.input[1], list(states.values()))
    logits, state = decoder([ids, state])
    outputs = {f"next_{name}": x for name, x in _named(state).items()}
    writing = keras.Model({ids.name: ids, **states}, {"logits": logits, **outputs}, name="decoder")
    return reading, writing


def _named(state) -> dict:
    """The tensors of a state, by names that say where in it they are."""
    return {
        "_".join(map(str, ("state", *path))): x for path, x in keras.tree.flatten_with_path(state)
    }


def _open(encoder, decoder, interface: Interface) -> list[dict[str, tf.TensorSpec]]:
    """Signatures for any number of programs of any length, and one step."""
    signatures = [
        {name: tf.TensorSpec(x.shape, x.dtype, name) for name, x in model.input.items()}
        for model in (encoder, decoder)
    ]
    signatures[1] |= _ids("decoder", None, 1)
    return signatures


def _fixed(encoder, decoder, interface: Interface) -> list[dict[str, tf.TensorSpec]]:
    """Signatures without an open axis, for one program and one step.

    Raises:
        UsageError: the state grows from step to step.
    """
    longest = forms.read("0" * interface.longest_program, interface.input_form)
    reading = _ids("encoder", 1, sum(len(text) + 1 for text in longest))
    writing = _ids("decoder", 1, 1)
    for name, x in _outputs(encoder, reading).items():
        writing[name] = tf.TensorSpec(x.shape, x.dtype, name)
    for name, x in _outputs(decoder, writing).items():
        before = name.removeprefix("next_")
        if before in writing and x.shape != writing[before].shape:
            # It does convert, with an open axis; but LiteRT gives no tensor that is empty, as the
            # past is before the first step ("Invalid tensor size", ai-edge-litert 2.3.0).
            raise UsageError(f"{before} grows from step to step; LiteRT's shapes are fixed here")
    return [reading, writing]


def _ids(part: str, *shape: int | None) -> dict[str, tf.TensorSpec]:
    name = f"{part}_token_ids"
    return {name: tf.TensorSpec(shape, tf.int32, name)}


def _outputs(model, signature) -> dict:
    return tf.function(model, autograph=False).get_concrete_function(signature).structured_outputs


def _convert(model, signature, path: Path) -> None:
    """Writes one of the two.

    Raises:
        WorkError: something in it has no counterpart there.
    """
    if path.suffix == SUFFIXES["onnx"]:
        options = {"format": "onnx", "opset_version": OPSET}
    else:
        only = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
        options = {"format": "litert", "target_spec": only}
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Of tf2onnx, about NumPy.
            model.export(path, input_signature=[signature], verbose=False, **options)
        if path.suffix == SUFFIXES["onnx"]:
            # What tf2onnx cannot convert it leaves in the file, and says so in its log alone.
            import onnx

            onnx.checker.check_model(path)
    except Exception as error:  # Every way in which converters fail.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WorkError(f"the {model.name} cannot be converted: {reason[0]}") from None


def card(interface: Interface, signatures: list[dict[str, tf.TensorSpec]]) -> str:
    """What must be known to call the two files.

    Args:
        interface: what the network reads and writes.
        signatures: name -> shape and dtype of the inputs of each.
    """
    tables = [
        "\n".join(
            f"| `{name}` | {spec.dtype.name} | {', '.join(str(n or 'any') for n in spec.shape)} |"
            for name, spec in signature.items()
        )
        for signature in signatures
    ]
    header = "| input | dtype | shape |\n|---|---|---|\n"
    form = {
        "none": "as it is",
        "reverse": "backwards",
        "double": "twice",
        "reverse_double": "backwards and twice",
    }[interface.input_form]
    return f"""# An encoder and a decoder

The encoder reads a program once. The decoder takes the id of the last character written and the
state, and gives the logits of the next one and the state behind it. All that a program needs to
decode is in [`{DESCRIPTION}`]({DESCRIPTION}).

## encoder

{header}{tables[0]}

- Id 1 is the first of `characters`, and so on; {vocabulary.PAD} pads on the right, {vocabulary.EOS}
  ends a text.
- This network reads a program {form}, {vocabulary.EOS} behind it each time: at most
  {interface.longest_program} characters.
- Outputs: the `state_*` that the decoder takes.

## decoder

{header}{tables[1]}

- The first id is {vocabulary.BOS}. `logits`, float32 [n, 1, {vocabulary.SIZE}], are those of the
  next character; {vocabulary.EOS} ends what is written, {interface.longest_written} characters at
  most. It writes: {interface.target_form}.
- `next_state_X` is the next step's `state_X`.

## State

{_describe_state(signatures[1])}
"""


def _describe_state(names: Iterable[str]) -> str:
    """What is known of tensors of these names, a paragraph each."""
    found = {
        text: name
        for pattern, text in _STATES.items()
        for name in names
        if re.fullmatch(pattern, name)
    }
    return "\n\n".join(text.format(name) for text, name in found.items())
