"""Checkpoints: every variable and the run's state in one file, whole or not there.

A checkpoint is an .npz archive: `state` (JSON) and one array per variable, named by its place
and path. The archive's own checksums tell an altered file.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_l2e.errors import WorkError
from keras_l2e.files import write_atomically

# The newest and one to fall back to.
KEPT = 2


def save(folder: Path, epoch: int, variables: Sequence[keras.Variable], state: dict) -> None:
    """Writes the checkpoint of a finished epoch and removes those no longer needed."""
    folder.mkdir(exist_ok=True)  # Not its parent: if that was taken away, so was the run.
    arrays = {_key(i, variable): variable.numpy() for i, variable in enumerate(variables)}
    arrays["state"] = np.array(json.dumps(state))
    write_atomically(folder / f"epoch_{epoch:05}.npz", lambda path: np.savez(path, **arrays))
    for old in sorted(folder.glob("epoch_*.npz"))[:-KEPT]:
        old.unlink()


def restore(folder: Path, variables: Sequence[keras.Variable], report=print) -> dict | None:
    """Reads the newest whole checkpoint into the variables.

    Returns:
        Its state, or None if there is no checkpoint at all.

    Raises:
        WorkError: checkpoints are there but none is whole, or one is of another model.
    """
    paths = sorted(folder.glob("epoch_*.npz"), reverse=True)
    for path in paths:
        try:
            with np.load(path) as archive:
                arrays = {name: archive[name] for name in archive.files}
            state = json.loads(arrays.pop("state").item())
        except Exception:  # Every way in which NumPy and zipfile take a damaged file.
            report(f"{path} is not a whole checkpoint; falling back to the one before")
            continue
        _assign(path, arrays, variables)
        return state
    if paths:
        raise WorkError(f"no whole checkpoint in {folder}; remove {folder.parent} to start afresh")
    return None


def _assign(path: Path, arrays: dict, variables: Sequence[keras.Variable]) -> None:
    expected = {_key(i, v): tuple(v.shape) for i, v in enumerate(variables)}
    found = {name: array.shape for name, array in arrays.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise WorkError(
                f"{path} is of another model: {name} is {found.get(name, 'missing')} there, "
                f"{expected.get(name, 'missing')} here"
            )
    for name, variable in zip(expected, variables, strict=True):
        variable.assign(arrays[name])


def _key(i: int, variable: keras.Variable) -> str:
    # Keras counts what it names itself, and a process may have had other models before. An
    # optimizer's variable has a layer's name, and its number, within its own.
    path = re.sub(r"_[0-9]+", "", variable.path)
    return f"{i:03}:{path.replace('/', '.')}"
