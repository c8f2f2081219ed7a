"""The learning rates of the figure `optimizers`: for each optimizer the one its trials did best at.

rates = read_rates(folder)
if rates is None:
    ...  # run the trials, cells("optimizers", budget)
    rates = choose_rates(folder, trials)  # {"sgd": 1.2, "adam": 0.003, "muon": 0.01}
"""

import json
from collections.abc import Sequence
from pathlib import Path

from keras_l2e.errors import WorkError
from keras_l2e.files import write_json
from keras_l2e.paper.cells import Cell

NAME = "rates.json"


def read_rates(folder: Path) -> dict[str, float] | None:
    """The learning rates that were chosen for the cells in this folder; None if none were."""
    path = folder / NAME
    try:
        return json.loads(path.read_text("utf-8")) if path.exists() else None
    except ValueError as error:
        raise WorkError(f"{path} is broken: {error}") from None


def choose_rates(folder: Path, trials: Sequence[Cell]) -> dict[str, float]:
    """Chooses each optimizer's rate by validation token accuracy at the target, and writes it down.

    Args:
        folder: of the cells.
        trials: they are done; what is not there has diverged.

    Raises:
        WorkError: no run of an optimizer got to its end.
    """
    scores = {}
    for cell in trials:
        scores.setdefault(cell.flags["optimizer"], {})
        path = folder / cell.name / "history.jsonl"
        if (folder / cell.name / "evaluation.json").exists():
            last = json.loads(path.read_text("utf-8").splitlines()[-1])
            accuracy = last["target_validation"]["token_accuracy"]
            scores[cell.flags["optimizer"]][cell.flags["learning_rate"]] = accuracy
    for optimizer, found in scores.items():
        if not found:
            raise WorkError(f"no learning rate of {optimizer} can be chosen: all its runs diverged")
    rates = {optimizer: max(found, key=found.get) for optimizer, found in scores.items()}
    write_json(folder / NAME, rates)
    return rates
