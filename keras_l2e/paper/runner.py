"""Runs cells side by side, every one as a training command of its own.

    run(cells("addition", "cpu"), Path("W/addition"), "~/keras_l2e_data", cells_at_once=2)

A cell NAME is trained in FOLDER/NAME by the flags in NAME.cfg, and what it prints goes to NAME.log.
It is done once its evaluation.json is there, which training writes last; its log lies beside that
then. A cell that was stopped goes on, as any training run does.
"""

import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from keras_l2e import devices
from keras_l2e.errors import WorkError
from keras_l2e.files import lock, write_text
from keras_l2e.paper.cells import Cell, check_flags

COMMAND = (sys.executable, "-m", "keras_l2e.paper.runner")


def run(
    wanted: Sequence[Cell],
    folder: Path,
    data_dir: str,
    cells_at_once: int = 0,
    command: Sequence[str] = COMMAND,
) -> None:
    """Trains what is missing of some cells.

    Args:
        wanted: the cells.
        folder: where they lie; is made if missing.
        data_dir: as in training.
        cells_at_once: how many run at the same time, the CPU's cores dealt out among them; 0: one
            for each core.
        command: what a cell's flags are given to; one of your own may add what does not come with
            the package, and then calls `train`.

    Raises:
        UsageError: a cell was run with other flags, or another process runs cells in the folder.
        WorkError: cells failed; the others are done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        check_flags(wanted, folder)
        command = [*command, f"--data_dir={data_dir}"]
        failed = _run(wanted, folder, command, cells_at_once or devices.num_cores())
        for cell in wanted:
            log = folder / f"{cell.name}.log"
            if log.exists() and is_done(cell, folder):
                os.replace(log, folder / cell.name / "log.txt")
    if failed:
        name, reason = next(iter(failed.items()))
        raise WorkError(
            f"{len(failed)} of {len(wanted)} cells failed; {name}: {reason}; "
            "the same command tries them again"
        )


def is_done(cell: Cell, folder: Path) -> bool:
    """Whether a cell needs no run."""
    return (folder / cell.name / "evaluation.json").exists()


def train() -> None:
    """What a cell's process does: the train command, for as long as its parent lives."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("keras_l2e.train", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    os.read(0, 1)  # Nothing is ever written there: see `_run`.
    os._exit(1)  # At once, or the parent's successor would find the workdir in use.


def _run(wanted: Sequence[Cell], folder: Path, command: list[str], at_once: int) -> dict[str, str]:
    """Returns when each cell is done or has failed; gives the reasons of those that failed."""
    left = [cell for cell in wanted if not is_done(cell, folder)]
    shares, failed = _deal_cores(at_once), {}
    # All runs read the same pipe. It ends when it is closed, and with this process, however that
    # ends; so do they, those that start only then as well. None needs more time: a run that is
    # killed goes on as if it had not been.
    reading, writing = os.pipe()
    with (
        open(reading, "rb") as pipe,
        open(writing, "wb") as own_end,
        ThreadPoolExecutor(at_once, initializer=lambda: _keep_to(shares.pop())) as threads,
    ):
        try:
            futures = {threads.submit(_train, cell, folder, command, pipe): cell for cell in left}
            num_done = len(wanted) - len(left)
            progress = {"total": len(wanted), "initial": num_done, "unit": "cell", "disable": None}
            for future in tqdm(as_completed(futures), **progress):
                name, reason = futures[future].name, future.result()
                if reason:
                    failed[name] = reason
                with tqdm.external_write_mode():
                    print(f"{name}: {f'failed: {reason}' if reason else 'done'}", flush=True)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            own_end.close()  # Before the threads are waited for, which wait for their runs.
    return failed


def _deal_cores(num_shares: int) -> list[list[int]]:
    """Equal shares of the CPU's cores; empty ones, for all of them, where they cannot be dealt."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = len(cores) // num_shares
    return [cores[i * count : (i + 1) * count] for i in range(num_shares)]


def _keep_to(cores: list[int]) -> None:
    """Keeps this thread, and the processes that it starts, to some cores."""
    if cores:
        os.sched_setaffinity(0, cores)


def _train(cell: Cell, folder: Path, command: list[str], pipe: BinaryIO) -> str | None:
    """Runs a cell to its end; gives why it is not done, if it is not."""
    workdir, flagfile, log = (folder / f"{cell.name}{end}" for end in ("", ".cfg", ".log"))
    write_text(flagfile, cell.flagfile())
    with open(log, "ab") as file:
        start = file.tell()  # Behind what earlier runs wrote.
        returncode = subprocess.run(
            [*command, f"--flagfile={flagfile}", f"--workdir={workdir}"],
            stdin=pipe,
            stdout=file,
            stderr=file,
            # Several processes share a GPU only if none takes all of its memory.
            env={"TF_FORCE_GPU_ALLOW_GROWTH": "true"} | os.environ,
            start_new_session=True,  # Ctrl-C is for this process, which stops the others.
        ).returncode
    if is_done(cell, folder):
        return None
    return f"signal {-returncode}" if returncode < 0 else _error(log, start)


def _error(log: Path, start: int) -> str:
    """What a run's log says of its failure, from a place in it on."""
    text = log.read_bytes()[start:].decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()] or ["it left no log"]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines)[-1].removeprefix("error: ")


if __name__ == "__main__":
    train()
