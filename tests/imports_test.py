"""The house: who may import whom, read from the sources; imports inside functions count as well."""

import ast
import graphlib
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import keras_l2e

PACKAGE = Path(keras_l2e.__file__).parent
BUILDER = "keras_l2e_datasets.learning_to_execute.learning_to_execute_dataset_builder"


def name_of(path):
    """networks/text.py -> networks.text, data/__init__.py -> data."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in PACKAGE.rglob("*.py")}
PATHS[BUILDER] = Path(importlib.util.find_spec(BUILDER).origin)
TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}

ENTRY_POINTS = {"train", "evaluate", "export", "execute", "reproduce", "show"}
# Each may import those to its right, and itself.
ROOMS = ["", "api", "paper", "page", "training", "data", "networks", "teaching", "language"]
# All may import these; what they may import themselves, beside one another, and those to the left.
GROUND = {
    "errors": set(),
    "files": set(),
    "settings": set(),
    "command_line": set(),
    "devices": set(),
    "config": {"language", "teaching", "networks"},
    "tables": set(),
    "plots": set(),
    "pretrained": {"language"},
    "hub": set(),
}
# Other names of modules of `language`, from before it was a room.
OLD_NAMES = {"programs", "tasks", "interpreter", "vocabulary"}
# What prepares missing data calls their builder, which is made of the other modules of `data`.
CALLS_THE_BUILDER = "data.stored"
TENSORFLOW = {"tensorflow", "keras", "tensorflow_datasets", "apache_beam"}


def imports(name):
    """The full names of all that a module imports, `from a import b` as a.b."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {name}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_modules(name):
    """The modules of the package, and the data set's builder, that a module imports itself."""
    found = set()
    for imported in imports(name):
        if imported.startswith("keras_l2e_datasets"):
            found.add(BUILDER)
        elif imported.startswith("keras_l2e."):
            module = imported.removeprefix("keras_l2e.")
            found.add(module if module in PATHS else module.rpartition(".")[0])
    # The package itself is there before any of its modules: it gives __version__ away.
    return found - {""}


GRAPH = {name: own_modules(name) for name in PATHS}
EDGES = [(name, other) for name, others in GRAPH.items() for other in others]


def room(name):
    """The room of a module, or else itself."""
    return "data" if name == BUILDER else name.partition(".")[0]


def roots(name):
    return {imported.partition(".")[0] for imported in imports(name)}


def test_every_module_is_in_a_room_or_on_the_ground_floor():
    assert {room(name) for name in PATHS} == {*ENTRY_POINTS, *ROOMS, *GROUND, *OLD_NAMES}


def may_import(name, other):
    """Whether the house lets a module import another one."""
    mine, theirs = room(name), room(other)
    if theirs in ENTRY_POINTS | OLD_NAMES:
        return False
    if mine in GROUND:
        return theirs in {*GROUND, *GROUND[mine]}
    if mine in OLD_NAMES:
        return other == f"language.{mine}"
    if theirs in GROUND or mine in ENTRY_POINTS:
        return True
    return ROOMS.index(mine) <= ROOMS.index(theirs)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_imports_go_downwards(name):
    assert [other for other in GRAPH[name] if not may_import(name, other)] == []


def test_the_ground_floor_sees_of_networks_their_names_alone():
    seen = {other for name, other in EDGES if name in GROUND and room(other) == "networks"}
    assert seen == {"networks"}
    assert GRAPH["networks"] == set() and not roots("networks") & TENSORFLOW


def test_there_is_no_circle():
    assert (CALLS_THE_BUILDER, BUILDER) in EDGES
    graph = {**GRAPH, CALLS_THE_BUILDER: GRAPH[CALLS_THE_BUILDER] - {BUILDER}}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_networks_know_no_data():
    """Nor what is taught: integers, and the vocabulary that gives them."""
    assert {room(b) for a, b in EDGES if room(a) == "networks"} <= {"networks", "language", *GROUND}


