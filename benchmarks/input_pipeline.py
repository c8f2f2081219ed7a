"""Examples a second that the input pipeline delivers by itself, and how much of them is padding.

    python benchmarks/input_pipeline.py --json=FILE

Prepared data, freshly drawn data, and the drawing alone (text, split's digest; before the split
filter), each on one core, at programs (6, 3), mix; beside them what training at 1 x 128 consumes of
the same data with all cores. Padding there, beside that of batches in the order drawn.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import measuring

BATCH_SIZE = 128
NUM_BATCHES = 200
NUM_STORED = 10_000  # Examples at each difficulty.
TARGET = 6, 3


def measure(function, repeats: int) -> dict:
    """The rate of a function that returns a count."""
    function()
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        count = function()
        rates.append(count / (time.perf_counter() - started))
    return measuring.summary(rates)


def batches_of(examples, seed: int):
    """NUM_BATCHES batches of the mix of stored or generated examples."""
    from keras_l2e.data import pipeline
    from keras_l2e.language import tasks

    levels = tasks.grid(tasks.Difficulty(*TARGET))
    return pipeline.training_batches(
        examples,
        {level: (1 / len(levels), seed) for level in levels},
        seed=seed,
        input_form="none",
        loss_scale="character",
        batch_size=BATCH_SIZE,
        num_batches=NUM_BATCHES,
    )


def read_stored(data_dir: str):
    """The prepared training examples."""
    from keras_l2e.data import pipeline
    from keras_l2e.data.stored import read
    from keras_l2e.language import tasks

    return pipeline.Stored(
        {
            level: read("program", level, "train", data_dir, NUM_STORED)[:2]  # Program, target.
            for level in tasks.grid(tasks.Difficulty(*TARGET))
        }
    )


def train(data_dir: str, repeats: int) -> dict:
    """Examples a second that `fit` consumes at 1 x 128, as train.py runs it: with all cores."""
    from keras_l2e import devices

    devices.load_tensorflow(devices.default_onednn())
    strategy = devices.start(devices.default_num_replicas())
    from keras_l2e.config import Config
    from keras_l2e.data import pipeline
    from keras_l2e.language import vocabulary
    from keras_l2e.networks import models
    from keras_l2e.training import run

    config = Config(
        model="lstm",
        hidden_dim=128,
        num_layers=1,
        embedding_dim=64,
        optimizer="sgd",
        average_decay=0.0,
    )
    with strategy.scope():
        model = models.build(config.model, vocabulary.SIZE, config)
        run.compile_model(model, config)
    stored = read_stored(data_dir)
    seed = 0

    def epoch() -> int:
        nonlocal seed
        seed += 1
        batches = pipeline.distribute(lambda: batches_of(stored, seed), strategy)
        model.fit(batches, steps_per_epoch=NUM_BATCHES, verbose=0, shuffle=False)
        return BATCH_SIZE * NUM_BATCHES

    return measure(epoch, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each rate")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        return print(json.dumps(train(arguments.train, arguments.repeats)))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})

    from keras_l2e import devices

    devices.load_tensorflow()
    devices.start(1)
    from keras_l2e.data import pipeline
    from keras_l2e.data.stored import prepare
    from keras_l2e.language import programs, tasks

    levels = tasks.grid(tasks.Difficulty(*TARGET))

    def draw() -> int:
        rng = random.Random(0)
        for _ in range(20_000):
            programs.split_of(programs.generate(rng, *TARGET).program)
        return 20_000

    seed = 0

    def consume(examples) -> int:
        nonlocal seed
        seed += 1
        return sum(len(labels) for _, labels, _ in batches_of(examples, seed))

    def generate() -> int:
        return consume(pipeline.Generated("program", "answer"))

    with tempfile.TemporaryDirectory() as data_dir:
        prepare("program", levels, data_dir, NUM_STORED, report=lambda line: None)
        stored = read_stored(data_dir)
        command = [
            sys.executable,
            __file__,
            f"--train={data_dir}",
            f"--repeats={arguments.repeats}",
        ]
        process = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    rates = {
        "drawn_with_digest": measure(draw, arguments.repeats),
        "prepared": measure(lambda: consume(stored), arguments.repeats),
        "generated": measure(generate, arguments.repeats),
        "training_all_cores": json.loads(process.stdout),
    }
    print(f"{'examples a second, one core':30} {'median':>10} {'min':>10} {'max':>10}")
    for name, rate in rates.items():
        print(f"{name:30} {rate['median']:10,.0f} {rate['min']:10,.0f} {rate['max']:10,.0f}")

    consumed = rates["training_all_cores"]["median"]
    ratios = {name: rates[name]["median"] / consumed for name in ("prepared", "generated")}
    print(", ".join(f"{name}: {x:.1f} times what training takes" for name, x in ratios.items()))

    real = computed = in_order = 0
    for inputs, _, _ in batches_of(stored, 0):
        ids = inputs["encoder_token_ids"].numpy()
        real += (ids != 0).sum()
        computed += ids.size
    sources = [stored.numbers(level, 0) for level in levels]
    mixed = pipeline.mixture(sources, [1 / len(levels)] * len(levels), 0)
    for numbers in mixed.batch(BATCH_SIZE).take(NUM_BATCHES):
        lengths = [len(text) + 1 for text in stored.texts(numbers)[0].numpy()]
        in_order += max(lengths) * len(lengths)
    padding = {"sorted": 1 - real / computed, "in_order": 1 - real / in_order}
    print(
        f"padding: {padding['sorted']:.1%} of positions; {padding['in_order']:.1%} in order drawn"
    )
    measuring.write(
        arguments.json,
        {"examples_per_second": rates, "times_training": ratios, "padding": padding},
    )


if __name__ == "__main__":
    main()
