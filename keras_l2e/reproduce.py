"""Reproduces a figure of the paper: runs its cells, as far as they are missing, and draws it.

    python -m keras_l2e.reproduce --figure=addition --budget=cpu --workdir=W

Every cell is a training run of its own, with its flagfile, in W/FIGURE. Finished cells are skipped
and stopped ones go on. The same command may run several times at once, also on other machines that
share W: no cell is run twice, and those of a process that died are taken over.
"""

import contextlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from absl import flags

from keras_l2e import command_line
from keras_l2e import config as run_flags
from keras_l2e import devices as runtime
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.files import write_json, write_text
from keras_l2e.paper.cells import BUDGETS, FIGURES, OPTIMIZERS, Cell, cells
from keras_l2e.paper.claims import LOOKS, Claim, Claims, LostError

if __name__ == "__main__":
    flags.DEFINE_enum("figure", None, FIGURES, "The figure to reproduce. Required.", required=True)
    flags.DEFINE_enum(
        "budget",
        "cpu",
        list(BUDGETS),
        "How large: smoke shows in minutes that all works, cpu takes hours on two cores, paper has "
        "the paper's own settings and wants a GPU.",
    )
    command_line.define_path("workdir", None, "Folder of the cells. Required.")
    command_line.define_path(
        "data_dir", "~/keras_l2e_data", "Folder of prepared data; what is missing is prepared."
    )
    command_line.define_path(
        "output",
        None,
        "Folder for the figure, and for what is worth keeping of its cells; by default the figure "
        "lies in the workdir.",
        optional=True,
    )
    flags.DEFINE_integer(
        "cells_at_once",
        0,
        "Cells that this command runs at the same time; the CPU's cores are dealt out among them. "
        "0: one for each core, which is quickest for small networks; with --budget=paper one.",
        lower_bound=0,
    )
    flags.DEFINE_bool(
        "draw_only", False, "Run nothing; draw the figure of the cells that are done."
    )
    flags.DEFINE_integer(
        "num_replicas", 0, "As in training, for each cell; 0: as many as suit.", lower_bound=0
    )
    flags.DEFINE_float(
        "dead_after",
        120.0,
        "Seconds without a sign of life after which another process's cell is taken over; the same "
        "for all that share W.",
        lower_bound=1.0,
    )

POLL_SECONDS = 0.2
PROGRESS_SECONDS = 60
# Besides its epochs a run takes about so long to start, evaluate and export on two cores.
SECONDS_AROUND_EPOCHS = 30
# A run that is killed so often (out of memory, say) will not get through.
MOST_KILLS = 3
# The learning rates that were chosen, which all further cells of `optimizers` have.
RATES = "rates.json"
# What `--output` keeps of a cell.
KEPT = ("flags.cfg", "history.jsonl", "evaluation.json", "timing.jsonl", "log.txt")
# A training run that ends with its parent, whose death closes the pipe at standard input.
CHILD = "from keras_l2e import reproduce; reproduce._train()"


