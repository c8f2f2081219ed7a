"""The process's own settings: log noise, Keras' backend and precision, threads, oneDNN, devices.

What the user has set for other work, in the environment, in keras.json or in the process, is
overruled where that touches nobody else, and else named in one line.
"""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_l2e.errors import UsageError, WorkError

# Variables that change what TensorFlow and Keras do begin with these.
PREFIXES = ("CUDA_", "KERAS_", "TF_", "XLA_")
# Those that this package sets itself.
OWN = ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
# Keras' settings for whole processes, as `keras.config` names them, and what they are here.
KERAS_SETTINGS = {
    "floatx": "float32",
    "dtype_policy": "float32",
    "max_epochs": None,
    "max_steps_per_epoch": None,
}


def num_cores() -> int:
    """The CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def default_onednn() -> str:
    """`on` where oneDNN's kernels are the faster ones (AVX-512 VNNI or AMX), else `off`.

    Measured on small LSTMs: with AVX2 alone its small products take twice as long as Eigen's, with
    AVX-512 a third. Where TensorFlow is imported already it is what is in force.
    """
    if "tensorflow" in sys.modules:
        return onednn_in_force()
    try:
        cpu = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "off"
    return "on" if "avx512_vnni" in cpu or "amx_tile" in cpu else "off"


def load_tensorflow(onednn: str = "") -> None:
    """Imports TensorFlow, and Keras on it, with the chatter of both and TFDS off the terminal.

    Args:
        onednn: `on` or `off`; by default TensorFlow decides.

    Raises:
        UsageError: TensorFlow was imported before with the other setting, or Keras on another
            backend.
        WorkError: they cannot be imported.
    """
    _choose_backend()
    loaded = "tensorflow" in sys.modules
    if loaded and onednn and onednn != onednn_in_force():
        raise UsageError(
            f"--onednn={onednn}; TensorFlow was imported before with it {onednn_in_force()}"
        )
    if onednn:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn == "on"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        quiet = loaded or sys.stderr is None
        with contextlib.nullcontext() if quiet else _without_import_notes():
            tensorflow = importlib.import_module("tensorflow")
            importlib.import_module("keras")
    except Exception as error:  # Whatever a library raises at a setting or a file it cannot take.
        reason = f"{type(error).__name__}: {error}"
        settings = _settings(_keras_json())
        raise WorkError(f"TensorFlow cannot be loaded: {reason}{settings}") from None
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    tensorflow.get_logger().setLevel("ERROR")


def _choose_backend() -> None:
    """Has Keras run on TensorFlow, whatever KERAS_BACKEND or keras.json says."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    elif (backend := sys.modules["keras"].config.backend()) != "tensorflow":
        where = "KERAS_BACKEND" if "KERAS_BACKEND" in os.environ else _keras_json()
        raise UsageError(
            f"Keras runs on {backend} in this process, as {where} says; it must be imported with "
            "KERAS_BACKEND=tensorflow"
        )


@contextlib.contextmanager
def own_keras_settings() -> Iterator[None]:
    """Keras as if nobody had set anything: networks are made of float32, `fit` has no limits.

    Else a keras.json, a variable or the process's dtype policy would change what is built and
    trained.
    """
    config = importlib.import_module("keras").config
    before = {name: getattr(config, name)() for name in KERAS_SETTINGS}
    try:
        for name, value in KERAS_SETTINGS.items():
            getattr(config, f"set_{name}")(value)
        yield
    finally:
        for name, value in before.items():
            getattr(config, f"set_{name}")(value)


def explain(error: Exception) -> str | None:
    """One line on a failure that the environment causes; None for any other."""
    if isinstance(error, ImportError):
        return f"a package is missing or broken: {error}"
    if isinstance(error, MemoryError):
        return f"out of memory {error}".strip()
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow and isinstance(error, tensorflow.errors.OpError):
        reason = " ".join(error.message.split())
        if len(reason) > 300:  # What was done stands first, why it failed last.
            reason = f"{reason[:100]} ... {reason[-200:]}"
        return f"TensorFlow failed with {type(error).__name__}: {reason}{_settings()}"
    return None


