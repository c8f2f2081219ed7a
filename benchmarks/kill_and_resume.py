"""Whether a run that is killed again and again ends as the one that nobody touched.

    python benchmarks/kill_and_resume.py --kills=25 --json=FILE [--command=reproduce]

A tiny run in a fresh folder with fresh data is killed (SIGKILL, the main process alone, as for want
of memory), started again by the same command, killed again, until it is over; then the next one,
until there were so many kills. Each must leave the weights, history.jsonl and evaluation.json of
the run left alone, bit for bit, and data that can be read. The exit code is 1 if one does not.

Kills come in turns: while data are prepared; soon after the kill before; while a checkpoint is half
on the disk; while results are written; at a random moment of a whole run. With --command=reproduce
the same is done to the smoke figure of addition, four runs: all of them must be the same, and the
figure's JSON and CSV.
"""

import argparse
import contextlib
import io
import itertools
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import measuring

TRAIN = [
    "--task=addition",
    "--target_length=2",
    "--examples_per_difficulty=1000",
    "--num_epochs=12",
    "--batches_per_epoch=20",
    "--hidden_dim=16",
    "--embedding_dim=8",
    "--global_batch_size=32",
    "--validation_examples=50",
    "--test_examples=50",
    "--workdir=run",
]
REPRODUCE = ["--figure=addition", "--budget=smoke", "--workdir=run"]
COMMANDS = {"train": TRAIN, "reproduce": REPRODUCE}
# The first that is there says what is going on; else the last line printed does.
GOING_ON = {
    "data/learning_to_execute/*/incomplete.*": "data being prepared",
    "run/checkpoints/.tmp.*": "checkpoint being written",
    "run/addition/*/checkpoints/.tmp.*": "checkpoint being written",
    "run/.tmp.flags.cfg": "flags.cfg being written",
    "run/.tmp.history.jsonl": "history being written",
    "run/.tmp.model.keras": "model.keras being written",
    "run/.saved_model.tmp": "SavedModel being written",
    "run/.tmp.*": "results being written",
    "run/model.keras": "results being written",
}


class Command:
    """The command of one run in a folder of its own; started, it goes on where it was killed."""

    def __init__(self, name: str, folder: Path):
        self.command = [sys.executable, "-u", "-m", f"keras_l2e.{name}", *COMMANDS[name]]
        self.folder = folder
        self.log = folder / "log"
        self.process = None

    def start(self) -> None:
        # Of kills before; training writes them again.
        self.left_over = {path: written(path) for path in self.folder.rglob(".tmp.*")}
        self.log_before = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*self.command, "--data_dir=data"], cwd=self.folder, stdout=log, stderr=log
            )
        self.started = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def kill_when(self, due: Callable[["Command"], bool] | None) -> bool:
        """Kills it once `due` says so, if there is one; gives whether it was still there."""
        if due is None:
            self.process.wait()
        while self.process.poll() is None and not due(self):
            time.sleep(0.0002)
        killed = self.process.poll() is None
        self.process.send_signal(signal.SIGKILL)
        if not killed and self.process.returncode:
            raise RuntimeError(f"the run failed:\n{self.log.read_text()}")
        self.process.wait()
        return killed

    def is_there(self, pattern: str) -> bool:
        found = self.folder.glob(pattern)
        return any(written(path) != self.left_over.get(path) for path in found)

    def going_on(self) -> str:
        """What a kill interrupted, from the files and the last line it left."""
        for pattern, what in GOING_ON.items():
            if self.is_there(pattern):
                return what
        said = self.log.read_text()[self.log_before :].splitlines()
        if not said:
            return "starting"
        if said[-1].startswith("epoch "):
            return f"after {said[-1].split('  ')[0]}"
        return f"after {said[-1].split(':')[0]!r}"


