"""How the examples of each task and difficulty lie on disk: their names, building and reading them.

    >>> config_name("program", Difficulty(4, 2))
    'program_length_4_nesting_2'
    >>> config_name("addition", Difficulty(3), examples_per_difficulty=1000)
    'addition_length_3_examples_1000'

A folder `<data_dir>/learning_to_execute/<config name>/<version>` holds the splits of a difficulty,
written by the TFDS builder in `datasets/learning_to_execute`. TFDS writes into a folder beside it
and renames that in the end, so the folder is whole or not there. TensorFlow and TFDS are imported
inside the functions, so that the entry points can show their flags without them.
"""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from etils import epath

from keras_l2e import devices as runtime
from keras_l2e.errors import WorkError
from keras_l2e.language import programs
from keras_l2e.language.tasks import EXAMPLES_PER_DIFFICULTY, TASKS, Difficulty

DATASET = "learning_to_execute"
VERSION = "1.0.0"
# What is read; what is missing is prepared as the first.
FILE_FORMATS = ("tfrecord", "array_record")

_CONFIG_NAME = re.compile(
    r"(?P<task>[a-z_]+)_length_(?P<length>\d+)(_nesting_(?P<nesting>\d+))?(_examples_(?P<examples>\d+))?"
)
# Longer than a build of 10^9 examples takes one worker, which writes nothing for most of it.
_STALE_SECONDS = 7 * 24 * 3600
_REMEDY = "delete the folder and prepare it again"


class DataError(WorkError):
    """Prepared data cannot be read or written; the message is one line that names the folder."""


def config_name(
    task: str, difficulty: Difficulty, examples_per_difficulty: int = EXAMPLES_PER_DIFFICULTY
) -> str:
    """The TFDS config of a difficulty; another size than the default one is part of the name."""
    name = f"{task}_length_{difficulty.length}"
    if TASKS[task].max_nesting > 1:
        name += f"_nesting_{difficulty.nesting}"
    if examples_per_difficulty != EXAMPLES_PER_DIFFICULTY:
        name += f"_examples_{examples_per_difficulty}"
    return name


def parse_config_name(name: str) -> tuple[str, Difficulty, int]:
    """What `config_name` was given: task, difficulty and examples per difficulty.

    Raises:
        ValueError: the name is not one that `config_name` makes.
    """
    match = _CONFIG_NAME.fullmatch(name)
    if match and match["task"] in TASKS:
        difficulty = Difficulty(int(match["length"]), int(match["nesting"] or 1))
        examples = int(match["examples"] or EXAMPLES_PER_DIFFICULTY)
        TASKS[match["task"]].check(difficulty)
        if examples > 0 and config_name(match["task"], difficulty, examples) == name:
            return match["task"], difficulty, examples
    raise ValueError(f"unknown config {name!r}; one like 'program_length_4_nesting_2'")


def read(
    task: str,
    difficulty: Difficulty,
    split: str,
    data_dir: epath.PathLike,
    examples_per_difficulty: int = EXAMPLES_PER_DIFFICULTY,
) -> tuple[np.ndarray, np.ndarray]:
    """The programs and targets of a split, in stored order.

    Returns:
        Two arrays of shape [num_examples] and dtype object, of UTF-8 `bytes`.

    Raises:
        DataError: the data are missing, of another version or size, or damaged.
        ValueError: unknown split.
    """
    if split not in programs.SPLITS:
        raise ValueError(f"unknown split {split!r}; one of {', '.join(programs.SPLITS)}")
    stored = _stored(task, difficulty, data_dir, examples_per_difficulty)
    info = stored.splits[split]
    import tensorflow as tf

    text = tf.io.FixedLenFeature([], tf.string)
    with tf.device("CPU"):
        records = _records(stored.file_format.value, split, info)
        if len(records) != info.num_examples:
            raise DataError(
                f"{info.filename_template.data_dir}: {len(records):,} {split} examples where "
                f"{info.num_examples:,} are expected; {_REMEDY}"
            )
        columns = tf.io.parse_example(records, {"program": text, "target": text})
    return programs.Example(columns["program"].numpy(), columns["target"].numpy())


