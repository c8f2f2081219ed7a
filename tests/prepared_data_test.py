import errno
import itertools
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from keras_l2e_datasets.learning_to_execute import learning_to_execute_dataset_builder as l2e

from keras_l2e.data import stored as prepared_data
from keras_l2e.data.stored import DataError
from keras_l2e.language import programs
from keras_l2e.language.tasks import TASKS, Difficulty

SIZE = 20
LENGTHS = (2, 3, 4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data directory with additions of three lengths, and what was reported while preparing."""
    data_dir = tmp_path_factory.mktemp("prepared")
    lines = []
    difficulties = [Difficulty(length) for length in LENGTHS]
    prepared_data.prepare(
        "addition", difficulties, data_dir, SIZE, num_workers=2, report=lines.append
    )
    return data_dir, lines


@pytest.fixture
def data_dir(prepared, tmp_path):
    """A copy of that directory, to be damaged."""
    shutil.copytree(prepared[0], tmp_path / "data")
    return tmp_path / "data"


def folder(data_dir, length=3):
    return data_dir / f"learning_to_execute/addition_length_{length}_examples_{SIZE}/1.0.0"


def shard(data_dir, split="train"):
    return folder(data_dir) / f"learning_to_execute-{split}.tfrecord-00000-of-00001"


def read(data_dir, split="train", size=SIZE):
    return prepared_data.read("addition", Difficulty(3), split, data_dir, size)


def one_line_error(function, *args):
    """The message of the DataError that the call raises; a single line."""
    with pytest.raises(DataError) as error:
        function(*args)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_names_and_their_parts_are_one_to_one():
    names = set()
    for task, size in itertools.product(TASKS, (1, 1_000, 50_000)):
        for difficulty in TASKS[task].difficulties():
            name = prepared_data.config_name(task, difficulty, size)
            assert prepared_data.parse_config_name(name) == (task, difficulty, size)
            names.add(name)
    assert len(names) == 3 * (120 + 64 + 65)


@pytest.mark.parametrize(
    "name",
    [
        "addition",
        "division_length_3",
        "addition_length_03",
        "addition_length_65",
        "addition_length_3_nesting_1",
        "addition_length_3_examples_0",
        "addition_length_3_examples_50000",
        "addition_length_3_examples_20_more",
        "program_length_4",
        "program_length_4_nesting_11",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError):
        prepared_data.parse_config_name(name)


def test_prepare_reports_each_config(prepared):
    data_dir, lines = prepared
    assert lines[0] == f"data: {data_dir} (3 of 3 configs to build)"
    assert sorted(line.partition(":")[0] for line in lines[1:]) == [
        f"addition_length_{length}_examples_{SIZE}" for length in LENGTHS
    ]
    assert [line[line.index("(") :] for line in lines[1:]] == ["(2 left)", "(1 left)", "(0 left)"]
    assert all("60 examples in " in line for line in lines[1:])


def test_prepare_builds_only_what_is_missing(prepared):
    data_dir, _ = prepared
    before = folder(data_dir).stat().st_mtime_ns
    lines = []
    prepared_data.prepare("addition", [Difficulty(3)], data_dir, SIZE, report=lines.append)
    assert lines == [f"data: {data_dir} (0 of 1 configs to build)"]
    assert folder(data_dir).stat().st_mtime_ns == before


def test_read_returns_the_config_s_examples(prepared):
    config = l2e.config_from_name(f"addition_length_3_examples_{SIZE}")
    for split in programs.SPLITS:
        read_programs, targets = read(prepared[0], split)
        assert read_programs.dtype == targets.dtype == np.dtype(object)
        expected = [config.candidate(i) for i in config.choose()[split]]
        assert [p.decode() for p in read_programs] == [example.program for example in expected]
        assert [t.decode() for t in targets] == [example.target for example in expected]
        assert len(expected) == SIZE


def test_unknown_split(prepared):
    with pytest.raises(ValueError, match="'dev'; one of train, validation, test"):
        read(prepared[0], "dev")


def test_unknown_difficulty_and_size(tmp_path):
    with pytest.raises(ValueError, match=r"allowed 1\.\.64"):
        prepared_data.prepare("addition", [Difficulty(65)], tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        prepared_data.prepare("addition", [Difficulty(1)], tmp_path, 0)


def test_missing_data(tmp_path):
    assert one_line_error(read, tmp_path) == (
        f"{folder(tmp_path)}: no data there; prepare addition_length_3_examples_20 first"
    )


def test_another_version_is_there(data_dir):
    """Building the right version beside it would leave two, and nobody knows which was meant."""
    folder(data_dir).rename(folder(data_dir).with_name("0.9.0"))
    assert "(there is version 0.9.0)" in one_line_error(read, data_dir)
    assert one_line_error(prepared_data.prepare, "addition", [Difficulty(3)], data_dir, SIZE) == (
        f"{folder(data_dir).parent}: version 0.9.0 where 1.0.0 is expected; "
        "delete the folder and prepare it again"
    )


def test_another_version_under_this_name(data_dir):
    info = folder(data_dir) / "dataset_info.json"
    info.write_text(info.read_text().replace('"version": "1.0.0"', '"version": "2.0.0"'))
    assert "version 2.0.0 where 1.0.0 is expected" in one_line_error(read, data_dir)
    assert str(folder(data_dir)) in one_line_error(
        prepared_data.prepare, "addition", [Difficulty(3)], data_dir, SIZE
    )


def test_another_size_is_there(data_dir):
    assert "(there is size 20)" in one_line_error(read, data_dir, "train", 30)


def test_another_size_under_this_name(data_dir):
    """As a build with TFDS's own --max_examples_per_split leaves it."""
    info = folder(data_dir) / "dataset_info.json"
    info.write_text(info.read_text().replace('"20"', '"5"'))
    assert "train size 5 where 20 is expected" in one_line_error(read, data_dir)


def test_a_split_is_missing(data_dir):
    info = folder(data_dir) / "dataset_info.json"
    content = json.loads(info.read_text())
    content["splits"] = [split for split in content["splits"] if split["name"] != "train"]
    info.write_text(json.dumps(content))
    assert "splits test, validation where test, train, validation is expected" in one_line_error(
        read, data_dir, "test"
    )


def test_another_config_under_this_name(data_dir):
    shutil.rmtree(folder(data_dir))
    folder(data_dir, 4).rename(folder(data_dir))
    assert "addition_length_3_examples_20 is expected" in one_line_error(read, data_dir)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", [None, "", "{", "[1]"])
def test_damaged_description(data_dir, name, content):
    path = folder(data_dir) / name
    path.unlink() if content is None else path.write_text(content)
    assert str(folder(data_dir)) in one_line_error(read, data_dir)


def test_altered_shard(data_dir):
    content = bytearray(shard(data_dir).read_bytes())
    content[len(content) // 2] ^= 1
    shard(data_dir).write_bytes(content)
    assert f"{folder(data_dir)}: its train split is damaged" in one_line_error(read, data_dir)
    assert len(read(data_dir, "test")[0]) == SIZE


def test_altered_shard_among_several(data_dir):
    """The message names the file."""
    info = folder(data_dir) / "dataset_info.json"
    content = json.loads(info.read_text())
    (train,) = (split for split in content["splits"] if split["name"] == "train")
    train["shardLengths"] = ["12", "8"]
    info.write_text(json.dumps(content))
    whole, at = shard(data_dir).read_bytes(), 0
    for _ in range(12):
        at += 16 + int.from_bytes(whole[at : at + 8], "little")
    shard(data_dir).unlink()
    first, second = (
        shard(data_dir).with_name(f"learning_to_execute-train.tfrecord-0000{i}-of-00002")
        for i in (0, 1)
    )
    first.write_bytes(whole[:at])
    second.write_bytes(whole[at:])
    assert len(read(data_dir)[0]) == SIZE
    second.write_bytes(whole[at:-1] + bytes([whole[-1] ^ 1]))
    assert f"split is damaged ({second.name}: " in one_line_error(read, data_dir)


def test_array_record(prepared, tmp_path):
    """As `tfds build --file_format=array_record` writes it; the same examples, the same care."""
    builder = l2e.Builder(config=f"addition_length_3_examples_{SIZE}", data_dir=tmp_path)
    builder.download_and_prepare(file_format="array_record")
    for split in programs.SPLITS:
        for found, expected in zip(read(tmp_path, split), read(prepared[0], split), strict=True):
            assert found.tolist() == expected.tolist()
    path = folder(tmp_path) / "learning_to_execute-train.array_record-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[content.index(b"print")] ^= 1
    for damaged in (content, content[:1000], b""):
        path.write_bytes(damaged)
        message = one_line_error(read, tmp_path)
        assert f"{folder(tmp_path)}: its train split is damaged ({path.name}: " in message
    path.write_bytes(content[: 1 << 16])  # Everything behind the records' own part is lost.
    assert str(folder(tmp_path)) in one_line_error(read, tmp_path)


def test_another_file_format(data_dir):
    info = folder(data_dir) / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"riegeli"'))
    assert "file format riegeli where tfrecord or array_record is" in one_line_error(read, data_dir)


def test_truncated_shard(data_dir):
    shard(data_dir).write_bytes(shard(data_dir).read_bytes()[:-1])
    assert f"{folder(data_dir)}: its train split is damaged" in one_line_error(read, data_dir)


def test_shard_cut_between_records(data_dir):
    content = shard(data_dir).read_bytes()
    first_record = 16 + int.from_bytes(content[:8], "little")
    for cut, found in (
        (content[first_record:], 19),
        (content + content[:first_record], 21),
        (b"", 0),
    ):
        shard(data_dir).write_bytes(cut)
        assert f"{found} train examples where 20 are" in one_line_error(read, data_dir)


def test_missing_shard(data_dir):
    shard(data_dir).unlink()
    assert f"{folder(data_dir)}: its train split is damaged" in one_line_error(read, data_dir)


@pytest.mark.parametrize("data_dir", ["file", "file/below"])
def test_not_a_directory(tmp_path, data_dir):
    (tmp_path / "file").write_text("")
    path = tmp_path / data_dir
    assert str(path) in one_line_error(read, path)
    message = one_line_error(prepared_data.prepare, "addition", [Difficulty(3)], path, SIZE)
    assert f"{path}: cannot be written" in message


def test_directory_without_permission(tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # Root may write everywhere.
        monkeypatch.setattr(os, "mkdir", refuse)
    message = one_line_error(prepared_data.prepare, "addition", [Difficulty(3)], tmp_path, SIZE)
    assert f"{tmp_path}: cannot be written" in message and "Permission denied" in message


def test_no_space_left(tmp_path):
    """A limit on the size of files stands in for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        answer = prepared_data._build(f"addition_length_3_examples_{SIZE}", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in answer["error"]
    assert not folder(tmp_path).exists()
    assert not list(folder(tmp_path).parent.iterdir())


def test_errors_of_a_child_name_the_folder(tmp_path, monkeypatch):
    answers = [{"name": f"addition_length_3_examples_{SIZE}", "error": "No space left on device"}]
    monkeypatch.setattr(prepared_data, "_build_all", lambda *_: iter(answers))
    assert one_line_error(prepared_data.prepare, "addition", [Difficulty(3)], tmp_path, SIZE) == (
        f"{folder(tmp_path).parent}: could not be built (No space left on device)"
    )


def test_killed_child(tmp_path, monkeypatch):
    ask = prepared_data._ask
    monkeypatch.setattr(
        prepared_data, "_ask", lambda child, *args: (ask(child, *args), child.kill())[0]
    )
    message = one_line_error(prepared_data.prepare, "addition", [Difficulty(3)], tmp_path, SIZE)
    assert "killed by signal 9" in message


def test_a_child_with_nothing_left_to_do_may_end(monkeypatch):
    child = """
import json, time
name, _ = json.loads(input())
time.sleep(name == "slow")
print(json.dumps({"num_examples": 1, "seconds": 1.0}), flush=True)
"""
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **pipes: popen([sys.executable, "-c", child], **pipes)
    )
    answers = list(prepared_data._build_all(["fast", "slow"], "nowhere", 2))
    assert [answer["name"] for answer in answers] == ["fast", "slow"]
    assert not any("error" in answer for answer in answers)


def test_a_build_that_ends_just_now_is_no_error(tmp_path, monkeypatch):
    building = folder(tmp_path).parent / "incomplete.123"
    building.mkdir(parents=True)
    monkeypatch.setattr(time, "time", lambda: building.rename(folder(tmp_path)).stat().st_mtime)
    prepared_data._remove_stale(prepared_data.epath.Path(building.parent))
    assert folder(tmp_path).exists()


def test_another_process_was_first(data_dir, tmp_path, monkeypatch):
    """Both build the config; the second to finish finds the folder taken."""
    download_and_prepare = l2e.Builder._download_and_prepare

    def overtaken(self, **kwargs):
        download_and_prepare(self, **kwargs)
        shutil.copytree(folder(data_dir), folder(tmp_path))

    monkeypatch.setattr(l2e.Builder, "_download_and_prepare", overtaken)
    answer = prepared_data._build(f"addition_length_3_examples_{SIZE}", tmp_path)
    assert answer["num_examples"] == 3 * SIZE
    assert [path.name for path in folder(tmp_path).parent.iterdir()] == ["1.0.0"]
    assert len(read(tmp_path)[0]) == SIZE


def test_killed_preparation(tmp_path, wait_for):
    """What a kill leaves is not taken for data, is built anew, and is removed after a week."""
    size = 5_000
    config_folder = tmp_path / f"learning_to_execute/addition_length_3_examples_{size}"
    code = (
        "from keras_l2e import prepared_data, tasks\n"
        f"prepared_data.prepare('addition', [tasks.Difficulty(3)], {str(tmp_path)!r}, {size})"
    )
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        try:
            left = wait_for(lambda: list(config_folder.glob("incomplete.*")), process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert left[0].exists()
    assert "no data there" in one_line_error(read, tmp_path, "train", size)

    os.utime(left[0], (0, 0))
    prepared_data.prepare("addition", [Difficulty(3)], tmp_path, size)
    assert [path.name for path in config_folder.iterdir()] == ["1.0.0"]
    assert len(read(tmp_path, "train", size)[0]) == size


def test_interrupted_preparation_cleans_up(tmp_path, monkeypatch, wait_for):
    def interrupt(child, name, data_dir):
        ask(child, name, data_dir)
        wait_for(lambda: list(pathlib.Path(data_dir).glob("*/*/incomplete.*")), child)
        raise KeyboardInterrupt

    ask = prepared_data._ask
    monkeypatch.setattr(prepared_data, "_ask", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared_data.prepare("addition", [Difficulty(3)], str(tmp_path))
    assert not list(tmp_path.glob("*/addition_length_3/*"))


def test_home_directory_is_expanded(tmp_path, monkeypatch, build_here):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    prepared_data.prepare("copy", [Difficulty(3)], "~/data", 20)
    texts, targets = prepared_data.read("copy", Difficulty(3), "train", "~/data", 20)
    assert len(texts) == 20
    assert list(texts) == list(targets)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
