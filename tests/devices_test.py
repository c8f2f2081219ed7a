"""The process's own settings, most of them seen by a TensorFlow that is none."""

import os
import subprocess
import sys

import pytest

from keras_l2e import devices
from keras_l2e.errors import UsageError

# It says what it was loaded with, and notes something on stderr as only C code does.
TENSORFLOW = r"""
import logging, os
get_logger = logging.getLogger
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), os.environ.get("TF_CPP_MIN_LOG_LEVEL"))
os.write(2, b"I0000 x\nreal\n")
"""


@pytest.fixture
def python(tmp_path):
    """Runs Python with the TensorFlow above; gives what it printed and what it wrote to stderr."""
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW)
    (tmp_path / "keras.py").write_text("")

    def python(*arguments, **variables):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
        path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=inherited | {"PYTHONPATH": path} | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return process.stdout, process.stderr

    return python


@pytest.mark.parametrize(("onednn", "value"), [("'on'", "1"), ("'off'", "0"), ("", "None")])
def test_tensorflow_is_loaded_with_onednn_or_without(python, onednn, value):
    code = f"from keras_l2e import devices; devices.load_tensorflow({onednn})"
    assert python("-c", code) == (f"{value} 3\n", "real\n")


def test_the_flag_s_word_counts_and_not_the_environment_s(python):
    # It ends where it needs more of TensorFlow than that.
    train = ("-m", "keras_l2e.train", "--workdir=run", "--data_dir=data")
    for flag, value in (("on", "1"), ("off", "0")):
        stdout, _ = python(*train, f"--onednn={flag}", TF_ENABLE_ONEDNN_OPTS=str(1 - int(value)))
        assert stdout == f"{value} 3\n"


def test_the_log_level_of_the_environment_counts(python):
    code = "from keras_l2e import devices; devices.load_tensorflow()"
    stdout, _ = python("-c", code, TF_CPP_MIN_LOG_LEVEL="0", TF_ENABLE_ONEDNN_OPTS="1")
    assert stdout == "1 0\n"


def test_tensorflow_is_loaded_where_stderr_is_closed(python):
    code = "import sys; sys.stderr = None; from keras_l2e import devices; devices.load_tensorflow()"
    assert python("-c", code, TF_ENABLE_ONEDNN_OPTS="1")[0] == "1 3\n"


def test_only_known_notes_are_kept_back(python, tmp_path):
    lines = [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:17.1 1 port.cc:153] oneDNN custom operations are on.",
        "E0000 00:00:17.1 1 cuda.cc:1] no device",
        "W0000 I0000 ",
    ]
    text = "".join(f"{line}\n" for line in lines) + "Traceback, without an end of line"
    (tmp_path / "tensorflow.py").write_text(f"import os\nos.write(2, {text.encode()!r})\nwrong")
    code = "from keras_l2e import devices; devices.load_tensorflow()"
    _, stderr = python("-c", code)
    shown = f"{lines[2]}\n{lines[3]}\nTraceback, without an end of line"
    # What it writes before it fails to load is shown as well.
    assert stderr.startswith(shown)
    assert "TensorFlow cannot be loaded: NameError: name 'wrong' is not defined" in stderr


@pytest.mark.parametrize(
    ("cpuinfo", "onednn"),
    [("flags : fma avx2", "off"), ("flags : avx2 avx512_vnni", "on"), ("flags : amx_tile", "on")],
)
def test_onednn_is_taken_where_the_processor_makes_it_the_faster(monkeypatch, cpuinfo, onednn):
    monkeypatch.delitem(sys.modules, "tensorflow")
    monkeypatch.setattr(devices.Path, "read_text", lambda path: cpuinfo)
    assert devices.default_onednn() == onednn


@pytest.mark.parametrize(("variable", "onednn"), [("0", "off"), ("1", "on"), (None, "on")])
def test_a_tensorflow_that_is_there_decides_about_onednn(monkeypatch, variable, onednn):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if variable:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", variable)
    assert devices.default_onednn() == onednn
    other = {"on": "off", "off": "on"}[onednn]
    with pytest.raises(UsageError) as error:
        devices.load_tensorflow(other)
    assert str(error.value) == (
        f"--onednn={other}; TensorFlow was imported before with it {onednn}"
    )


def test_a_tensorflow_that_has_started_keeps_its_devices():
    """Here it has two, as `conftest` started it."""
    assert devices.start(2).num_replicas_in_sync == 2
    # Nor can it take other threads any more.
    assert devices.start(1, threads_per_replica=2).num_replicas_in_sync == 1
    with pytest.raises(UsageError) as error:
        devices.start(3)
    assert str(error.value) == (
        "--num_replicas=3; TensorFlow was used before in this process, with 2 devices: "
        "train first, or with num_replicas=2"
    )
