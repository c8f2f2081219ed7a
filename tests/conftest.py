"""What all tests share: the devices, one small trained network, the entry points as commands."""

import contextlib
import importlib
import io
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

from keras_l2e import config as configs
from keras_l2e import devices, page, tables
from keras_l2e.config import Config
from keras_l2e.data import stored
from keras_l2e.language import programs, vocabulary
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS

# By the clock an example takes as long as whatever else the machine does.
hypothesis.settings.register_profile("keras_l2e", deadline=None)
hypothesis.settings.load_profile("keras_l2e")

# A command that is started takes seconds. One that hangs is killed after so many, lest its test
# waits for ever.
WATCHDOG_SECONDS = 600


def pytest_configure(config):
    """Loads TensorFlow where tests run; the process that deals them out needs none."""
    if config.getoption("dist", "no") == "no":
        # As the commands do that tests start: bits depend on it.
        devices.load_tensorflow(devices.default_onednn())
        # For the whole session: TensorFlow takes no other devices and threads once it has started.
        devices.start(num_replicas=2, threads_per_replica=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With L2E_NO_SKIPS a skipped test is a failed one: where all is installed, none is."""
    report = yield
    if report.skipped and os.environ.get("L2E_NO_SKIPS"):
        report.outcome = "failed"
    return report


# A run of seconds; in its second epoch it comes to its target.
SMALL = {
    "task": "addition",
    "target_length": 2,
    "input_form": "reverse",
    "examples_per_difficulty": 300,
    "num_epochs": 5,
    "batches_per_epoch": 20,
    "hidden_dim": 16,
    "embedding_dim": 8,
    "global_batch_size": 32,
    "validation_examples": 50,
    "test_examples": 60,
    "advance_threshold": 0.5,
    "learning_rate": 0.03,
    "average_decay": 0.9,
    "num_replicas": 2,
    "threads_per_replica": 1,
}


def small_network(**settings):
    """A network of some settings, whose first weights are the same every time."""
    import keras

    from keras_l2e.networks import models

    keras.utils.set_random_seed(1)
    small = {"hidden_dim": 8, "embedding_dim": 5, "num_layers": 2, "num_heads": 2}
    config = Config(**small | settings)
    return models.build(config.model, vocabulary.SIZE, config)


def drawn(task, levels, count, split="test") -> list[Example]:
    """Examples of a split, of any of the levels; the same ones every time."""
    # With another seed two engines might meet a tie between characters, and each break it its way.
    rng, found = random.Random(f"page_test/{task}"), []
    while len(found) < count:
        example = TASKS[task].generate(rng, rng.choice(levels))
        if programs.split_of(example.program) == split:
            found.append(example)
    return found


def snapshot(folder) -> dict:
    """Everything in a folder, with bytes and times of change."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def two_replicas():
    """A strategy of two replicas as `devices.start` makes it."""
    return devices.start(num_replicas=2)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder of prepared data, which is filled by `make_config`."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def make_config(data_dir):
    """Makes the config of a small run with some changes.

    Its data are prepared, unless they are to be in another folder.
    """

    def make(**changes) -> Config:
        config = Config(**{**SMALL, "data_dir": data_dir, **changes})
        if config.data_dir == str(data_dir):
            size = config.examples_per_difficulty
            stored.prepare(config.task, config.levels, data_dir, size, report=lambda line: None)
        return config

    return make


class FinishedRun(NamedTuple):
    """A finished training run.

    Attributes:
        folder: which holds its files.
        config: of the run.
        said: what it printed.
    """

    folder: Path
    config: Config
    said: str

    @property
    def history(self) -> list[dict]:
        return tables.read_history(self.folder / "history.jsonl")

    @property
    def evaluation(self) -> dict:
        return tables.read_evaluation(self.folder / "evaluation.json")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, make_config):
    """A small run of two replicas from its start to its end; its folder is to be left as it is."""
    from keras_l2e.training import session

    folder = tmp_path_factory.mktemp("small") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        session.train(make_config(), folder)
    return FinishedRun(folder, configs.read(folder), said.getvalue())


