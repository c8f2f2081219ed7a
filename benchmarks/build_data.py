"""What building the data set costs: per example, and all addition configs at the default size.

    python benchmarks/build_data.py --json=FILE

Builds into a temporary folder, one config after the other.
"""

import argparse
import tempfile
import time

import measuring


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=5, help="builds of one config")
    arguments = parser.parse_args()

    from keras_l2e import devices

    devices.load_tensorflow()
    from keras_l2e.data import stored
    from keras_l2e.language.tasks import EXAMPLES_PER_DIFFICULTY, TASKS, Difficulty

    def build(task: str, difficulties: list[Difficulty]) -> tuple[float, list[str]]:
        lines = []
        with tempfile.TemporaryDirectory() as data_dir:
            started = time.perf_counter()
            stored.prepare(
                task, difficulties, data_dir, EXAMPLES_PER_DIFFICULTY, report=lines.append
            )
            return time.perf_counter() - started, lines

    result = {}
    num_examples = EXAMPLES_PER_DIFFICULTY + 12_000
    for task, difficulty in (("addition", Difficulty(9)), ("program", Difficulty(12, 10))):
        seconds = [build(task, [difficulty])[0] for _ in range(arguments.repeats)]
        name = stored.config_name(task, difficulty)
        result[name] = measuring.summary(seconds)
        median = result[name]["median"]
        print(f"{name}: {median:.1f} s, {1e6 * median / num_examples:.0f} us/example")
    seconds, lines = build("addition", TASKS["addition"].difficulties())
    print(f"all {len(lines) - 1} addition configs: {seconds:.0f} s")
    result["all_addition_configs_seconds"] = seconds
    measuring.write(arguments.json, result)


if __name__ == "__main__":
    main()
