"""Cells run side by side, with runs that only pretend, and figures made of them."""

import json
import os
import subprocess
import sys
import time

import pytest
from paper_figures_test import write_cell

from keras_l2e import reproduce
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.files import lock
from keras_l2e.paper import runner
from keras_l2e.paper.cells import cells

CELLS = cells("addition", "smoke")
NAMES = sorted(cell.name for cell in CELLS)
# Stands in for a training run: leaves its files and a line of what it was told.
PRETEND = """
import json, os, pathlib, sys, time
flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
run = pathlib.Path(flags["workdir"])
run.mkdir(exist_ok=True)
with open(run.parent / "begun.txt", "a") as file:
    print(run.name, file=file)
WORK
(run / "evaluation.json").write_text("{}")
"""
# Runs for a minute, as any run does for as long as its parent lives.
SLEEP = """
from keras_l2e.paper import runner
(run / "pid").write_text(str(os.getpid()))
runner.runpy.run_module = lambda *_, **__: time.sleep(60)
runner.train()
"""


def pretend(work="pass"):
    """The command of runs that do something else than train."""
    return [sys.executable, "-c", PRETEND.replace("WORK", work)]


def run(folder, command, wanted=CELLS):
    runner.run(wanted, folder, "data", cells_at_once=2, command=command)


def begun(folder):
    return sorted((folder / "begun.txt").read_text().split())


def test_cells_are_run_once(tmp_path, capsys):
    work = 'print("trained", flush=True); (run / "flags.json").write_text(json.dumps(flags))'
    run(tmp_path, pretend(work))
    assert begun(tmp_path) == NAMES
    assert sorted(capsys.readouterr().out.splitlines()) == [f"{name}: done" for name in NAMES]
    for cell in CELLS:
        assert (tmp_path / cell.name / "log.txt").read_text() == "trained\n"
        assert not (tmp_path / f"{cell.name}.log").exists()
        assert (tmp_path / f"{cell.name}.cfg").read_text() == cell.flagfile()
        flags = json.loads((tmp_path / cell.name / "flags.json").read_text())
        assert flags == {
            "data_dir": "data",
            "flagfile": str(tmp_path / f"{cell.name}.cfg"),
            "workdir": str(tmp_path / cell.name),
        }
    (tmp_path / NAMES[0] / "evaluation.json").unlink()
    run(tmp_path, pretend())
    assert begun(tmp_path) == sorted([*NAMES, NAMES[0]])


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        ('print("tried"); sys.exit("error: the disk is full")', "the disk is full"),
        ('print("tried", flush=True); os.kill(os.getpid(), 9)', "signal 9"),
    ],
)
def test_a_cell_that_fails_is_told_and_does_not_stop_the_others(tmp_path, capsys, work, reason):
    with pytest.raises(WorkError, match=rf"2 of 4 cells failed; \S+seed_2: {reason}; the same"):
        run(tmp_path, pretend(f'if "seed_2" in run.name: {work}'))
    assert begun(tmp_path) == NAMES
    said = capsys.readouterr().out
    assert said.count(f"_seed_2: failed: {reason}\n") == said.count("_seed_1: done\n") == 2
    assert len(list(tmp_path.glob("*_seed_2.log"))) == 2
    run(tmp_path, pretend('print("trained")'))  # What stood in the way is gone.
    assert len(begun(tmp_path)) == 6
    assert all(runner.is_done(cell, tmp_path) for cell in CELLS)
    for log in tmp_path.glob("*_seed_2/log.txt"):
        lines = log.read_text().splitlines()
        assert (lines[0], lines[-1]) == ("tried", "trained")


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs a system that deals out cores, and two of them",
)
def test_runs_side_by_side_have_cores_of_their_own(tmp_path):
    before = os.sched_getaffinity(0)
    work = '(run / "cores.json").write_text(json.dumps(sorted(os.sched_getaffinity(0))))'
    run(tmp_path, pretend(f"{work}; time.sleep(0.3)"))
    dealt = {(tmp_path / name / "cores.json").read_text() for name in NAMES}
    assert len(dealt) == 2
    first, second = map(json.loads, dealt)
    assert len(first) == len(second) == len(before) // 2
    assert not {*first} & {*second}
    assert os.sched_getaffinity(0) == before


def test_a_folder_takes_one_command_at_a_time(tmp_path):
    with lock(tmp_path), pytest.raises(UsageError, match=f"{tmp_path} is in use"):
        run(tmp_path, pretend())
    run(tmp_path, pretend())


@pytest.mark.parametrize("num_begun", [2, 0], ids=["while they run", "while they start"])
def test_runs_end_with_the_command_that_is_stopped(tmp_path, monkeypatch, num_begun):
    def stop(_):
        while len(list(tmp_path.glob("*/pid"))) < num_begun:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "as_completed", stop)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, pretend(SLEEP))
    assert time.monotonic() - start < 50
    assert len(list(tmp_path.glob("*.cfg"))) <= 2  # The others were not begun.
    for path in tmp_path.glob("*/pid"):
        assert not is_running(int(path.read_text()))
    assert not list(tmp_path.glob("*/evaluation.json"))


def is_running(pid):
    """Whether a process is there, and no zombie that nobody waits for."""
    ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return ps.stdout.strip()[:1] not in ("", "Z")


def test_runs_end_with_the_command_that_is_killed(tmp_path, wait_for):
    script = f"""
import sys
from pathlib import Path
from keras_l2e.paper import cells, runner
wanted = cells.cells("addition", "smoke")[:1]
runner.run(wanted, Path("W"), "data", 1, {pretend(SLEEP)!r})
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        pid = tmp_path / "W" / CELLS[0].name / "pid"
        wait_for(lambda: pid.exists() and pid.read_text(), process)
        assert is_running(int(pid.read_text()))
        process.kill()
    until = time.monotonic() + 10
    while is_running(int(pid.read_text())):
        assert time.monotonic() < until
        time.sleep(0.02)


# Figures


def make_arguments(folder, **changes):
    given = {"figure": "addition", "budget": "smoke", "data_dir": "data", "cells_at_once": 4}
    return reproduce.Arguments(workdir=str(folder / "W"), **given | changes)


def test_a_figure_lies_beside_its_cells(tmp_path, capsys):
    for cell in CELLS:
        write_cell(tmp_path / "W/addition", cell, 0.5)
    for draw_only in (True, False):  # All cells are done.
        reproduce.reproduce(make_arguments(tmp_path, draw_only=draw_only))
        paths = [tmp_path / f"W/addition.{kind}" for kind in ("json", "csv", "png", "md")]
        assert capsys.readouterr().out.splitlines()[-4:] == list(map(str, paths))
        for path in paths:
            path.unlink()
    flags = tmp_path / "W/addition" / NAMES[0] / "flags.cfg"
    flags.write_text(flags.read_text().replace("=16", "=32"))
    for draw_only in (True, False):
        with pytest.raises(UsageError, match=r"flags\.cfg holds other flags"):
            reproduce.reproduce(make_arguments(tmp_path, draw_only=draw_only))
