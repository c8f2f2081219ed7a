"""Whether a network's figures are the same with its weights in float16, half the size.

    python benchmarks/float16.py --pretrained=programs --json=FILE

Its evaluation twice, the second time with every weight rounded to float16 (what is computed with
them stays float32, as where the file is half as large).
"""

import argparse
import dataclasses

import measuring

from keras_l2e import config as configs
from keras_l2e import devices, pretrained, tables

RATES = ("token_accuracy", "exact_match")


def measure(name: str, data_dir: str) -> dict:
    """The rows of both evaluations: those trained, then those beyond."""
    folder = pretrained.find(name)
    config = configs.read_finished(folder)
    if data_dir:
        config = dataclasses.replace(config, data_dir=data_dir)
    devices.load_tensorflow(config.onednn)
    devices.start(1, threads_per_replica=devices.num_cores())
    from keras_l2e.data import stored
    from keras_l2e.networks import models
    from keras_l2e.training import evaluation

    stored.prepare(config.task, config.levels, config.data_dir, config.examples_per_difficulty)
    model, found = models.load(configs.network_in(folder)), {}
    for dtype in ("float32", "float16"):
        model.set_weights([weight.astype(dtype) for weight in model.get_weights()])
        result = evaluation.evaluate(config, model)
        found[dtype] = result["rows"] + result["beyond_training"]
    return found


def format_table(found: dict) -> str:
    """One line a difficulty."""
    lines = [
        [str(full["length"]), str(full["nesting"]), str(full["num_examples"])]
        + [tables.format_rate(row[rate], 4) for rate in RATES for row in (full, half)]
        for full, half in zip(*found.values(), strict=True)
    ]
    header = [f"{rate}, {dtype}" for rate in RATES for dtype in found]
    return tables.format_markdown(["length", "nesting", "num_examples", *header], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained", required=True, help="a network of the package")
    parser.add_argument("--data_dir", default="", help="folder of prepared data")
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    found = measure(arguments.pretrained, arguments.data_dir)
    print(format_table(found))
    measuring.write(arguments.json, {"network": arguments.pretrained, **found})


if __name__ == "__main__":
    main()
