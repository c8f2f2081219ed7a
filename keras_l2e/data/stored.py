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
import io
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from etils import epath

from keras_l2e.errors import WorkError
from keras_l2e.language.programs import SPLITS, Example
from keras_l2e.language.tasks import EXAMPLES_PER_DIFFICULTY, TASKS, Difficulty

DATASET = "learning_to_execute"
VERSION = "1.1.0"
# What is read; what is missing is prepared as the first.
FILE_FORMATS = ("tfrecord", "array_record")

_MEND = "; delete the folder and prepare it again"


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
    size = name.partition("_examples_")[2]
    examples = int(size) if size.isdecimal() else EXAMPLES_PER_DIFFICULTY
    for task in TASKS:
        for difficulty in TASKS[task].difficulties():
            if examples > 0 and config_name(task, difficulty, examples) == name:
                return task, difficulty, examples
    raise ValueError(f"unknown config {name!r}; one like 'program_length_4_nesting_2'")


def read(
    task: str,
    difficulty: Difficulty,
    split: str,
    data_dir: epath.PathLike,
    examples_per_difficulty: int = EXAMPLES_PER_DIFFICULTY,
) -> Example:
    """The texts of a split, in stored order.

    Returns:
        An `Example` of arrays of shape [num_examples] and dtype object, of UTF-8 `bytes`.

    Raises:
        DataError: the data are missing, of another version or size, or damaged.
        ValueError: unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; one of {', '.join(SPLITS)}")
    builder = _stored(task, difficulty, data_dir, examples_per_difficulty)
    import tensorflow as tf

    text = tf.io.FixedLenFeature([], tf.string)
    num_examples = builder.info.splits[split].num_examples
    # RuntimeError is what array_record raises.
    with (
        _in_one_line(builder.data_path, f"its {split} split is damaged", RuntimeError, mend=_MEND),
        tf.device("CPU"),
    ):
        records = _records(builder, split)
        # By one op: 0.15 s for 50,000 examples, for which `as_dataset` takes 2.4 s at best.
        columns = tf.io.parse_example(records, dict.fromkeys(Example._fields, text))
    if len(records) != num_examples:
        raise _unexpected(builder.data_path, f"{split} size", len(records), num_examples)
    return Example(**{name: column.numpy() for name, column in columns.items()})


def _records(builder, split: str):
    """The serialized examples of a split, a string tensor of shape [num_examples]."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    if builder.info.file_format.value == "array_record":
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        source = builder.as_data_source(split, deserialize_method=raw)
        return tf.constant(source.__getitems__(range(len(source))), tf.string)
    info = builder.info.splits[split]
    # One more than there should be, so that what is too much shows.
    records = tf.data.TFRecordDataset(info.filepaths).batch(info.num_examples + 1)
    return next(iter(records), tf.zeros([0], tf.string))


def prepare(
    task: str,
    difficulties: Sequence[Difficulty],
    data_dir: epath.PathLike,
    examples_per_difficulty: int = EXAMPLES_PER_DIFFICULTY,
    report: Callable[[str], None] = print,
) -> None:
    """Builds what is missing of the difficulties' data, one config after the other.

    It can be killed at any time and called from several processes at once.

    Args:
        task: a name in TASKS.
        difficulties: what to prepare.
        data_dir: the TFDS data directory; made where it does not exist.
        examples_per_difficulty: size of a training split.
        report: takes the progress, line by line.

    Raises:
        DataError: the directory cannot be written, is full, or holds other data under these names.
        ValueError: a difficulty that the task does not have, or a size below 1.
    """
    if examples_per_difficulty < 1:
        raise ValueError(f"{examples_per_difficulty} examples per difficulty; at least 1 is needed")
    difficulties = list(dict.fromkeys(difficulties))
    for difficulty in difficulties:
        TASKS[task].check(difficulty)
    data_dir, missing = _expanded(data_dir), []
    with _in_one_line(data_dir, "cannot be written"):
        for difficulty in difficulties:
            name = config_name(task, difficulty, examples_per_difficulty)
            folder = data_dir / DATASET / name
            if (folder / VERSION).exists():
                _stored(task, difficulty, data_dir, examples_per_difficulty)
            else:
                missing.append(name)
                folder.mkdir(parents=True, exist_ok=True)
    report(f"data: {data_dir} ({len(missing)} of {len(difficulties)} configs to build)")
    for i, name in enumerate(missing, start=1):
        num_examples, seconds = _build(name, data_dir)
        left = len(missing) - i
        report(f"{name}: {num_examples:,} examples in {seconds:.1f} s ({left} left)")