class Finished(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs an entry point in this process, as `python -m keras_l2e.NAME ARGUMENTS...` would."""

    def run(name, *arguments) -> Finished:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.delitem(sys.modules, f"keras_l2e.{name}", raising=False)  # runpy would warn.
        handler, returncode = signal.getsignal(signal.SIGTERM), 0
        capsys.readouterr()
        try:
            runpy.run_module(f"keras_l2e.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            returncode = stop.code
        finally:
            signal.signal(signal.SIGTERM, handler)
        return Finished(returncode, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def run_command():
    """Runs `python -m keras_l2e.NAME ARGUMENTS...` and gives the finished process."""

    def run(name, *arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", f"keras_l2e.{name}", *map(str, arguments)],
            **{"capture_output": True, "text": True, "timeout": 300, **options},
        )

    return run


@pytest.fixture
def start_command():
    """Starts `python -m keras_l2e.NAME ARGUMENTS...`; kills what a test leaves running."""

    def start(name, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", f"keras_l2e.{name}", *map(str, arguments)],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )
        stack.enter_context(process)  # Closes its pipes.
        stack.callback(process.kill)
        watchdog = threading.Timer(WATCHDOG_SECONDS, process.kill)
        stack.callback(watchdog.cancel)
        watchdog.start()
        return process

    with contextlib.ExitStack() as stack:
        yield start


@pytest.fixture(scope="session")
def wait_for():
    """Waits until something is true, which is given, while a process runs."""

    def wait(condition, process, seconds=300):
        until = time.monotonic() + seconds
        while not (found := condition()):
            assert process.poll() is None, f"it ended with {process.returncode}"
            assert time.monotonic() < until, "it never came"
            time.sleep(0.01)
        return found

    return wait


@pytest.fixture(scope="session")
def benchmark():
    """Imports a module of benchmarks/ by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
        yield importlib.import_module


@pytest.fixture(scope="session")
def random_network(benchmark, tmp_path_factory):
    """A network with random weights, of `bad_input.NETWORK`, and the folder of its SavedModel."""
    folder = tmp_path_factory.mktemp("network") / "saved_model"
    return benchmark("bad_input").export_network(folder), folder


@pytest.fixture(scope="session")
def addition_9():
    """The network of this name that comes with the package."""
    import keras_l2e

    return keras_l2e.load("addition_9")


@pytest.fixture
def others_settings():
    """Sets what somebody else may have set of Keras in this process, and what must not change."""
    import keras

    before = {name: getattr(keras.config, name)() for name in devices.KERAS_SETTINGS}
    given = {}

    def set_all(**theirs):
        given.update(theirs)
        for name, value in theirs.items():
            getattr(keras.config, f"set_{name}")(value)

    yield set_all
    found = {name: getattr(keras.config, name)() for name in given}
    for name, value in before.items():
        getattr(keras.config, f"set_{name}")(value)
    assert found == given


@pytest.fixture
def without_modules(tmp_path):
    """Gives the variables of a process that cannot import some modules."""

    def refuse(*names):
        for name in names:
            (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is imported')")
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        return os.environ | {"PYTHONPATH": path}

    return refuse


@pytest.fixture(scope="session")
def installed():
    """Finds a program of the system; without it the test is skipped."""

    def find(*names) -> str:
        found = next(filter(None, map(shutil.which, names)), None)
        if found is None:
            pytest.skip(f"needs {' or '.join(names)}")
        return found

    return find


@pytest.fixture(scope="session")
def ask_page(installed):
    """Calls a function of the page's modules on lists of arguments, see page_in_node.mjs."""

    def ask(function, arguments, html=None) -> list[dict]:
        request = {"function": function, "arguments": arguments, "page": html and str(html)}
        process = subprocess.run(
            [installed("node"), Path(__file__).parent / "page_in_node.mjs", page.FOLDER],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=WATCHDOG_SECONDS,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    return ask


@pytest.fixture(scope="session")
def use_page(installed):
    """Uses a page in Chromium, see page_in_chromium.mjs; it must load nothing and have no error."""

    def use(html, actions) -> list:
        chromium = installed("chromium", "chromium-browser", "google-chrome")
        process = subprocess.run(
            [installed("node"), Path(__file__).parent / "page_in_chromium.mjs", chromium, html],
            input=json.dumps(actions),
            capture_output=True,
            text=True,
            timeout=WATCHDOG_SECONDS,
        )
        assert process.returncode == 0, process.stderr
        found = json.loads(process.stdout)
        assert found["loaded"] == found["errors"] == []
        return found["gave"]

    return use
