import ast
import importlib
import json
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import keras_l2e
from keras_l2e import report

FOLDER = Path(__file__).parent.parent / "benchmarks"
NOTEBOOKS = FOLDER.parent / "notebooks"
SHARED = {"measuring", "variations"}
# Module -> its source: the package, and what benchmarks import of one another.
SOURCES = {
    f"keras_l2e.{path.stem}": path for path in Path(keras_l2e.__file__).parent.glob("*.py")
} | {path.stem: path for path in FOLDER.glob("*.py")}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_imports_and_has_a_docstring_that_says_how_to_run_it(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(name)
    if name not in SHARED:
        assert f"python benchmarks/{name}.py" in module.__doc__
        assert callable(module.main)
    sys.modules.pop(name)


def parse(path):
    if path.suffix == ".py":
        return ast.parse(path.read_text())
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return ast.parse("".join(map(TransformerManager().transform_cell, cells)))


def top_level_names(tree):
    names = {"__doc__", "__file__"}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            found = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            names |= {n.id for n in found if isinstance(n.ctx, ast.Store)}
    return names


@pytest.mark.parametrize(
    "path", sorted([*FOLDER.glob("*.py"), *NOTEBOOKS.glob("*.ipynb")]), ids=lambda path: path.name
)
def test_what_is_used_of_other_modules_is_there(path):
    """Also in functions, which no test calls, for that takes minutes or hours."""
    tree, modules, used = parse(path), {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "keras_l2e":
            modules |= {a.asname or a.name: f"keras_l2e.{a.name}" for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("keras_l2e."):
            used |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name: alias.name for alias in node.names if alias.name in SOURCES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules:
            used.add((modules[ast.unparse(node.value)], node.attr))
    assert used or path.stem == "measuring"
    missing = {module for module in modules.values() if module not in SOURCES}
    missing |= {
        f"{module}.{name}"
        for module, name in used
        if module not in SOURCES or name not in top_level_names(parse(SOURCES[module]))
    }
    assert missing == set()


def test_summary(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    measuring = importlib.import_module("measuring")
    found = measuring.summary([3.0, 1.0, 8.0])
    assert found == {"median": 3.0, "min": 1.0, "max": 8.0, "repeats": [3.0, 1.0, 8.0]}


def test_each_lever_changes_something_and_sees_as_many_examples(benchmark):
    levers = benchmark("levers")
    cells = list(levers.cells().values())
    assert len({cell.num_examples for cell in cells}) == 1
    assert len({cell.name for cell in cells}) == len({cell.flagfile() for cell in cells}) > 20


def test_what_a_run_has_come_to(benchmark, tmp_path):
    variations = benchmark("variations")
    assert variations.measure(tmp_path) is None
    history, timing = [], [{"epoch": 2, "seconds": 99.0}]
    for epoch, (length, accuracy) in enumerate([(1, None), (2, 0.7), (2, 0.6), (4, 0.9)], start=1):
        score = {"token_accuracy": accuracy}
        difficulty = {"length": length, "nesting": 1}
        line = {"epoch": epoch, "num_examples": 10 * epoch}
        history.append(line | {"difficulty": difficulty, "validation": score})
        timing.append({"epoch": epoch, "seconds": 2.5})
    for name, lines in (("history.jsonl", history), ("timing.jsonl", timing)):
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "evaluation.json").write_text('{"rows": [1, 2]}')
    assert variations.measure(tmp_path) == {
        "num_examples": 40,
        "seconds": 10.0,
        "reached": [
            {"length": 1, "num_examples": 0, "seconds": 0.0},
            {"length": 2, "num_examples": 10, "seconds": 2.5},
            {"length": 4, "num_examples": 30, "seconds": 7.5},
        ],
        "mastered": [
            {"length": 1, "token_accuracy": 0.0},
            {"length": 2, "token_accuracy": 0.7},
            {"length": 4, "token_accuracy": 0.9},
        ],
        "rows": [1, 2],
    }


def test_the_width_decides_how_long_sums_get(benchmark, tmp_path):
    width = benchmark("width")
    cells = width.cells()
    assert len({cell.num_examples for cell in cells.values()}) == 1
    assert len({cell.flagfile() for cell in cells.values()}) == len(cells) == 8
    mastered = [{"length": 1, "token_accuracy": 0.99}, {"length": 5, "token_accuracy": 0.96}]
    assert width.longest([*mastered, {"length": 6, "token_accuracy": 0.94}]) == 5
    assert width.longest([{"length": 1, "token_accuracy": 0.2}]) == 0
    runs = [
        {"hidden_dim": width, "seed": seed, "num_examples": 1000, "seconds": 90.0}
        | {"longest_mastered": longest}
        for width, seed, longest in ((32, 1, 2), (32, 2, 3), (256, 1, 17))
    ]
    assert width.format_table(runs).splitlines()[-1] == "| 256 | 1 | 1,000 | 17 | 1.5 |"
    report.save_figure(width.draw(runs), tmp_path / "width.png")
    assert (tmp_path / "width.png").stat().st_size > 10_000
