"""What all tests share: two logical CPU devices, and the entry points run as commands."""

import subprocess
import sys

import pytest

from keras_l2e import runtime

runtime.load_tensorflow()

import tensorflow as tf  # noqa: E402

# For the whole session: TensorFlow takes no more devices once it has started.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


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
