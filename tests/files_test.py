import json
import os
import subprocess
import sys

import pytest

from keras_l2e import files
from keras_l2e.errors import UsageError


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    seen = []

    def write(temporary):
        temporary.write_text("new")
        seen.append((temporary.parent, temporary.suffix, path.read_text()))

    files.write_atomically(path, write)
    # Beside the file, or the last step would be a copy; with its suffix, for writers that look.
    assert seen == [(tmp_path, ".txt", "old")]
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as error:
        files.write_atomically(path, write)
    assert error.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_text_for_eyes_and_lines(tmp_path):
    value = [{"a": 1.5, "b": None}, {"a": 2.0, "b": "x\ny"}]
    files.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == value
    assert text.endswith("]\n") and text.count("\n") > 4
    files.write_json_lines(tmp_path / "a.jsonl", value)
    lines = (tmp_path / "a.jsonl").read_text().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == value
    assert lines[-1] == ""


def test_a_locked_folder_is_its_holder_s_alone(tmp_path):
    with files.lock(tmp_path):
        said = pytest.raises(UsageError, match=f"{tmp_path} is in use by another process")
        with said, files.lock(tmp_path):
            pass
        with files.lock(tmp_path.parent):
            pass
    with files.lock(tmp_path):
        pass


def test_a_lock_goes_with_its_holder_whatever_becomes_of_what_it_started(tmp_path):
    script = """
import pathlib, subprocess, sys, time
from keras_l2e import files
with files.lock(pathlib.Path(sys.argv[1])):
    sleeper = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
    print(sleeper.pid, flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        sleeper = int(process.stdout.readline())
        with pytest.raises(UsageError, match="in use"), files.lock(tmp_path):
            pass
        process.kill()
    with files.lock(tmp_path):
        pass
    os.kill(sleeper, 9)


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with files.lock(tmp_path):
        pass
