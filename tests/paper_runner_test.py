"""Cells run side by side: with runs that only pretend, then with real ones that are killed."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
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


@pytest.fixture
def pretend(monkeypatch):
    """Lets runs do something else than train."""

    def pretend(work="pass"):
        script = PRETEND.replace("WORK", work).replace("{", "{{").replace("}", "}}")
        monkeypatch.setattr(runner, "CHILD", "cores = {cores}\n" + script)

    monkeypatch.setattr(runner, "POLL_SECONDS", 0.02)
    return pretend


def run(folder, wanted=CELLS, at_once=2, **options):
    runner.run(wanted, folder, "data", at_once, **options)


def begun(folder):
    return sorted((folder / "begun.txt").read_text().split())


def test_cells_are_run_once(tmp_path, pretend, capsys):
    pretend('print("trained", flush=True); (run / "flags.json").write_text(json.dumps(flags))')
    run(tmp_path, num_replicas=3)
    assert begun(tmp_path) == NAMES
    assert capsys.readouterr().out.endswith("4 of 4 cells done, 0 running, 0 left\n")
    for cell in CELLS:
        assert (tmp_path / cell.name / "log.txt").read_text() == "trained\n"
        assert (tmp_path / f"{cell.name}.cfg").read_text() == cell.flagfile()
        flags = json.loads((tmp_path / cell.name / "flags.json").read_text())
        assert (flags["num_replicas"], flags["data_dir"]) == ("3", "data")
    (tmp_path / NAMES[0] / "evaluation.json").unlink()
    run(tmp_path)
    assert begun(tmp_path) == sorted([*NAMES, NAMES[0]])
    assert f"{NAMES[0]} goes on\n" in capsys.readouterr().out


def test_a_cell_that_fails_is_told_and_does_not_stop_the_others(tmp_path, pretend, capsys):
    pretend('if "seed_2" in run.name: print("tried"); sys.exit("error: the disk is full\\n")')
    with pytest.raises(WorkError, match=r"2 of 4 cells failed; .*seed_2: the disk is full; "):
        run(tmp_path)
    assert begun(tmp_path) == NAMES
    assert "2 of 4 cells done, 2 failed, 0 running, 0 left" in capsys.readouterr().out
    pretend()  # What stood in the way is gone.
    run(tmp_path)
    assert len(begun(tmp_path)) == 6
    assert all(runner.is_done(cell, tmp_path) for cell in CELLS)


def test_a_run_that_is_killed_is_tried_again_and_given_up_in_the_end(tmp_path, pretend):
    pretend('seed_2 = "seed_2" in run.name; seed_2 and os.kill(os.getpid(), 9)')
    with pytest.raises(WorkError, match=r"2 of 4 cells failed; \S+seed_2: killed 3 times; "):
        run(tmp_path)
    assert begun(tmp_path) == sorted(NAMES + 2 * [name for name in NAMES if "seed_2" in name])


def test_the_reason_is_that_of_the_last_attempt(tmp_path, pretend):
    pretend("""
if (run / "tried").exists(): sys.exit("it broke")
(run / "tried").touch()
print("error: no space left", flush=True)
os.kill(os.getpid(), 9)
""")
    with pytest.raises(WorkError, match=r"1 of 1 cells failed; \S+: it broke; "):
        run(tmp_path, CELLS[:1])
    assert len(begun(tmp_path)) == 2


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs a system that deals out cores, and two of them",
)
def test_runs_side_by_side_have_cores_of_their_own(tmp_path, pretend):
    pretend('(run / "cores.json").write_text(json.dumps(cores)); time.sleep(0.3)')
    run(tmp_path)
    dealt = {(tmp_path / name / "cores.json").read_text() for name in NAMES}
    assert len(dealt) == 2
    first, second = map(json.loads, dealt)
    assert len(first) == len(second) == len(os.sched_getaffinity(0)) // 2
    assert not {*first} & {*second}


def test_a_folder_takes_one_command_at_a_time(tmp_path, pretend):
    pretend()
    with lock(tmp_path), pytest.raises(UsageError, match=f"{tmp_path} is in use"):
        run(tmp_path)
    run(tmp_path)


def test_runs_end_with_the_command_that_is_stopped(tmp_path, pretend, monkeypatch):
    pretend('(run / "pid").write_text(str(os.getpid())); time.sleep(60)')

    def stop(*_):
        while len(list(tmp_path.glob("*/pid"))) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "wait", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert len(begun(tmp_path)) == 2
    for path in tmp_path.glob("*/pid"):
        assert not is_running(int(path.read_text()))


def is_running(pid):
    """Whether a process is there, and no zombie that nobody waits for."""
    ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return ps.stdout.strip()[:1] not in ("", "Z")


def test_runs_end_with_the_command_that_is_killed(tmp_path, wait_for):
    # A run like any other, but for what it does.
    script = """
