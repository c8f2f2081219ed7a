"""The page of each network of the package: its size, milliseconds an answer in Node, and equality.

    python benchmarks/page.py --json=FILE

Held-out programs of all trained difficulties are answered by the page's own modules, one after the
other, and by the functions that the SavedModel is made of. Node is needed.
"""

import argparse
import gzip
import json
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

import measuring

from keras_l2e import config as configs
from keras_l2e import devices, page, pretrained
from keras_l2e.language import forms
from keras_l2e.language.programs import split_of
from keras_l2e.language.tasks import TASKS

NODE = Path(__file__).parents[1] / "tests" / "page_in_node.mjs"


def held_out(config, count: int) -> list[str]:
    """Programs of the test split, of every trained difficulty equally many on average."""
    rng, found = random.Random(f"benchmarks/page/{config.task}"), []
    while len(found) < count:
        program = TASKS[config.task].generate(rng, rng.choice(config.levels)).program
        if split_of(program) == "test":
            found.append(program)
    return found


def measure(name: str, count: int, html: Path) -> dict:
    """What there is to know of the page of one network."""
    from keras_l2e.networks import models, saved_model

    folder = pretrained.find(name)
    config, network = configs.read(folder), models.load(folder / "model.keras")
    page.write([page.describe(name, folder, config, network)], html)
    programs = held_out(config, count)
    module = saved_model.Module(network, config.interface)
    served = saved_model.serve_many(module, programs, forms.shows_work(config.target_form))
    request = {"function": "answer", "arguments": [[0, p] for p in programs], "page": str(html)}
    command = ["node", NODE, page.FOLDER]
    process = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, check=True
    )
    found = [one["value"] for one in json.loads(process.stdout)]
    # Where work is written, the page's text holds it, too.
    outputs = [text.decode() for text in served.get("work", served["output"])]
    written = ["".join(one["written"]).removesuffix("EOS") for one in found]
    milliseconds = [one["milliseconds"] for one in found]
    pairs = zip(found, served["probability"].tolist(), strict=True)
    return {
        "num_programs": count,
        "num_equal": sum(a == b for a, b in zip(written, outputs, strict=True)),
        "largest_difference_of_probability": max(abs(a["probability"] - b) for a, b in pairs),
        "bytes": html.stat().st_size,
        "gzip_bytes": len(gzip.compress(html.read_bytes(), mtime=0)),
        "mean_milliseconds": statistics.mean(milliseconds),
        "median_milliseconds": statistics.median(milliseconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--programs", type=int, default=2_000, help="programs for each network")
    arguments = parser.parse_args()
    devices.load_tensorflow(devices.default_onednn())
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in pretrained.names():
            found = measure(name, arguments.programs, Path(folder) / f"{name}.html")
            figures[name] = found
            print(
                f"{name}: {found['bytes'] / 1e6:.1f} MB ({found['gzip_bytes'] / 1e6:.1f} gzip), "
                f"{found['mean_milliseconds']:.1f} ms an answer, "
                f"{found['num_equal']} of {found['num_programs']} equal"
            )
    measuring.write(arguments.json, figures)


if __name__ == "__main__":
    main()
