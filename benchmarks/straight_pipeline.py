"""Whether examples should flow through the input pipeline themselves, instead of their numbers.

    python benchmarks/straight_pipeline.py --json=FILE

In `data/pipeline.py` the sources give numbers of examples, which become texts a window at a time.
Here is the straight way beside it: sources that give the texts, freshly drawn ones in blocks, from
which the same batches come. For one and 18 difficulties of programs, read by one and two replicas,
an epoch is timed both ways in turns: examples a second, also by the processor's time alone, and the
seconds of it that are spent before the first batch, with every epoch anew.
"""

import argparse
import itertools
import random
import threading
import time

import measuring
import numpy as np
import tensorflow as tf

from keras_l2e import devices
from keras_l2e.data import pipeline
from keras_l2e.language.tasks import TASKS, Difficulty, grid

BATCH_SIZE, NUM_BATCHES, NUM_STORED = 128, 200, 10_000
TARGET = 6, 3
BLOCK = 32  # Examples drawn by a call.


class StraightStored:
    """As `pipeline.Stored`, its sources giving texts."""

    def __init__(self, examples: dict):
        self._columns = {
            difficulty: tuple(tf.constant(column, tf.string) for column in columns)
            for difficulty, columns in examples.items()
        }

    def source(self, difficulty, seed: int):
        columns = self._columns[difficulty]
        order = np.random.default_rng(seed).permutation(len(columns[0]))
        columns = tuple(tf.gather(column, order) for column in columns)
        return tf.data.Dataset.from_tensor_slices(columns).repeat()


class StraightGenerated:
    """As `pipeline.Generated`, its sources giving texts."""

    def __init__(self, task: str, target_form: str):
        self._names = task, target_form
        self._streams, self._drawing = {}, threading.Lock()

    def source(self, difficulty, seed: int):
        key = difficulty, seed
        with self._drawing:
            if key not in self._streams:
                self._streams[key] = pipeline._draw(*self._names, *key), []
        examples, blocks = self._streams[key]

        def draw(number):
            with self._drawing:
                while len(blocks) <= number:
                    columns = zip(*itertools.islice(examples, BLOCK), strict=True)
                    blocks.append(tuple(np.array(column, object) for column in columns))
            return blocks[number]

        def block(number):
            columns = tf.numpy_function(draw, [number], (tf.string, tf.string))
            return tuple(tf.ensure_shape(column, [BLOCK]) for column in columns)

        return tf.data.Dataset.range(2**40).map(block).unbatch()


def straight_batches(
    examples, shares: dict, *, seed, input_form, loss_scale, batch_size, num_batches
):
    """As `pipeline.training_batches`."""
    sources = [examples.source(difficulty, seed) for difficulty, (_, seed) in shares.items()]
    mixed = pipeline.mixture(sources, [weight for weight, _ in shares.values()], seed)
    windows = mixed.take(batch_size * num_batches).batch(
        batch_size * min(pipeline.WINDOW, num_batches)
    )
    encoded = pipeline.cut_by_length(windows, batch_size, seed).map(
        lambda programs, written: pipeline.encode_examples(
            programs, written, input_form, loss_scale
        )
    )
    return pipeline._without_autotuning(encoded.prefetch(8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=7, help="epochs of each kind")
    arguments = parser.parse_args()

    strategy = devices.start(2)
    task = TASKS["program"]
    levels = grid(Difficulty(*TARGET))
    examples = {}
    for level in levels:
        rng = random.Random(f"{level}")
        drawn = [task.generate(rng, level) for _ in range(NUM_STORED)]
        examples[level] = [
            [text.encode() for text in column] for column in zip(*drawn, strict=True)
        ]
    stored = {"numbers": pipeline.Stored(examples), "straight": StraightStored(examples)}
    generated = {"numbers": pipeline.Generated, "straight": StraightGenerated}
    batches_of = {"numbers": pipeline.training_batches, "straight": straight_batches}

    def make(way: str, source: str, levels: list, seed: int):
        """A function that makes an epoch's batches."""
        epoch = stored[way] if source == "stored" else generated[way]("program", "answer")
        return lambda: batches_of[way](
            epoch,
            {level: (1 / len(levels), seed + i) for i, level in enumerate(levels)},
            seed=seed,
            input_form="none",
            loss_scale="character",
            batch_size=BATCH_SIZE,
            num_batches=NUM_BATCHES,
        )

    def epoch(num_replicas: int, *what) -> dict:
        """What an epoch takes; of its set-up the processor's time."""
        started, busy = time.perf_counter(), time.process_time()
        batches = make(*what)
        iterator = iter(batches() if num_replicas == 1 else pipeline.distribute(batches, strategy))
        set_up = time.process_time() - busy
        assert sum(1 for _ in iterator) == NUM_BATCHES
        count = BATCH_SIZE * NUM_BATCHES
        return {
            "examples_per_second": count / (time.perf_counter() - started),
            "examples_per_processor_second": count / (time.process_time() - busy),
            "set_up_processor_seconds": set_up,
        }

    result = {}
    for source, num_levels, num_replicas in itertools.product(
        ("stored", "fresh"), (1, len(levels)), (1, 2)
    ):
        found = {way: [] for way in batches_of}
        for seed, way in itertools.product(range(arguments.repeats + 1), batches_of):
            found[way].append(epoch(num_replicas, way, source, levels[-num_levels:], 100 * seed))
        name = f"{source}, {num_levels} difficulties, {num_replicas} replicas"
        result[name] = {
            way: {key: measuring.summary([x[key] for x in epochs[1:]]) for key in epochs[0]}
            for way, epochs in found.items()
        }
        for way, figures in result[name].items():
            cells = (
                f"{x['median']:,.6g} ({x['min']:,.6g} to {x['max']:,.6g})" for x in figures.values()
            )
            print(f"{name:40} {way:9}", *cells, flush=True)
    measuring.write(arguments.json, result)


if __name__ == "__main__":
    main()
