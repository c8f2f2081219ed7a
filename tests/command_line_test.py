import ast
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl import flags

from keras_l2e import command_line, pretrained, train
from keras_l2e import config as run_flags
from keras_l2e.errors import UsageError
from keras_l2e.language.programs import OPERATIONS

ENTRY_POINTS = ("train", "evaluate", "export", "execute", "reproduce", "show")
NETWORKS = pretrained.names()
INSTALLED = sorted(path.name for path in command_line.FLAGFILES.glob("*.cfg"))


def snapshot(folder):
    """Everything in a folder, with bytes and times of change."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
    }


def write_run(workdir, finished=False, **changes):
    """The folder of a run, as far as a command sees it before TensorFlow is loaded."""
    values = flags.FlagValues()
    run_flags.define(values)
    values(["", f"--workdir={workdir}"])
    settled = {"num_replicas": 2, "threads_per_replica": 1, "onednn": "off"}
    config = SimpleNamespace(**values.flag_values_dict() | settled)
    vars(config).update(changes)
    workdir.mkdir()
    run_flags.write(workdir, config)
    if finished:
        (workdir / "model.keras").write_bytes(b"no model")
        (workdir / "evaluation.json").write_text("{}")


@pytest.fixture
def folder(tmp_path):
    """A folder with all sorts of things that a flag may name by mistake."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept").write_text("kept")
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "run", learning_rate=0.01)
    write_run(tmp_path / "finished", finished=True)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/flags.cfg").write_text("--no_such_flag=1\n")
    (tmp_path / "good.cfg").write_text("# a comment\n\n--seed=7\n--task=copy\n")
    (tmp_path / "unknown.cfg").write_text("--seed=7\n--hidden_dims=3\n")
    (tmp_path / "latin.cfg").write_bytes("--seed=7 # für".encode("latin-1"))
    (tmp_path / "dashes.cfg").write_text("--seed=7\nhidden_dim=3\n")
    (tmp_path / "nested.cfg").write_text("--flagfile=dashes.cfg\n")
    (tmp_path / "missing.cfg").write_text("--flagfile=no.cfg\n")
    (tmp_path / "loop.cfg").write_text("--flagfile=loop.cfg\n")
    return tmp_path


@pytest.fixture(scope="session")
def no_tensorflow(tmp_path_factory):
    """The environment of a process that cannot import TensorFlow."""
    folder = tmp_path_factory.mktemp("no_tensorflow")
    for name in ("tensorflow", "keras"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} is imported')")
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.fixture
def run(run_command, folder, no_tensorflow):
    """Runs an entry point where TensorFlow cannot be imported."""
    environment = no_tensorflow | {"HOME": str(folder / "empty")}
    return functools.partial(run_command, cwd=folder, env=environment)


# Imports once what all commands import. For a line of JSON it forks off a command, runs it as
# `python -m` would, and says its exit code.
FORKS = """
import json, os, runpy, signal, sys
from keras_l2e import command_line, files, pretrained, config as run_flags, devices as runtime
from keras_l2e.paper import cells, claims
from keras_l2e.training import workers

for line in sys.stdin:
    name, sys.argv[1:], folder = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    signal.alarm(300)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, path in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(folder)
    os.environ["HOME"] = os.path.join(folder, "empty")
    runpy.run_module("keras_l2e." + name, run_name="__main__", alter_sys=True)
    sys.exit()
"""


@pytest.fixture(scope="module")
def fork(no_tensorflow, tmp_path_factory):
    """Runs an entry point in a folder as `run` does, in a tenth of the time."""
    output = tmp_path_factory.mktemp("forks")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", FORKS]
    process = subprocess.Popen(command, cwd=output, env=no_tensorflow, text=True, **pipes)

    def fork(folder, name, *arguments):
        print(json.dumps([name, arguments, str(folder)]), file=process.stdin, flush=True)
        exit_code = int(process.stdout.readline())
        stdout, stderr = ((output / name).read_text() for name in ("stdout", "stderr"))
        return SimpleNamespace(returncode=exit_code, stdout=stdout, stderr=stderr)

    yield fork
    process.communicate(timeout=60)


