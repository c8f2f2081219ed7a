import ast
import importlib
import json
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

import keras_l2e
from keras_l2e import plots as report

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
    # Batches that grow see fewer, as the module says.
    assert len({c.num_examples for c in cells if not c.flags.get("first_batch_size")}) == 1
    assert sum("first_batch_size" in cell.flags for cell in cells) == 1
    assert len({cell.name for cell in cells}) == len({cell.flagfile() for cell in cells}) > 20


@pytest.fixture
def finished(tmp_path):
    """A finished run of four epochs; a stop cost it the time of one, and half a line of another."""
    history, timing = [], [{"epoch": 2, "seconds": 99.0}]
    for epoch, accuracies in enumerate([(0.9, 0.1), (0.96, 0.2), (0.94, 0.3), (0.98, 0.4)], 1):
        levels = [
            {"length": length, "nesting": 1, "token_accuracy": accuracy}
            for length, accuracy in enumerate(accuracies, start=1)
        ]
        history.append({"epoch": epoch, "num_examples": 10 * epoch, "levels": levels})
        timing.append({"epoch": epoch, "seconds": 2.5})
    lines = [json.dumps(line) for line in timing]
    lines[1] = lines[1][:9] + lines[1]
    for name, text in (("history", map(json.dumps, history)), ("timing", lines)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(text) + "\n")
    rates = {"token_accuracy": 0.5, "exact_match": 0.25}
    (tmp_path / "evaluation.json").write_text(json.dumps({"rows": [rates] * 7}))
    return tmp_path


def test_what_a_run_has_come_to(benchmark, finished):
    variations = benchmark("variations")
    found = variations.measure(finished)
    assert (found["num_examples"], found["seconds"], len(found["rows"])) == (40, 10.0, 7)
    assert found["mastered"] == [
        {"length": 1, "num_examples": 20, "seconds": 5.0},
        {"length": 2, "num_examples": None, "seconds": None},
    ]
    (finished / "evaluation.json").unlink()
    assert variations.measure(finished) is None


def test_the_table_of_levers_says_when_lengths_were_mastered(benchmark, finished, monkeypatch):
    levers, variations = benchmark("levers"), benchmark("variations")
    monkeypatch.setattr(levers, "LENGTHS", (1, 2))
    header, _, line = levers.format_table({"none": variations.measure(finished)}).splitlines()
    assert "2 digits mastered: examples | minutes | examples in all | minutes" in header
    assert line == "| none | 20 | 0.1 | never | never | 40 | 0.2 | 0.5000 | 0.2500 | 0.250 |"


def test_runs_that_failed_are_tried_again_and_named(benchmark, tmp_path, monkeypatch):
    levers, variations = benchmark("levers"), benchmark("variations")
    cells = list(levers.cells().values())[:2]

    monkeypatch.setattr(variations.runner, "CHILD", "import sys; sys.exit('no space left')")
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"2 of 2 cells failed; lever_\w+: no space left"):
            variations.run(cells, tmp_path, "data")
    (tmp_path / "lever_00").mkdir()
    (tmp_path / "lever_00/flags.cfg").write_text("--seed=7\n")
    with pytest.raises(SystemExit, match=r"error: .*lever_00/flags\.cfg holds other flags"):
        variations.run(cells, tmp_path, "data")


def test_the_width_decides_how_long_sums_get(benchmark, tmp_path):
    width = benchmark("width")
    cells = width.cells()
    assert len({cell.num_examples for cell in cells.values()}) == 1
    assert len({cell.flagfile() for cell in cells.values()}) == len(cells) == 8
    mastered = [{"length": length, "num_examples": 30 * length} for length in (1, 2, 5)]
    assert width.longest([*mastered, {"length": 6, "num_examples": None}]) == 5
    assert width.longest([{"length": 1, "num_examples": None}]) == 0
    runs = [
        {"hidden_dim": width, "seed": seed, "num_examples": 1000, "seconds": 90.0}
        | {"longest_mastered": longest}
        for width, seed, longest in ((32, 1, 2), (32, 2, 3), (256, 1, 17))
    ]
    assert width.format_table(runs).splitlines()[-1] == "| 256 | 1 | 1,000 | 17 | 1.5 |"
    report.save_figure(width.draw(runs), tmp_path / "width.png")
    assert (tmp_path / "width.png").stat().st_size > 10_000
