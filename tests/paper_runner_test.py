"""Cells run side by side: with runs that only pretend, then with real ones that are killed."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from figures_test import write_cell

from keras_l2e import command_line, reproduce
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.networks import models
from keras_l2e.paper.cells import cells
from keras_l2e.paper.claims import Claims

# Stands in for a training run: leaves its files and a line of what it was told.
PRETEND = """
import os, pathlib, sys, time
flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
run = pathlib.Path(flags["workdir"])
run.mkdir(exist_ok=True)
with open(run.parent.parent / "begun.txt", "a") as file:
    file.write(pathlib.Path(flags["flagfile"]).stem + chr(10))
{work}
(run / "evaluation.json").write_text("{{}}")
"""


@pytest.fixture
def pretend(monkeypatch):
    """Lets runs do something else than train."""

    def pretend(work="time.sleep(0.2)"):
        monkeypatch.setattr(reproduce, "draw", lambda *_: None)  # They leave nothing to draw.
        monkeypatch.setattr(reproduce, "CHILD", PRETEND.format(work=work))

    monkeypatch.setattr(reproduce, "POLL_SECONDS", 0.02)
    return pretend


def make_config(folder, **changes):
    return SimpleNamespace(
        **{
            "figure": "addition",
            "budget": "smoke",
            "workdir": str(folder / "W"),
            "data_dir": str(folder / "data"),
            "output": None,
            "draw_only": False,
            "cells_at_once": 2,
            "num_replicas": 0,
            "dead_after": 5.0,
        }
        | changes
    )


def begun(folder):
    return sorted((folder / "W/addition/begun.txt").read_text().split())


NAMES = sorted(cell.name for cell in cells("addition", "smoke"))


def run_cells(config):
    """Runs cells as `reproduce` does, without drawing what they do not leave."""
    folder = reproduce.Path(config.workdir) / config.figure
    folder.mkdir(parents=True, exist_ok=True)
    wanted = cells(config.figure, config.budget)
    runner = reproduce.Runner(config, folder)
    runner.run(reproduce.prepare(folder, wanted))
    return runner


def test_cells_are_run_once_by_all_who_share_the_folder(tmp_path, pretend, capsys):
    pretend()
    pool = ThreadPoolExecutor()  # In no `with`, which would wait for a run that never ends.
    runs = [pool.submit(run_cells, make_config(tmp_path, cells_at_once=1)) for _ in range(3)]
    for run in runs:
        run.result(timeout=60)
    assert begun(tmp_path) == NAMES
    runner = run_cells(make_config(tmp_path))
    assert begun(tmp_path) == NAMES
    assert runner.progress(cells("addition", "smoke")) == "4 of 4 cells done, 0 running, 0 left"
    for name in NAMES:
        folder = tmp_path / "W/addition" / name
        assert sorted(path.name for path in folder.iterdir()) == ["evaluation.json", "log.txt"]


def test_a_cell_that_fails_is_told_and_does_not_stop_the_others(tmp_path, pretend, capsys):
    pretend('if "seed_2" in flags["flagfile"]: sys.exit("error: the loss is nan")')
    with pytest.raises(WorkError, match=r"2 of 4 cells failed; .*seed_2: the loss is nan; "):
        reproduce.reproduce(make_config(tmp_path))
    assert begun(tmp_path) == NAMES
    assert "2 of 4 cells done, 2 failed, 0 running, 0 left" in capsys.readouterr().out
    # What stood in the way is gone.
    pretend()
    run = make_config(tmp_path)
    for path in (tmp_path / "W/addition").glob("*.failed"):
        path.unlink()
    run_cells(run)
    assert len(begun(tmp_path)) == 6
    assert all(Claims(tmp_path / "W/addition").is_done(name) for name in NAMES)


def test_a_run_that_is_killed_time_and_again_is_given_up(tmp_path, pretend, capsys):
    pretend("os.kill(os.getpid(), 9)")
    with pytest.raises(WorkError, match=r"4 of 4 cells failed; \S+: stopped 3 times; "):
        reproduce.reproduce(make_config(tmp_path))
    assert begun(tmp_path) == sorted(NAMES * 3)


def test_a_run_given_up_is_not_begun_again_by_whoever_gave_it_up(tmp_path, pretend, capsys):
    """Even if another command removes the note of it, to try once more."""
    pretend("os.kill(os.getpid(), 9)")
    folder = tmp_path / "W/addition"
    folder.mkdir(parents=True)
    wanted = reproduce.prepare(folder, cells("addition", "smoke"))
    runner = reproduce.Runner(make_config(tmp_path), folder)
    runner.kills = dict.fromkeys(NAMES, reproduce.MOST_KILLS)
    runner.run(wanted)
    assert begun(tmp_path) == NAMES


def test_the_reason_is_that_of_the_last_attempt(tmp_path, pretend, capsys):
    pretend("""