W = "--workdir=new"
BAD = [
    # Names.
    (
        ["train", W, "--strategy=mixx"],
        ["--strategy=mixx", "baseline|combined|frontier|mix|naive|review"],
    ),
    (["train", W, "--task=addtion"], ["--task=addtion", "addition|copy|program"]),
    (["train", W, "--model=gru"], ["--model=gru", "lstm"]),
    (["train", W, "--optimizer=adamw"], ["--optimizer=adamw", "adam|muon|sgd"]),
    (["train", W, "--input_form=double_reverse"], ["double_reverse", "reverse_double"]),
    (["train", W, "--train_source=fresh"], ["fresh", "generated|prepared"]),
    (
        ["train", W, "--learning_rate_schedule=linear"],
        ["linear", "constant|cosine|plateau|target_cosine"],
    ),
    (["train", W, "--loss_scale=token"], ["token", "character|example"]),
    (["train", W, "--onednn=yes"], ["--onednn=yes", "auto|off|on"]),
    (["train", W, "--strateg=mix"], ["strateg", "strategy"]),
    (["train", W, f"--{'strategy' * 200}"], ["unknown flag '--strategy", "..."]),
    (["evaluate", "--workdir=run", "--hidden_dim=3"], ["hidden_dim"]),
    # Sizes.
    (["train", W, "--target_length=0"], ["--target_length=0", "positive"]),
    (["train", W, "--target_length=65"], ["length 65", "1..64"]),
    (["train", W, "--target_nesting=2"], ["nesting 2", "1..1"]),
    (["train", W, "--task=program", "--target_length=13"], ["length 13", "1..12"]),
    (["train", W, "--hidden_dim=-1"], ["--hidden_dim=-1"]),
    (["train", W, "--num_layers=0"], ["--num_layers=0"]),
    (["train", W, "--embedding_dim=0"], ["--embedding_dim=0"]),
    (["train", W, "--global_batch_size=0"], ["--global_batch_size=0"]),
    (["train", W, "--batches_per_epoch=0"], ["--batches_per_epoch=0"]),
    (["train", W, "--num_epochs=0"], ["--num_epochs=0"]),
    (["train", W, "--examples_per_difficulty=-5"], ["--examples_per_difficulty=-5"]),
    (["train", W, "--validation_examples=0"], ["--validation_examples=0"]),
    (["train", W, "--test_examples=0"], ["--test_examples=0"]),
    (["train", W, "--num_replicas=-1"], ["--num_replicas=-1"]),
    (["train", W, "--seed=-1"], ["--seed=-1"]),
    (["train", W, "--seed=x"], ["--seed=x", "a whole number is needed"]),
    (["train", W, "--num_epochs=1e3"], ["--num_epochs=1e3", "a whole number is needed"]),
    (["train", W, "--clip_norm=x"], ["--clip_norm=x", "a number is needed"]),
    (["train", W, "--validate_all_levels=x"], ["levels=x", "true or false is needed"]),
    (["train", W, f"--seed={2**32}"], [f"--seed={2**32}", str(2**32 - 1)]),
    (["train", W, "--learning_rate=0"], ["--learning_rate=0", "positive"]),
    (["train", W, "--learning_rate=-1"], ["--learning_rate=-1", "positive"]),
    (["train", W, "--learning_rate=nan"], ["--learning_rate=nan", "finite"]),
    (["train", W, "--clip_norm=inf"], ["--clip_norm=inf", "finite"]),
    (["train", W, "--mix_share=1.5"], ["--mix_share=1.5", "1.0"]),
    (
        ["train", W, "--learning_rate_schedule=plateau", "--learning_rate=1e-4"],
        ["--learning_rate=0.0001", "--min_learning_rate=0.001"],
    ),
    (["train", W, "--initial_model=sums"], ["no network 'sums'", *NETWORKS]),
    (["train", W, "--initial_model=run"], ["no finished training in run", "model.keras"]),
    (["train", W, "--initial_model=empty"], ["no training run in empty"]),
    (
        ["train", W, "--initial_model=finished", "--hidden_dim=8"],
        ["--hidden_dim=8", "--initial_model=finished has 256"],
    ),
    (["train", W, "--carry_share=0.1", "--task=copy"], ["--carry_share=0.1", "addition"]),
    (["train", W, "--carry_share=0.1", "--target_length=21"], ["of 21 digits", "up to 20"]),
    (["train", W, "--carry_share=1.1"], ["--carry_share=1.1", "1.0"]),
    (["train", W, "--first_operations=pair"], ["=pair", "addition", "--task=program", "naive"]),
    (
        ["train", W, "--task=program", "--first_operations=pair", "--strategy=mix"],
        ["--first_operations=pair", "--strategy=mix", "combined, frontier, naive, review"],
    ),
    (
        ["train", W, "--task=program", "--first_operations=pair,vars", "--target_nesting=5"],
        ["--first_operations=pair,vars", "--target_nesting=5", "one program in 100"],
    ),
    (["train", W, "--first_operations=pair,sum"], ["pair,sum", "'sum'", "smallmul"]),
    (
        ["train", W, f"--first_operations={','.join(OPERATIONS)}"],
        ["--first_operations=pair", "some must be left"],
    ),
    (["train", W, "--sort_window=0"], ["--sort_window=0"]),
    (["train", W, "--first_batch_size=-1"], ["--first_batch_size=-1"]),
    (["train", W, "--first_batch_size=256"], ["size=256", "0 to --global_batch_size=128"]),
    # Paths.
    (["train"], ["--workdir is required"]),
    (["train", "--workdir="], ["--workdir=", "a path is needed"]),
    (["train", "--workdir=file"], ["--workdir=file", "not a folder"]),
    (["train", "--workdir=file/below"], ["--workdir=file/below: file is not a folder"]),
    (["train", "--workdir=full"], ["--workdir=full", "holds other files"]),
    (["train", "--workdir=new/.."], ["--workdir=new/..", "holds other files"]),
    (["train", W, "--data_dir=file"], ["--data_dir=file", "not a folder"]),
    (["train", W, "--data_dir=file/below"], ["--data_dir=file/below", "not a folder"]),
    (["train", W, "--data_dir="], ["--data_dir=", "a path is needed"]),
    # What flags.cfg could not hold.
    (["train", "--workdir=a\n--seed=2"], ["--workdir=a --seed=2", "printable"]),
    (["train", "--workdir=new "], ["--workdir=new", "space at its ends"]),
    (["train", W, "--data_dir=\udcff"], ["--data_dir=", "printable"]),
    (["train", "--workdir=~nobody_here/run"], ["no home directory ~nobody_here"]),
    (["execute", "--model=~nobody_here", "print(1)"], ["no home directory ~nobody_here"]),
    (["evaluate"], ["exactly one of --workdir and --pretrained"]),
    (["evaluate", "--workdir=finished", "--pretrained=sums"], ["exactly one of --workdir"]),
    (["evaluate", "--pretrained=sums"], ["no network 'sums'", *NETWORKS]),
    (["evaluate", "--workdir=finished", "--output=full"], ["--output=full", "folder"]),
    (["evaluate", "--workdir=finished", "--output=file/x"], ["--output=file", "not a folder"]),
    (["evaluate", "--workdir=missing"], ["no training run in missing", "flags.cfg"]),
    (["evaluate", "--workdir=empty"], ["no training run in empty"]),
    (["evaluate", "--workdir=run"], ["no finished training in run", "model.keras"]),
    (["evaluate", "--workdir=broken"], ["broken/flags.cfg", "no_such_flag"]),
    (["evaluate", "--workdir=finished", "--data_dir=file"], ["--data_dir=file", "not a folder"]),
    (["evaluate", "--workdir=finished", "--data_dir="], ["--data_dir=", "a path is needed"]),
    (["export", "--workdir=finished"], ["--output is required"]),
    (["export", "--output=out"], ["exactly one of --workdir and --pretrained"]),
    (["export", "--pretrained=sums", "--output=out"], ["no network 'sums'", *NETWORKS]),
    (["export", "--workdir=empty", "--output=out"], ["no training run in empty"]),
    (["export", "--workdir=run", "--output=out"], ["no finished training in run"]),
    (["export", "--workdir=finished", "--output=full"], ["--output=full exists"]),
    (["export", "--workdir=finished", "--output=new/.."], ["--output=new/.. exists"]),
    (["export", "--workdir=finished", "--output=file/x"], ["--output=file/x", "not a folder"]),
    (["execute", "--model=", "print(1)"], ["--model", "a path is needed"]),
    (["execute", "hello"], ["'hello'", "no network", "trained on such a text", *NETWORKS]),
    (["execute", "--model=empty", "print(1)"], ["no model in empty"]),
    (["execute", "--model=missing", "print(1)"], ["no model in missing"]),
    (["execute", "--model=file", "print(1)"], ["no model in file"]),
    (["execute", "--model=run", "print(1)"], ["no model in run"]),
    # The paper's figures, and what is shown of a task.
    (["reproduce", W], ["--figure"]),
    (["reproduce", W, "--figure=sums"], ["--figure=sums", "addition|programs|memorization"]),
    (["reproduce", W, "--figure=addition", "--budget=gpu"], ["gpu", "smoke|cpu|paper"]),
    (["reproduce", "--figure=addition"], ["--workdir is required"]),
    (["reproduce"], ["--figure is required; --workdir is required"]),
    (["reproduce", "--figure=addition", "--workdir=file"], ["--workdir=file", "not a folder"]),
    (["reproduce", W, "--figure=addition", "--output=file"], ["--output=file", "not a folder"]),
    (["reproduce", W, "--figure=addition", "--data_dir=file"], ["--data_dir=file"]),
    (["reproduce", W, "--figure=addition", "--cells_at_once=-1"], ["--cells_at_once=-1"]),
    (["reproduce", W, "--figure=addition", "--num_replicas=-1"], ["--num_replicas=-1"]),
    (["reproduce", W, "--figure=addition", "--dead_after=0"], ["--dead_after=0"]),
    (["reproduce", W, "--figure=addition", "--strategy=mix"], ["strategy"]),
    (["reproduce", W, "--figure=addition", "mix"], ["'mix'"]),
    (["show", "--task=sums"], ["--task=sums", "addition|copy|program"]),
    (["show", "--task=copy", "--length=66"], ["--task=copy", "length 66", "1..65"]),
    (["show", "--task=addition", "--nesting=2"], ["nesting 2", "1..1"]),
    (["show", "--input_form=twice"], ["twice", "reverse_double"]),
    (["show", "--count=0"], ["--count=0"]),
    # Flagfiles.
    (["train", W, "--flagfile=no.cfg"], ["'no.cfg'", *INSTALLED]),
    (["train", W, "--flagfile", "no.cfg"], ["'no.cfg'", *INSTALLED]),
    (["train", W, "--flagfile=empty"], ["'empty'", *INSTALLED]),
    (["train", W, "--flagfile="], ["''", *INSTALLED]),
    (["train", W, "--flagfile=~nobody_here/no.cfg"], ["'~nobody_here/no.cfg'", *INSTALLED]),
    (["train", W, f"--flagfile={'long' * 100}.cfg"], ["longlong", *INSTALLED]),
    (["train", W, "--flagfile"], ["''", *INSTALLED]),
    (["train", W, "--flagfile=unknown.cfg"], ["hidden_dims", "hidden_dim"]),
    (["train", W, "--flagfile=latin.cfg"], ["latin.cfg", "not UTF-8"]),
    (["train", W, "--flagfile=dashes.cfg"], ["dashes.cfg line 2: 'hidden_dim=3'"]),
    (["train", W, "--flagfile=nested.cfg"], ["dashes.cfg line 2: 'hidden_dim=3'"]),
    (["train", W, "--flagfile=missing.cfg"], ["'no.cfg'", *INSTALLED]),
    (["train", W, "--flagfile=loop.cfg"], ["loop.cfg names itself"]),
    # Other arguments.
    (["train", W, "print(1)"], ["'print(1)'"]),
    (["train", W, "--", "--seed=2"], ["'--seed=2'"]),
    (["evaluate", "--workdir=run", "run"], ["'run'"]),
    (["export", "--workdir=run", "--output=out", "out"], ["'out'"]),
    # Going on with other flags.
    (["train", "--workdir=run"], ["--learning_rate=0.01", "--learning_rate=0.004"]),
    (
        ["train", "--workdir=run", "--learning_rate=0.01", "--num_replicas=1"],
        ["--num_replicas=2", "--num_replicas=1"],
    ),
    (
        ["train", "--workdir=run", "--learning_rate=0.01", "--tie_encoder_decoder"],
        ["--tie_encoder_decoder=False", "--tie_encoder_decoder=True"],
    ),
    (["train", "--workdir=finished", "--seed=2"], ["--seed=1", "--seed=2"]),
    (["train", "--workdir=broken"], ["broken/flags.cfg", "no_such_flag"]),
]


