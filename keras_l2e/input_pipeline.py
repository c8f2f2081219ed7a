"""From difficulties to batches: sources, the mixture, length-sorted batches, encoding.

A batch is `(inputs, labels, weights)`; for the one example `print(1+2)` -> `3`, read as it stands:

    encoder_token_ids  [[36, 37, 31, 34, 39, 3, 9, 6, 10, 4, 42]]   print(1+2) EOS
    decoder_token_ids  [[41, 11]]                                   BOS 3
    labels             [[11, 42]]                                   3 EOS
    weights            [[0.5, 0.5]]                                 with --loss_scale=character
"""

import functools
import random
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_l2e import vocabulary
from keras_l2e.programs import split_of
from keras_l2e.tasks import TASKS, Difficulty

# Examples drawn at a time by a generated source: one call into Python for all of them.
DRAWN_AT_ONCE = 512


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
        self._rows, start = {}, 0
        for difficulty, (programs, _) in examples.items():
            self._rows[difficulty] = start, len(programs)
            start += len(programs)
        self._columns = tuple(
            tf.concat([tf.constant(column, tf.string) for column in columns], axis=0)
            for columns in zip(*examples.values(), strict=True)
        )

    def source(self, difficulty, seed: int, keep=None):
        """An endless dataset of a difficulty's rows, int64, in the order of the seed.

        With `keep`, bool [n], only of those it is true for.
        """
        start, size = self._rows[difficulty]
        order = np.random.default_rng(seed).permutation(size)
        if keep is not None:
            order = order[keep[order]]
        return tf.data.Dataset.from_tensor_slices(start + order).repeat()

    def look_up(self, rows):
        """The programs and targets, string tensors, of rows, int64 [n]."""
        return tuple(tf.gather(column, rows) for column in self._columns)


def generated_source(task: str, difficulty: Difficulty, seed: int, keep=None):
    """An endless dataset of freshly drawn (program, target) whose `split_of` is train.

    With `keep`, only of those whose program this function is true for.
    """

    def draw(block):
        with _DRAWING:
            return _draw_block(task, difficulty, seed, int(block), keep)

    def draw_in_graph(block):
        programs, targets = tf.numpy_function(draw, [block], (tf.string, tf.string))
        return tf.ensure_shape(programs, [None]), tf.ensure_shape(targets, [None])

    return tf.data.Dataset.counter().map(draw_in_graph).unbatch()


# Each replica reads a pipeline of its own, of the same examples: what the first one has drawn the
# others find here, if they are no more than a few windows behind.
@functools.lru_cache(maxsize=512)
def _draw_block(task: str, difficulty: Difficulty, seed: int, block: int, keep):
    rng = random.Random(f"{seed}/{block}")
    examples = (TASKS[task].generate(rng, difficulty) for _ in range(DRAWN_AT_ONCE))
    kept = [
        example
        for example in examples
        if split_of(example.program) == "train" and (keep is None or keep(example.program))
    ]
    return (
        np.array([example.program for example in kept], object),
        np.array([example.target for example in kept], object),
    )


_DRAWING = threading.Lock()


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
    look_up=None,
):
    """Cuts (program, target) elements into `num_batches` full batches of similar program length.

    Each window of so many batches is sorted by length, cut, and its batches put in a random order:
    at 32 the examples of a batch differ so little in length that padding is a few per cent, and no
    example is dropped or delayed past its window (buckets that fill at their own pace would starve
    rare lengths in a short epoch). With `look_up`, the elements are what it makes programs and
    targets of.
    """

    @tf.autograph.experimental.do_not_convert
    def cut(number, examples):
        programs, targets = look_up(examples) if look_up else examples
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
        .apply(tf.data.experimental.assert_cardinality(num_batches))
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
    window: int = 32,
    look_up=None,
):
    """The batches of one epoch: a pure function of its arguments.

    Args:
        sources: one endless dataset of (program, target) for each difficulty, or of what `look_up`
            makes these of (`Stored.source`, `Stored.look_up`).
        weights: the share of each source; see `mixture`.
        seed: of the mixture and of the order of batches; the sources have their own.
        input_form, loss_scale: see `encode_examples`.
        batch_size, num_batches: every batch is full, and there are exactly so many.
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


def evaluation_batches(
    programs: Sequence[bytes], targets: Sequence[bytes], *, input_form: str, batch_size: int
):
    """Every given example once, in the given order: batches of (inputs, labels, weights)."""
    dataset = tf.data.Dataset.from_tensor_slices(
        (np.asarray(programs, object), np.asarray(targets, object))
    )
    return _without_autotuning(
        dataset.batch(batch_size)
        .map(lambda p, t: encode_examples(p, t, input_form, "character"))
        .prefetch(2)
    )
