"""Who may import whom, read from the sources: also imports inside functions count."""

import ast
import graphlib
import importlib.util
import pathlib
import subprocess
import sys

import pytest

import keras_l2e

PACKAGE = pathlib.Path(keras_l2e.__file__).parent
BUILDER = "keras_l2e_datasets"
SOURCES = {path.stem: path.read_text() for path in PACKAGE.glob("*.py")} | {
    BUILDER: pathlib.Path(
        importlib.util.find_spec(
            f"{BUILDER}.learning_to_execute.learning_to_execute_dataset_builder"
        ).origin
    ).read_text()
}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}

WITHOUT_TENSORFLOW = [
    "candidates",
    "cells",
    "claims",
    "curriculum",
    "errors",
    "files",
    "interpreter",
    "metrics",
    "programs",
    "tasks",
]
KNOW_INTEGERS_ONLY = ["decoding", "layers", "metrics", "models"]
DATA = {
    "building",
    "candidates",
    "input_pipeline",
    "interpreter",
    "prepared_data",
    "programs",
    "tasks",
    "vocabulary",
}
ENTRY_POINTS = {"train", "evaluate", "export", "execute", "reproduce", "show"}


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
        top, _, rest = imported.partition(".")
        if top == BUILDER:
            found.add(BUILDER)
        elif top == "keras_l2e":
            found.add(rest.partition(".")[0] if rest.partition(".")[0] in SOURCES else "__init__")
    return found - {"__init__"}


def reached(name):
    """A module and all modules that come with it."""
    found, pending = set(), {name}
    while pending:
        found |= pending
        pending = set().union(*map(own_modules, pending)) - found
    return found


def heavy(name):
    """What a module imports itself of TensorFlow, Keras and TFDS."""
    roots = {imported.partition(".")[0] for imported in imports(name)}
    return roots & {"tensorflow", "keras", "tensorflow_datasets"}


@pytest.mark.parametrize("name", WITHOUT_TENSORFLOW)
def test_these_know_no_tensorflow(name):
    assert {module: heavy(module) for module in reached(name) if heavy(module)} == {}


@pytest.mark.parametrize("name", KNOW_INTEGERS_ONLY)
def test_these_know_plain_integers_only(name):
    assert reached(name) & DATA == set()


@pytest.mark.parametrize("name", sorted(DATA))
def test_data_know_no_network(name):
    assert reached(name) & {"decoding", "layers", "models", "optimizers", "scoring"} == set()


def test_entry_points_are_imported_by_entry_points_only():
    importers = {name for name in SOURCES if own_modules(name) & ENTRY_POINTS}
    assert importers <= ENTRY_POINTS


def test_only_prepared_data_imports_the_builder():
    assert {name for name in SOURCES if BUILDER in own_modules(name)} == {"prepared_data"}


def test_the_builder_knows_programs_and_their_places_only():
    assert own_modules(BUILDER) == {"building", "candidates", "prepared_data", "programs", "tasks"}


def test_imports_have_one_direction():
    graph = {name: own_modules(name) for name in SOURCES}
    # What prepares missing data calls their builder, and a network that is loaded is built anew.
    graph["prepared_data"].discard(BUILDER)
    graph["layers"].discard("models")
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_draw_goes_through_a_generator(name):
    """`random` and `np.random` are used for their generators' classes alone."""
    used = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute):
            source = ast.unparse(node.value)
            if source in ("random", "np.random", "numpy.random"):
                used.add(f"{source}.{node.attr}")
        assert not (isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"))
    assert used <= {"random.Random", "np.random.default_rng", "np.random.Generator"}


# In processes of their own


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60
    )


@pytest.mark.parametrize(
    "modules",
    [
        ["__init__"],
        WITHOUT_TENSORFLOW,
        [*sorted(ENTRY_POINTS), "command_line", "prepared_data", "report", "run_flags"],
    ],
    ids=["package", "libraries", "entry points"],
)
def test_importing_is_light(modules):
    names = [f"keras_l2e.{name}".removesuffix(".__init__") for name in modules]
    code = f"import sys, {', '.join(names)}; print({{'tensorflow', 'keras'}} & set(sys.modules))"
    assert python("-c", code).stdout == "set()\n"