@pytest.mark.parametrize(("command", "parts"), BAD, ids=[" ".join(row[0]) for row in BAD])
def test_a_wrong_command_is_one_line_and_exit_code_2(fork, folder, command, parts):
    before = snapshot(folder)
    process = fork(folder, *command)
    assert process.returncode == 2, process
    assert process.stdout == ""
    assert re.fullmatch(r"error: .+\n", process.stderr), process.stderr
    for part in parts:
        assert part in process.stderr
    assert snapshot(folder) == before


def test_two_programs_are_one_too_many(run, folder):
    (folder / "model/assets.extra").mkdir(parents=True)
    (folder / "model/assets.extra/keras_l2e.json").write_text("{}")
    process = run("execute", "--model=model", "print(1)", "print(2)")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "error: one program at a time; the second is 'print(2)'\n"
    (folder / "latin.py").write_bytes(b"\xff")
    process = run("execute", "--model=model", "latin.py")
    assert (process.returncode, process.stderr) == (2, "error: latin.py is not UTF-8 text\n")
    with open(folder / "latin.py") as file:
        process = run("execute", "--model=model", stdin=file)
    assert (process.returncode, process.stderr) == (2, "error: standard input is not UTF-8 text\n")


def test_a_finished_run_is_left_alone(run, folder):
    before = snapshot(folder)
    process = run("train", "--workdir=finished")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == "finished holds a finished run; nothing to do\n"
    # Places are no part of what a run computes.
    process = run("train", "--workdir=../" + folder.name + "/finished", "--data_dir=empty")
    assert process.returncode == 0
    # Its own flags.cfg is a flagfile of the same run.
    process = run("train", "--flagfile=finished/flags.cfg")
    assert process.stdout.endswith("finished holds a finished run; nothing to do\n")
    assert snapshot(folder) == before