if (run / "tried").exists(): sys.exit("it broke")
(run / "tried").touch()
print("error: no space left", flush=True)
os.kill(os.getpid(), 9)
""")
    with pytest.raises(WorkError, match=r"4 of 4 cells failed; \S+: it broke; "):
        reproduce.reproduce(make_config(tmp_path))
    assert begun(tmp_path) == sorted(NAMES * 2)


def test_a_figure_is_drawn_where_its_cells_are_however_the_place_is_spelt(
    tmp_path, monkeypatch, capsys
):
    for cell in cells("addition", "smoke"):
        write_cell(tmp_path / "W/addition", cell, 0.5)
    monkeypatch.chdir(tmp_path)
    reproduce.reproduce(make_config(tmp_path, output="W", draw_only=True))
    assert (tmp_path / "W/addition.png").exists()


def test_a_cell_taken_over_is_let_go(tmp_path, pretend, capsys):
    pretend("time.sleep(30)")
    folder = tmp_path / "W/addition"
    runner = reproduce.Runner(make_config(tmp_path, cells_at_once=4), tmp_path / "W/addition")
    folder.mkdir(parents=True)
    wanted = reproduce.prepare(folder, cells("addition", "smoke"))
    runner.start_jobs(wanted)
    jobs = list(runner.jobs)
    assert len({job.slot for job in jobs}) == len(jobs) == 4
    os.rename(jobs[0].claim.path, folder / f"{jobs[0].cell.name}.2")
    runner.beat()
    assert runner.jobs == jobs[1:]
    assert jobs[0].process.returncode is not None
    assert all(job.process.poll() is None for job in runner.jobs)
    for job in runner.jobs:
        job.stop()


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs a system that deals out cores, and two of them",
)
def test_runs_side_by_side_have_cores_of_their_own(tmp_path, pretend, capsys):
    num_cores = len(os.sched_getaffinity(0))
    # They are dealt out to a run that has begun.
    pretend(f"""
for _ in range(1000):
    if len(os.sched_getaffinity(0)) < {num_cores}: break
    time.sleep(0.02)
(run / "cores.txt").write_text(" ".join(map(str, os.sched_getaffinity(0))))
""")
    run_cells(make_config(tmp_path))
    dealt = {(tmp_path / "W/addition" / name / "cores.txt").read_text() for name in NAMES}
    assert len(dealt) == 2
    first, second = (set(cores.split()) for cores in dealt)
    assert len(first) == len(second) == num_cores // 2
    assert not first & second


@pytest.mark.parametrize(("num_replicas", "passed_on"), [(0, None), (3, "3")])
def test_flags_are_passed_on_to_the_runs(tmp_path, pretend, num_replicas, passed_on):
    pretend('import json; (run / "flags.json").write_text(json.dumps(flags))')
    run_cells(make_config(tmp_path, num_replicas=num_replicas))
    for name in NAMES:
        flags = json.loads((tmp_path / "W/addition" / name / "flags.json").read_text())
        assert flags.get("num_replicas") == passed_on
        assert flags["data_dir"] == str(tmp_path / "data")


def test_another_budget_in_the_same_folder_is_refused(tmp_path, pretend):
    pretend()
    run_cells(make_config(tmp_path))
    (flagfile,) = (tmp_path / "W/addition").glob("*baseline_seed_1.cfg")
    flagfile.write_text(flagfile.read_text() + "--seed=3\n")
    with pytest.raises(UsageError, match=r"baseline_seed_1\.cfg holds other flags"):
        reproduce.reproduce(make_config(tmp_path))
    # Also where only what was kept of the cells is there.
    flagfile.unlink()
    flags = tmp_path / "W/addition" / flagfile.stem / "flags.cfg"
    (cell,) = (cell for cell in cells("addition", "smoke") if cell.name == flagfile.stem)
    flags.write_text("--onednn=off\n" + cell.flagfile())
    reproduce.reproduce(make_config(tmp_path, draw_only=True))
    flags.write_text(cell.flagfile().replace("--hidden_dim=16", "--hidden_dim=32"))
    with pytest.raises(UsageError, match=r"baseline_seed_1/flags\.cfg holds other flags"):
        reproduce.reproduce(make_config(tmp_path, draw_only=True))


def write_trial(folder, cell, accuracy):
    (folder / cell.name).mkdir(parents=True)
    line = f'{{"target_validation": {{"token_accuracy": {accuracy}}}}}\n'
    (folder / cell.name / "history.jsonl").write_text('{"target_validation": {}}\n' + line)


def test_the_best_rate_on_validation_is_chosen(tmp_path):
    trials = cells("optimizers", "cpu")
    for i, cell in enumerate(trials):
        if i != 2:  # A run that failed left nothing.
            write_trial(tmp_path, cell, [0.3, 0.2, None, 0.1, 0.9, 0.5, 0.6, 0.7, 0.8][i])
    assert reproduce.choose_rates(tmp_path, trials) == {"sgd": 0.2, "adam": 0.003, "muon": 0.01}
    with pytest.raises(WorkError, match="no learning rate of sgd"):
        reproduce.choose_rates(tmp_path / "empty", trials)


def test_optimizers_are_compared_at_the_rates_chosen(tmp_path, pretend, capsys):
    # As if the higher the rate, the better.
    pretend("""
