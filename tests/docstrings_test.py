import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import keras_l2e

BUILDER = "keras_l2e_datasets.learning_to_execute.learning_to_execute_dataset_builder"
NAMES = [BUILDER, *(m.name for m in pkgutil.walk_packages(keras_l2e.__path__, "keras_l2e."))]


def has_examples(name):
    return ">>> " in Path(importlib.util.find_spec(name).origin).read_text()


@pytest.mark.parametrize("name", ["keras_l2e", *filter(has_examples, NAMES)])
def test_examples_in_docstrings_are_true(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
