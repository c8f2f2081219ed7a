"""Examples a second that the input pipeline delivers by itself, and how much of them is padding.

    python benchmarks/input_pipeline.py --json=FILE

Prepared data, freshly drawn data, and the drawing alone (text, split's digest; before the split
filter), each on one core; padding at programs (6, 3), mix, beside batches in the order drawn.
"""

import argparse
import os
import random
import tempfile
import time

import measuring

BATCH_SIZE = 128
NUM_BATCHES = 200


def measure(function, repeats: int) -> dict:
    """The rate of a function that returns a count."""
    function()
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        count = function()
        rates.append(count / (time.perf_counter() - started))
    return measuring.summary(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each rate")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    from keras_l2e import runtime

    runtime.load_tensorflow()
    runtime.start(1)
    from keras_l2e import input_pipeline, prepared_data, programs, tasks
    from keras_l2e.tasks import Difficulty

    target = Difficulty(6, 3)
    levels = tasks.grid(target)
    mix = [1 / len(levels)] * len(levels)

    def draw() -> int:
        rng = random.Random(0)
        for _ in range(20_000):
            programs.split_of(programs.generate(rng, *target).program)
        return 20_000

    def batches(sources, seed: int):
        return input_pipeline.training_batches(
            sources,
            mix,
            seed=seed,
            input_form="none",
            loss_scale="character",
            batch_size=BATCH_SIZE,
            num_batches=NUM_BATCHES,
        )

    seed = 0

    def consume(make_source) -> int:
        nonlocal seed
        seed += 1
        sources = [make_source(difficulty, seed) for difficulty in levels]
        return sum(len(labels) for _, labels, _ in batches(sources, seed))

    with tempfile.TemporaryDirectory() as data_dir:
        prepared_data.prepare("program", levels, data_dir, 10_000)
        stored = {
            difficulty: prepared_data.read("program", difficulty, "train", data_dir, 10_000)
            for difficulty in levels
        }

    def prepared(difficulty, seed):
        return input_pipeline.prepared_source(*stored[difficulty], seed)

    def generated(difficulty, seed):
        return input_pipeline.generated_source("program", difficulty, seed)

    rates = {
        "drawn_with_digest": measure(draw, arguments.repeats),
        "prepared": measure(lambda: consume(prepared), arguments.repeats),
        "generated": measure(lambda: consume(generated), arguments.repeats),
    }
    print(f"{'examples a second, one core':30} {'median':>10} {'min':>10} {'max':>10}")
    for name, rate in rates.items():
        print(f"{name:30} {rate['median']:10,.0f} {rate['min']:10,.0f} {rate['max']:10,.0f}")

    real = computed = in_order = 0
    for inputs, _, _ in batches([prepared(difficulty, 0) for difficulty in levels], 0):
        ids = inputs["encoder_token_ids"].numpy()
        real += (ids != 0).sum()
        computed += ids.size
    mixed = input_pipeline.mixture([prepared(difficulty, 0) for difficulty in levels], mix, 0)
    for texts, _ in mixed.batch(BATCH_SIZE).take(NUM_BATCHES):
        lengths = [len(text) + 1 for text in texts.numpy()]
        in_order += max(lengths) * len(lengths)
    padding = {"sorted": 1 - real / computed, "in_order": 1 - real / in_order}
    print(
        f"padding: {padding['sorted']:.1%} of positions; {padding['in_order']:.1%} in order drawn"
    )
    measuring.write(arguments.json, {"examples_per_second": rates, "padding": padding})


if __name__ == "__main__":
    main()
