import json

import pytest

from keras_l2e import files


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


def test_two_who_write_at_once_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"

    def write(temporary):
        temporary.write_text("outer")
        files.write_atomically(path, lambda inner: inner.write_text("inner"))

    files.write_atomically(path, write)
    assert path.read_text() == "outer"


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