import runpy, sys, time
from pathlib import Path
from keras_l2e.paper import cells, runner
runner.CHILD = '''
import os, pathlib, runpy, sys, time
from keras_l2e.paper import runner
def sleep(*_, **__):
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
runpy.run_module = sleep
runner.train({cores})
'''
runner.run(cells.cells("addition", "smoke")[:1], Path("W"), "data", 1)
"""
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "script.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        pid = tmp_path / "pid"
        wait_for(lambda: pid.exists() and pid.read_text(), process)
        assert is_running(int(pid.read_text()))
        process.kill()
    until = time.monotonic() + 10
    while is_running(int(pid.read_text())):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_time_left_is_that_of_the_epochs_left(tmp_path):
    pool = runner._Pool(CELLS, tmp_path, 2, setup="")
    futures = {runner.Future(): cell for cell in CELLS[1:]}
    assert pool.progress(futures) == "1 of 4 cells done, 0 running, 3 left"
    # One cell is done, 600 s an epoch, half of another; two are left.
    num_epochs = CELLS[0].flags["num_epochs"]
    for cell, epochs in zip(CELLS[:2], (num_epochs, num_epochs // 2), strict=True):
        (tmp_path / cell.name).mkdir()
        lines = "".join(f'{{"epoch": {i}, "seconds": 600}}\n' for i in range(epochs))
        (tmp_path / cell.name / "timing.jsonl").write_text(lines + lines[:9])
    left = timedelta(seconds=2.5 * 600 * num_epochs / 2)
    assert pool.progress(futures).endswith(f", about {left} left")


# Figures


def make_arguments(folder, **changes):
    given = {"figure": "addition", "budget": "smoke", "data_dir": "data", "cells_at_once": 4}
    return reproduce.Arguments(workdir=str(folder / "W"), **given | changes)


def test_what_is_worth_keeping_of_a_figure_can_go_elsewhere(tmp_path, monkeypatch, capsys):
    for cell in CELLS:
        write_cell(tmp_path / "W/addition", cell, 0.5)
        (tmp_path / "W/addition" / cell.name / "model.keras").touch()
    monkeypatch.chdir(tmp_path)
    reproduce.reproduce(make_arguments(tmp_path, output="out"))
    kept = sorted(path.name for path in (tmp_path / "out/addition" / NAMES[0]).iterdir())
    assert kept == ["evaluation.json", "flags.cfg", "history.jsonl"]
    # However the place is spelt where its cells are.
    reproduce.reproduce(make_arguments(tmp_path, output="W", draw_only=True))
    for kind in ("json", "csv", "png", "md"):
        here = (tmp_path / f"W/addition.{kind}").read_bytes()
        assert here == (tmp_path / f"out/addition.{kind}").read_bytes() != b""
    flags = tmp_path / "W/addition" / NAMES[0] / "flags.cfg"
    flags.write_text(flags.read_text().replace("=16", "=32"))
    for draw_only in (True, False):
        with pytest.raises(UsageError, match=r"flags\.cfg holds other flags"):
            reproduce.reproduce(make_arguments(tmp_path, draw_only=draw_only))


def test_the_extra_is_named_where_it_is_missing(tmp_path, monkeypatch):
    for name in ("comparisons", "figures"):
        monkeypatch.delitem(sys.modules, f"keras_l2e.paper.{name}", raising=False)
        monkeypatch.delattr(f"keras_l2e.paper.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(WorkError, match=r"scipy is missing; install keras_l2e\[paper\]"):
        reproduce.reproduce(make_arguments(tmp_path))


@pytest.mark.slow
def test_a_figure_is_made_by_commands_that_are_stopped_and_killed(
    tmp_path, start_command, wait_for
):
    from keras_l2e.networks import models

    flags = ["--figure=addition", "--budget=smoke", "--workdir=W", "--data_dir=data"]
    start = functools.partial(start_command, "reproduce", *flags, cwd=tmp_path)
    folder = tmp_path / "W/addition"
    # Two of the four are done, for two are enough to be stopped and killed.
    finished = {cell.name for cell in CELLS if cell.flags["seed"] == 2}
    for cell in CELLS:
        if cell.name in finished:
            write_cell(folder, cell, skill=0.5)

    def logs(text):
        return [log for log in sorted(folder.glob("*.log")) if text in log.read_text()]

    process = start()
    wait_for(lambda: logs("epoch 1/8"), process)
    second = start()
    assert second.communicate(timeout=60)[1] == "error: W/addition is in use by another process\n"
    assert second.returncode == 2
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert stderr == "stopped; the same command goes on from what is finished\n"

    process = start()
    log, *_ = wait_for(lambda: logs("going on after epoch"), process)
    process.kill()
    stdout, _ = process.communicate(timeout=60)
    assert f"{log.stem} goes on\n" in stdout

    process = start()
    stdout, stderr = process.communicate(timeout=600)
    assert (process.returncode, stderr) == (0, ""), stdout
    assert "addition: 4 cells, 1,024 training examples each" in stdout
    assert f"{log.stem}: done\n" in stdout
    assert "4 of 4 cells done, 0 running, 0 left" in stdout
    assert not any(name in stdout for name in finished)
    for name in {*NAMES} - finished:
        assert len((folder / name / "history.jsonl").read_text().splitlines()) == 8
    assert "going on after epoch" in (folder / log.stem / "log.txt").read_text()
    # Stopped, killed and taken up again, it is what it would have been.
    alone = [sys.executable, "-m", "keras_l2e.train", f"--flagfile={folder / log.stem}.cfg"]
    alone += ["--workdir=alone", "--data_dir=data", "--num_replicas=1", "--threads_per_replica=1"]
    subprocess.run(alone, cwd=tmp_path, check=True, capture_output=True)
    for file in ("history.jsonl", "evaluation.json"):
        assert (folder / log.stem / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    runs = (folder / log.stem, tmp_path / "alone")
    weights = [models.load(run / "model.keras").get_weights() for run in runs]
    for killed, untouched in zip(*weights, strict=True):
        np.testing.assert_array_equal(killed, untouched)
    drawn = json.loads((tmp_path / "W/addition.json").read_text())
    assert sorted(cell["name"] for cell in drawn["cells"]) == NAMES
    assert {cell["num_training_examples"] for cell in drawn["cells"]} == {1024}
