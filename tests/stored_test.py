import errno
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from keras_l2e_datasets.learning_to_execute import learning_to_execute_dataset_builder as l2e

from keras_l2e.data import stored
from keras_l2e.data.stored import DataError
from keras_l2e.language.programs import SPLITS, Example
from keras_l2e.language.tasks import TASKS, Difficulty

SIZE = 20
MEND = "; delete the folder and prepare it again"


def name(length=3, size=SIZE):
    return f"addition_length_{length}_examples_{size}"


def folder(data_dir, length=3, size=SIZE):
    return data_dir / f"learning_to_execute/{name(length, size)}/{stored.VERSION}"


def shard(data_dir):
    return folder(data_dir) / "learning_to_execute-train.tfrecord-00000-of-00001"


def read(data_dir, split="train", size=SIZE):
    return stored.read("addition", Difficulty(3), split, data_dir, size)


def prepare(data_dir, size=SIZE, **options):
    stored.prepare("addition", [Difficulty(3)], data_dir, size, **options)


def one_line_error(function, *args):
    """The message of the DataError that the call raises; a single line."""
    with pytest.raises(DataError) as error:
        function(*args)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data directory with additions of two lengths."""
    data_dir = tmp_path_factory.mktemp("whole")
    for length in (3, 4):
        stored._build(name(length), data_dir)
    return data_dir


@pytest.fixture
def data_dir(whole, tmp_path):
    """A copy of that directory, to be damaged."""
    shutil.copytree(whole, tmp_path / "data")
    return tmp_path / "data"


def test_names_and_their_parts_are_one_to_one():
    names = set()
    for task, size in itertools.product(TASKS, (1, 50_000)):
        for difficulty in TASKS[task].difficulties()[::7]:
            found = stored.config_name(task, difficulty, size)
            assert stored.parse_config_name(found) == (task, difficulty, size)
            names.add(found)
    assert len(names) == 2 * sum(len(task.difficulties()[::7]) for task in TASKS.values())


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
        stored.parse_config_name(name)


def test_prepare_builds_and_reports_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for new in ([2, 3], [4], []):
        lines = []
        difficulties = [Difficulty(length) for length in (2, 3, *new, 2)]
        stored.prepare("addition", difficulties, "~/data", SIZE, report=lines.append)
        data_dir = tmp_path / "home/data"
        assert (
            lines[0]
            == f"data: {data_dir} ({len(new)} of {len(set(difficulties))} configs to build)"
        )
        for i, length in enumerate(new, 1):
            assert lines[i].startswith(f"{name(length)}: {3 * SIZE} examples in ")
            assert lines[i].endswith(f" s ({len(new) - i} left)")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert read("~/data").program.tolist() == read(data_dir).program.tolist()


def test_read_returns_the_config_s_examples(whole):
    candidates = l2e.config_from_name(name()).candidates
    for split in SPLITS:
        columns = read(whole, split)
        assert {(column.shape, column.dtype) for column in columns} == {((SIZE,), np.dtype(object))}
        found = [Example(*map(bytes.decode, row)) for row in zip(*columns, strict=True)]
        assert found == [candidates.candidate(i) for i in candidates.choose()[split]]


def test_wrong_arguments(whole, tmp_path):
    with pytest.raises(ValueError, match="'dev'; one of train, validation, test"):
        read(whole, "dev")
    with pytest.raises(ValueError, match=r"allowed 1\.\.64"):
        stored.prepare("addition", [Difficulty(65)], tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        prepare(tmp_path, 0)


def test_missing_data(tmp_path):
    assert one_line_error(read, tmp_path) == (
        f"{folder(tmp_path)}: no data there; prepare {name()} first"
    )


@pytest.mark.parametrize("version", ["0.9.0", "1.0.0", "2.0.0"])
def test_another_version_is_there(data_dir, whole, version, capsys):
    """As TFDS has it, each release reads its own version, and leaves the others as they are."""
    other = folder(data_dir).with_name(version)
    folder(data_dir).rename(other)
    files = {path: path.read_bytes() for path in other.iterdir()}
    assert "no data there" in one_line_error(read, data_dir)
    prepare(data_dir)
    assert "(1 of 1 configs to build)" in capsys.readouterr().out
    versions = {path.name for path in folder(data_dir).parent.iterdir()}
    assert versions == {stored.VERSION, version}
    for found, expected in zip(read(data_dir), read(whole), strict=True):
        assert found.tolist() == expected.tolist()
    assert {path: path.read_bytes() for path in other.iterdir()} == files
    prepare(data_dir)
    assert "(0 of 1 configs to build)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version": "1.1.0"', '"version": "2.0.0"', "version 2.0.0 where 1.1.0"),
        # As a build with TFDS's own --max_examples_per_split leaves it.
        ('"20"', '"5"', "train size 5 where 20"),
        (f'"{name()}"', f'"{name(4)}"', f"config {name(4)} where {name()}"),
        ('"name": "train"', '"name": "t"', "splits t, test, validation where test, train, valid"),
        ('"tfrecord"', '"riegeli"', "file format riegeli where tfrecord or array_record"),
    ],
)
def test_other_data_under_this_name(data_dir, old, new, message):
    info = folder(data_dir) / "dataset_info.json"
    assert old in info.read_text()
    info.write_text(info.read_text().replace(old, new))
    for function in (read, prepare):
        found = one_line_error(function, data_dir)
        assert found.startswith(f"{folder(data_dir)}: {message}") and found.endswith(MEND)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", [None, "", "{", "[1]"])
def test_damaged_description(data_dir, file, content):
    path = folder(data_dir) / file
    path.unlink() if content is None else path.write_text(content)
    assert str(folder(data_dir)) in one_line_error(read, data_dir)


def first_record(content):
    """How many bytes the first record takes: its length, two checksums and itself."""
    return 16 + int.from_bytes(content[:8], "little")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[:500] + bytes([c[500] ^ 1]) + c[501:], "its train split is damaged"),
        (lambda c: c[:-1], "its train split is damaged"),
        (lambda c: None, "its train split is damaged"),
        (lambda c: b"", "train size 0 where 20 is expected"),
        (lambda c: c[first_record(c) :], "train size 19 where 20 is expected"),
        (lambda c: c + c[: first_record(c)], "train size 21 where 20 is expected"),
    ],
    ids=["altered", "truncated", "missing", "empty", "a record less", "a record more"],
)
def test_damaged_shard(data_dir, damage, message):
    content = damage(shard(data_dir).read_bytes())
    shard(data_dir).unlink() if content is None else shard(data_dir).write_bytes(content)
    found = one_line_error(read, data_dir)
    assert found.startswith(f"{folder(data_dir)}: {message}") and found.endswith(MEND)
    assert len(read(data_dir, "test").program) == SIZE


def test_several_shards_are_read_in_their_order(whole, data_dir):
    info = folder(data_dir) / "dataset_info.json"
    content = json.loads(info.read_text())
    (train,) = (split for split in content["splits"] if split["name"] == "train")
    train["shardLengths"] = ["1", "19"]
    info.write_text(json.dumps(content))
    records, stem = shard(data_dir).read_bytes(), str(shard(data_dir)).partition("-0000")[0]
    shard(data_dir).unlink()
    for i, part in enumerate([slice(first_record(records)), slice(first_record(records), None)]):
        with open(f"{stem}-0000{i}-of-00002", "wb") as file:
            file.write(records[part])
    assert read(data_dir).program.tolist() == read(whole).program.tolist()


def test_array_record(whole, tmp_path):
    """As `tfds build --file_format=array_record` writes it; the same examples, the same care."""
    builder = l2e.Builder(config=name(), data_dir=tmp_path)
    builder.download_and_prepare(file_format="array_record")
    for split in SPLITS:
        for found, expected in zip(read(tmp_path, split), read(whole, split), strict=True):
            assert found.tolist() == expected.tolist()
    path = folder(tmp_path) / "learning_to_execute-train.array_record-00000-of-00001"
    content = path.read_bytes()
    at = 500  # Among the records, which are compressed.
    altered = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    # The last one has lost everything behind the records' own part.
    for damaged in (altered, content[:1000], b"", content[: 1 << 16]):
        path.write_bytes(damaged)
        assert "its train split is damaged (" in one_line_error(read, tmp_path)
    path.unlink()
    assert f"{folder(tmp_path)}: its train" in one_line_error(read, tmp_path)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_not_a_directory(tmp_path, place):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / place) in one_line_error(read, tmp_path / place)
    message = one_line_error(prepare, tmp_path / place)
    assert message.startswith(f"{tmp_path / place}: cannot be written")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("nosuch://bucket/data", "neither a local folder nor one in gs://"),
        # TensorFlow's own kind of error, as for gs:// without a network.
        ("s3://bucket/data", "not implemented"),
    ],
)
def test_file_systems_that_cannot_be_used(place, reason):
    for function in (read, prepare):
        message = one_line_error(function, place)
        assert message.startswith(place) and reason in message


def test_directory_without_permission(tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    tmp_path.chmod(0o500)
    if os.geteuid() == 0:  # Root may write everywhere.
        monkeypatch.setattr(os, "mkdir", refuse)
    message = one_line_error(prepare, tmp_path)
    assert f"{tmp_path}: cannot be written" in message and "Permission denied" in message


def test_no_space_left(tmp_path):
    """A limit on the size of files stands in for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        message = one_line_error(stored._build, name(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message.startswith(f"{folder(tmp_path).parent}: could not be built (")
    assert "File too large" in message
    assert not list(folder(tmp_path).parent.iterdir())


def test_builds_in_runs_of_one_seed_have_folders_of_their_own(tmp_path, monkeypatch):
    """And leave the runs' seeds as they are."""
    download_and_prepare, folders, drawn = l2e.Builder._download_and_prepare, [], []

    def noted(self, **kwargs):
        folders.append(self.data_path.name)
        download_and_prepare(self, **kwargs)

    monkeypatch.setattr(l2e.Builder, "_download_and_prepare", noted)
    for place in ("one", "two"):
        random.seed(1)
        stored._build(name(), tmp_path / place)
        drawn.append(random.random())
    assert len(set(folders)) == 2 and all("incomplete." in found for found in folders)
    assert drawn == [random.Random(1).random()] * 2


def test_another_process_was_first(whole, tmp_path, monkeypatch):
    """Both build the config; the second to finish finds the folder taken."""
    download_and_prepare = l2e.Builder._download_and_prepare

    def overtaken(self, **kwargs):
        download_and_prepare(self, **kwargs)
        shutil.copytree(folder(whole), folder(tmp_path))

    monkeypatch.setattr(l2e.Builder, "_download_and_prepare", overtaken)
    num_examples, _ = stored._build(name(), tmp_path)
    assert num_examples == 3 * SIZE
    assert [path.name for path in folder(tmp_path).parent.iterdir()] == [stored.VERSION]
    assert len(read(tmp_path).program) == SIZE


def start_preparing(data_dir, size):
    code = (
        "from keras_l2e import devices\ndevices.load_tensorflow()\n"
        "from keras_l2e.data import stored\nfrom keras_l2e.language.tasks import Difficulty\n"
        f"stored.prepare('addition', [Difficulty(3), Difficulty(4)], {str(data_dir)!r}, {size})"
    )
    options = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen([sys.executable, "-c", code], **options)


@pytest.mark.slow
def test_killed_and_simultaneous_preparations(tmp_path, wait_for):
    """What a kill leaves is built anew, and what it left is nobody's."""
    size, configs = 5_000, tmp_path / "learning_to_execute"
    with start_preparing(tmp_path, size) as process:
        try:
            wait_for(lambda: list(configs.glob("*/incomplete.*")), process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    left = list(configs.glob("*/incomplete.*"))
    assert left and "no data there" in one_line_error(read, tmp_path, "train", size)
    for process in [start_preparing(tmp_path, size) for _ in range(2)]:
        assert "Error" not in process.communicate(timeout=300)[1]
        assert process.returncode == 0
    assert set(configs.glob("*/incomplete.*")) == set(left)
    assert len(list(configs.glob(f"*/{stored.VERSION}"))) == 2
    assert len(read(tmp_path, size=size).program) == size


@pytest.mark.slow
def test_interrupted_preparation_cleans_up(tmp_path, wait_for):
    with start_preparing(tmp_path, 50_000) as process:
        wait_for(lambda: list(tmp_path.glob("*/*/incomplete.*")), process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt") and errors.count("Traceback") == 1
    assert not list(tmp_path.glob("*/addition_length_*/*"))
