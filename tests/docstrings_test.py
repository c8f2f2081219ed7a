import doctest
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import keras_l2e

BUILDER = "keras_l2e_datasets.learning_to_execute.learning_to_execute_dataset_builder"
PACKAGE = {f"keras_l2e.{module.name}" for module in pkgutil.iter_modules(keras_l2e.__path__)}
MODULES = [
    name
    for name in sorted({*PACKAGE, BUILDER})
    if ">>> " in Path(importlib.util.find_spec(name).origin).read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
