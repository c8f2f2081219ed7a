"""From examples to batches: sources, the mixture, length-sorted batches, encoding.

A batch is `(inputs, labels, weights)`; for the one example `print(1+2)` -> `3`, read as it stands:

    encoder_token_ids  [[36, 37, 31, 34, 39, 3, 9, 6, 10, 4, 42]]   print(1+2) EOS
    decoder_token_ids  [[41, 11]]                                   BOS 3
    labels             [[11, 42]]                                   3 EOS
    weights            [[0.5, 0.5]]                                 with --loss_scale=character

Sources give the numbers of examples, which cost next to nothing to mix; a window of them at a time
becomes texts, and its texts become batches.
"""

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from keras_l2e.language.forms import TARGET_FORMS
from keras_l2e.language.programs import split_of
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.language.vocabulary import BOS, PAD
from keras_l2e.networks import text

# A stream of fresh examples goes on with a new seed after so many draws; kept as it is so that
# published runs repeat.
DRAWS_PER_SEED = 512
# More examples than any stream is asked for: the numbers of the next one start there.
STREAM = 2**40
# Batches in a window that is sorted by length. The examples of a batch then differ so little in
# length that padding is a few per cent. Lengths of work are spread more widely, and its batches are
# smaller.
WINDOW, WORK_WINDOW = 32, 128


def seed_of(*names) -> int:
    """A seed for tf.data or NumPy from names, the same in every process.

    >>> seed_of("addition", 3, "train", 1, 0) == seed_of("addition", 3, "train", 1, 0)
    True
    """
    return random.Random("/".join(map(str, names))).getrandbits(31)


class Stored:
    """Stored examples of several difficulties, in one table whose rows are their numbers.

    stored = Stored({difficulty: (programs, written), ...})
    training_batches(stored, {difficulty: (weight, seed), ...}, ...)
    """

    def __init__(self, examples: dict):
        """Makes the table.

        Args:
            examples: for each difficulty, its programs and the texts to be written, arrays of
                bytes of shape [n].
        """
        sizes = [len(programs) for programs, _ in examples.values()]
        starts = np.cumsum([0, *sizes])
        self._rows = {
            difficulty: np.arange(start, end)
            for difficulty, (start, end) in zip(examples, itertools.pairwise(starts), strict=True)
        }
        self._columns = tuple(
            tf.concat([tf.constant(column, tf.string) for column in columns], axis=0)
            for columns in zip(*examples.values(), strict=True)
        )

    def numbers(self, difficulty: Difficulty, seed: int):
        """An endless dataset of a difficulty's rows, int64, in the order of the seed."""
        rows = np.random.default_rng(seed).permutation(self._rows[difficulty])
        return tf.data.Dataset.from_tensor_slices(rows).repeat()

    def texts(self, numbers):
        """The programs and the texts to be written, string tensors, of numbers, int64 [n]."""
        return tuple(tf.gather(column, numbers) for column in self._columns)


