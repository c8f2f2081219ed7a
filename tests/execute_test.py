"""`execute`: where a program comes from, and what is shown of its answer."""

import importlib
import io
import os
import sys
import threading
from types import SimpleNamespace

import pytest

import keras_l2e
from keras_l2e import pretrained
from keras_l2e.errors import UsageError
from keras_l2e.language.forms import TARGET_FORMS

execute = importlib.import_module("keras_l2e.execute")


@pytest.fixture
def standard_input(monkeypatch):
    """Puts bytes on standard input."""

    def put(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))

    return put


ENDS = [b"", b"\n", b"\r\n", b"\r", b" \t\n\n"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_channel_gives_the_same_program(tmp_path, standard_input, mark, end):
    content = mark + b"i=38;" + (end.strip(b" \t") or b"\n") + b"print((i-12))" + end
    program = "i=38;\nprint((i-12))"
    (path := tmp_path / "program.py").write_bytes(content)
    os.mkfifo(pipe := tmp_path / "pipe")
    threading.Thread(target=pipe.write_bytes, args=[content]).start()
    standard_input(content)
    for arguments in ([content.decode()], [str(path)], [str(pipe)], []):
        assert execute.read_program(arguments) == program


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nosuch.py", "nosuch.py: no such file"),
        ("folder/nosuch", "folder/nosuch: no such file"),
        ("/nosuch", "/nosuch: no such file"),
        ("folder", "folder is a folder; a program or its file is needed"),
        ("latin.py", "latin.py is not UTF-8 text"),
    ],
)
def test_what_is_no_program(tmp_path, monkeypatch, argument, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.py").write_bytes(b"\xff")
    with pytest.raises(UsageError) as error:
        execute.read_program([argument])
    assert str(error.value) == message


def test_programs_are_no_names_of_files():
    for program in ("print(1/2)", "hello", "535+61", "1/2", "1.5", "print(" + "9" * 5_000 + ")"):
        assert execute.read_program([program]) == program


def test_standard_input_may_be_anything(standard_input, monkeypatch):
    standard_input(b"print(1)" + b" " * 3 * 2**20 + b"x")
    assert execute.read_program([]) == "print(1)"  # A file without an end is not read to its end.
    standard_input(b"\xff")
    with pytest.raises(UsageError, match="standard input is not UTF-8 text"):
        execute.read_program([])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="neither an argument nor standard input"):
        execute.read_program([])
    with pytest.raises(UsageError, match=r"one program at a time; the second is 'print\(2\)'"):
        execute.read_program(["print(1)", "print(2)"])


def test_the_network_that_answers_is_named_and_its_rate(command, addition_9, monkeypatch):
    monkeypatch.setattr("keras_l2e.api.TrainedNetwork", lambda folder: addition_9)
    found = command("execute", "print(12+34)\r\n")
    assert (found.returncode, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert lines[0] == "network    addition_9 (--model names another)"
    assert lines[1] == f"           {pretrained.measured('addition_9', 'print(12+34)')}"
    assert lines[2:6] == ["program    print(12+34)", "predicted  46", "true       46", "right"]
    assert lines[6] == "character  probability"
    assert [line.split()[0] for line in lines[7:]] == ["4", "6", "EOS"]


def test_a_network_that_is_named_answers_what_it_can_read(command, addition_9, monkeypatch):
    monkeypatch.setattr("keras_l2e.api.TrainedNetwork", lambda folder: addition_9)
    found = command("execute", "--model=addition_9", "print(12+345)", "--steps")
    lines = found.stdout.splitlines()
    assert lines[0] == "program    print(12+345)" and lines[2] == "true       357"
    assert lines[3] in ("right", "wrong")
    assert lines[4] == "step  characters and their probabilities, the first one is written"
    assert all(len(line.split()) == 11 for line in lines[5:])
    assert command("execute", "--model=addition_9", "print(12 +34)") == (
        2,
        "",
        "error: program 'print(12 +34)': white space at position 8, where no program of the task "
        "has any\n",
    )
    # It can be read, but is no program.
    found = command("execute", "--model=addition_9", "print(12+)")
    assert found.returncode == 0
    assert "\ntrue       unknown: line 1: invalid syntax" in found.stdout


def test_what_is_shown_is_one_line_each():
    steps = [keras_l2e.api.Step(c, 0.5, [(c, 0.5), (" ", 0.25), ("", 0.1)]) for c in "1\n"]
    network = SimpleNamespace(
        steps=lambda program: [*steps, keras_l2e.api.Step("EOS", 1.0, [("EOS", 1.0)])],
        interface=SimpleNamespace(task="program"),
        form=TARGET_FORMS["answer"],
    )
    assert execute.show(network, "i=1;\nprint((i+1))", show_candidates=True).splitlines() == [
        "program    i=1;",
        "           print((i+1))",
        "predicted  1\\n",
        "true       2",
        "wrong",
        "step  characters and their probabilities, the first one is written",
        "   1  1     0.5000   space 0.2500   none  0.1000",
        "   2  \\n    0.5000   space 0.2500   none  0.1000",
        "   3  EOS   1.0000",
    ]
    lines = execute.show(network, "i=1;\nprint((i+1))", show_candidates=False).splitlines()
    assert lines[5:] == [
        "character  probability",
        "1          0.5000",
        "\\n         0.5000",
        "EOS        1.0000",
    ]


@pytest.mark.parametrize(
    ("end", "answer", "verdict", "probability"),
    [(["EOS"], "2", "right", "0.2500"), ([], "", "wrong", "0.0000")],
)
def test_work_without_an_end_is_no_answer(end, answer, verdict, probability):
    steps = [keras_l2e.api.Step(c, 0.5, [(c, 0.5)]) for c in ["2"]]
    network = SimpleNamespace(
        steps=lambda program: steps + [keras_l2e.api.Step(c, 0.5, [(c, 0.5)]) for c in end],
        interface=SimpleNamespace(task="program"),
        form=TARGET_FORMS["trace"],
    )
    shown = execute.show(network, "print((1+1))", show_candidates=False)
    assert f"\npredicted  {answer}\ntrue       2\n{verdict}\n" in shown
    assert f"\nprobability {probability}, of all" in shown