def _stored(
    task: str, difficulty: Difficulty, data_dir: epath.PathLike, examples_per_difficulty: int
):
    """The `tfds.core.DatasetBuilder` of prepared data, checked against what was asked for."""
    import tensorflow_datasets as tfds
    from google.protobuf import json_format

    name = config_name(task, difficulty, examples_per_difficulty)
    folder = _expanded(data_dir) / DATASET / name / VERSION
    with _in_one_line(folder, "cannot be read"):
        if not folder.exists():
            raise DataError(f"{folder}: no data there; prepare {name} first")
    kinds = ValueError, KeyError, json_format.ParseError
    with _in_one_line(folder, "its description cannot be read", *kinds, mend=_MEND):
        builder = tfds.builder_from_directory(folder)
        info = builder.info
    sizes = {split: info.splits[split].num_examples for split in sorted(info.splits)}
    for what, found, *expected in (
        ("file format", info.file_format.value, *FILE_FORMATS),
        ("version", str(info.version), VERSION),
        ("config", info.config_name, name),
        ("splits", ", ".join(sizes), ", ".join(sorted(SPLITS))),
        ("train size", sizes.get("train"), examples_per_difficulty),
    ):
        if found not in expected:
            raise _unexpected(folder, what, found, *expected)
    return builder


def _expanded(data_dir: epath.PathLike) -> epath.Path:
    try:
        return epath.Path(data_dir).expanduser()  # TFDS would make a folder named ~.
    except KeyError:  # A scheme that nobody has registered.
        raise DataError(f"{data_dir}: neither a local folder nor one in gs://") from None


@contextlib.contextmanager
def _in_one_line(
    place: epath.Path, what: str, *kinds: type[Exception], mend: str = ""
) -> Iterator[None]:
    """Makes a DataError of an error of the file system, or of one of these kinds."""
    try:
        yield
    except (*_file_errors(), *kinds) as error:
        raise DataError(f"{place}: {what} ({_text(error)}){mend}") from None


def _file_errors() -> tuple[type[Exception], ...]:
    """What file systems raise: those that TensorFlow reads, as gs://, have errors of its own."""
    tensorflow = sys.modules.get("tensorflow")
    return (OSError, tensorflow.errors.OpError) if tensorflow else (OSError,)


def _text(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", error)).split())


def _unexpected(folder: epath.Path, what: str, found, *expected) -> DataError:
    expected = " or ".join(map(str, expected))
    return DataError(f"{folder}: {what} {found} where {expected} is expected{_MEND}")


def _build(name: str, data_dir: epath.PathLike) -> tuple[int, float]:
    """Builds a config; gives its number of examples and the seconds it took."""
    import tensorflow_datasets as tfds
    from keras_l2e_datasets.learning_to_execute import Builder

    tfds.disable_progress_bar()
    start = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()), _unseeded():
            Builder(config=name, data_dir=data_dir).download_and_prepare()
    except Exception as error:
        # TFDS raises some errors of the file system again, as RuntimeError.
        if not isinstance(error.__cause__ or error, _file_errors()):
            raise
        # Another process may have been first: then TFDS cannot rename, and the data are there.
        folder = _expanded(data_dir) / DATASET / name
        if not (folder / VERSION).exists():
            raise DataError(f"{folder}: could not be built ({_text(error)})") from None
    num_examples = Builder(config=name, data_dir=data_dir).info.splits.total_num_examples
    return num_examples, time.monotonic() - start


@contextlib.contextmanager
def _unseeded() -> Iterator[None]:
    """Has Python's generator draw as in no other process while the block runs.

    TFDS draws from it the name of the folder that it writes into. Two runs of one seed that build
    the same config at once would write into the same folder.
    """
    state = random.getstate()
    random.seed()
    try:
        yield
    finally:
        random.setstate(state)
