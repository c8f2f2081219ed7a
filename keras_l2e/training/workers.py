"""Several machines that train one network together, as the environment variable TF_CONFIG says.

    TF_CONFIG='{"cluster": {"worker": ["one:2222", "two:2222"]},
                "task": {"type": "worker", "index": 0}}'

Each worker runs the same command, with its own index, and sees the same workdir. Worker 0, the
chief, alone writes there; what it decides after an epoch, all do. Without TF_CONFIG there is one
worker.
"""

import contextlib
import json
import os
import signal
from collections.abc import Iterator

from keras_l2e.errors import UsageError, WorkError


def read_config() -> tuple[int, int]:
    """This worker's index and the number of workers.

    Raises:
        UsageError: TF_CONFIG is none of a cluster of workers.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return 0, 1
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        index, num_workers = int(task["index"]), len(cluster["worker"])
        allowed = task["type"] == "worker" and set(cluster) == {"worker"}
    except (ValueError, KeyError, TypeError):
        allowed, index, num_workers = False, 0, 0
    if not (allowed and 0 <= index < num_workers):
        raise UsageError(f"TF_CONFIG={text}; allowed is a cluster of workers and one as the task")
    return index, num_workers


def num_workers() -> int:
    """How many workers train together."""
    return read_config()[1]


def is_chief() -> bool:
    """Whether this worker writes the files."""
    return read_config()[0] == 0


def start(num_replicas: int, threads_per_replica: int):
    """Connects the workers, waiting for those not yet there; gives their distribution strategy.

    Must run before anything else uses TensorFlow in the process.

    Args:
        num_replicas: of all workers together: one on each GPU, or else one a worker.
        threads_per_replica: see `devices.start`.
    """
    import tensorflow as tf

    index, count = read_config()
    tf.config.threading.set_intra_op_parallelism_threads(threads_per_replica)
    tf.config.threading.set_inter_op_parallelism_threads(max(2, num_replicas // count))
    print(f"worker {index} of {count}: waiting for the others", flush=True)
    # TensorFlow waits in its own code, where Python would not see Ctrl-C: so the system ends the
    # process, which leaves nothing half done here. (TensorFlow takes SIGTERM meanwhile, as a notice
    # that the machine goes; afterwards it gets its handler back.)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def share(strategy, value):
    """The chief's value on every worker, each of which must call this.

    Args:
        strategy: that of `start`, or any other, under which the value is the worker's own.
        value: anything that JSON holds.
    """
    if num_workers() == 1:
        return value
    import tensorflow as tf

    codes = list(json.dumps(value).encode()) if is_chief() else []
    with lost_worker_as_error():
        gathered = strategy.gather(tf.constant(codes, tf.int32), axis=0)
    return json.loads(bytes(gathered.numpy().tolist()))


@contextlib.contextmanager
def lost_worker_as_error() -> Iterator[None]:
    """Turns what TensorFlow raises when another worker has gone into a WorkError."""
    if num_workers() == 1:
        yield
        return
    import tensorflow as tf

    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        reason = " ".join(error.message.split())[:200]
        raise WorkError(
            f"another worker was lost; the same command on all of them goes on from the last "
            f"finished epoch ({reason})"
        ) from None
