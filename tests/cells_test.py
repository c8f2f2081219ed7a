"""The grids of the figures, counted, and their flags as the training takes them."""

from collections import Counter
from types import SimpleNamespace

import pytest
from absl import flags

from keras_l2e import config as run_flags
from keras_l2e import train
from keras_l2e.language.tasks import INPUT_FORMS
from keras_l2e.paper.cells import BUDGETS, FIGURES, OPTIMIZERS, STRATEGIES, cells
from keras_l2e.teaching.teachers import STRATEGIES as ALL_STRATEGIES

RATES = dict.fromkeys(OPTIMIZERS, 0.5)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("figure", FIGURES)
def test_every_cell_is_a_run_that_training_takes(figure, budget, tmp_path):
    wanted = cells(figure, budget, RATES)
    assert len({cell.name for cell in wanted}) == len(wanted)
    assert len({cell.num_examples for cell in wanted}) == 1
    for cell in wanted:
        assert "." not in cell.name
        values = flags.FlagValues()
        run_flags.define(values)
        lines = cell.flagfile().splitlines()
        values(["", *lines, f"--workdir={tmp_path / 'new'}", f"--data_dir={tmp_path}"])
        config = SimpleNamespace(**values.flag_values_dict())
        train.settle(config, tmp_path / "new")
        for name, value in cell.flags.items():
            assert getattr(config, name) == value
        assert config.global_batch_size % 2 == 0
        # No run ends before the others of its figure.
        assert config.stop_at_exact_match == 0
        if config.learning_rate_schedule == "plateau" and budget == "cpu":
            assert config.min_learning_rate == 0


def counted(figure, budget, *names):
    return Counter(
        tuple(cell.flags.get(name) for name in names)
        for cell in cells(figure, budget, RATES)
        if not cell.choosing
    )


def test_the_grids_of_the_cpu():
    assert counted("addition", "cpu", "target_length", "strategy", "seed") == {
        (length, strategy, seed): 1
        for length in (5, 7, 9)
        for strategy in STRATEGIES
        for seed in (1, 2)
    }
    assert set(counted("programs", "cpu", "target_length", "target_nesting", "strategy")) == {
        (length, nesting, strategy)
        for length in (2, 4, 6)
        for nesting in (1, 2, 3)
        for strategy in STRATEGIES
    }
    assert set(counted("memorization", "cpu", "target_length", "input_form", "strategy")) == {
        (20, form, strategy) for form in INPUT_FORMS for strategy in STRATEGIES
    }
    assert counted("optimizers", "cpu", "target_length", "optimizer", "strategy", "seed") == {
        (7, optimizer, strategy, seed): 1
        for optimizer in OPTIMIZERS
        for strategy in STRATEGIES
        for seed in (1, 2)
    }


def test_rates_are_chosen_among_three_by_runs_that_no_figure_shows():
    trials = cells("optimizers", "cpu")
    assert all(cell.choosing for cell in trials)
    assert Counter(cell.flags["optimizer"] for cell in trials) == dict.fromkeys(OPTIMIZERS, 3)
    assert {cell.flags["strategy"] for cell in trials} == {"mix"}
    whole = cells("optimizers", "cpu", {"sgd": 0.1, "adam": 0.2, "muon": 0.3})
    assert whole[: len(trials)] == trials
    finals = whole[len(trials) :]
    assert len(finals) == 24
    assert {(c.flags["optimizer"], c.flags["learning_rate"]) for c in finals} == {
        ("sgd", 0.1),
        ("adam", 0.2),
        ("muon", 0.3),
    }
    assert {cell.flags["seed"] for cell in trials}.isdisjoint(cell.flags["seed"] for cell in finals)


def test_the_paper_s_settings():
    assert set(counted("addition", "paper", "target_length")) == {(n,) for n in range(4, 10)}
    assert set(counted("programs", "paper", "target_length", "target_nesting")) == {
        (length, nesting) for length in range(1, 10) for nesting in (1, 2, 3)
    }
    assert set(counted("memorization", "paper", "target_length")) == {(65,)}
    for figure in ("addition", "programs", "memorization"):
        for cell in cells(figure, "paper"):
            assert cell.flags["num_layers"] == 2
            assert (cell.flags["hidden_dim"], cell.flags["embedding_dim"]) == (400, 400)
            assert cell.flags["tie_encoder_decoder"]
            assert cell.flags["uniform_init"] == 0.08
            assert (cell.flags["optimizer"], cell.flags["learning_rate"]) == ("sgd", 0.5)
            assert cell.flags["learning_rate_schedule"] == "plateau"
            assert cell.flags["min_learning_rate"] == 0.001
            assert cell.flags["loss_scale"] == "example"
            assert (cell.flags["clip_norm"], cell.flags["average_decay"]) == (5.0, 0.0)
            assert cell.flags["global_batch_size"] == 100
            assert cell.flags["train_source"] == "generated"
            assert cell.flags.get("mix_share", 0.2) == 0.2


def test_the_strategies_are_those_of_the_curriculum():
    assert set(STRATEGIES) == set(ALL_STRATEGIES) - {"frontier", "review"}