def flag_names(name):
    """The flags that an entry point defines, by the first argument of its calls of define."""
    if name == "train":
        values = flags.FlagValues()
        run_flags.define(values)
        return set(values)
    source = (Path(command_line.__file__).parent / f"{name}.py").read_text()
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and "define" in ast.unparse(node.func).lower()
    }


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_names_every_flag_and_needs_no_tensorflow(run, name):
    process = run(name, "--help")
    assert (process.returncode, process.stderr) == (0, "")
    first, *lines = process.stdout.splitlines()
    assert first.endswith(".")
    shown = [line.strip().partition(":")[0] for line in lines if line.startswith("  --")]
    assert sorted(shown) == sorted(f"--{flag}" for flag in {"flagfile", *flag_names(name)})
    assert {"--workdir", "--model", "--task"} & set(shown)
    assert max(map(len, lines)) <= 100


def test_a_flag_given_directly_wins(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "outer.cfg").write_text("--seed=8\n--flagfile=good.cfg\n")

    def expand(*arguments):
        return command_line._expand_flagfiles(arguments)

    assert expand("--seed=9", "--flagfile=good.cfg") == ["--seed=7", "--task=copy", "--seed=9"]
    assert expand("--flagfile", "good.cfg", "--seed=9")[-1] == "--seed=9"
    assert expand("--flagfile=outer.cfg") == ["--seed=7", "--task=copy", "--seed=8"]
    assert expand("--flagfile=good.cfg", "--flagfile=outer.cfg")[-1] == "--seed=8"
    assert expand("a", "--", "--flagfile=good.cfg") == ["a", "--", "--flagfile=good.cfg"]


