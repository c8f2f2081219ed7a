"""Networks as ONNX and LiteRT files: they compute as Keras does, or are not written."""

import importlib.util
import json
import re
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import small_network

from keras_l2e import config as configs
from keras_l2e import export, pretrained
from keras_l2e.config import Config
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.language import vocabulary
from keras_l2e.networks import MODELS, exchange, lstm

SERVING = Path(__file__).parents[1] / "docs/serving.md"
INTERFACE = Config(task="addition", target_length=3).interface


def check(network, folder):
    """Reads programs of several lengths and writes some steps, beside Keras."""
    sessions = [
        onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("encoder", "decoder")
    ]
    names = [[x.name for x in session.get_outputs()] for session in sessions]
    rng = np.random.default_rng(1)
    for lengths in ([1], [12, 5, 12], [3, 20]):
        read = np.zeros([len(lengths), max(lengths)], np.int32)
        for row, length in zip(read, lengths, strict=True):
            row[:length] = rng.integers(1, vocabulary.SIZE, length)
        expected = network.get_layer("encoder")(tf.constant(read))
        found = sessions[0].run(None, {"encoder_token_ids": read})
        state = dict(zip(names[0], found, strict=True))
        for _ in range(4):
            for x, y in zip(keras.tree.flatten(expected), state.values(), strict=True):
                np.testing.assert_allclose(x, y, atol=1e-5)
            ids = rng.integers(1, vocabulary.SIZE, [len(lengths), 1]).astype(np.int32)
            logits, expected = network.get_layer("decoder")([tf.constant(ids), expected])
            found = sessions[1].run(None, {"decoder_token_ids": ids, **state})
            found = dict(zip(names[1], found, strict=True))
            np.testing.assert_allclose(found.pop("logits"), logits, atol=1e-5)
            state = {name.removeprefix("next_"): x for name, x in found.items()}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {}) for name in MODELS),
        pytest.param("lstm", {"tie_encoder_decoder": True}, marks=pytest.mark.slow),
        pytest.param("attention", {"own_past": False}, marks=pytest.mark.slow),
        pytest.param("attention", {"second_lstm": False}, marks=pytest.mark.slow),
        pytest.param("transformer", {"positions": "learned"}, marks=pytest.mark.slow),
        pytest.param(
            "universal_transformer", {"halting": True, "num_layers": 3}, marks=pytest.mark.slow
        ),
    ],
)
def test_onnx_runtime_computes_as_keras(name, changes, tmp_path):
    network = small_network(model=name, **changes)
    exchange.save(network, INTERFACE, tmp_path / "new", "onnx")
    files = ["README.md", "decoder.onnx", "encoder.onnx", "network.json"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == files
    check(network, tmp_path / "new")
    card = (tmp_path / "new/README.md").read_text()
    for session in ("encoder", "decoder"):
        for x in onnxruntime.InferenceSession(tmp_path / f"new/{session}.onnx").get_inputs():
            assert f"| `{x.name}` |" in card
    assert ("h, then c" in card) == ("transformer" not in name)
    assert ("the keys" in card) == (name != "lstm")
    mask = "state_read_2" if name == "attention" else "state_mask"
    assert (f"`{mask}` tells the program" in card) == (name != "lstm")
    layers = [x for x in network.get_layer("encoder").layers if isinstance(x, lstm.LSTM)]
    assert bool(layers) == ("transformer" not in name)
    assert not any(layer.portable for layer in layers)


@pytest.mark.slow
def test_the_decoding_of_the_documents(tmp_path, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n([^`]*onnxruntime[^`]*)```", SERVING.read_text())
    monkeypatch.chdir(tmp_path)
    folder = Path(re.search('folder = "(.*)"', block)[1])
    export.main(export.Arguments(pretrained="programs", format="onnx", output=str(folder)))
    assert capsys.readouterr().out == f"onnx: {folder}\n"
    exec(block, {})
    written = capsys.readouterr().out.strip()
    assert written.rpartition(";")[2] == str(41245 * 12)
    facts = json.loads((folder / "network.json").read_text())
    interface = configs.read(pretrained.find("programs")).interface
    assert interface._asdict().items() <= facts.items()


@pytest.mark.parametrize(
    ("name", "changes"),
    [("lstm", {}), pytest.param("attention", {"own_past": False}, marks=pytest.mark.slow)],
)
def test_litert_computes_as_keras(name, changes, tmp_path):
    network = small_network(model=name, **changes)
    exchange.save(network, INTERFACE, tmp_path / "new", "litert")
    run = {
        name: Interpreter(str(tmp_path / f"new/{name}.tflite")).get_signature_runner()
        for name in ("encoder", "decoder")
    }
    num_ids = INTERFACE.longest_program + 1
    read = np.zeros([1, num_ids], np.int32)
    read[0, :9] = np.arange(1, 10)
    expected = network.get_layer("encoder")(tf.constant(read))
    state = run["encoder"](encoder_token_ids=read)
    for last in (vocabulary.BOS, 7, 30):
        ids = np.array([[last]], np.int32)
        logits, expected = network.get_layer("decoder")([tf.constant(ids), expected])
        found = run["decoder"](decoder_token_ids=ids, **state)
        np.testing.assert_allclose(found.pop("logits"), logits, atol=1e-5)
        state = {name.removeprefix("next_"): x for name, x in found.items()}


def test_what_a_format_does_not_have_is_not_written(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="state_past_0 grows from step to step"):
        exchange.save(small_network(model="attention"), INTERFACE, tmp_path / "new", "litert")
    # What tf2onnx cannot convert it leaves as it is.
    monkeypatch.setattr(
        exchange, "computing", lambda network, portable, **_: lstm.computing(network)
    )
    with pytest.raises(WorkError, match=r"the encoder cannot be converted: .*BlockLSTMV2"):
        exchange.save(small_network(), INTERFACE, tmp_path / "new", "onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"tf2onnx: pip install 'keras_l2e\[onnx\]'"):
        exchange.save(small_network(), INTERFACE, tmp_path / "new", "onnx")
    assert list(tmp_path.iterdir()) == []
