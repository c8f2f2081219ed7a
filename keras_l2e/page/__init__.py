"""Trained networks as one HTML file, which executes programs wherever it is opened.

    config, network = configs.read(folder), models.load(folder / "model.keras")
    page.write([page.describe("addition_9", folder, config, network)], Path("addition_9.html"))

The file holds the networks' weights and what computes with them: text.mjs, syntax.mjs,
interpreter.mjs, tasks.mjs and network.mjs say in JavaScript what `language` and `networks` say in
Python, view.mjs and page.html show it. Each of these modules can be imported by Node, too.
"""

import base64
import json
import random
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_l2e import pretrained
from keras_l2e.config import Config
from keras_l2e.errors import UsageError
from keras_l2e.files import write_text
from keras_l2e.language.forms import INPUT_FORMS
from keras_l2e.language.programs import split_of
from keras_l2e.language.tasks import TASKS, Difficulty

FOLDER = Path(__file__).parent
# Each behind those that it imports.
MODULES = ("text", "syntax", "interpreter", "tasks", "network", "view")
# What the modules know, by the names of settings; a test holds them to it.
KNOWN = {
    "task": ("program", "control", "addition", "copy", "reverse", "double"),
    "model": ("lstm", "attention"),
    "input_form": INPUT_FORMS,
    "target_form": ("answer", "trace", "reversed_trace", "register_trace"),
}
# Of each kind, at each difficulty, and how many are drawn to find them.
NUM_EXAMPLES = 3
NUM_DRAWS = 300


class Part(NamedTuple):
    """One network of a page.

    Attributes:
        facts: what the page must know of it, ready for JSON; see `describe`.
        weights: all its weights, float32 [n], in the order of `facts["weights"]`.
    """

    facts: dict
    weights: np.ndarray


def check(name: str, config: Config) -> None:
    """Raises UsageError if the page does not know what the network `name` is made of."""
    for setting, known in KNOWN.items():
        if (value := getattr(config, setting)) not in known:
            raise UsageError(
                f"{name} has {setting} {value}, which a page does not know; it knows "
                f"{', '.join(known)}"
            )


def describe(name: str, folder: Path, config: Config, network) -> Part:
    """What a page holds of a network.

    Args:
        name: what it is called there.
        folder: of its run.
        config: of its run.
        network: of `networks.models`.
    """
    variables = network.trainable_variables  # The others are the seeds of dropout that is not used.
    facts = {
        "name": name,
        **config.interface._asdict(),
        "model": config.model,
        "arguments": network.arguments,
        "kind": TASKS[config.task].kind,
        "measured": {
            f"{difficulty.length},{difficulty.nesting}": rate
            for difficulty, rate in pretrained.rates(folder).items()
        },
        "examples": [
            {"difficulty": level, "kind": str(kind), "programs": programs}
            for level in config.levels
            for kind, programs in _examples(config.task, level)
        ],
        "weights": [{"name": v.path, "shape": list(v.shape)} for v in variables],
    }
    return Part(facts, np.concatenate([variable.numpy().ravel() for variable in variables]))


def _examples(task: str, level: Difficulty) -> list[tuple]:
    """Programs of the test split of each kind that the task tells apart, the same every time."""
    rng = random.Random(f"page/{task}/{level.length}/{level.nesting}")
    found: dict = {}
    for _ in range(NUM_DRAWS):
        program = TASKS[task].generate(rng, level).program
        if split_of(program) != "test":
            continue
        for kind in TASKS[task].kinds_of(program, level) or [""]:
            programs = found.setdefault(kind, [])
            if program not in programs and len(programs) < NUM_EXAMPLES:
                programs.append(program)
    return sorted(found.items())


def write(parts: list[Part], output: Path) -> None:
    """Writes the page of some networks, whole or not at all."""
    facts = json.dumps([part.facts for part in parts]).replace("<", r"\u003c")
    blocks = [_block("networks", "application/json", facts)]
    for number, part in enumerate(parts):
        values = base64.b64encode(part.weights.astype("<f4").tobytes()).decode()
        blocks.append(_block(f"weights-{number}", "text/plain", values))
    page = (FOLDER / "page.html").read_text("utf-8")
    page = page.replace("/* modules */", script()).replace("<!-- networks -->", "\n".join(blocks))
    write_text(output, page)


def _block(name: str, kind: str, content: str) -> str:
    return f'<script id="{name}" type="{kind}">{content}</script>'


def script() -> str:
    """All modules as one: a page that is opened as a file may not import another file."""
    texts = [(FOLDER / f"{name}.mjs").read_text("utf-8") for name in MODULES]
    return re.sub(r"^import [^;]*;\n|^export ", "", "\n".join(texts), flags=re.MULTILINE)