def _keras_json() -> str:
    """The file of a user's settings for Keras."""
    return os.path.join(os.environ.get("KERAS_HOME", "~/.keras"), "keras.json")


def _settings(*files: str) -> str:
    """What is in force that changes what TensorFlow and Keras do, these files if they exist."""
    names = sorted(name for name in os.environ if name.startswith(PREFIXES) and name not in OWN)
    shown = [f"{name}={os.environ[name]}" for name in names]
    shown += [path for path in files if os.path.exists(os.path.expanduser(path))]
    return f" (in force: {', '.join(shown)}; try it without)" if shown else ""


def onednn_in_force() -> str:
    """`on` or `off`, as TensorFlow took it from the environment; on is its default."""
    return "off" if os.environ.get("TF_ENABLE_ONEDNN_OPTS") in ("0", "false") else "on"


@contextlib.contextmanager
def _without_import_notes() -> Iterator[None]:
    """Keeps back what TensorFlow's libraries note on stderr while they are loaded; no setting does.

    Anything but these notes is shown.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught:
                if not line.startswith(_IMPORT_NOTES):
                    os.write(2, line)


_IMPORT_NOTES = (b"I0000 ", b"WARNING: All log messages before absl::InitializeLog()")


def num_gpus() -> int:
    """The GPUs of this machine."""
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def num_devices() -> int:
    """How many replicas this machine can hold: one on each GPU, or else on each CPU core.

    Two at the least, if slowly: a run of two, the default, must go on where there is one core.
    """
    return num_gpus() or max(2, num_cores())


def default_num_replicas() -> int:
    """One on each GPU, or else two on the CPU where it has the cores.

    A TensorFlow that has started, as in a notebook, holds no more than it has devices.
    """
    import tensorflow as tf

    if found := num_gpus():
        return found
    cpu = tf.config.list_physical_devices("CPU")[0]
    known = tf.config.get_logical_device_configuration(cpu) or []
    # Once it has started it refuses a change; to be told what is so already it takes silently.
    other = [tf.config.LogicalDeviceConfiguration()] * (len(known) + 1)
    try:
        tf.config.set_logical_device_configuration(cpu, other)
    except RuntimeError:
        return min(2, len(tf.config.list_logical_devices("CPU")))
    return min(2, num_cores())


def start(num_replicas: int, threads_per_replica: int = 1):
    """Sets up TensorFlow's devices and threads and gives the distribution strategy.

    A TensorFlow that was used before in the process keeps those that it has.

    Args:
        num_replicas: replicas of the model, 1 to `num_devices()`. On CPU as many logical devices
            are made, one chain of operations each.
        threads_per_replica: threads within an operation, on CPU. With two cores two replicas of
            one thread are best: small products lose half their rate to threads that wait for each
            other.

    Returns:
        A `tf.distribute.MirroredStrategy`.

    Raises:
        UsageError: TensorFlow was used before, with fewer devices.
    """
    import tensorflow as tf

    # Neither way of summing gradients is the default one: collective operations cannot run several
    # steps in one call.
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy(
            [f"GPU:{i}" for i in range(num_replicas)], tf.distribute.HierarchicalCopyAllReduce()
        )
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads_per_replica)
        # One thread for each replica's chain of operations: with two more, for the input pipeline,
        # a step at 1 x 128 took a fifth longer.
        tf.config.threading.set_inter_op_parallelism_threads(max(2, num_replicas))
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * num_replicas,
        )
    except RuntimeError:  # It has started with others.
        found = len(tf.config.list_logical_devices("CPU"))
        if found < num_replicas:
            raise UsageError(
                f"--num_replicas={num_replicas}; TensorFlow was used before in this process, with "
                f"{found} devices: train first, or with num_replicas={found}"
            ) from None
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(num_replicas)], tf.distribute.ReductionToOneDevice()
    )
