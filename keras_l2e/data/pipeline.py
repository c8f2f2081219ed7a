"""From difficulties to batches: sources, the mixture, length-sorted batches, encoding.

A batch is `(inputs, labels, weights)`; for the one example `print(1+2)` -> `3`, read as it stands:

    encoder_token_ids  [[36, 37, 31, 34, 39, 3, 9, 6, 10, 4, 42]]   print(1+2) EOS
    decoder_token_ids  [[41, 11]]                                   BOS 3
    labels             [[11, 42]]                                   3 EOS
    weights            [[0.5, 0.5]]                                 with --loss_scale=character
"""

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_l2e.language import vocabulary
from keras_l2e.language.programs import Example, split_of
from keras_l2e.language.tasks import TASKS, Difficulty, Task

# A stream of fresh examples goes on with a new seed after so many draws; kept as it is so that
# published runs repeat.
DRAWS_PER_SEED = 512
# More examples than any stream is asked for: the numbers of the next one start there.
STREAM = 2**40


def seed_of(*names) -> int:
    """A seed for tf.data or NumPy from names, the same in every process.

    >>> seed_of("addition", 3, "train", 1, 0) == seed_of("addition", 3, "train", 1, 0)
    True
    """
    return random.Random("/".join(map(str, names))).getrandbits(31)


class Stored:
    """Stored examples of several difficulties, in one table.

    Its sources give row numbers: the texts of a batch are looked up at once, when its rows are
    known, which takes a third less time than carrying each example through the pipeline.

        stored = Stored({difficulty: (programs, targets), ...})
        training_batches([stored.source(difficulty, seed) ...], ..., look_up=stored.look_up)
    """

    def __init__(self, examples: dict):
        """Makes the table.

        Args:
            examples: for each difficulty, its programs and targets, string arrays of shape [n].
        """
        self._programs = {difficulty: programs for difficulty, (programs, _) in examples.items()}
        starts = np.cumsum([0, *map(len, self._programs.values())])
        self._starts = dict(zip(self._programs, starts[:-1].tolist(), strict=True))
        self._columns = tuple(
            tf.concat([tf.constant(column, tf.string) for column in columns], axis=0)
            for columns in zip(*examples.values(), strict=True)
        )
        self._kept = {}

    def source(self, difficulty, seed: int, keep=None):
        """An endless dataset of a difficulty's rows, int64, in the order of the seed.

        With `keep`, only of those whose program (`str`) this function is true for.
        """
        programs = self._programs[difficulty]
        order = np.random.default_rng(seed).permutation(len(programs))
        if keep:
            if (difficulty, keep) not in self._kept:
                kept = np.array([keep(program.decode()) for program in programs], bool)
                self._kept[difficulty, keep] = kept
            order = order[self._kept[difficulty, keep][order]]
        return tf.data.Dataset.from_tensor_slices(self._starts[difficulty] + order).repeat()

    def look_up(self, rows):
        """The programs and targets, string tensors, of rows, int64 [n]."""
        return tuple(tf.gather(column, rows) for column in self._columns)


class Generated:
    """Freshly drawn examples of one epoch, used as `Stored` is.

    Its sources give the numbers of examples, which are drawn when a batch needs them, and only
    once for all replicas that read the epoch. An epoch of 18 difficulties is set up in a quarter
    of the time that sources with functions of their own take.
    """

    def __init__(self, task: str):
        """Draws examples of a task.

        Args:
            task: a name in `TASKS`.
        """
        self._task = task
        self._streams: dict[tuple, _Stream] = {}
        self._drawing = threading.Lock()

    def source(self, difficulty: Difficulty, seed: int, keep=None):
        """A dataset of numbers, int64, without end in sight, of examples whose split is train.

        With `keep`, only of those whose program (`str`) this function is true for.
        """
        key = difficulty, seed, keep
        with self._drawing:
            if key not in self._streams:
                self._streams[key] = _Stream(TASKS[self._task], difficulty, seed, keep)
            start = list(self._streams).index(key) * STREAM
        return tf.data.Dataset.range(start, start + STREAM)

    def look_up(self, numbers):
        """The programs and targets, string tensors, of examples by number, int64 [n]."""

        def draw(numbers):
            with self._drawing:
                streams = list(self._streams.values())
                places = (divmod(number, STREAM) for number in numbers.tolist())
                examples = [streams[stream][index] for stream, index in places]
            return tuple(np.array(column, object) for column in zip(*examples, strict=True))

        programs, targets = tf.numpy_function(draw, [numbers], (tf.string, tf.string))
        return tf.ensure_shape(programs, [None]), tf.ensure_shape(targets, [None])