def written(path: Path) -> int:
    """When a file was; 0 if it has just been put in place."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def at_any_moment(rng: random.Random, whole: float) -> Callable[[Command], bool]:
    after = rng.uniform(0, whole)
    return lambda command: command.seconds() > after


def soon(rng: random.Random, whole: float) -> Callable[[Command], bool]:
    after = rng.uniform(0, whole / 2)
    return lambda command: command.seconds() > after


def at_sight(*patterns: str, times: int = 1, delay: float = 0.0):
    """A while after one of these files was there for the n-th time."""

    def choose(rng: random.Random, whole: float) -> Callable[[Command], bool]:
        left, seen, since = rng.randint(1, times), False, None
        wait = rng.uniform(0, delay)

        def due(command: Command) -> bool:
            nonlocal left, seen, since
            if since is None:
                before, seen = seen, any(map(command.is_there, patterns))
                left -= seen and not before
                since = time.monotonic() if left == 0 else None
            return since is not None and time.monotonic() - since >= wait

        return due

    return choose


KINDS = {
    "while data are prepared": at_sight("data/learning_to_execute/*/incomplete.*", delay=0.2),
    "soon after the kill before": soon,
    "while a checkpoint is written": at_sight(
        "run/checkpoints/.tmp.*", "run/addition/*/checkpoints/.tmp.*", times=3
    ),
    "while results are written": at_sight(
        "run/.tmp.model.keras",
        "run/.saved_model.tmp",
        "run/addition/*/.tmp.model.keras",
        "run/addition/*/.saved_model.tmp",
        delay=2,
    ),
    "at any moment": at_any_moment,
}


def results(folder: Path) -> dict[str, bytes]:
    """What must not differ, by name. The archive model.keras holds dates, its arrays do not."""
    import h5py

    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in ("history.jsonl", "evaluation.json", "addition.json", "addition.csv"):
            found[name] = path.read_bytes()
        elif path.name == "model.keras":
            with zipfile.ZipFile(path) as archive:
                weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
            arrays = []
            weights.visititems(lambda *item, arrays=arrays: arrays.append(item))
            for key, item in arrays:
                if isinstance(item, h5py.Dataset):
                    found[f"{name}: {key}"] = item[()].tobytes()
    return found


def differences(folder: Path, expected: dict[str, bytes]) -> list[str]:
    """Names of results that are not as expected, and of files that nobody will tidy up."""
    found = results(folder / "run")
    names = sorted(expected.keys() | found.keys())
    wrong = [name for name in names if expected.get(name) != found.get(name)]
    return wrong + [str(path) for path in (folder / "run").rglob(".*tmp*")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the table")
    parser.add_argument("--command", choices=COMMANDS, default="train", help="what is killed")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    kinds = itertools.cycle(KINDS)

    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (home / "alone").mkdir()
        alone = Command(arguments.command, home / "alone")
        alone.start()
        stack.callback(lambda: alone.process.kill())
        alone.kill_when(None)
        whole = alone.seconds()
        expected = results(home / "alone/run")
        print(f"left alone: {whole:.1f} s, {len(expected)} results")

        kills, rounds = [], []
        while len(kills) < arguments.kills:
            folder = home / f"round_{len(rounds)}"
            folder.mkdir()
            command = Command(arguments.command, folder)
            killed = True
            while killed:
                kind = next(kinds) if len(kills) < arguments.kills else None
                due = KINDS[kind](rng, whole) if kind else None
                command.start()
                stack.callback(command.process.kill)
                killed = command.kill_when(due)
                if killed:
                    entry = {
                        "round": len(rounds),
                        "kind": kind,
                        "seconds": round(command.seconds(), 2),
                        "going_on": command.going_on(),
                    }
                    kills.append(entry)
                    print("{round:3}  {kind:30} {seconds:6.2f} s  {going_on}".format(**entry))
            wrong = differences(folder, expected)
            rounds.append({"kills": sum(k["round"] == len(rounds) for k in kills), "wrong": wrong})
            print(f"{len(rounds) - 1:3}  over; {', '.join(wrong) or 'as the run left alone'}")

    num_wrong = sum(bool(each["wrong"]) for each in rounds)
    print(f"{len(kills)} kills in {len(rounds)} runs; {num_wrong} ended otherwise")
    result = {
        "seed": arguments.seed,
        "command": arguments.command,
        "flags": COMMANDS[arguments.command],
        "seconds_left_alone": whole,
    }
    measuring.write(arguments.json, {**result, "kills": kills, "runs": rounds})
    sys.exit(int(num_wrong > 0))


if __name__ == "__main__":
    main()