class Job:
    """A cell that this process is running."""

    def __init__(self, cell: Cell, claim: Claim, slot: int, config: SimpleNamespace):
        self.cell, self.claim, self.slot = cell, claim, slot
        self.log = claim.path / "log.txt"
        command = [sys.executable, "-c", CHILD, f"--flagfile={flagfile(claim.folder, cell)}"]
        command += [f"--workdir={claim.path / 'run'}", f"--data_dir={config.data_dir}"]
        if config.num_replicas:
            command.append(f"--num_replicas={config.num_replicas}")
        # Several processes share a GPU only if none takes all of its memory.
        environment = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} | os.environ
        with open(self.log, "a") as log:
            self.log_start = log.tell()  # Behind what earlier attempts wrote.
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment
            )
        give_cores(self.process.pid, slot, config.cells_at_once)

    def stop(self) -> None:
        """Ends the run; it goes on from its last finished epoch."""
        self.process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def finish(self) -> None:
        """Makes the run and its log the finished cell.

        Raises:
            LostError: the cell is another process's now.
        """
        try:
            os.replace(self.log, self.claim.path / "run/log.txt")
        except FileNotFoundError:
            self.claim.beat()  # Perhaps it was taken over just now.
            raise
        self.claim.finish("run")

    def error(self) -> str:
        """What the run's log says of its failure."""
        lines = self.log.read_bytes()[self.log_start :].decode(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error: ")] or lines[-1:]
        return errors[-1].removeprefix("error: ") if errors else "it left no log"


class Runner:
    """Runs cells until none is left, beside others who do the same."""

    def __init__(self, config: SimpleNamespace, folder: Path):
        self.config, self.folder = config, folder
        self.claims = Claims(folder, config.dead_after)
        self.jobs: list[Job] = []
        self.kills: dict[str, int] = {}
        for path in folder.glob("*.failed"):
            path.unlink(missing_ok=True)  # What stood in the way may be gone.

    def run(self, wanted: list[Cell]) -> None:
        """Returns when every cell is done, here or elsewhere, or has failed."""
        next_beat = next_progress = next_take = 0.0
        try:
            while True:
                for job in [job for job in self.jobs if job.process.poll() is not None]:
                    self.jobs.remove(job)
                    self.end(job, wanted)
                    next_take = 0.0
                now = time.monotonic()
                if now >= next_beat:
                    next_beat = now + self.config.dead_after / LOOKS
                    self.beat()
                if now >= next_take:
                    next_take = now + self.config.dead_after / LOOKS
                    self.start_jobs(wanted)
                    if not self.jobs and not self.left(wanted):
                        return
                if now >= next_progress:
                    next_progress = now + PROGRESS_SECONDS
                    print(self.progress(wanted), flush=True)
                time.sleep(POLL_SECONDS)
        finally:
            for job in self.jobs:
                job.process.terminate()
            for job in self.jobs:
                job.stop()
                job.claim.release()

    def start_jobs(self, wanted: list[Cell]) -> None:
        """Claims and starts cells as far as there are slots for them."""
        for cell in self.left(wanted):
            slots = set(range(self.config.cells_at_once)) - {job.slot for job in self.jobs}
            if not slots:
                return
            if any(job.cell.name == cell.name for job in self.jobs):
                continue
            if claim := self.claims.take(cell.name):
                self.jobs.append(Job(cell, claim, min(slots), self.config))
                goes_on = " goes on" if claim.number > 1 else ""
                print(f"{cell.name}{goes_on}", flush=True)

    def beat(self) -> None:
        """Gives signs of life, and stops the runs whose cells others have taken over."""
        for job in list(self.jobs):
            try:
                job.claim.beat()
            except LostError:
                self.jobs.remove(job)
                job.stop()
                print(f"{job.cell.name} was taken over by another process", flush=True)

    def end(self, job: Job, wanted: list[Cell]) -> None:
        """Keeps what a run leaves that has ended, or says why it leaves nothing."""
        name, exit_code = job.cell.name, job.process.returncode
        job.process.stdin.close()
        try:
            job.claim.beat()
            if exit_code == 0:
                job.finish()
                print(f"{name}: done; {self.progress(wanted)}", flush=True)
                return
        except LostError:
            print(f"{name} was taken over by another process", flush=True)
            return
        # Killed, or told to stop: it goes on if it can.
        killed = exit_code < 0 or exit_code in (130, 143)
        if killed:
            self.kills[name] = self.kills.get(name, 0) + 1
        if not killed or self.kills[name] >= MOST_KILLS:
            reason = f"stopped {MOST_KILLS} times" if killed else job.error()
            write_text(failure(self.folder, name), reason)
            print(f"{name}: failed: {reason}; {self.progress(wanted)}", flush=True)
        job.claim.release()

    def left(self, wanted: list[Cell]) -> list[Cell]:
        """The cells that are neither done nor failed."""
        return [
            cell
            for cell in wanted
            if not self.claims.is_done(cell.name) and not failure(self.folder, cell.name).exists()
        ]

    def progress(self, wanted: list[Cell]) -> str:
        """One line: cells done, running and left, and about how long it takes."""
        left = self.left(wanted)
        running = [cell for cell in left if self.claims.is_running(cell.name)]
        failed = sum(failure(self.folder, cell.name).exists() for cell in wanted)
        parts = [f"{len(wanted) - len(left) - failed} of {len(wanted)} cells done"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{len(running)} running, {len(left) - len(running)} left"]
        spent = {cell.name: self.seconds_and_share(cell) for cell in wanted}
        totals = [seconds / share for seconds, share in spent.values() if share]
        if left and totals:
            mean = sum(totals) / len(totals)
            seconds = sum(mean * (1 - spent[cell.name][1]) for cell in left)
            parts.append(f"about {command_line.clock(seconds / max(1, len(running)))} left")
        return ", ".join(parts)

    def seconds_and_share(self, cell: Cell) -> tuple[float, float]:
        """Seconds spent on a cell by anybody, and the share of it that is done."""
        run = self.folder / cell.name
        if not run.exists():
            path = self.claims.path(cell.name)
            if path is None:
                return 0.0, 0.0
            run = path / "run"
        epochs = read_seconds(run)
        done = self.claims.is_done(cell.name)
        share = 1.0 if done else min(1.0, len(epochs) / cell.flags["num_epochs"])
        return sum(epochs.values()) + SECONDS_AROUND_EPOCHS * share, share


def read_seconds(run: Path) -> dict[int, float]:
    """The seconds of the finished epochs of a run, as far as its timing.jsonl can be read.

    A run killed just after a checkpoint lacks the line of that epoch, or has half of it.
    """
    epochs, lines = {}, []
    with contextlib.suppress(OSError):
        lines = (run / "timing.jsonl").read_text().splitlines()
    for line in lines:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            epochs[entry["epoch"]] = entry["seconds"]  # A killed epoch is timed again.
    return epochs


def reproduce(config: SimpleNamespace) -> None:
    """Runs what is missing of a figure and draws it.

    Args:
        config: a value for every flag of this entry point.

    Raises:
        UsageError: a flag is wrong, or the folder holds the cells of another budget.
        WorkError: cells failed.
    """
    workdir = command_line.check_folder("workdir", config.workdir)
    command_line.check_folder("data_dir", config.data_dir)
    output = command_line.check_folder("output", config.output or config.workdir)
    folder = workdir / config.figure
    wanted = cells(config.figure, config.budget, read_rates(folder))
    check_flags(folder, wanted)
    if config.draw_only:
        draw(config, folder, output)
        return
    folder.mkdir(parents=True, exist_ok=True)
    at_once = config.cells_at_once
    if not at_once:
        at_once = 1 if config.budget == "paper" else runtime.num_cores()
    runner = Runner(SimpleNamespace(**vars(config) | {"cells_at_once": at_once}), folder)
    print(describe(config.figure, wanted))
    runner.run(prepare(folder, wanted))
    failed = failures(folder, wanted)
    if not failed and all(cell.choosing for cell in wanted):
        if not (folder / RATES).exists():
            write_json(folder / RATES, choose_rates(folder, wanted))
        wanted = cells(config.figure, config.budget, read_rates(folder))
        print(describe(config.figure, wanted))
        check_flags(folder, wanted)
        runner.run(prepare(folder, wanted))
        failed = failures(folder, wanted)
    if len(failed) < len(wanted):
        draw(config, folder, output)
    refuse_failures(folder, wanted)


def draw(config: SimpleNamespace, folder: Path, output: Path) -> None:
    """Draws a figure of the cells in a folder that are done, and keeps what is worth it of them.

    Args:
        config: with the `figure` and the `budget`.
        folder: the folder of the cells.
        output: where the figure goes; if it is not the folder above the cells, the small files of
            each cell go there as well.
    """
    from keras_l2e.paper import comparisons, figures

    result = comparisons.collect(config.figure, config.budget, folder, read_rates(folder))
    if not result["cells"]:
        raise WorkError(f"no cell in {folder} is done")
    for path in figures.paths(result, output):
        if path.exists():
            print(f"replacing {path}")
    for path in figures.write(result, output):
        print(path)
    if (output / config.figure).resolve() != folder.resolve():
        kept = [f"{cell['name']}/{name}" for cell in result["cells"] for name in KEPT]
        for name in [*kept, RATES]:
            if (folder / name).exists():
                copy = output / config.figure / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, copy)


def prepare(folder: Path, wanted: list[Cell]) -> list[Cell]:
    """Writes the flagfiles that are missing; gives the cells."""
    for cell in wanted:
        path = flagfile(folder, cell)
        if not path.exists():
            write_text(path, cell.flagfile())
    return wanted


def check_flags(folder: Path, wanted: list[Cell]) -> None:
    """Raises UsageError if a cell in the folder is to be run, or was run, with other flags."""
    for cell in wanted:
        path, run = flagfile(folder, cell), folder / cell.name / run_flags.NAME
        if path.exists() and path.read_text("utf-8") != cell.flagfile():
            raise _other_flags(path)
        # This one holds the flags that were left at their defaults as well.
        given = set(cell.flagfile().splitlines())
        if run.exists() and not given <= set(run.read_text("utf-8").splitlines()):
            raise _other_flags(run)


def _other_flags(path: Path) -> UsageError:
    return UsageError(
        f"{path} holds other flags than these: another --budget, or another version of the "
        "package; take another --workdir"
    )


def flagfile(folder: Path, cell: Cell) -> Path:
    """Where the flagfile of a cell lies."""
    return folder / f"{cell.name}.cfg"


def failure(folder: Path, name: str) -> Path:
    """The file that says why a cell failed, where it did."""
    return folder / f"{name}.failed"


def failures(folder: Path, wanted: list[Cell]) -> list[str]:
    """The cells that failed; a trial of a learning rate that came to grief is a result."""
    return [
        cell.name
        for cell in wanted
        if failure(folder, cell.name).exists()
        and not (cell.choosing and has_diverged(folder, cell.name))
    ]


def refuse_failures(folder: Path, wanted: list[Cell]) -> None:
    """Raises WorkError if cells failed; names the first one."""
    if failed := failures(folder, wanted):
        reason = failure(folder, failed[0]).read_text()
        raise WorkError(
            f"{len(failed)} of {len(wanted)} cells failed; {failed[0]}: {reason}; "
            "the same command tries them again"
        )


def has_diverged(folder: Path, name: str) -> bool:
    """Whether the loss or a weight of a cell that is not done became no number."""
    return any(folder.glob(f"{name}.*/run/bad_batch.json"))


def read_rates(folder: Path) -> dict[str, float] | None:
    """The learning rates that were chosen for the cells in this folder; None if none were."""
    path = folder / RATES
    try:
        return json.loads(path.read_text("utf-8")) if path.exists() else None
    except ValueError as error:
        raise WorkError(f"{path} is broken: {error}") from None


def choose_rates(folder: Path, trials: list[Cell]) -> dict[str, float]:
    """The learning rate of each optimizer with the best validation token accuracy at the target.

    Args:
        folder: of the cells.
        trials: they are done, but for those that came to grief.

    Raises:
        WorkError: no run of an optimizer got to its end.
    """
    rates = {}
    for optimizer in OPTIMIZERS:
        scores = {}
        for cell in trials:
            path = folder / cell.name / "history.jsonl"
            if cell.flags["optimizer"] == optimizer and path.exists():
                last = json.loads(path.read_text().splitlines()[-1])
                accuracy = last["target_validation"]["token_accuracy"]
                scores[cell.flags["learning_rate"]] = accuracy
        if not scores:
            raise WorkError(f"no learning rate of {optimizer} can be chosen: all its runs failed")
        rates[optimizer] = max(scores, key=scores.get)
    return rates


def describe(figure: str, wanted: list[Cell]) -> str:
    """One line: how many cells there are, and that all get the same number of examples."""
    (num_examples,) = {cell.num_examples for cell in wanted}
    at_most = "at most " if wanted[0].flags.get("min_learning_rate") else ""
    rates = {
        cell.flags["optimizer"]: cell.flags["learning_rate"]
        for cell in wanted
        if not cell.choosing and figure == "optimizers"
    }
    chosen = "".join(f", {optimizer} at {rate:g}" for optimizer, rate in rates.items())
    return (
        f"{figure}: {len(wanted)} cells, {at_most}{num_examples:,} training examples each{chosen}"
    )


def give_cores(pid: int, slot: int, num_slots: int) -> None:
    """Deals out the CPU's cores among cells that run at once, where the system lets us."""
    if num_slots == 1 or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    count = len(cores) // num_slots
    if count:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(pid, cores[slot * count : (slot + 1) * count])


def _train() -> None:
    """A child of `Job`: the train entry point, stopped when its parent is gone."""

    def stop_with_parent():
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    runpy.run_module("keras_l2e.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    command_line.run(reproduce)
