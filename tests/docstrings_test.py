import doctest
import importlib

import pytest

MODULES = [
    "keras_l2e.candidates",
    "keras_l2e.cells",
    "keras_l2e.command_line",
    "keras_l2e.comparisons",
    "keras_l2e.curriculum",
    "keras_l2e.figure_tables",
    "keras_l2e.input_pipeline",
    "keras_l2e.interpreter",
    "keras_l2e.metrics",
    "keras_l2e.prepared_data",
    "keras_l2e.pretrained",
    "keras_l2e.programs",
    "keras_l2e.report",
    "keras_l2e.show",
    "keras_l2e.tasks",
    "keras_l2e.vocabulary",
    "keras_l2e_datasets.learning_to_execute.learning_to_execute_dataset_builder",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
