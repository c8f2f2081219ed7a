"""What all entry points share: flags, flagfiles, help, one-line errors and exit codes."""

import functools
import importlib
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import snapshot

from keras_l2e import command_line, devices, pretrained, settings
from keras_l2e import config as configs
from keras_l2e.config import Config, Run
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.networks import MODELS, OPTIMIZERS
from keras_l2e.teaching.teachers import TEACHERS

ENTRY_POINTS = ("train", "evaluate", "export", "execute", "reproduce", "show")
NETWORKS = pretrained.names()
INSTALLED = sorted(path.name for path in command_line.FLAGFILES.glob("*.cfg"))
# Folders of runs whose flags.cfg cannot be read, and what stands in it.
BROKEN = {
    "broken": b"--no_such_flag=1\n",
    "no_text": b"--workdir=\xff\n",
    "no_place": b"--seed=1\n",
}


def parse(*arguments, kind=Run):
    return command_line.parse(kind, ["command", *arguments])


def write_run(workdir, config, finished=False):
    """The folder of a run, as far as a command sees it before TensorFlow is loaded."""
    workdir.mkdir()
    configs.write(workdir, config)
    if finished:
        (workdir / "model.keras").write_bytes(b"no model")
        (workdir / "evaluation.json").write_text("{}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with all sorts of things that a flag may name by mistake."""
    settled = {"num_replicas": 2, "threads_per_replica": 1, "onednn": "off"}
    (tmp_path / "file").write_text("kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept").write_text("kept")
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "run", Config(learning_rate=0.01, **settled))
    write_run(tmp_path / "finished", Config(**settled), finished=True)
    for name, content in BROKEN.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "flags.cfg").write_bytes(content)
    (tmp_path / "good.cfg").write_text("# a comment\n\n--seed=7\n--task=copy\n")
    (tmp_path / "outer.cfg").write_text("--seed=8\n--flagfile=good.cfg\n--patience=3\n")
    (tmp_path / "unknown.cfg").write_text("--seed=7\n--hidden_dims=3\n")
    (tmp_path / "latin.cfg").write_bytes("--seed=7 # für".encode("latin-1"))
    (tmp_path / "dashes.cfg").write_text("--seed=7\nhidden_dim=3\n")
    (tmp_path / "missing.cfg").write_text("--flagfile=no.cfg\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    return tmp_path


@pytest.fixture
def no_work(monkeypatch):
    """Has a command fail that comes as far as to load TensorFlow."""

    def load(onednn=""):
        raise AssertionError("TensorFlow is loaded")

    monkeypatch.setattr(devices, "load_tensorflow", load)


W = "--workdir=new"
PAGE = ["export", "--format=page", "--pretrained=addition_9", "--output=new.html"]
BAD = [
    # Flags; which values each takes is tested with the settings.
    (["train", W, "--num_epochs=1e3"], ["--num_epochs=1e3", "a positive integer is needed"]),
    (["train", W, "--strateg=mix"], ["unknown flag --strateg; did you mean --strategy?"]),
    (["train", W, f"--{'strategy' * 200}"], ["unknown flag --strategystrategy"]),
    (["train", W, f"--{'strategy' * 100}=mix"], ["unknown flag --strategystrategy"]),
    (["train", W, "--notie_encoder_decoder=x"], ["notie_encoder_decoder=x does not take"]),
    (["train", W, f"--{'é' * 3}=1"], ["ééé"]),
    (["train", W, "--carry_share=0.1"], ["carry_share"]),
    (["evaluate", "--workdir=run", "--hidden_dim=3"], ["hidden_dim"]),
    (["train", W, "--hidden_dim"], ["hidden_dim"]),
    (["train"], ["--workdir is required"]),
    (["reproduce", W], ["--figure is required"]),
    (["export", "--workdir=finished"], ["--output is required"]),
    # Other arguments.
    (["train", W, "print(1)"], ["'print(1)'", "--"]),
    (["train", W, "--", "--seed=2"], ["'--seed=2'"]),
    (["train", W, "-"], ["'-'"]),
    (["evaluate", "--workdir=run", "run"], ["'run'"]),
    (["show", "copy"], ["'copy'"]),
    # Paths.
    (["train", "--workdir=file"], ["--workdir=file", "file is not a folder"]),
    (["train", "--workdir=file/below"], ["--workdir=file/below: file is not a folder"]),
    (["train", "--workdir=full"], ["--workdir=full", "holds other files"]),
    (["train", "--workdir=new/.."], ["--workdir=.", "holds other files"]),
    (["train", "--workdir=gs://bucket/run"], ["--workdir=gs://bucket/run", "of this machine"]),
    (["train", "--workdir=~nobody_here/run"], ["=~nobody_here/run", "home directory"]),
    (["train", W, "--initial_model=sums"], ["no network 'sums'", *NETWORKS]),
    (["train", W, "--initial_model=run"], ["no finished training in run", "model.keras"]),
    (["train", W, "--initial_model=empty"], ["no training run in empty"]),
    (["evaluate"], ["exactly one of --workdir and --pretrained"]),
    (["evaluate", "--workdir=finished", "--pretrained=sums"], ["exactly one of --workdir"]),
    (["evaluate", "--pretrained=sums"], ["no network 'sums'", *NETWORKS]),
    (["evaluate", "--workdir=finished", "--output=full"], ["--output=full", "folder"]),
    (["evaluate", "--workdir=finished", "--output=file/x"], ["--output=file", "not a folder"]),
    (["evaluate", "--workdir=finished", "--output=gs://b/f.json"], ["gs://b/f.json", "machine"]),
    (["evaluate", "--workdir=missing"], ["no training run in missing", "flags.cfg"]),
    (["evaluate", "--workdir=run"], ["no finished training in run", "model.keras"]),
    (["evaluate", "--workdir=broken"], ["broken/flags.cfg", "no_such_flag"]),
    (["evaluate", "--workdir=no_text"], ["no_text/flags.cfg: 'utf-8' codec"]),
    (["evaluate", "--workdir=no_place"], ["no_place/flags.cfg: --workdir is required"]),
    (["export", "--output=out"], ["exactly one of --workdir and --pretrained"]),
    (["export", "--workdir=run", "--output=out"], ["no finished training in run"]),
    (["export", "--workdir=finished", "--output=full"], ["--output=full exists"]),
    (["export", "--workdir=finished", "--output=new/.."], ["--output=new/.. exists"]),
    (["export", "--workdir=finished", "--output=file/x"], ["--output=file/x", "not a folder"]),
    (["export", "--pretrained=addition_9", "--output=gs://b/m"], ["--output=gs://b/m", "machine"]),
    # Of several flags the last one counts.
    ([*PAGE, "--output=file"], ["--output=file exists; name a new one"]),
    ([*PAGE, "--output=new/x"], ["--output=new/x: the name of a page ends with .html"]),
    ([*PAGE, "--output=file/x.html"], ["--output=file/x.html: file is not a folder"]),
    ([*PAGE, "--pretrained=addition_9,"], ["exactly one of --workdir and --pretrained is needed"]),
    ([*PAGE, "--workdir=new"], ["exactly one of --workdir and --pretrained is needed"]),
    ([*PAGE, "--pretrained=", "--workdir=missing"], ["missing: missing/flags.cfg is missing"]),
    ([*PAGE, "--pretrained=copy"], ["no network 'copy'; with the package come", *NETWORKS]),
    ([*PAGE, "--format=html"], ["one of hub, litert, onnx, page, saved_model is needed"]),
    ([*PAGE, "--format=saved_model", "--pretrained=a,b"], ["no network 'a,b'", *NETWORKS]),
    (["execute", "--model=empty", "print(1)"], ["no model in empty", *NETWORKS]),
    (["execute", "--model=run", "print(1)"], ["no finished training in run"]),
    (["execute", "--model=gs://b/m", "print(1)"], ["no model in gs://b/m", *NETWORKS]),
    (["reproduce", "--figure=addition", "--workdir=file"], ["--workdir=file", "not a folder"]),
    # Flagfiles.
    (["train", W, "--flagfile=no.cfg"], ["'no.cfg'", *INSTALLED]),
    (["train", W, "--flagfile", "no.cfg"], ["'no.cfg'", *INSTALLED]),
    (["train", W, "--flagfile=empty"], ["'empty'", *INSTALLED]),
    (["train", W, "--flagfile="], ["''", *INSTALLED]),
    (["train", W, "--flagfile"], ["''", *INSTALLED]),
    (["train", W, f"--flagfile={'long' * 100}.cfg"], ["longlong", *INSTALLED]),
    (["train", W, "--flagfile=unknown.cfg"], ["hidden_dims", "hidden_dim"]),
    (["train", W, "--flagfile=latin.cfg"], ["codec can't decode"]),
    (["train", W, "--flagfile=dashes.cfg"], ["'hidden_dim=3'"]),
    (["train", W, "--flagfile=missing.cfg"], ["no.cfg"]),
    # Going on with other flags.
    (["train", "--workdir=run"], ["--learning_rate=0.01", "--learning_rate=0.004"]),
    (["train", "--workdir=finished", "--seed=2"], ["--seed=1", "--seed=2"]),
    (["train", "--workdir=broken"], ["broken/flags.cfg", "no_such_flag"]),
    # What is shown of a task.
    (["show", "--task=copy", "--length=66"], ["--task=copy", "length 66", "1..65"]),
    (["show", "--task=addition", "--nesting=2"], ["nesting 2", "1..1"]),
]


@pytest.mark.parametrize(("words", "parts"), BAD, ids=[" ".join(row[0])[:60] for row in BAD])
def test_a_wrong_command_is_one_line_and_exit_code_2(command, folder, no_work, words, parts):
    before = snapshot(folder)
    found = command(*words)
    assert found.returncode == 2, found
    assert found.stdout == ""
    assert re.fullmatch(r"error: .+\n", found.stderr), found.stderr
    for part in parts:
        assert part in found.stderr
    assert snapshot(folder) == before


def test_a_finished_run_is_left_alone(command, folder, no_work):
    before = snapshot(folder)
    said = "{} holds a finished run; nothing to do\n"
    assert command("train", "--workdir=finished") == (0, said.format("finished"), "")
    # Places are no part of what a run computes.
    elsewhere = f"../{folder.name}/finished"
    found = command("train", f"--workdir={elsewhere}", "--data_dir=empty")
    assert found == (0, said.format(elsewhere), "")
    # Its own flags.cfg is a flagfile of the same run.
    assert command("train", "--flagfile=finished/flags.cfg") == (
        0,
        said.format(folder / "finished"),
        "",
    )
    assert snapshot(folder) == before


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_says_what_it_does_and_names_every_flag(command, no_work, name):
    found = command(name, "--help")
    assert (found.returncode, found.stderr) == (0, "")
    first, *lines = found.stdout.splitlines()
    source = (command_line.FLAGFILES.parent / f"{name}.py").read_text()
    assert source.startswith(f'"""{first}\n')
    shown = [line.strip().partition(":")[0] for line in lines if line.startswith("  --")]
    module = importlib.import_module(f"keras_l2e.{name}")
    arguments = Run if name == "train" else module.Arguments
    assert shown == [f"--{flag}" for flag in ["flagfile", *settings.of(arguments)]]
    assert max(map(len, lines)) <= 100
    if name == "train":
        assert "  --seed: " in command_line.format_help(arguments)  # As Python -OO shows it.
        for names in (TEACHERS, MODELS, OPTIMIZERS):
            assert f"One of {', '.join(sorted(names))}." in " ".join(found.stdout.split())


def test_help_takes_less_than_a_second_without_tensorflow(run_command, without_modules):
    environment = without_modules("tensorflow", "keras", "matplotlib")
    before = os.times()
    process = run_command("train", "--help", env=environment)
    after = os.times()
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("Trains a network to execute programs")
    # Of the processor's time, whatever else the machine does.
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 1


def test_a_flag_given_directly_wins_over_a_flagfile(folder):
    def seed_and_task(*arguments):
        run = parse("--workdir=new", *arguments)
        return run.seed, run.task, run.patience

    assert seed_and_task("--flagfile=good.cfg") == (7, "copy", 5)
    assert seed_and_task("--seed=9", "--flagfile=good.cfg") == (9, "copy", 5)
    assert seed_and_task("--flagfile", "good.cfg", "--seed=9") == (9, "copy", 5)
    # The last one of several; within a file, in its order.
    assert seed_and_task("--flagfile=outer.cfg") == (7, "copy", 3)
    assert seed_and_task("--flagfile=good.cfg", "--seed=1", "--seed=2") == (2, "copy", 5)
    assert seed_and_task("--task=program", "--flagfile=outer.cfg") == (7, "program", 3)


def test_booleans_need_no_value():
    def tied(*arguments):
        return parse("--workdir=new", *arguments).tie_encoder_decoder

    assert tied("--tie_encoder_decoder") and tied("--tie_encoder_decoder=True")
    assert not tied("--tie_encoder_decoder", "--notie_encoder_decoder")


def test_an_installed_flagfile_is_found_by_its_name(folder):
    assert "quickstart.cfg" in INSTALLED
    for path in ("quickstart.cfg", "keras_l2e/flagfiles/quickstart.cfg"):
        assert command_line.find_flagfile(path) == command_line.FLAGFILES / "quickstart.cfg"
    # One that is there comes first.
    (folder / "quickstart.cfg").write_text("--seed=3\n")
    assert command_line.find_flagfile("quickstart.cfg") == Path("quickstart.cfg")


@pytest.mark.parametrize("name", INSTALLED)
def test_installed_flagfiles_are_right(name):
    run = parse(f"--flagfile={name}", "--workdir=new")
    lines = (command_line.FLAGFILES / name).read_text().splitlines()
    flags = [line for line in lines if line.startswith("--")]
    assert len(flags) > 3
    for line in flags:
        setting, _, text = line.removeprefix("--").partition("=")
        assert getattr(run, setting) == settings.of(Run)[setting].parser.parse(text)
    assert run.global_batch_size % 2 == 0  # Two replicas are the default on two cores.


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a /proc")
def test_a_folder_that_cannot_be_made_is_found_while_working(command, two_replicas, make_config):
    config = make_config()
    found = command("train", "--workdir=/proc/new", f"--data_dir={config.data_dir}")
    assert found == (1, "", "error: No such file or directory: /proc/new\n")


@dataclass(frozen=True)
class Arguments(settings.Settings):
    """Of the commands below."""

    count: int = settings.integer(1, "How many.")
    arguments: list[str] = field(default_factory=list)


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (None, None, ""),
        (UsageError("a  \n b"), 2, "error: a b\n"),
        (WorkError("a"), 1, "error: a\n"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: No such file: x\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, "error: Broken pipe\n"),
        (MemoryError("of 9 bytes"), 1, "error: out of memory of 9 bytes\n"),
        (ImportError("No module named 'x'"), 1, "error: a package is missing or broken: No mod"),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, exit_code, line):
    given = []

    def main(arguments):
        given.append(arguments)
        if error:
            raise error

    monkeypatch.setattr(sys, "argv", ["command", "a", "--count=3", "b"])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # A broken pipe takes it away.
    if exit_code is None:
        command_line.run(main, Arguments)
    else:
        with pytest.raises(SystemExit) as stop:
            command_line.run(main, Arguments)
        assert stop.value.code == exit_code
    assert given == [Arguments(3, ["a", "b"])]
    assert capsys.readouterr().err.startswith(line)


