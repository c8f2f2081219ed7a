"""The notebooks define nothing, are kept with their outputs, and run from any folder."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from keras_l2e import tables
from keras_l2e.paper.cells import FIGURES

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
RESULTS = NOTEBOOKS.parent / "results"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(home|root|tmp|work|mnt|opt|usr|Users|content)\b|\b[A-Z]:\\\w"
)

each_notebook = pytest.mark.parametrize("name", ["quickstart", "results"])


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def by_id(notebook):
    return {cell.id: cell for cell in notebook.cells}


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def shown(cell, kind):
    """What a cell shows of a kind, as image/png."""
    return [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def check_outputs(notebook):
    """All cells were run, in order, and none failed."""
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert all(output.output_type != "error" for output in cell.outputs), cell.id
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.id
    silent = {cell.id for cell in cells if not cell.outputs}
    assert silent == {"install", "find", "imports"} & by_id(notebook).keys()


def check_quickstart(cells):
    """What the quickstart is to show, whatever network has come out."""
    assert re.fullmatch(r"1111111110 True 0\.9\d\d\n", printed(cells["first"]))
    work = printed(cells["work"]).partition("Python\n")[2].splitlines()
    assert [line.split()[2] for line in work] == ["round"] * 7 + ["difference"]
    assert all(line.split()[0] == line.split()[1] for line in work)
    assert work[-1].split()[0] == str(58308 + 7 * 65807 - 98765)
    assert "results, plots and SavedModel: run\n" in printed(cells["train"])
    assert len(printed(cells["history"]).splitlines()) == 13
    assert [len(shown(cells[name], "image/png")) for name in ("learning-curve", "plots")] == [1, 2]
    *readable, unreadable, reason = printed(cells["execute"]).splitlines()
    assert [line.split()[3] for line in readable] == ["13", "75", "902", "1998"]
    assert unreadable.split() == ["print(48/27)", "0.000", "None", "None"]
    assert reason == "unknown character '/' at position 8"
    (answers,) = shown(cells["saved-model"], "text/plain")
    (_, probability), nothing = ast.literal_eval(answers)
    assert 0 < probability <= 1 and nothing == ("", 0.0)
    assert re.search(r"^ *\d \d\.\d{3}", printed(cells["steps"]))


def check_results(cells):
    """What is published, all of it and as it is."""
    evaluations = {path.parent.name: path for path in RESULTS.glob("*/evaluation.json")}
    assert len(evaluations) > 5
    assert shown(cells["tables"], "text/markdown") == [
        f"### {name}\n\n{tables.format_markdown_table(tables.read_evaluation(evaluations[name]))}"
        for name in sorted(evaluations)
    ]
    first_seeds = [name for name in sorted(evaluations) if name.endswith("seed_1")]
    assert printed(cells["curves"]).split() == first_seeds
    assert len(shown(cells["curves"], "image/png")) == len(first_seeds)
    assert printed(cells["samples"]).count("CORRECT") > 20
    figures = [RESULTS / "paper" / f"{name}.md" for name in FIGURES]
    published = [path.read_text() for path in figures if path.exists()]
    assert published
    assert shown(cells["draw"], "text/markdown") == published
    assert len(shown(cells["draw"], "image/png")) == len(published)


@each_notebook
def test_defines_no_function_and_no_class(name):
    for cell in code_cells(read(name)):
        python = TransformerManager().transform_cell(cell.source)
        found = [node for node in ast.walk(ast.parse(python)) if isinstance(node, DEFINITIONS)]
        assert not found, f"cell {cell.id}"


@each_notebook
def test_is_kept_with_its_outputs_and_without_paths_of_a_machine(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    check_outputs(notebook)
    for cell in notebook.cells:
        texts = [cell.source, str(cell.metadata)]
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), str(output.get("data", {}).get("text/plain", ""))]
        assert not any(MACHINE_PATH.search(text) for text in texts), f"cell {cell.id}"


def test_what_is_kept_is_what_the_notebooks_are_to_show():
    check_quickstart(by_id(read("quickstart")))
    check_results(by_id(read("results")))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a notebook, in a folder that is none of the checkout's."""
    # A kernel of the running Python, whatever kernels and settings the machine has.
    write_kernel_spec(tmp_path / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (folder := tmp_path / "elsewhere").mkdir()

    def run(notebook):
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
        ).execute()
        check_outputs(notebook)
        assert sorted(folder.iterdir()) == []
        return by_id(notebook)

    return run


@pytest.mark.slow
def test_quickstart_runs_to_its_end(run):
    check_quickstart(run(read("quickstart")))


@pytest.mark.slow
def test_results_are_shown_from_any_folder(run):
    check_results(run(read("results")))


@pytest.mark.slow
def test_results_fail_where_there_are_none(run):
    notebook = read("results")
    find = by_id(notebook)["find"]
    find.source = find.source.replace("results/paper", "no_results/paper")
    with pytest.raises(CellExecutionError, match="CalledProcessError"):
        run(notebook)