@pytest.mark.parametrize(
    ("libraries", "allowed"),
    [
        (TENSORFLOW, {"data", "networks", "training", "devices", "api"}),
        ({"matplotlib"}, {"plots", "paper"}),
        ({"keras_l2e_datasets"}, {"data"}),
    ],
    ids=["tensorflow", "matplotlib", "builder"],
)
def test_who_uses_what(libraries, allowed):
    assert {room(name) for name in PATHS if roots(name) & libraries} <= allowed


@pytest.mark.parametrize("name", sorted(PATHS))
def test_every_draw_goes_through_a_generator(name):
    """`random` and `np.random` are used for their generators' classes alone.

    TFDS draws from Python's own, whose state is then put back.
    """
    used = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute):
            source = ast.unparse(node.value)
            if source in ("random", "np.random", "numpy.random"):
                used.add(f"{source}.{node.attr}")
        assert not (isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"))
    if name == CALLS_THE_BUILDER:
        used -= {"random.getstate", "random.seed", "random.setstate"}
    assert used <= {"random.Random", "np.random.default_rng", "np.random.Generator"}


@pytest.mark.parametrize("name", sorted(OLD_NAMES))
def test_old_names_give_the_same_objects(name):
    old = importlib.import_module(f"keras_l2e.{name}")
    new = importlib.import_module(f"keras_l2e.language.{name}")
    public = {key: value for key, value in vars(new).items() if not key.startswith("_")}
    assert public and all(getattr(old, key) is value for key, value in public.items())


LIGHT = """
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
    assert not {heavy} & set(sys.modules), name
from keras_l2e import command_line
for name in {entry_points}:
    module = importlib.import_module(name)
    arguments = getattr(module, "Arguments", None) or module.Run
    assert "--flagfile" in command_line.format_help(arguments), name
    assert not {heavy} & set(sys.modules), name
"""


def test_importing_and_showing_help_load_no_tensorflow():
    """In a process of its own, which has not loaded it yet."""
    modules = ["keras_l2e", "keras_l2e.language.tasks", "keras_l2e.teaching.teachers"]
    entry_points = [f"keras_l2e.{name}" for name in sorted(ENTRY_POINTS)]
    heavy = TENSORFLOW | {"matplotlib"}
    code = LIGHT.format(modules=modules, entry_points=entry_points, heavy=heavy)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Sizes, in lines with docstrings


MOST = {ast.FunctionDef: 60, ast.ClassDef: 200}
# What is larger, and why.
LARGER = {
    # The formulas of one LSTM step, forward and backward, are read side by side.
    "networks.lstm.lstm",
    "networks.lstm.lstm.run",
    "networks.lstm._backward",
    # Its state is what an epoch is a pure function of.
}
# From the draw of a program to the loss, room by room: what an example really goes through.
WAY = {
    "language.tasks": "Difficulty Task _draw_program",
    "language.programs": "Example Operand Draft pair smallmul equality vars_ small_loop ifstat "
    "generate rename_variables digest split_of",
    "language.forms": "read TargetForm",
    "teaching.teacher": "Teacher",
    "teaching.teachers": "combined _climbing",
    "data.pipeline": "Generated _draw mixture cut_by_length encode_examples training_batches "
    "distribute share_of_replica",
    "networks.text": "encode append_eos encode_programs",
    "networks.models": "lstm _stack Network build _assemble",
    "networks.lstm": "EmbeddingTable LSTM lstm _one_hot_of_present _forward",
    "training.run": "Run.train_epoch Run.fit Run.batches compile_model",
}


def sizes(tree, prefix):
    """Full name -> lines, of all functions and classes in it."""
    found = {}
    for node in ast.iter_child_nodes(tree):
        inner = prefix
        if type(node) in MOST:
            inner = f"{prefix}.{node.name}"
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[inner] = (node.end_lineno - start + 1, MOST[type(node)])
        found |= sizes(node, inner)
    return found


SIZES = {key: value for name in PATHS for key, value in sizes(TREES[name], name).items()}


def test_no_function_and_no_class_is_large():
    assert {name for name, (size, most) in SIZES.items() if size > most} <= LARGER


def test_the_way_of_one_example_is_short():
    assert len({room(name) for name in WAY}) <= 5
    names = [f"{name}.{part}" for name, parts in WAY.items() for part in parts.split()]
    assert sum(SIZES[name][0] for name in names) <= 1_500
