"""The types of what users call and add to: right by themselves, and of use in their programs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CALLS = """
from typing import assert_type

import keras_l2e
from keras_l2e.api import Answer, TrainedNetwork

network = keras_l2e.load("addition_9")
assert_type(network, TrainedNetwork)
assert_type(network.execute("print(1+2)"), Answer)
assert_type(network.execute(["print(1+2)"]), list[Answer])
config = keras_l2e.Config(task="addition", target_length=3)
assert_type((config.task, config.learning_rate), tuple[str, float])
assert_type(keras_l2e.train(config, "runs/a"), TrainedNetwork)
assert_type(keras_l2e.execute("print(1+2)").right, bool | None)
"""

ADDITIONS = """
from keras_l2e.language.forms import TARGET_FORMS, TargetForm
from keras_l2e.language.programs import OPERATIONS, Draft, Longest, Operand
from keras_l2e.language.tasks import TASKS, Task
from keras_l2e.networks import MODELS
from keras_l2e.teaching.teacher import Teacher
from keras_l2e.teaching.teachers import TEACHERS


def double(draft: Draft) -> Operand:
    (a,) = draft.operands(1)
    return Operand(f"({a.text}+{a.text})", 2 * a.value)


def model(vocabulary_size: int) -> tuple[object, object]:
    return object(), object()


OPERATIONS["double"] = double
MODELS["model"] = model
copy = TASKS["copy"]
TASKS["mirror"] = Task(
    copy.generate,
    answer=lambda text: text[::-1],
    longest=lambda difficulty: Longest(difficulty.length, difficulty.length, 0),
    difficulty_of=copy.difficulty_of,
    max_length=9,
)
TARGET_FORMS["twice"] = TargetForm(
    write=lambda example: f"{example.target}+{example.target}",
    longest=lambda longest: 2 * longest.target + 1,
    separator="+",
)
TEACHERS["first"] = lambda: Teacher(
    start=lambda levels: len(levels),
    weights=lambda num_levels: [1.0] + [0.0] * (num_levels - 1),
    update=lambda num_levels, scores: num_levels,
)
"""


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Has mypy judge files, by default those that pyproject.toml names."""
    cache = tmp_path_factory.mktemp("mypy")

    def judge(*files):
        return subprocess.run(
            [sys.executable, "-m", "mypy", f"--cache-dir={cache}", *map(str, files)],
            cwd=ROOT,
            env=os.environ | {"MYPYPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    return judge


@pytest.mark.slow
def test_what_users_call_is_typed(mypy):
    found = mypy()
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("program", [CALLS, ADDITIONS], ids=["calls", "additions"])
def test_a_program_of_a_user_s(mypy, tmp_path, program):
    (tmp_path / "program.py").write_text(program)
    found = mypy(tmp_path / "program.py")
    assert found.returncode == 0, found.stdout + found.stderr


MISTAKES = [
    'keras_l2e.Config(tsk="addition")',
    'keras_l2e.Config(target_length="3")',
    'keras_l2e.execute("print(1+2)").outptu',
    "keras_l2e.load(9)",
]


@pytest.mark.slow
def test_mistakes_of_a_user_s_are_found(mypy, tmp_path):
    lines = ["import keras_l2e", *MISTAKES]
    (tmp_path / "program.py").write_text("\n".join([*lines, ""]))
    found = mypy(tmp_path / "program.py")
    assert found.returncode == 1
    wrong = {int(number) for number in re.findall(r"program\.py:(\d+): error: ", found.stdout)}
    assert wrong == set(range(2, 2 + len(MISTAKES)))