def _records(file_format: str, split: str, info):
    """The serialized examples of a split, a string tensor of shape [num_examples]."""
    import tensorflow as tf

    shards = [tf.zeros([0], tf.string)]
    for path in info.filepaths:
        try:
            if file_format == "array_record":
                shards.append(tf.constant(_read_array_record(os.fspath(path)), tf.string))
            else:
                # One batch, parsed by one op: 0.1 s for 50,000 examples; `as_dataset` takes 1.7 s.
                shards += tf.data.TFRecordDataset(os.fspath(path)).batch(max(1, info.num_examples))
        except (tf.errors.OpError, RuntimeError) as error:
            raise DataError(
                f"{path.parent}: its {split} split is damaged ({path.name}: {_one_line(error)}); "
                f"{_REMEDY}"
            ) from None
    return tf.concat(shards, axis=0)


def _read_array_record(path: str) -> list[bytes]:
    try:
        from array_record.python import array_record_module
    except ImportError:
        raise DataError(f"{path}: the package array_record is needed to read it") from None
    reader = array_record_module.ArrayRecordReader(path)
    try:
        return reader.read_all()
    finally:
        reader.close()


def prepare(
    task: str,
    difficulties: Sequence[Difficulty],
    data_dir: epath.PathLike,
    examples_per_difficulty: int = EXAMPLES_PER_DIFFICULTY,
    num_workers: int | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Builds what is missing of the difficulties' data, several at once in processes of their own.

    It can be killed at any time and called from several processes at once.

    Args:
        task: a name in TASKS.
        difficulties: what to prepare.
        data_dir: the TFDS data directory; made where it does not exist.
        examples_per_difficulty: size of a training split.
        num_workers: processes, by default as many as this process has cores; never more than there
            are configs to build.
        report: takes the progress, line by line.

    Raises:
        DataError: the directory cannot be written, is full, or holds other data under these names.
        ValueError: a difficulty that the task does not have, or a size below 1.
    """
    if examples_per_difficulty < 1:
        raise ValueError(f"{examples_per_difficulty} examples per difficulty; at least 1 is needed")
    for difficulty in difficulties:
        TASKS[task].check(difficulty)
    data_dir = epath.Path(data_dir).expanduser()  # TFDS would make a folder named ~.
    missing = []
    try:
        for difficulty in dict.fromkeys(difficulties):
            name = config_name(task, difficulty, examples_per_difficulty)
            folder = _config_folder(data_dir, name)
            versions = _versions(folder)  # Looked at once: another process may be building it.
            if VERSION in versions:
                _stored(task, difficulty, data_dir, examples_per_difficulty)
            elif versions:
                raise _unexpected(folder, "version", ", ".join(versions), VERSION)
            else:
                missing.append(name)
                folder.mkdir(parents=True, exist_ok=True)
                _remove_stale(folder)
    except OSError as error:
        raise DataError(f"{data_dir}: cannot be written ({_one_line(error)})") from None
    report(f"data: {data_dir} ({len(missing)} of {len(difficulties)} configs to build)")
    if not missing:
        return
    num_workers = min(num_workers or runtime.num_cores(), len(missing))
    num_left = len(missing)
    for answer in _build_all(missing, data_dir, num_workers):
        if "error" in answer:
            folder = _config_folder(data_dir, answer["name"])
            raise DataError(f"{folder}: could not be built ({answer['error']})")
        num_left -= 1
        report(
            f"{answer['name']}: {answer['num_examples']:,} examples in {answer['seconds']:.1f} s "
            f"({num_left} left)"
        )


def _config_folder(data_dir: epath.PathLike, name: str) -> epath.Path:
    return epath.Path(data_dir).expanduser() / DATASET / name


def _one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", error)).split())


def _stored(
    task: str, difficulty: Difficulty, data_dir: epath.PathLike, examples_per_difficulty: int
):
    """The `tfds.core.DatasetInfo` of prepared data, checked against what was asked for."""
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    name = config_name(task, difficulty, examples_per_difficulty)
    folder = _config_folder(data_dir, name) / VERSION
    try:
        if not folder.is_dir():
            raise DataError(f"{folder}: no data there{_other_data(folder)}; prepare {name} first")
        info = tfds.builder_from_directory(folder).info
    except (OSError, ValueError, KeyError, json_format.ParseError) as error:
        raise DataError(
            f"{folder}: its description cannot be read ({_one_line(error)}); {_REMEDY}"
        ) from None
    sizes = {split: info.splits[split].num_examples for split in sorted(info.splits)}
    file_format = info.file_format.value
    if file_format not in FILE_FORMATS:
        raise _unexpected(folder, "file format", file_format, " or ".join(FILE_FORMATS))
    for what, found, expected in (
        ("version", str(info.version), VERSION),
        ("config", info.config_name, name),
        ("splits", ", ".join(sizes), ", ".join(sorted(programs.SPLITS))),
        ("train size", sizes.get("train"), examples_per_difficulty),
    ):
        if found != expected:
            raise _unexpected(folder, what, found, expected)
    return info


def _unexpected(folder: epath.Path, what: str, found, expected) -> DataError:
    return DataError(f"{folder}: {what} {found} where {expected} is expected; {_REMEDY}")


def _other_data(folder: epath.Path) -> str:
    """Other versions and sizes of the same data, for the message that these are missing."""
    wanted = parse_config_name(folder.parent.name)
    found = [f"version {version}" for version in _versions(folder.parent)]
    for path in folder.parent.parent.glob("*"):
        with contextlib.suppress(ValueError):
            task, difficulty, examples = parse_config_name(path.name)
            if (task, difficulty) == wanted[:2] and examples != wanted[2]:
                found.append(f"size {examples:,}")
    return f" (there is {', '.join(sorted(found))})" if found else ""


def _versions(folder: epath.Path) -> list[str]:
    """The versions that a config's folder holds."""
    return sorted(path.name for path in folder.glob("[0-9]*"))


def _remove_stale(folder: epath.Path) -> None:
    """Deletes what killed builds left; younger folders may belong to a build that still runs."""
    for path in folder.glob("incomplete.*"):
        with contextlib.suppress(FileNotFoundError):  # It was finished just now.
            if time.time() - path.stat().mtime > _STALE_SECONDS:
                path.rmtree(missing_ok=True)


def _build_all(names: list[str], data_dir: epath.PathLike, num_workers: int) -> Iterator[dict]:
    """Has the configs built by child processes; yields their answers as they come.

    The children are commands, not `multiprocessing` workers: those import the caller's main module
    again, outlive a killed parent and, in a pool, are waited for in vain when they are killed.
    """
    command = [sys.executable, "-c", "from keras_l2e import prepared_data; prepared_data._serve()"]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    pending = list(names)
    asked = {}
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(num_workers):
            log = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            child = subprocess.Popen(command, text=True, env=environment, **pipes)
            stack.callback(_stop, child)
            selector.register(child.stdout, selectors.EVENT_READ, (child, log))
            asked[child] = _ask(child, pending.pop(0), data_dir)
        for _ in names:
            child, log = selector.select()[0][0].data
            line = child.stdout.readline()
            if line:
                answer = json.loads(line)
            elif child.wait() < 0:
                answer = {"error": f"its process was killed by signal {-child.returncode}"}
            else:
                log.seek(0)
                raise RuntimeError(f"{asked[child]} could not be built:\n{log.read()}")
            yield {"name": asked[child]} | answer
            if pending:
                asked[child] = _ask(child, pending.pop(0), data_dir)
            else:
                selector.unregister(child.stdout)  # Its end would look like an answer.


def _ask(child: subprocess.Popen, name: str, data_dir: epath.PathLike) -> str:
    with contextlib.suppress(BrokenPipeError):  # A dead child shows when its answer is read.
        print(json.dumps([name, os.fspath(data_dir)]), file=child.stdin, flush=True)
    return name


def _stop(child: subprocess.Popen) -> None:
    """Ends a child, which removes what it has half written unless it takes too long."""
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


def _serve() -> None:
    """A child of `prepare`: builds each config named on standard input and answers with a line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it terminates us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # An exception, so that TFDS cleans up.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(_build(*json.loads(line))), file=answers, flush=True)


def _build(name: str, data_dir: epath.PathLike) -> dict:
    import tensorflow as tf
    import tensorflow_datasets as tfds
    from keras_l2e_datasets.learning_to_execute import Builder

    tfds.disable_progress_bar()
    start = time.monotonic()
    try:
        Builder(config=name, data_dir=data_dir).download_and_prepare()
    except Exception as error:
        # TFDS raises some errors of the file system again, as RuntimeError.
        if not isinstance(error.__cause__ or error, (OSError, tf.errors.OpError)):
            raise
        # Another process may have been first: then TFDS cannot rename, and the data are there.
        if not (_config_folder(data_dir, name) / VERSION).exists():
            return {"error": _one_line(error)}
    info = Builder(config=name, data_dir=data_dir).info
    seconds = time.monotonic() - start
    return {"num_examples": info.splits.total_num_examples, "seconds": seconds}
