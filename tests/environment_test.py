"""What is set or broken around the package: it works all the same, or says in one line why not."""

import importlib
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

import keras_l2e
from keras_l2e import devices
from keras_l2e.errors import UsageError, WorkError

ONE_LINE = re.compile(r"error: .+\n")


def test_execute_needs_no_backend_of_matplotlib_or_keras(run_command, without_modules, tmp_path):
    settings = {"backend": "jax", "floatx": "float16", "epsilon": 0.1}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    environment = without_modules("matplotlib", "jax") | {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "KERAS_BACKEND": "jax",
        "KERAS_HOME": str(tmp_path),
        "PYTHONWARNINGS": "error",
    }
    process = run_command("execute", "print(12+34)", env=environment)
    assert (process.returncode, process.stderr) == (0, "")
    assert "\npredicted  46\ntrue       46\nright\n" in process.stdout


@pytest.mark.parametrize("variables", [{}, {"KERAS_BACKEND": "jax", "KERAS_HOME": "/k"}])
def test_a_process_of_another_backend_is_told_so(monkeypatch, variables):
    for name in ("KERAS_BACKEND", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    other = SimpleNamespace(config=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", other)
    where = "KERAS_BACKEND" if variables else "~/.keras/keras.json"
    for use in (lambda: keras_l2e.load("addition_9"), lambda: keras_l2e.execute("print(1+2)")):
        with pytest.raises(UsageError) as error:
            use()
        assert str(error.value) == (
            f"Keras runs on jax in this process, as {where} says; it must be imported with "
            "KERAS_BACKEND=tensorflow"
        )


@pytest.mark.parametrize(
    ("floatx", "policy"),
    [("float16", "float16"), ("float64", "float64"), ("float32", "mixed_float16")],
)
def test_networks_are_made_of_float32_whatever_the_process_takes(
    addition_9, others_settings, floatx, policy
):
    plain = addition_9.execute("print(123456789+987654321)")
    others_settings(floatx=floatx, dtype_policy=keras.DTypePolicy(policy))
    network = keras_l2e.load("addition_9")
    assert network.execute("print(123456789+987654321)") == plain
    assert {weight.dtype for weight in network.model.weights if weight.trainable} == {"float32"}


def test_libraries_that_cannot_be_loaded_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_MAX_EPOCHS", "x")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text("{}")
    real = importlib.import_module

    def fail(name):
        if name == "keras":
            raise ValueError("invalid literal\nfor int()")
        return real(name)

    monkeypatch.setattr(devices.importlib, "import_module", fail)
    with pytest.raises(WorkError) as error:
        devices.load_tensorflow()
    message = "TensorFlow cannot be loaded: ValueError: invalid literal\nfor int() (in force: "
    assert str(error.value).startswith(message)
    assert f"KERAS_HOME={tmp_path}, KERAS_MAX_EPOCHS=x, " in str(error.value)
    assert str(error.value).endswith(f", {tmp_path}/keras.json; try it without)")


def test_a_failure_of_tensorflow_names_the_variables_that_are_set(command, monkeypatch):
    def fail(place):
        tf.constant(1) + tf.constant([1.0, 2.0])

    monkeypatch.setattr("keras_l2e.api.find", fail)
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_auto_jit=2")
    found = command("execute", "--model=x", "print(1+2)")
    assert (found.returncode, found.stdout) == (1, "")
    assert ONE_LINE.fullmatch(found.stderr)
    assert found.stderr.startswith("error: TensorFlow failed with InvalidArgumentError: ")
    assert "TF_XLA_FLAGS=--tf_xla_auto_jit=2" in found.stderr
    for own in devices.OWN:
        assert f"{own}=" not in found.stderr


@pytest.mark.parametrize(
    ("redirection", "exit_code", "stderr"),
    [
        ("> /dev/full", 1, "error: No space left on device\n"),
        (">&-", 0, ""),
        ("| true", 1, "error: Broken pipe\n"),
    ],
)
def test_standard_output_that_takes_nothing(redirection, exit_code, stderr):
    line = f"'{sys.executable}' -m keras_l2e.train --help {redirection}; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert process.stderr == stderr
    assert process.returncode == exit_code


def test_a_terminal_that_cannot_show_a_path(run_command):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    process = run_command("execute", "--model=für", "print(1)", env=environment)
    assert process.returncode == 2
    assert process.stderr.startswith("error: no model in f\\xfcr: ")
