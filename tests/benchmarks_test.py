import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_imports_and_has_a_docstring_that_says_how_to_run_it(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(name)
    if name != "measuring":
        assert f"python benchmarks/{name}.py" in module.__doc__
        assert callable(module.main)
    sys.modules.pop(name)


def test_summary(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    measuring = importlib.import_module("measuring")
    found = measuring.summary([3.0, 1.0, 8.0])
    assert found == {"median": 3.0, "min": 1.0, "max": 8.0, "repeats": [3.0, 1.0, 8.0]}
