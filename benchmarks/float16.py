"""Whether a network's figures are the same with its weights in float16, half the size.

    python benchmarks/float16.py --model=programs --json=FILE --output=half.keras

Its evaluation twice, the second time with every weight rounded to float16 (what is computed with
them stays float32, as with the file that is written). `programs` was made so.
"""

import argparse
import dataclasses
import io
import zipfile
from pathlib import Path

import h5py
import measuring

from keras_l2e import api, devices, tables
from keras_l2e import config as configs

RATES = ("token_accuracy", "exact_match")


def measure(folder: Path, data_dir: str) -> dict:
    """The rows of both evaluations: those trained, then those beyond."""
    from keras_l2e.data import stored
    from keras_l2e.training import evaluation

    network = api.TrainedNetwork(folder)
    config, model = network.config, network.model
    if data_dir:
        config = dataclasses.replace(config, data_dir=data_dir)
    stored.prepare(config.task, config.levels, config.data_dir, config.examples_per_difficulty)
    found = {}
    for dtype in ("float32", "float16"):
        model.set_weights([weight.astype(dtype) for weight in model.get_weights()])
        result = evaluation.evaluate(config, model)
        found[dtype] = result["rows"] + result["beyond_training"]
    return found


def write_half(model: Path, output: Path) -> None:
    """Writes a network's file with its weights in float16; Keras reads them as float32."""
    with zipfile.ZipFile(model) as source, zipfile.ZipFile(output, "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            archive.writestr(name, _halve(data) if name.endswith(".h5") else data)


def _halve(data: bytes) -> bytes:
    """An HDF5 file with every array in float16."""
    halved = io.BytesIO()
    with h5py.File(io.BytesIO(data), "r") as source, h5py.File(halved, "w") as file:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                file[name] = item[()].astype("float16")

        source.visititems(copy)
    return halved.getvalue()


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
    parser.add_argument("--model", required=True, help="a run's folder, or a network's name")
    parser.add_argument("--data_dir", default="", help="folder of prepared data")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--output", help="file of the network with its weights in float16")
    arguments = parser.parse_args()
    devices.load_tensorflow(devices.default_onednn())
    devices.start(1, threads_per_replica=devices.num_cores())
    folder = api.find(arguments.model)
    found = measure(folder, arguments.data_dir)
    print(format_table(found))
    measuring.write(arguments.json, {"model": Path(arguments.model).name, **found})
    if arguments.output:
        write_half(configs.network_in(folder), Path(arguments.output))


if __name__ == "__main__":
    main()