def test_an_installed_flagfile_is_found_by_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert "quickstart.cfg" in INSTALLED
    for path in ("quickstart.cfg", "keras_l2e/flagfiles/quickstart.cfg"):
        assert command_line.find_flagfile(path) == command_line.FLAGFILES / "quickstart.cfg"
    # One that is there comes first.
    (folder / "quickstart.cfg").write_text("--seed=3\n")
    assert command_line.find_flagfile("quickstart.cfg") == Path("quickstart.cfg")


@pytest.mark.parametrize("name", INSTALLED)
def test_installed_flagfiles_are_right(name, tmp_path):
    values = flags.FlagValues()
    run_flags.define(values)
    lines = command_line.read_flagfile(command_line.FLAGFILES / name)
    values(["", *lines, f"--workdir={tmp_path / 'new'}", f"--data_dir={tmp_path}"])
    config = SimpleNamespace(**values.flag_values_dict())
    assert train.settle(config, tmp_path / "new").onednn in ("on", "off")
    assert config.global_batch_size % 2 == 0


def test_flags_are_written_and_read_back(tmp_path):
    write_run(tmp_path / "run", learning_rate=1e-05, tie_encoder_decoder=True, data_dir="a b")
    config = run_flags.read(tmp_path / "run")
    assert (config.learning_rate, config.tie_encoder_decoder) == (1e-05, True)
    assert (config.data_dir, config.num_replicas) == ("a b", 2)
    # Every flag stands there, once.
    values = flags.FlagValues()
    run_flags.define(values)
    lines = (tmp_path / "run/flags.cfg").read_text().splitlines()
    assert [line.partition("=")[0] for line in lines] == [f"--{name}" for name in sorted(values)]