class _Stream:
    """An endless list of fresh training examples, drawn as far as it is read."""

    def __init__(self, task: Task, difficulty: Difficulty, seed: int, keep):
        self._drawn: list[Example] = []
        self._examples = self._draw(task, difficulty, seed, keep)

    def __getitem__(self, index: int) -> Example:
        missing = index + 1 - len(self._drawn)
        self._drawn.extend(itertools.islice(self._examples, max(0, missing)))
        return self._drawn[index]

    @staticmethod
    def _draw(task: Task, difficulty: Difficulty, seed: int, keep) -> Iterator[Example]:
        for block in itertools.count():
            rng = random.Random(f"{seed}/{block}")
            for _ in range(DRAWS_PER_SEED):
                example = task.generate(rng, difficulty)
                if split_of(example.program) == "train" and (not keep or keep(example.program)):
                    yield example


def mixture(sources: Sequence[tf.data.Dataset], weights: Sequence[float], seed: int):
    """One endless dataset that takes each element from a source drawn by `weights`.

    An empty source would end it; its share goes to the others.

    Raises:
        ValueError: all sources with a weight are empty.
    """
    weights = [
        0.0 if source.cardinality() == 0 else weight
        for source, weight in zip(sources, weights, strict=True)
    ]
    if not any(weights):
        raise ValueError("no examples in any source that has a weight")
    # A tensor, because zeros in a Python list would drop their sources from the graph, and with
    # them the promise that every epoch has the same one.
    return tf.data.Dataset.sample_from_datasets(
        sources, tf.constant(weights, tf.float64), seed=seed, stop_on_empty_dataset=True
    )


def sorted_batches(
    dataset: tf.data.Dataset,
    batch_size: int,
    num_batches: int,
    seed: int,
    window: int,
    look_up: Callable,
):
    """Cuts examples into `num_batches` full batches of similar program length.

    Each window of so many batches is sorted by length, cut, and its batches put in a random order:
    at 32 the examples of a batch differ so little in length that padding is a few per cent, and no
    example is dropped or delayed past its window (buckets that fill at their own pace would starve
    rare lengths in a short epoch). `look_up` makes programs and targets of what the dataset gives.
    """

    @tf.autograph.experimental.do_not_convert
    def cut(number, examples):
        programs, targets = look_up(examples)
        order = tf.argsort(tf.strings.length(programs), stable=True)
        rows = tf.reshape(order, [-1, batch_size])
        rows = tf.random.experimental.stateless_shuffle(rows, seed=[seed, number])
        return tf.gather(programs, rows), tf.gather(targets, rows)

    window = min(window, num_batches)
    return (
        dataset.take(batch_size * num_batches)
        .batch(batch_size * window)
        .enumerate()
        .map(cut)
        .unbatch()
    )


def encode_programs(programs, input_form: str):
    """Program texts as the encoder reads them.

    Args:
        programs: string tensor, shape [n].
        input_form: `none` gives text EOS; `reverse` the text read backwards, EOS; `double` text EOS
            text EOS; `reverse_double` both.

    Returns:
        Int32 tensor, shape [n, t], padded on the right with PAD to the longest.
    """
    ids = vocabulary.encode_batch(programs)
    lengths = tf.cast(ids.row_lengths(), tf.int32)
    dense = ids.to_tensor(vocabulary.PAD)
    if input_form.startswith("reverse"):
        dense = tf.reverse_sequence(dense, lengths, seq_axis=1)
    copies = [append_eos(tf.RaggedTensor.from_tensor(dense, lengths))]
    if input_form.endswith("double"):
        copies *= 2
    return tf.concat(copies, axis=1).to_tensor(vocabulary.PAD)


def append_eos(ids: tf.RaggedTensor) -> tf.RaggedTensor:
    """Each row with EOS after its last id."""
    return tf.concat([ids, tf.fill([ids.nrows(), 1], vocabulary.EOS)], axis=1)