line = pathlib.Path(flags["flagfile"]).read_text().partition("--learning_rate=")[2].split()[0]
(run / "history.jsonl").write_text('{"target_validation": {"token_accuracy": %s}}' % line)
""")
    reproduce.reproduce(make_config(tmp_path, figure="optimizers", cells_at_once=4))
    best = {"sgd": 1.0, "adam": 1e-2, "muon": 4e-3}
    wanted = cells("optimizers", "smoke", best)
    assert sorted((tmp_path / "W/optimizers/begun.txt").read_text().split()) == sorted(
        cell.name for cell in wanted
    )
    for cell in wanted:
        text = (tmp_path / "W/optimizers" / f"{cell.name}.cfg").read_text()
        assert text == cell.flagfile()
    printed = capsys.readouterr().out
    assert "training examples each, sgd at 1, adam at 0.01, muon at 0.004" in printed


def test_a_trial_that_comes_to_grief_is_a_result(tmp_path, pretend, capsys):
    work = """
text = pathlib.Path(flags["flagfile"]).read_text()
rate = float(text.partition("--learning_rate=")[2].split()[0])
if "--optimizer=sgd" in text and rate == 1.0:
    {}
(run / "history.jsonl").write_text('{{"target_validation": {{"token_accuracy": %s}}}}' % rate)
"""
    config = make_config(tmp_path, figure="optimizers", cells_at_once=4)
    rates = tmp_path / "W/optimizers/rates.json"
    # One that fails otherwise leaves the choice open.
    pretend(work.format('sys.exit("error: no more")'))
    with pytest.raises(WorkError, match=r"1 of 8 cells failed; rate_sgd_1_0e\+00: no more; "):
        reproduce.reproduce(config)
    assert not rates.exists()
    pretend(work.format('(run / "bad_batch.json").write_text(""); sys.exit("error: nan")'))
    reproduce.reproduce(config)
    assert json.loads(rates.read_text()) == {"sgd": 0.5, "adam": 0.01, "muon": 0.004}
    assert "sgd at 0.5" in capsys.readouterr().out
    # What was chosen stays so, whatever comes of another try.
    pretend(work.format("pass"))
    reproduce.reproduce(config)
    assert Claims(rates.parent).is_done("rate_sgd_1_0e+00")
    assert json.loads(rates.read_text())["sgd"] == 0.5


def test_the_time_left_is_that_of_the_cells_left(tmp_path):
    config = make_config(tmp_path)
    wanted = cells("addition", "smoke")
    runner = reproduce.Runner(config, tmp_path)
    assert runner.progress(wanted) == "0 of 4 cells done, 0 running, 4 left"
    num_epochs = wanted[0].flags["num_epochs"]
    line = '{{"epoch": {}, "seconds": 600}}\n'
    (tmp_path / wanted[0].name).mkdir()
    text = "".join(line.format(i) for i in range(num_epochs))
    (tmp_path / wanted[0].name / "timing.jsonl").write_text(text)
    # A cell takes 600 s an epoch and half a minute; one is done, half of another, two are left.
    claim = runner.claims.take(wanted[1].name)
    (claim.path / "run").mkdir()
    text = "".join(line.format(i) for i in range(num_epochs // 2))
    (claim.path / "run/timing.jsonl").write_text(text + line.format(0))
    left = command_line.clock(2.5 * (600 * num_epochs + 30))
    assert runner.progress(wanted) == f"1 of 4 cells done, 1 running, 2 left, about {left} left"


# Real runs


@pytest.fixture
def start(tmp_path, start_command):
    """Starts the command that makes the figure."""
    flags = ["--figure=addition", "--budget=smoke", "--workdir=W", "--data_dir=data"]
    return functools.partial(start_command, "reproduce", *flags, "--dead_after=4", cwd=tmp_path)


def test_a_figure_is_made_by_commands_that_are_stopped_and_killed(tmp_path, start, wait_for):
    folder = tmp_path / "W/addition"
    # Two of the four are done, for two are enough to be stopped and killed.
    finished = [cell for cell in cells("addition", "smoke") if cell.flags["seed"] == 2]
    for cell in finished:
        write_cell(folder, cell, skill=0.5)

    def logs(text):
        return [log for log in sorted(folder.glob("*.[12]/log.txt")) if text in log.read_text()]

    process = start()
    wait_for(lambda: logs("epoch 1/8"), process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert stderr == "stopped; the same command goes on from what is finished\n"

    process = start()
    log, *_ = wait_for(lambda: logs("going on after epoch"), process)
    process.kill()
    stdout, _ = process.communicate(timeout=60)
    name = log.parent.stem
    assert f"{name} goes on\n" in stdout
    # The run ends with its parent, and leaves a claim that is dead.
    until = time.monotonic() + 60
    while log.read_text().count("stopped; the same command goes on") < 2:
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)

    process = start()
    stdout, stderr = process.communicate(timeout=600)
    assert (process.returncode, stderr) == (0, ""), stdout
    assert "addition: 4 cells, 1,024 training examples each" in stdout
    assert f"{name} goes on\n" in stdout
    assert f"{name}: done" in stdout
    assert "4 of 4 cells done, 0 running, 0 left" in stdout
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*NAMES, *(f"{name}.cfg" for name in NAMES)]
    )
    for cell in finished:
        assert cell.name not in stdout
    for cell in set(NAMES) - {cell.name for cell in finished}:
        assert len((folder / cell / "history.jsonl").read_text().splitlines()) == 8
    assert "going on after epoch" in (folder / name / "log.txt").read_text()
    # Stopped, killed and taken over, it is what it would have been.
    alone = [sys.executable, "-m", "keras_l2e.train", f"--flagfile={folder / name / 'flags.cfg'}"]
    subprocess.run([*alone, "--workdir=alone"], cwd=tmp_path, check=True, capture_output=True)
    for file in ("history.jsonl", "evaluation.json"):
        assert (folder / name / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    weights = [
        models.load(run / "model.keras").get_weights()
        for run in (folder / name, tmp_path / "alone")
    ]
    for killed, untouched in zip(*weights, strict=True):
        np.testing.assert_array_equal(killed, untouched)
    drawn = json.loads((tmp_path / "W/addition.json").read_text())
    assert sorted(cell["name"] for cell in drawn["cells"]) == NAMES
    assert {cell["num_training_examples"] for cell in drawn["cells"]} == {1024}

    # Finished cells are skipped; what is worth keeping can go elsewhere.
    process = start("--output=out")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, ""), stdout
    assert "goes on" not in stdout
    for kind in ("json", "csv", "png", "md"):
        assert (tmp_path / f"out/addition.{kind}").stat().st_size > 0
    for kind in ("json", "csv", "md"):
        kept = (tmp_path / f"out/addition.{kind}").read_text()
        assert kept == (tmp_path / f"W/addition.{kind}").read_text()
    assert sorted(path.name for path in (tmp_path / "out/addition" / name).iterdir()) == sorted(
        reproduce.KEPT
    )
    process = start("--output=out", "--draw_only")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.startswith("replacing out/addition.json\n")
