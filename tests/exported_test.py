"""The SavedModel of a trained run, asked where neither keras_l2e nor Keras is."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_l2e import export
from keras_l2e.errors import UsageError
from keras_l2e.language.programs import Example
from keras_l2e.networks import lstm, models, saved_model
from keras_l2e.training.scoring import Scorer

PROGRAMS = [b"print(12+34)", b"print(5+6)", b"print(99+99)", b"print(0)"]
UNREADABLE = [
    b"",
    b"Print(1+2)",  # P is no character of the class.
    b"print(123+45)",  # One character longer than any program of the trained difficulties.
    b"print(1\xc2\xb2)",  # One character, two bytes.
    b"print(\xff\xfe)",
]

LOADER = """
import json, sys
sys.modules["keras_l2e"] = sys.modules["keras"] = None
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
programs = [bytes.fromhex(text) for text in sys.argv[2:]]
def as_lists(outputs):
    return {name: value.numpy().tolist() for name, value in outputs.items()}
results = {
    "batch": as_lists(serve(program=tf.constant(programs))),
    "none": as_lists(serve(program=tf.constant([], tf.string))),
    "steps": as_lists(model.decode_steps(tf.constant(programs))),
    "no_steps": as_lists(model.decode_steps(tf.constant([], tf.string))),
    "signature": str(serve.structured_input_signature) + str(serve.structured_outputs),
}
print(json.dumps(results, default=bytes.decode))
"""


@pytest.fixture(scope="module")
def served(small_run):
    """What the SavedModel gives for PROGRAMS and then for UNREADABLE."""
    texts = [text.hex() for text in PROGRAMS + UNREADABLE]
    process = subprocess.run(
        [sys.executable, "-c", LOADER, str(small_run.folder / "saved_model"), *texts],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_it_answers_as_decoding_does(small_run, served):
    network = models.load(small_run.folder / "model.keras")
    examples = Example(PROGRAMS, *[[b"0"] * len(PROGRAMS)] * 2)
    scores = Scorer(network, "reverse", "answer", max_steps=4).score(examples)
    assert served["batch"]["output"][: len(PROGRAMS)] == scores.outputs
    assert any(scores.outputs)
    for probability in served["batch"]["probability"][: len(PROGRAMS)]:
        assert 0 <= probability < 1
    for part in ("program", "string", "output", "probability", "float32"):
        assert part in served["signature"]


def test_rows_that_cannot_be_read_are_empty_and_harm_no_other(served):
    count = len(PROGRAMS)
    assert served["batch"]["output"][count:] == [""] * len(UNREADABLE)
    assert served["batch"]["probability"][count:] == [0.0] * len(UNREADABLE)
    for row in served["steps"]["characters"][count:]:
        assert set(row) == {""}
    assert served["none"] == {"output": [], "probability": []}
    assert served["no_steps"]["characters"] == []


def test_steps_are_the_answer_one_by_one(served):
    steps = served["steps"]
    for i in range(len(PROGRAMS)):
        characters = [character for character in steps["characters"][i] if character]
        text = "".join(character for character in characters if character != "EOS")
        assert text == served["batch"]["output"][i]
        probabilities = steps["probabilities"][i]
        product = math.prod(probabilities[: len(characters)])
        whole = served["batch"]["probability"][i]
        assert whole == (pytest.approx(product, rel=1e-5) if characters[-1] == "EOS" else 0)
        for step, character in enumerate(characters):
            candidates = steps["candidates"][i][step]
            values = steps["candidate_probabilities"][i][step]
            assert len(candidates) == 5 and candidates[0] == character
            assert values == sorted(values, reverse=True)
            assert values[0] == probabilities[step]


def test_an_export_where_there_is_a_gpu_answers_where_there_is_none(
    small_run, tmp_path, monkeypatch, capsys
):
    """By the entry point, into a folder that is not there yet."""
    list_devices = tf.config.list_logical_devices
    network, load = [], models.load
    monkeypatch.setattr(models, "load", lambda path: network.append(load(path)) or network[0])
    output = tmp_path / "new/exported"
    arguments = export.Arguments(workdir=str(small_run.folder), output=str(output))
    with monkeypatch.context() as patch:
        patch.setattr(
            tf.config,
            "list_logical_devices",
            lambda kind=None: ["GPU:0"] if kind == "GPU" else list_devices(kind),
        )
        export.main(arguments)
    assert capsys.readouterr().out == f"saved_model: {output}\n"
    lstms = [layer for layer in network[0]._flatten_layers() if isinstance(layer, lstm.LSTM)]
    assert [layer.use_cudnn for layer in lstms] == ["auto"] * 2
    found = [saved_model.load(folder)[0] for folder in (output, small_run.folder / "saved_model")]
    answers, expected = (functions.serve(tf.constant(PROGRAMS)) for functions in found)
    assert answers["output"].numpy().tolist() == expected["output"].numpy().tolist()
    np.testing.assert_allclose(answers["probability"], expected["probability"], rtol=1e-4)
    with pytest.raises(UsageError, match="exists; name a new one"):
        export.main(arguments)
