"""What all tests share: two logical CPU devices, and the entry points run as commands."""

import contextlib
import importlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import hypothesis
import pytest

from keras_l2e import devices as runtime
from keras_l2e.data import stored as prepared_data

runtime.load_tensorflow()

import tensorflow as tf  # noqa: E402

# For the whole session: TensorFlow takes no more devices once it has started.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# By the clock an example takes as long as whatever else the machine does.
hypothesis.settings.register_profile("keras_l2e", deadline=None)
hypothesis.settings.load_profile("keras_l2e")

# A command that is started takes seconds. One that hangs is killed after so many, lest its test
# waits for ever.
WATCHDOG_SECONDS = 600


@pytest.fixture(scope="session")
def two_replicas():
    """A strategy of two replicas as `runtime.start` makes it."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


@pytest.fixture(scope="session")
def run_command():
    """Runs `python -m keras_l2e.NAME ARGUMENTS...` and gives the finished process."""

    def run(name, *arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", f"keras_l2e.{name}", *map(str, arguments)],
            **{"capture_output": True, "text": True, "timeout": 300, **options},
        )

    return run


@pytest.fixture
def start_command():
    """Starts `python -m keras_l2e.NAME ARGUMENTS...`; kills what a test leaves running."""

    def start(name, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", f"keras_l2e.{name}", *map(str, arguments)],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )
        stack.enter_context(process)  # Closes its pipes.
        stack.callback(process.kill)
        watchdog = threading.Timer(WATCHDOG_SECONDS, process.kill)
        stack.callback(watchdog.cancel)
        watchdog.start()
        return process

    with contextlib.ExitStack() as stack:
        yield start


@pytest.fixture(scope="session")
def wait_for():
    """Waits until something is true, which is given, while a process runs."""

    def wait(condition, process, seconds=300):
        until = time.monotonic() + seconds
        while not (found := condition()):
            assert process.poll() is None, f"it ended with {process.returncode}"
            assert time.monotonic() < until, "it never came"
            time.sleep(0.01)
        return found

    return wait


@pytest.fixture
def build_here(monkeypatch):
    """Has missing data built in this process, where TensorFlow is there already."""

    def build_all(names, data_dir, num_workers):
        return ((name, prepared_data._build(name, data_dir)) for name in names)

    monkeypatch.setattr(prepared_data, "_build_all", build_all)


@pytest.fixture(scope="session")
def benchmark():
    """Imports a module of benchmarks/ by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
        yield importlib.import_module