# Traced once: every epoch has new pipelines, and tf.data would trace it anew in each of them.
@tf.function(autograph=False)
def encode_examples(programs, targets, input_form: str, loss_scale: str):
    """A batch of texts as what `fit` takes: (inputs, labels, weights), padded to the longest.

    Args:
        programs, targets: string tensors, shape [n].
        input_form: see `encode_programs`.
        loss_scale: the weights of a batch's real target positions (EOS included) sum to 1 for
            `character`, to the mean target length for `example` (the paper's scale: the sum over
            time, the mean over the batch). Padding weighs nothing. The loss is their weighted SUM,
            which stays right when a strategy splits the batch over replicas.
    """
    labels = append_eos(vocabulary.encode_batch(targets)).to_tensor(vocabulary.PAD)
    decoder_token_ids = tf.concat(
        [tf.fill([tf.shape(labels)[0], 1], vocabulary.BOS), labels[:, :-1]], axis=1
    )
    weights = tf.cast(tf.not_equal(labels, vocabulary.PAD), tf.float32)
    if loss_scale == "character":
        weights /= tf.reduce_sum(weights)
    else:
        weights /= tf.cast(tf.shape(labels)[0], tf.float32)
    inputs = {
        "encoder_token_ids": encode_programs(programs, input_form),
        "decoder_token_ids": decoder_token_ids,
    }
    return inputs, labels, weights


def _without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    # The autotuner's thread sleeps for seconds at a time, and an iterator that is thrown away waits
    # for it: about every second epoch stood still for 5 s. There is nothing to tune here.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def training_batches(
    sources: Sequence[tf.data.Dataset],
    weights: Sequence[float],
    *,
    seed: int,
    input_form: str,
    loss_scale: str,
    batch_size: int,
    num_batches: int,
    look_up: Callable,
    window: int = 32,
):
    """The batches of one epoch: a pure function of its arguments.

    `fit` must be told their number (`steps_per_epoch`): if the dataset knew it, `fit` would set up
    an iterator for an epoch that never comes.

    Args:
        sources: one endless dataset for each difficulty, `Stored.source` or `Generated.source`.
        weights: the share of each source; see `mixture`.
        seed: of the mixture and of the order of batches; the sources have their own.
        input_form, loss_scale: see `encode_examples`.
        batch_size, num_batches: every batch is full, and there are exactly so many.
        look_up: gives the programs and targets of what the sources give.
        window: see `sorted_batches`.
    """
    dataset = mixture(sources, weights, seed)
    dataset = sorted_batches(dataset, batch_size, num_batches, seed, window, look_up)
    dataset = dataset.map(
        lambda programs, targets: encode_examples(programs, targets, input_form, loss_scale)
    )
    return _without_autotuning(dataset.prefetch(8))


def distribute(make_dataset, strategy: tf.distribute.Strategy):
    """What `fit` reads under a strategy: each replica has the pipeline, and keeps its share.

    With several workers each worker has it, and its replicas take their shares in turns.

    The strategy's own way of dealing out one pipeline puts datasets behind it that cannot be told
    to do without autotuning.

    Args:
        make_dataset: a function that gives the dataset of whole batches; called for each replica.
        strategy: the distribution strategy.
    """

    def make_share(context: tf.distribute.InputContext):
        dataset = share_of_replica(
            make_dataset(), context.input_pipeline_id, context.num_input_pipelines
        )
        num_turns = context.num_replicas_in_sync // context.num_input_pipelines
        return _without_autotuning(dataset if num_turns == 1 else in_turns(dataset, num_turns))

    several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    mode = tf.distribute.InputReplicationMode
    options = tf.distribute.InputOptions(
        experimental_fetch_to_device=False,
        experimental_replication_mode=mode.PER_WORKER if several_workers else mode.PER_REPLICA,
    )
    return strategy.distribute_datasets_from_function(make_share, options)


def in_turns(dataset: tf.data.Dataset, num_turns: int):
    """Each batch as so many equal ones of consecutive rows, one after the other."""

    def split(*batch):
        rows = tf.nest.map_structure(lambda x: tf.stack(tf.split(x, num_turns)), batch)
        return tf.data.Dataset.from_tensor_slices(rows)

    return dataset.flat_map(split)


def share_of_replica(dataset: tf.data.Dataset, replica: int, num_replicas: int):
    """The part of each batch that one replica computes: equal, consecutive shares of its rows."""

    def share(rows):
        size = tf.shape(rows)[0] // num_replicas
        return rows[replica * size : (replica + 1) * size]

    @tf.autograph.experimental.do_not_convert
    def share_all(*batch):
        return tf.nest.map_structure(share, batch)

    return dataset.map(share_all).prefetch(2)
