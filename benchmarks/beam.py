"""What building the data set costs with Apache Beam: examples per second by number of workers.

    python benchmarks/beam.py --json=FILE

Builds one config in two sizes, plainly and by Beam's DirectRunner with 1 and 2 worker processes;
the difference of the two is free of start-up. DirectRunner hands every element through one process
of its own, which wants a core too: on two cores a second worker gains nothing. From the rate of one
worker, that process included, it works out what 10^9 programs take on 1,000 workers of a runner
that scales: candidates are drawn independently, and only finished examples are moved, to be sorted.
"""

import argparse
import os
import tempfile
import time

import measuring

SIZES = (10_000, 60_000)
NUM_WORKERS = (0, 1, 2)  # 0 is the plain build.
MANY_EXAMPLES, MANY_WORKERS = 10**9, 1_000


def build(name: str, num_workers: int) -> tuple[float, int]:
    """Builds a config in a temporary folder: seconds, and examples in all splits."""
    import tensorflow_datasets as tfds
    from apache_beam.options.pipeline_options import PipelineOptions
    from keras_l2e_datasets.learning_to_execute import Builder

    tfds.disable_progress_bar()
    download_config = tfds.download.DownloadConfig()
    if num_workers:
        download_config.beam_options = PipelineOptions(
            runner="DirectRunner",
            direct_num_workers=num_workers,
            direct_running_mode="multi_processing",
        )
    with tempfile.TemporaryDirectory() as data_dir:
        started = time.perf_counter()
        builder = Builder(config=name, data_dir=data_dir)
        builder.download_and_prepare(download_config=download_config)
        return time.perf_counter() - started, builder.info.splits.total_num_examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=3, help="builds of each kind")
    parser.add_argument("--config", default="program_length_4_nesting_2", help="config to build")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    build(f"{arguments.config}_examples_100", 0)  # Imports.
    rates, start_up = {}, {}
    print("workers  examples/s     min     max  start-up, s")
    for num_workers in NUM_WORKERS:
        measured, waited = [], []
        for _ in range(arguments.repeats):
            (small, few), (large, many) = (
                build(f"{arguments.config}_examples_{size}", num_workers) for size in SIZES
            )
            measured.append((many - few) / (large - small))
            waited.append(small - few / measured[-1])
        rate = rates[num_workers] = measuring.summary(measured)
        start_up[num_workers] = measuring.summary(waited)
        print(
            f"{num_workers or 'plain':>7} {rate['median']:11,.0f} {rate['min']:7,.0f} "
            f"{rate['max']:7,.0f} {start_up[num_workers]['median']:12.1f}"
        )
    minutes = MANY_EXAMPLES / (MANY_WORKERS * rates[1]["median"]) / 60
    print(
        f"{MANY_EXAMPLES:,} examples: {minutes:.1f} minutes on {MANY_WORKERS:,} such workers, "
        f"{minutes * MANY_WORKERS / 60:.0f} hours on one"
    )
    measuring.write(
        arguments.json,
        {
            "config": arguments.config,
            "examples_per_second": rates,
            "start_up_seconds": start_up,
            "minutes_for_1e9_examples_on_1000_workers": minutes,
        },
    )


if __name__ == "__main__":
    main()
