"""Files that are whole or not there."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_l2e.errors import UsageError

# How the names of files begin that are being written.
UNFINISHED = ".tmp."
# The file that `lock` leaves in a folder, empty; nobody removes it, or two could hold it.
LOCK = ".lock"


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keeps a folder for this process while the block runs.

    The system itself lets go of the lock when the process ends, however it ends.

    Raises:
        UsageError: another process has the folder.
    """
    with open(folder / LOCK, "a") as file:  # Commands that are started do not inherit it.
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{folder} is in use by another process") from None
        except OSError:
            # The file system knows no locks. Work goes on without: the lock is there only to stop
            # a command given twice, and no reason to keep somebody from such a folder.
            pass
        yield


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write(temporary_path)`, then puts that file in place: whole or not at all.

    What a writer that was killed has left the next one writes over.
    """
    temporary = path.with_name(f"{UNFINISHED}{path.name}")  # The suffix says how to write.
    try:
        with _named_in_errors(path):
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write(empty_folder)`, then puts that folder in place: whole or not at all.

    What stood there is gone then.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _named_in_errors(path: Path) -> Iterator[None]:
    """Has errors of the file system name the file: a full disk does not say where."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def write_json(path: Path, value: object) -> None:
    """Writes a value as JSON, atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_json_lines(path: Path, values: list[dict[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(value) + "\n" for value in values))


def append_json_line(path: Path, value: dict[str, Any]) -> None:
    """Adds a JSON object as a line, not atomically: a kill can leave half of it."""
    with _named_in_errors(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")
