import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from keras_l2e.data import processes
from keras_l2e.errors import WorkError

# Not guarded by `if __name__ == "__main__"`.
SCRIPT = """
import sys
from keras_l2e.data import processes
sys.path.append(sys.argv[1])
from processes_test import linger
print("started", flush=True)
list(processes.run(linger, sys.argv[2:], 1))
"""


def refuse(name):
    raise WorkError(f"{name} is refused")


def kill_itself(name):
    os.kill(os.getpid(), signal.SIGKILL)


def linger(path):
    Path(path).write_text("begun")
    try:
        time.sleep(600)
    finally:
        Path(path).write_text("cleaned up")


def test_every_argument_comes_with_its_result():
    names = ["a", "bb", "ccc"]
    assert sorted(processes.run(len, names, 2)) == [("a", 1), ("bb", 2), ("ccc", 3)]


def test_what_a_call_raises_is_raised_here():
    with pytest.raises(WorkError, match="everything is refused"):
        list(processes.run(refuse, ["everything"], 1))


def test_a_killed_worker_is_an_error():
    with pytest.raises(BrokenProcessPool):
        list(processes.run(kill_itself, ["worker"], 1))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_workers_clean_up_and_end_with_the_process_that_started_them(sent, tmp_path, wait_for):
    """Ctrl-C reaches all processes of a terminal; a kill only the one that is meant."""
    script, first, second = (tmp_path / name for name in ("script.py", "first", "second"))
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, Path(__file__).parent, first, second],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: first.exists() and first.read_text() == "begun", process)
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)
        else:
            process.kill()
        output, errors = process.communicate(timeout=60)  # All have closed their ends.
        assert first.read_text() == "cleaned up"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert not second.exists()
    assert process.returncode == -sent
    assert output == "started\n"
    assert errors.count("Traceback") == (sent == signal.SIGINT)
