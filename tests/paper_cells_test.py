"""The grids of the figures, counted, and their flags as the training takes them."""

from collections import Counter

import pytest

from keras_l2e.config import Config
from keras_l2e.errors import UsageError
from keras_l2e.paper.cells import BUDGETS, FIGURES, cells, check_flags
from keras_l2e.teaching.teachers import TEACHERS


def kind(cell):
    return tuple(cell.flags.get(name) for name in ("task", "target_form", "model", "hidden_dim"))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("figure", FIGURES)
def test_every_cell_is_a_run_that_training_takes(figure, budget):
    wanted = cells(figure, budget)
    assert len({cell.name for cell in wanted}) == len(wanted)
    # Of each task all cells see equally many examples, but for networks, which differ in speed.
    assert len({(*kind(cell), cell.num_examples) for cell in wanted}) == len({*map(kind, wanted)})
    for cell in wanted:
        assert "." not in cell.name
        config = Config(**cell.flags)
        assert config.global_batch_size % 2 == 0
        # No run ends before the others of its figure.
        assert config.stop_at_exact_match == 0
        if config.learning_rate_schedule == "plateau" and budget == "cpu":
            assert config.min_learning_rate == 0


def counted(figure, budget, *names):
    return Counter(tuple(cell.flags.get(name) for name in names) for cell in cells(figure, budget))


def test_all_teachers_are_compared():
    three = {
        ("addition", 9): ("naive", "combined", "review", "learnability"),
        ("program", 4): ("baseline", "combined", "review", "space"),
    }
    assert counted("teachers", "cpu", "task", "target_length", "strategy", "seed") == {
        (*target, strategy, seed): 1
        for target, most in three.items()
        for strategy in TEACHERS
        for seed in (1, 2, 3)[: 3 if strategy in most else 2]
    }


def test_all_networks_are_compared():
    """By `mix` on all tasks, by `review` where that leaves much to be learnt; some twice."""
    copying = {(task, "answer") for task in ("copy", "reverse", "double")}
    others = {
        (task, form)
        for task in ("addition", "control", "program")
        for form in ("answer", "reversed_trace")
    }
    names = ("seed", "strategy", "model", "hidden_dim", "task", "target_form")
    found = counted("models", "cpu", *names)
    narrow = {"lstm": 208, "attention": 128, "transformer": 64, "universal_transformer": 128}
    for model, width in narrow.items():
        climbed = others | (copying if model == "lstm" else set())
        if model == "universal_transformer":
            climbed -= {(task, "reversed_trace") for task in ("control", "program")}
        for strategy, wanted in (("mix", copying | others), ("review", climbed)):
            for task in wanted:
                assert found.pop((1, strategy, model, width, *task)) == 1
    wide = (1, "mix", "transformer", 128)
    for task in ("reverse", "program"):
        assert found.pop((*wide, task, "answer")) == 1
    for model in ("lstm", "attention"):
        assert found.pop((2, "review", model, narrow[model], "addition", "answer")) == 1
    again = {"addition": tuple(narrow), "program": ("attention", "transformer")}
    assert found == {
        (2, "mix", model, narrow[model], task, form): 1
        for task, models in again.items()
        for model in models
        for form in ("answer", "reversed_trace")
        if (model, task, form) != ("transformer", "addition", "answer")
    }


def test_an_optimizer_brings_its_flags_with_it():
    names = ("optimizer", "learning_rate", "learning_rate_schedule", "clip_norm")
    rates = {"cpu": (1.2, 0.003, 0.01), "paper": (0.5, 0.003, 0.01)}
    for budget, (sgd, adam, muon) in rates.items():
        assert counted("optimizers", budget, *names) == {
            ("sgd", sgd, "plateau", 5.0): 8,
            ("adam", adam, "constant", 1.0): 8,
            ("muon", muon, "constant", 1.0): 8,
        }


def test_the_paper_s_settings():
    assert set(counted("addition", "paper", "target_length")) == {(n,) for n in range(4, 10)}
    assert set(counted("programs", "paper", "target_length", "target_nesting")) == {
        (length, nesting) for length in range(1, 10) for nesting in (1, 2, 3)
    }
    assert set(counted("memorization", "paper", "target_length")) == {(65,)}
    expected = {
        **{"num_layers": 2, "hidden_dim": 400, "embedding_dim": 400, "uniform_init": 0.08},
        **{"tie_encoder_decoder": True, "optimizer": "sgd", "learning_rate": 0.5},
        **{"learning_rate_schedule": "plateau", "min_learning_rate": 0.001, "clip_norm": 5.0},
        **{"loss_scale": "example", "average_decay": 0.0, "global_batch_size": 100},
        **{"train_source": "generated", "mix_share": 0.2},
    }
    for figure in ("addition", "programs", "memorization"):
        for cell in cells(figure, "paper"):
            found = vars(Config(**cell.flags))
            assert {name: found[name] for name in expected} == expected


def test_cells_of_another_budget_are_refused(tmp_path):
    wanted = cells("addition", "smoke")
    check_flags(wanted, tmp_path)  # None was begun.
    flags = tmp_path / wanted[2].name / "flags.cfg"
    flags.parent.mkdir()
    flags.write_text("--onednn=off\n" + wanted[2].flagfile())
    check_flags(wanted, tmp_path)
    flags.write_text(wanted[2].flagfile().replace("--hidden_dim=16", "--hidden_dim=32"))
    with pytest.raises(UsageError, match=rf"{wanted[2].name}/flags\.cfg holds other flags"):
        check_flags(wanted, tmp_path)
