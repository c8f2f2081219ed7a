"""Runs cells side by side, every one as a training command of its own.

    run(cells("addition", "cpu"), Path("W/addition"), "~/keras_l2e_data", cells_at_once=2)

A cell NAME is trained in FOLDER/NAME by the flags in NAME.cfg, and what it prints goes to NAME.log.
It is done once its evaluation.json is there, which training writes last; its log lies beside that
then. A cell that was stopped goes on, as any training run does.
"""

import contextlib
import importlib
import json
import os
import queue
import runpy
import statistics
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from keras_l2e import devices
from keras_l2e.command_line import clock
from keras_l2e.errors import WorkError
from keras_l2e.files import lock, write_text
from keras_l2e.paper.cells import Cell, check_flags

POLL_SECONDS = 0.2
PROGRESS_SECONDS = 60
# How long a run that is stopped may take to tidy up.
STOP_SECONDS = 30
# A run that is killed so often (out of memory, say) will not get through.
MOST_KILLS = 3
# The exit codes of one that was told to stop, by Ctrl-C or SIGTERM.
TOLD_TO_STOP = (130, 143)
# What a child runs.
CHILD = "from keras_l2e.paper import runner; runner.train({cores}, {setup!r})"


def run(
    wanted: Sequence[Cell],
    folder: Path,
    data_dir: str,
    cells_at_once: int = 0,
    num_replicas: int = 0,
    setup: str = "",
) -> None:
    """Trains what is missing of some cells.

    Args:
        wanted: the cells.
        folder: where they lie; is made if missing.
        data_dir: as in training.
        cells_at_once: how many run at the same time, the CPU's cores dealt out among them; 0: one
            for each core.
        num_replicas: as in training, for each cell; 0: as many as suit.
        setup: a module whose function `register` each training process calls first, to add what
            does not come with the package.

    Raises:
        UsageError: a cell was run with other flags, or another process runs cells in the folder.
        WorkError: cells failed; the others are done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        check_flags(wanted, folder)
        pool = _Pool(wanted, folder, cells_at_once or devices.num_cores(), setup)
        pool.options.append(f"--data_dir={data_dir}")
        if num_replicas:
            pool.options.append(f"--num_replicas={num_replicas}")
        pool.run()
    if pool.failed:
        name, reason = next(iter(pool.failed.items()))
        raise WorkError(
            f"{len(pool.failed)} of {len(wanted)} cells failed; {name}: {reason}; "
            "the same command tries them again"
        )


def is_done(cell: Cell, folder: Path) -> bool:
    """Whether a cell needs no run."""
    return (folder / cell.name / "evaluation.json").exists()


def read_seconds(folder: Path) -> dict[int, float]:
    """The seconds of the finished epochs of a cell, as far as its timing.jsonl can be read.

    A run killed just after a checkpoint lacks the line of that epoch, or has half of it.
    """
    epochs, lines = {}, []
    with contextlib.suppress(OSError):
        lines = (folder / "timing.jsonl").read_text().splitlines()
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            epochs[entry["epoch"]] = entry["seconds"]  # A killed epoch is timed again.
    return epochs


class _Pool:
    """Threads that each wait for one training command.

    Attributes:
        options: flags of all commands besides their flagfile and workdir.
        failed: name of each cell that failed -> why.
    """

    def __init__(self, wanted: Sequence[Cell], folder: Path, at_once: int, setup: str):
        self.wanted, self.folder, self.at_once, self.setup = wanted, folder, at_once, setup
        self.options: list[str] = []
        self.failed: dict[str, str] = {}
        self.stopped = threading.Event()
        self.shares = queue.SimpleQueue()
        for cores in _deal_cores(at_once):
            self.shares.put(cores)

    def run(self) -> None:
        """Returns when each cell is done or has failed; an exception stops those that run."""
        left = [cell for cell in self.wanted if not is_done(cell, self.folder)]
        with ThreadPoolExecutor(self.at_once) as threads:
            try:
                futures = {threads.submit(self.train, cell): cell for cell in left}
                print(self.progress(futures), flush=True)
                while futures:
                    ended, _ = wait(futures, PROGRESS_SECONDS, FIRST_COMPLETED)
                    for future in ended:
                        name, reason = futures.pop(future).name, future.result()
                        if reason is not None:
                            self.failed[name] = reason
                        print(f"{name}: {'done' if reason is None else f'failed: {reason}'}")
                    print(self.progress(futures), flush=True)
            finally:
                self.stopped.set()
                threads.shutdown(cancel_futures=True)
        for cell in self.wanted:
            log = self.folder / f"{cell.name}.log"
            if log.exists() and is_done(cell, self.folder):
                os.replace(log, self.folder / cell.name / "log.txt")

    def train(self, cell: Cell) -> str | None:
        """Runs a cell to its end, which a kill does not make; gives why it failed, if it did."""
        cores = self.shares.get()
        try:
            for _ in range(MOST_KILLS):
                exit_code, error = self.attempt(cell, cores)
                if exit_code == 0 or is_done(cell, self.folder) or self.stopped.is_set():
                    return None
                if exit_code > 0 and exit_code not in TOLD_TO_STOP:
                    return error
            return f"killed {MOST_KILLS} times"
        finally:
            self.shares.put(cores)

    def attempt(self, cell: Cell, cores: list[int]) -> tuple[int, str]:
        """One command for a cell: its exit code, negative for a signal, and what its log says."""
        workdir, flagfile, log = (self.folder / f"{cell.name}{end}" for end in ("", ".cfg", ".log"))
        write_text(flagfile, cell.flagfile())
        print(f"{cell.name}{' goes on' if workdir.exists() else ''}", flush=True)
        command = [
            sys.executable,
            "-c",
            CHILD.format(cores=cores, setup=self.setup),
            f"--flagfile={flagfile}",
        ]
        # Several processes share a GPU only if none takes all of its memory.
        environment = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} | os.environ
        with open(log, "a") as file:
            start = file.tell()  # Behind what earlier attempts wrote.
            with subprocess.Popen(
                [*command, f"--workdir={workdir}", *self.options],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process, which stops the others.
            ) as child:
                while child.poll() is None:
                    if self.stopped.wait(POLL_SECONDS):
                        _stop(child)
        return child.returncode, _error(log, start)

    def progress(self, futures: dict[Future, Cell]) -> str:
        """One line: cells done, running and left, and about how long it takes."""
        running = sum(future.running() for future in futures)
        done = len(self.wanted) - len(futures) - len(self.failed)
        parts = [f"{done} of {len(self.wanted)} cells done"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{running} running, {len(futures) - running} left"]
        epochs = {cell.name: read_seconds(self.folder / cell.name) for cell in self.wanted}
        seconds = [time for timed in epochs.values() for time in timed.values()]
        if futures and seconds:
            left = sum(c.flags["num_epochs"] - len(epochs[c.name]) for c in futures.values())
            time = left * statistics.mean(seconds) / min(self.at_once, len(futures))
            parts.append(f"about {clock(time)} left")
        return ", ".join(parts)


def _stop(child: subprocess.Popen) -> None:
    """Ends a run, by force if it does not end by itself; it goes on from its last epoch."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def _error(log: Path, start: int) -> str:
    """What a run's log says of its failure, from a place in it on."""
    text = log.read_bytes()[start:].decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()] or ["it left no log"]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines)[-1].removeprefix("error: ")


def _deal_cores(num_shares: int) -> list[list[int]]:
    """Equal shares of the CPU's cores; empty ones, for all of them, where they cannot be dealt."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = len(cores) // num_shares
    return [cores[i * count : (i + 1) * count] for i in range(num_shares)]


def train(cores: list[int], setup: str = "") -> None:
    """What a child does: the train command on these cores, for as long as its parent lives."""
    if setup:
        importlib.import_module(setup).register()
    if cores:
        os.sched_setaffinity(0, cores)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("keras_l2e.train", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    os.read(0, 1)  # Nothing is ever written there: it ends when the parent does.
    os._exit(1)  # At once, or the parent's successor would find the workdir in use.
