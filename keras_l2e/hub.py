"""Networks in the layout in which Hugging Face and Kaggle keep models of Keras.

    folder = download("hf://user/addition_9")     # or kaggle://user/model/keras/variation

A folder holds what Keras saves (config.json, metadata.json, model.weights.h5), what this package
needs besides (flags.cfg, evaluation.json), and README.md, a model card that begins with what hubs
read: the library, tags, the license, the figures at the target.
"""

import functools
import importlib
import json
import re
from pathlib import Path

from keras_l2e import config as configs
from keras_l2e import files, tables
from keras_l2e.config import Config
from keras_l2e.errors import UsageError, WorkError

# How a place on a hub begins, and what downloads it: a module and its function.
_DOWNLOADS = {
    "hf://": ("huggingface_hub", "snapshot_download"),
    "kaggle://": ("kagglehub", "model_download"),
}
SCHEMES = tuple(_DOWNLOADS)
CARD = "README.md"


def download(place: str) -> Path:
    """The folder of a network on a hub, kept where its library keeps what was downloaded.

    Args:
        place: "hf://user/name", or "kaggle://user/model/keras/variation".

    Raises:
        UsageError: the hub's library is not installed, or what is there is no network of this
            package.
        WorkError: it cannot be downloaded.
    """
    scheme = next(filter(place.startswith, _DOWNLOADS))
    module, function = _DOWNLOADS[scheme]
    try:
        library = importlib.import_module(module)
    except ImportError:
        raise UsageError(f"{place} needs {module}: pip install 'keras_l2e[hub]'") from None
    try:
        folder = Path(getattr(library, function)(place.removeprefix(scheme)))
    except Exception as error:  # The libraries share no class of errors.
        raise WorkError(f"{place} cannot be downloaded: {error}") from None
    configs.read_finished(folder)
    return folder


def front_matter(name: str, config: Config, evaluation: dict) -> str:
    """What a model card begins with, in YAML: https://huggingface.co/docs/hub/model-cards.

    The figures are those of the hardest trained difficulty in an evaluation.json.
    """
    row = evaluation["rows"][-1]
    lines = [
        "---",
        "library_name: keras",
        "pipeline_tag: text-generation",
        "license: apache-2.0",
        "tags:",
        *(f"- {tag}" for tag in ("keras_l2e", "learning-to-execute", "arithmetic", config.model)),
        "datasets:",
        "- learning_to_execute",
        "metrics:",
        *(f"- {metric}" for metric in tables.METRICS),
        "model-index:",
        f"- name: {json.dumps(name)}",
        "  results:",
        "  - task:",
        "      type: text-generation",
        "    dataset:",
        "      type: learning_to_execute",
        f"      name: {config.task}, length {row['length']}, nesting {row['nesting']}",
        f"      split: {evaluation['split']}",
        "    metrics:",
    ]
    for metric, metric_name in tables.METRICS.items():
        lines += [
            f"    - type: {metric}",
            f"      name: {metric_name}",
            f"      value: {row[metric]!r}",
        ]
    return "\n".join([*lines, "---", ""])


def card(name: str, config: Config, evaluation: dict) -> str:
    """A model card for a network that has none: what it is, how it is called, its figures."""
    return f"""{front_matter(name, config, evaluation)}
# {name}

A network of keras_l2e that reads programs and writes what they print: task {config.task}, model
{config.model}, trained on every difficulty up to {config.target.label}. All settings of its
training are in [flags.cfg](flags.cfg).

```python
import keras_l2e

network = keras_l2e.load("hf://USER/{name}")  # or the folder that holds this file
network.execute("print(12+34)")
```

## Figures

{tables.format_markdown_table(evaluation)}
"""


def write(run: Path, output: Path, network) -> None:
    """Writes the folder of a network, to be uploaded as it is.

    Args:
        run: folder of a finished run; its model card is taken, if it has one.
        output: the folder to write, which is not there yet.
        network: that of the run.

    Raises:
        UsageError: the run has no evaluation.
    """
    if not (run / "evaluation.json").is_file():
        raise UsageError(f"no evaluation in {run}: evaluation.json is missing")
    files.write_folder(output, functools.partial(_write, run, network))


def _write(run: Path, network, folder: Path) -> None:
    network.save(folder, zipped=False)
    for name in (configs.NAME, "evaluation.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    if (run / CARD).is_file():
        # Links to what stays behind are words alone.
        text = re.sub(r"\[([^]]+)\]\(\.\./[^)]*\)", r"\1", (run / CARD).read_text("utf-8"))
    else:
        evaluation = tables.read_evaluation(run / "evaluation.json")
        text = card(run.resolve().name, configs.read(run), evaluation)
    (folder / CARD).write_text(text, "utf-8")