class Generated:
    """Freshly drawn examples of one epoch, used as `Stored` is.

    They are drawn when they are asked for, once for all replicas that read the epoch. An epoch of
    18 difficulties is set up in a quarter of the time that a function for each of them takes.
    """

    def __init__(
        self,
        task: str,
        target_form: str,
        kinds: Mapping[Difficulty, Mapping[str, float]] = MappingProxyType({}),
    ):
        """Draws examples of a task.

        Args:
            task: a name in `TASKS`.
            target_form: a name in `TARGET_FORMS`.
            kinds: of each difficulty the weights of its kinds, if they are not as they come; the
                weight of "" is of any.
        """
        self._task, self._target_form, self._kinds = task, target_form, kinds
        self._streams: dict[tuple, Iterator] = {}
        self._drawn: dict[tuple, list[tuple[str, str]]] = {}
        self._drawing = threading.Lock()

    def numbers(self, difficulty: Difficulty, seed: int):
        """A dataset of numbers, int64, without end in sight, of examples whose split is train."""
        key = difficulty, seed
        with self._drawing:
            if key not in self._streams:
                kinds = self._kinds.get(difficulty, {})
                self._streams[key] = _draw(self._task, self._target_form, *key, kinds)
                self._drawn[key] = []
            start = list(self._streams).index(key) * STREAM
        return tf.data.Dataset.range(start, start + STREAM)

    def texts(self, numbers):
        """The programs and the texts to be written, string tensors, of numbers, int64 [n]."""

        def draw(numbers):
            with self._drawing:
                keys = list(self._streams)
                found = [self._text(keys[n // STREAM], n % STREAM) for n in numbers.tolist()]
            return tuple(np.array(column, object) for column in zip(*found, strict=True))

        programs, written = tf.numpy_function(draw, [numbers], (tf.string, tf.string))
        return tf.ensure_shape(programs, [None]), tf.ensure_shape(written, [None])

    def _text(self, key: tuple, index: int) -> tuple[str, str]:
        drawn = self._drawn[key]
        drawn.extend(itertools.islice(self._streams[key], max(0, index + 1 - len(drawn))))
        return drawn[index]


def _draw(
    task: str, target_form: str, difficulty: Difficulty, seed: int, kinds: Mapping[str, float]
):
    """Yields the programs of an endless row of training examples, and what is to be written."""
    generate, write = TASKS[task].generate, TARGET_FORMS[target_form].write
    names, weights = list(kinds), list(kinds.values())
    for block in itertools.count():
        rng = random.Random(f"{seed}/{block}")
        for _ in range(DRAWS_PER_SEED):
            kind = rng.choices(names, weights) if any(names) else ()
            example = generate(rng, difficulty, *kind)
            if split_of(example.program) == "train":
                yield example.program, write(example)


def mixture(sources: Sequence[tf.data.Dataset], weights: Sequence[float], seed: int):
    """One dataset, as endless as its sources: each element is of one drawn by `weights`."""
    # A tensor, because zeros in a Python list would drop their sources from the graph, and with
    # them the promise that every epoch has the same one.
    return tf.data.Dataset.sample_from_datasets(
        sources, tf.constant(weights, tf.float64), seed=seed, stop_on_empty_dataset=True
    )


def cut_by_length(dataset: tf.data.Dataset, batch_size: int, seed: int, shows_work: bool = False):
    """Windows of texts as full batches of similar length, in a random order.

    No example is dropped or delayed past its window; buckets that fill at their own pace would
    starve rare lengths in a short epoch.

    What is read decides or, where work is written, which is longer, what is written. Batches alike
    in both would take a quarter less time, and hold the programs of one operation each: the network
    learns more slowly from them.
    """

    @tf.autograph.experimental.do_not_convert
    def cut(number, texts):
        read, written = texts
        order = tf.argsort(tf.strings.length(written if shows_work else read), stable=True)
        rows = tf.reshape(order, [-1, batch_size])
        rows = tf.random.experimental.stateless_shuffle(rows, seed=[seed, number])
        return tuple(tf.gather(column, rows) for column in texts)

    return dataset.enumerate().map(cut).unbatch()


def encode_examples(programs, written, input_form: str, loss_scale: str):
    """A batch of texts as what `fit` takes: (inputs, labels, weights), padded to the longest.

    Args:
        programs, written: string tensors, shape [n].
        input_form: see `text.encode_programs`.
        loss_scale: the weights of a batch's real target positions (EOS included) sum to 1 for
            `character`, to the mean target length for `example` (the paper's scale: the sum over
            time, the mean over the batch). Padding weighs nothing. The loss is their weighted SUM,
            which stays right when a strategy splits the batch over replicas.
    """
    labels = text.append_eos(text.encode(written)).to_tensor(PAD)
    decoder_token_ids = tf.concat([tf.fill([tf.shape(labels)[0], 1], BOS), labels[:, :-1]], axis=1)
    weights = tf.cast(tf.not_equal(labels, PAD), tf.float32)
    if loss_scale == "character":
        weights /= tf.reduce_sum(weights)
    else:
        weights /= tf.cast(tf.shape(labels)[0], tf.float32)
    inputs = {
        "encoder_token_ids": text.encode_programs(programs, input_form),
        "decoder_token_ids": decoder_token_ids,
    }
    return inputs, labels, weights


# Traced once: every epoch has new pipelines, and tf.data would trace it anew in each of them. For
# pipelines alone: after a trace for rows whose number is unknown, batches would have no number.
_encode_once = tf.function(encode_examples, autograph=False)


def training_batches(
    examples: Stored | Generated,
    shares: dict[Difficulty, tuple[float, int]],
    *,
    seed: int,
    input_form: str,
    loss_scale: str,
    batch_size: int,
    num_batches: int,
    shows_work: bool = False,
):
    """The batches of one epoch: a pure function of its arguments.

    `fit` must be told their number (`steps_per_epoch`): if the dataset knew it, `fit` would set up
    an iterator for an epoch that never comes.

    Args:
        examples: what is drawn from.
        shares: the weight of each difficulty, see `mixture`, and the seed of its examples.
        seed: of the mixture and of the order of batches.
        input_form, loss_scale: see `encode_examples`.
        batch_size, num_batches: every batch is full, and there are exactly so many.
        shows_work: whether work is written, which takes most of the time, see `cut_by_length`.
    """
    sources = [examples.numbers(difficulty, seed) for difficulty, (_, seed) in shares.items()]
    numbers = mixture(sources, [weight for weight, _ in shares.values()], seed)
    window = batch_size * min(WORK_WINDOW if shows_work else WINDOW, num_batches)
    windows = numbers.take(batch_size * num_batches).batch(window).map(examples.texts)
    batches = cut_by_length(windows, batch_size, seed, shows_work)
    encoded = batches.map(
        lambda programs, written: _encode_once(programs, written, input_form, loss_scale)
    )
    return _without_autotuning(encoded.prefetch(8))


def _without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    # The autotuner's thread sleeps for seconds at a time, and an iterator that is thrown away waits
    # for it: about every second epoch stood still for 5 s. There is nothing to tune here.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def distribute(make_dataset: Callable, strategy: tf.distribute.Strategy):
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
