"""Whether training slows down: with the number of sources mixed, and from epoch to epoch.

    python benchmarks/epochs.py --json=FILE

A small network on sums from a table, all of one length, so that an example costs the same whichever
source it comes from: 1 source against 40, in turns; then 200 short epochs, the last against the
first, and the memory of the process.
"""

import argparse
import random
import resource
import statistics
import time

import measuring

from keras_l2e.language.tasks import TASKS, Difficulty

BATCH_SIZE = 128
NUM_SHORT_EPOCHS = 200


def sources(number: int) -> dict:
    """The same examples in so many parts."""
    rng, task = random.Random(0), TASKS["addition"]
    examples = [task.generate(rng, Difficulty(9)) for _ in range(20_000)]
    columns = [[text.encode() for text in column] for column in zip(*examples, strict=True)]
    return {i: tuple(column[i::number] for column in columns) for i in range(number)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=7, help="epochs with each number of sources")
    arguments = parser.parse_args()

    from keras_l2e import devices

    devices.load_tensorflow(devices.default_onednn())
    strategy = devices.start(devices.default_num_replicas())
    import keras

    from keras_l2e.config import Config
    from keras_l2e.data import pipeline
    from keras_l2e.language import vocabulary
    from keras_l2e.networks import models, optimizers

    stored = {number: pipeline.Stored(sources(number)) for number in (1, 4, 40)}
    with strategy.scope():
        model = models.build("lstm", vocabulary.SIZE, Config(hidden_dim=128, embedding_dim=64))
        model.compile(
            optimizers.SGD(1e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
        )

    def epoch(num_sources: int, number: int, num_batches: int) -> float:
        def batches():
            return pipeline.training_batches(
                stored[num_sources],
                {source: (1 / num_sources, source) for source in range(num_sources)},
                seed=number,
                input_form="none",
                loss_scale="character",
                batch_size=BATCH_SIZE,
                num_batches=num_batches,
            )

        started = time.perf_counter()
        dataset = pipeline.distribute(batches, strategy)
        model.fit(dataset, steps_per_epoch=num_batches, verbose=0, shuffle=False)
        return time.perf_counter() - started

    seconds = {1: [], 40: []}
    for number in range(arguments.repeats + 1):
        for num_sources, values in seconds.items():
            # What an epoch costs once is not a cost per example.
            values.append(epoch(num_sources, number, 101) - epoch(num_sources, number, 1))
    per_example = {
        num_sources: measuring.summary([value / 100 / BATCH_SIZE for value in values[1:]])
        for num_sources, values in seconds.items()
    }
    ratio = per_example[40]["median"] / per_example[1]["median"]
    print(f"microseconds an example: {1e6 * per_example[1]['median']:.1f} from 1 source, ", end="")
    print(f"{1e6 * per_example[40]['median']:.1f} from 40 (x {ratio:.3f})")

    times, memory = [], []
    for number in range(NUM_SHORT_EPOCHS):
        times.append(epoch(4, number, 20))
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    early, late = statistics.median(times[1:11]), statistics.median(times[-10:])
    print(f"seconds an epoch: {early:.3f} at 2..11, {late:.3f} at the end (x {late / early:.3f})")
    print(f"memory, MiB at most: {memory[10]:.0f} after 11 epochs, {memory[-1]:.0f} after all")
    measuring.write(
        arguments.json,
        {
            "seconds_per_example": per_example,
            "ratio_40_sources_to_1": ratio,
            "epoch_seconds": times,
            "ratio_late_to_early": late / early,
            "peak_memory_mib": memory,
        },
    )


if __name__ == "__main__":
    main()