def test_what_is_nobody_else_s_fault_keeps_its_traceback(monkeypatch):
    def main(arguments):
        raise KeyError("x")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(KeyError):
        command_line.run(main, Arguments)


@pytest.mark.parametrize("option", ["error", "error::UserWarning"])
def test_warnings_of_libraries_stay_warnings(monkeypatch, option):
    """TensorFlow and TFDS do not survive python -W error."""
    monkeypatch.setattr(sys, "warnoptions", [option])
    monkeypatch.setattr(sys, "argv", ["command"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.warns(UserWarning, match="deprecated"):
            command_line.run(lambda arguments: warnings.warn("deprecated", stacklevel=1), Arguments)


SLEEPS = """
import time
from keras_l2e import command_line
from keras_l2e.show import Arguments

def main(arguments):
    print("working", flush=True)
    time.sleep(60)

command_line.run(main, Arguments)
"""


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_says_how_to_go_on(number, exit_code):
    pipes = functools.partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pipes([sys.executable, "-c", SLEEPS], text=True) as process:
        assert process.stdout.readline() == "working\n"
        started = time.monotonic()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert stderr == "stopped; the same command goes on from what is finished\n"
    assert process.returncode == exit_code
    assert time.monotonic() - started < 10


def test_a_stopped_command_needs_no_reader():
    """As in `train | tee log`, where Ctrl-C stops both."""
    code = SLEEPS.replace("time.sleep(60)", 'print("unread"); time.sleep(60)')
    pipes = functools.partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with pipes([sys.executable, "-c", code], text=True) as process:
        assert process.stdout.readline() == "working\n"
        time.sleep(0.5)
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