def test_open_flags_are_taken_over_from_the_run(folder):
    config = run_flags.read(folder / "run")
    config.num_replicas, config.threads_per_replica, config.onednn = 0, 0, "auto"
    settled = train.settle(config, folder / "run")
    assert (settled.num_replicas, settled.threads_per_replica, settled.onednn) == (2, 1, "off")


@pytest.mark.parametrize(
    ("num_replicas", "global_batch_size", "message"),
    [
        (1000, 1000, "--num_replicas=1000; allowed 0 to "),
        (1, 7, None),
        (2, 7, "multiples of the 2"),
    ],
)
def test_replicas_share_the_batch(num_replicas, global_batch_size, message, monkeypatch):
    monkeypatch.setattr("keras_l2e.devices.num_devices", lambda: 2)
    monkeypatch.setattr("keras_l2e.devices.num_cores", lambda: 4)
    config = SimpleNamespace(
        num_replicas=num_replicas, threads_per_replica=0, global_batch_size=global_batch_size
    )
    if message is None:
        train.share_among_replicas(config)
        assert (config.num_replicas, config.threads_per_replica) == (num_replicas, 4)
    else:
        with pytest.raises(UsageError, match=message):
            train.share_among_replicas(config)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a /proc")
def test_a_folder_that_cannot_be_made_is_found_while_working(run_command):
    process = run_command("train", "--workdir=/proc/new")
    assert process.returncode == 1
    assert re.fullmatch(r"error: .+: /proc/new\n", process.stderr), process.stderr


STOPS = """
import ctypes, os, signal, sys, time
from keras_l2e import command_line

command_line.STOP_LOOKS = 3

def wait(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)

def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    wait(0.1)

def swallowed(config):
    ctypes.CFUNCTYPE(None)(send)()  # ctypes reports what its callbacks raise, and goes on.
    print("it goes on", flush=True)
    wait(60)

def tidy(config):
    try:
        send()
    finally:
        send(signal.SIGINT)
        wait(4.5)
        print("tidied up", flush=True)

PREPARING = compile(
    "os.kill(os.getpid(), signal.SIGTERM)\\n"
    "until = time.monotonic() + seconds\\n"
    "while time.monotonic() < until:\\n"
    "    pass\\n"
    "print('prepared', flush=True)",
    "/lib/tensorflow/python/framework/constant_op.py",
    "exec",
)

def prepared(config):
    exec(PREPARING, globals(), {"seconds": 0.3})
    wait(60)

def endless(config):
    command_line._delays = iter(range(3))
    exec(PREPARING, globals(), {"seconds": 20})

command_line.run(globals()[sys.argv.pop()])
"""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("swallowed", "it goes on\n"),
        ("tidy", "tidied up\n"),
        # Not while TensorFlow prepares an operation, unless that has no end.
        ("prepared", "prepared\n"),
        ("endless", ""),
    ],
)
def test_a_signal_stops_once_and_for_all(kind, said):
    process = subprocess.run(
        [sys.executable, "-c", STOPS, kind], capture_output=True, text=True, timeout=30
    )
    assert (process.returncode, process.stdout) == (143, said)
    line = "stopped; the same command goes on from what is finished\n"
    assert process.stderr.endswith(line) if kind == "swallowed" else process.stderr == line
