"""The process's own settings: log noise, threads, oneDNN, logical devices. Entry points only."""

import os
from pathlib import Path

from absl import logging


def num_cores() -> int:
    """The CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def default_onednn() -> str:
    """`on` where oneDNN's kernels are the faster ones (AVX-512 VNNI or AMX), else `off`.

    Measured on small LSTMs: with AVX2 alone its small products take twice as long as Eigen's, with
    AVX-512 a third.
    """
    try:
        cpu = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "off"
    return "on" if "avx512_vnni" in cpu or "amx_tile" in cpu else "off"


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's and TFDS's chatter off the terminal; to be called before their import."""
    logging.set_verbosity(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def start(num_replicas: int, onednn: str):
    """Sets up TensorFlow for training and gives the distribution strategy.

    Must run before anything else uses TensorFlow in the process.

    Args:
        num_replicas: replicas of the model; on CPU as many logical devices are made, which share the
            cores evenly, one chain of single-threaded operations each: small products lose half
            their rate to threads that wait for each other. 0: one per GPU, or two on CPU.
        onednn: `on` or `off`.

    Returns:
        A `tf.distribute.MirroredStrategy`.

    Raises:
        ValueError: more replicas than GPUs or cores.
    """
    quiet_tensorflow()
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn == "on"))
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    available = len(gpus) or num_cores()
    if num_replicas > available:
        raise ValueError(f"--num_replicas={num_replicas}; allowed 1..{available}")
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(num_replicas)])
    tf.config.threading.set_intra_op_parallelism_threads(max(1, num_cores() // num_replicas))
    # One thread for each replica's chain of operations, two for the input pipeline.
    tf.config.threading.set_inter_op_parallelism_threads(num_replicas + 2)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_replicas,
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(num_replicas)])


def num_gpus() -> int:
    """The NVIDIA GPUs this process may use, asked for without importing TensorFlow."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def default_num_replicas() -> int:
    """One per GPU, or two on CPU where there are two cores."""
    return num_gpus() or min(2, num_cores())
