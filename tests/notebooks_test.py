"""The notebooks define nothing, are kept without outputs, and run top to bottom."""

import ast
import pathlib
import re

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from keras_l2e.paper.cells import FIGURES

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(home|root|tmp|work|mnt|opt|usr|Users|content)\b|\b[A-Z]:\\\w"
)

each_notebook = pytest.mark.parametrize("name", sorted(p.name for p in NOTEBOOKS.glob("*.ipynb")))


def read(name):
    return nbformat.read(NOTEBOOKS / name, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@each_notebook
def test_defines_no_function_and_no_class(name):
    for cell in code_cells(read(name)):
        python = TransformerManager().transform_cell(cell.source)
        found = [node for node in ast.walk(ast.parse(python)) if isinstance(node, DEFINITIONS)]
        assert not found, f"cell {cell.id}"


@each_notebook
def test_is_kept_without_outputs_and_paths_of_a_machine(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    for cell in notebook.cells:
        assert not MACHINE_PATH.search(f"{cell.source} {cell.metadata}"), f"cell {cell.id}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cd /home/someone", True),
        ('"/tmp/run"', True),
        (r"C:\data", True),
        ("https://example.org/home/x", False),
        ("../tmp and runs/root", False),
    ],
)
def test_paths_of_a_machine_are_recognized(text, found):
    assert bool(MACHINE_PATH.search(text)) == found


def run_notebook(name, folder):
    """A notebook after a run, its cells by their ids."""
    # A kernel of the running Python, whatever kernels and settings the machine has.
    write_kernel_spec(folder / "kernels" / "python3")
    notebook = read(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("TMPDIR", str(folder))
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": str(NOTEBOOKS)}},
        ).execute()
    return {cell.id: cell for cell in notebook.cells}


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The quickstart after a run, its cells by their ids."""
    return run_notebook("quickstart.ipynb", tmp_path_factory.mktemp("quickstart"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The notebook of results after a run, its cells by their ids."""
    return run_notebook("results.ipynb", tmp_path_factory.mktemp("results"))


def printed(cell):
    text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    return text.replace("\r\n", "\n")  # Shell commands write to a terminal.


def test_quickstart_runs_to_its_end(quickstart):
    code = [cell for cell in quickstart.values() if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        # What a shell command prints of its failure is no error of its cell.
        assert "Traceback" not in printed(cell), f"cell {cell.id}"
    for name in ("install", "settings", "imports"):
        assert quickstart[name].outputs == []
    assert "results, plots and SavedModel" in printed(quickstart["train"])


def test_quickstart_shows_its_plots(quickstart):
    for name, number in (("learning-curve", 1), ("plots", 2)):
        shown = [o for o in quickstart[name].outputs if "image/png" in o.get("data", {})]
        assert len(shown) == number


def test_quickstart_executes_programs(quickstart):
    text = printed(quickstart["execute"])
    assert re.findall(r"^true +(\d+)$", text, re.MULTILINE) == ["902"]
    assert re.search(r"^predicted +\d+$", text, re.MULTILINE)
    assert "unknown character '/' at position 8" in text


def test_saved_model_of_quickstart_answers_in_strings(quickstart):
    (result,) = quickstart["saved-model"].outputs
    *readable, unreadable = ast.literal_eval(result.data["text/plain"])
    assert len(readable) == 4
    for program, output, probability in readable:
        assert program.startswith("print(")
        assert isinstance(output, str)
        assert 0 <= probability <= 1
    assert any(re.fullmatch(r"\d+", output) for _, output, _ in readable)
    assert unreadable == ("Hello, world!", "", 0.0)
    assert re.search(r"^ *\d \d\.\d{3}", printed(quickstart["steps"]), re.MULTILINE)


def test_results_shows_what_is_published(results):
    folder = NOTEBOOKS.parent / "results"
    runs = [path.parent.name for path in folder.glob("*/evaluation.json")]
    assert runs
    tables = [output.data["text/markdown"] for output in results["tables"].outputs]
    assert sorted(table.splitlines()[0] for table in tables) == sorted(f"### {n}" for n in runs)
    curves = [o for o in results["curves"].outputs if "image/png" in o.get("data", {})]
    assert len(curves) == len(runs)
    assert "CORRECT" in printed(results["samples"])
    figures = [path for name in FIGURES for path in folder.rglob(f"{name}.json")]
    shown = [o for o in results["draw"].outputs if "image/png" in o.get("data", {})]
    assert len(shown) == len(figures)
    assert bool(figures) != ("no figure of the paper" in printed(results["draw"]))
