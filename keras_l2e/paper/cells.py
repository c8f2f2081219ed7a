"""What each figure of the paper takes: its cells, every one a training run with flags of its own.

    >>> cell = cells("addition", "cpu")[0]
    >>> cell.name
    'length_5_baseline_seed_1'
    >>> cell.flags["target_length"], cell.flags["strategy"], cell.num_examples
    (5, 'baseline', 798720)

A figure is a set of cells in which one thing is compared (the curriculum, the input form, the
optimizer) and all else is equal, the number of training examples included.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from keras_l2e.language.tasks import INPUT_FORMS

FIGURES = ("addition", "programs", "memorization", "optimizers")
# The paper's; `review` and `frontier` are ours and no part of its figures.
STRATEGIES = ("baseline", "naive", "mix", "combined")
OPTIMIZERS = ("sgd", "adam", "muon")

# What belongs to an optimizer besides its rate. The paper's rate, its loss (summed over time) and
# its clipping at 5 belong together; so do ours. No rate falls with time, which would punish the
# strategies that arrive at the target late: the paper's falls at the target only.
OPTIMIZER_FLAGS = {
    "sgd": {"learning_rate_schedule": "plateau", "loss_scale": "example", "clip_norm": 5.0},
    "adam": {"learning_rate_schedule": "constant", "loss_scale": "character", "clip_norm": 1.0},
    "muon": {"learning_rate_schedule": "constant", "loss_scale": "character", "clip_norm": 1.0},
}
# Rates are chosen by runs of this strategy and seed, which no figure shows.
CHOOSING_STRATEGY, CHOOSING_SEED = "mix", 0


class Cell(NamedTuple):
    """One training run of a figure.

    Attributes:
        name: of its folder; no dots.
        flags: those of its flagfile; the others have their defaults.
        choosing: whether the run only serves to choose a learning rate.
    """

    name: str
    flags: dict
    choosing: bool = False

    @property
    def num_examples(self) -> int:
        """Training examples seen, if no schedule ends the run before."""
        names = ("num_epochs", "batches_per_epoch", "global_batch_size")
        epochs, batches, examples = (self.flags[name] for name in names)
        return epochs * batches * examples

    def flagfile(self) -> str:
        """The text of the cell's flagfile."""
        return "".join(f"--{name}={value}\n" for name, value in self.flags.items())


@dataclass(frozen=True)
class Budget:
    """How large the figures are made.

    Attributes:
        flags: what all cells share.
        figure_flags: what the cells of one figure share besides.
        seeds: of addition and optimizers; the other figures take the first one.
        addition_lengths, program_lengths, program_nestings: the targets.
        memorization_length, optimizers_length: the one target of these figures.
        repeated_programs, repeated_forms: targets and input forms that the other seeds are run for
            as well, so that the seeds' spread is known in figures of one run a cell.
        learning_rates: for each optimizer, those to choose from.
    """

    flags: dict
    addition_lengths: tuple[int, ...]
    program_lengths: tuple[int, ...]
    program_nestings: tuple[int, ...]
    memorization_length: int
    optimizers_length: int
    learning_rates: dict[str, tuple[float, ...]]
    figure_flags: dict[str, dict] = field(default_factory=dict)
    strategies: tuple[str, ...] = STRATEGIES
    forms: tuple[str, ...] = INPUT_FORMS
    seeds: tuple[int, ...] = (1, 2)
    repeated_programs: tuple[tuple[int, int], ...] = ()
    repeated_forms: tuple[str, ...] = ()


# All training examples are drawn afresh, as in the paper: of stored ones, baseline would see each
# a hundred times. What is stored serves to validate and to test.
_FRESH = {"train_source": "generated", "examples_per_difficulty": 10_000}

BUDGETS = {
    # One figure in a minute or a few: shows that everything works, and nothing else.
    "smoke": Budget(
        flags={
            "train_source": "generated",
            "examples_per_difficulty": 300,
            "hidden_dim": 16,
            "embedding_dim": 8,
            "global_batch_size": 32,
            "batches_per_epoch": 4,
            "num_epochs": 8,
            "validation_examples": 50,
            "test_examples": 60,
            "optimizer": "muon",
            **OPTIMIZER_FLAGS["muon"],
            "learning_rate": 4e-3,
        },
        strategies=("baseline", "combined"),
        forms=("none", "reverse_double"),
        addition_lengths=(2,),
        program_lengths=(1, 2),
        program_nestings=(1,),
        memorization_length=3,
        optimizers_length=2,
        learning_rates={"sgd": (0.2, 0.5, 1.0), "adam": (1e-3, 3e-3, 1e-2), "muon": (2e-3, 4e-3)},
    ),
    # Two cores with AVX-512, 8 hours for all four figures, two cells at once with a core each.
    # Whole cells timed there, start to exported network (results/paper/timing): programs 570 s at
    # most, memorization 469 s, optimizers 278 s; all of addition took 1.1 h. Were all as slow,
    # (40 * 570 + 20 * 469 + 33 * 278) / 2 s + 1.1 h = 6.8 h. With AVX2 alone an epoch takes 2.6 to
    # 3.3 times as long.
    "cpu": Budget(
        flags={
            **_FRESH,
            "hidden_dim": 128,
            "embedding_dim": 64,
            "global_batch_size": 128,
            # Short epochs, so that naive can leave 18 levels at which it stands still.
            "batches_per_epoch": 48,
            "num_epochs": 130,
            "validation_examples": 500,
            "test_examples": 5_000,
            "optimizer": "muon",
            **OPTIMIZER_FLAGS["muon"],
            "learning_rate": 4e-3,
        },
        figure_flags={"optimizers": {"min_learning_rate": 0.0}},
        addition_lengths=(5, 7, 9),
        program_lengths=(2, 4, 6),
        program_nestings=(1, 2, 3),
        memorization_length=20,
        repeated_programs=((4, 2),),
        repeated_forms=("none",),
        optimizers_length=7,
        learning_rates={
            "sgd": (0.2, 0.5, 1.2),
            "adam": (1e-3, 3e-3, 1e-2),
            "muon": (1.5e-3, 4e-3, 1e-2),
        },
    ),
    # The paper's own settings (section 4 of it): 2 x 400 cells, one network that reads and writes,
    # and an end where the rate falls below 0.001, at the latest after 10 million examples (an epoch
    # is about a million characters, as in the released code).
    "paper": Budget(
        flags={
            **_FRESH,
            "num_layers": 2,
            "hidden_dim": 400,
            "embedding_dim": 400,
            "tie_encoder_decoder": True,
            "uniform_init": 0.08,
            "global_batch_size": 100,
            "batches_per_epoch": 200,
            "num_epochs": 500,
            "validation_examples": 1_000,
            "test_examples": 10_000,
            "average_decay": 0.0,
            "optimizer": "sgd",
            **OPTIMIZER_FLAGS["sgd"],
            "learning_rate": 0.5,
            "min_learning_rate": 1e-3,
        },
        addition_lengths=(4, 5, 6, 7, 8, 9),
        program_lengths=tuple(range(1, 10)),
        program_nestings=(1, 2, 3),
        memorization_length=65,
        optimizers_length=9,
        learning_rates={
            "sgd": (0.2, 0.5, 1.2),
            "adam": (3e-4, 1e-3, 3e-3),
            "muon": (5e-4, 1.5e-3, 4e-3),
        },
    ),
}


def cells(figure: str, budget_name: str, rates: dict[str, float] | None = None) -> list[Cell]:
    """The cells of a figure, in the order in which they are best run.

    Args:
        figure: a name in FIGURES.
        budget_name: a name in BUDGETS.
        rates: for `optimizers`, the chosen learning rate of each optimizer; without them only the
            cells are given that they are chosen by.
    """
    budget = BUDGETS[budget_name]
    if figure == "optimizers":
        return _optimizers(budget, rates)
    return {"addition": _addition, "programs": _programs, "memorization": _memorization}[figure](
        budget
    )


def _cell(budget: Budget, figure: str, name: str, choosing: bool = False, **flags) -> Cell:
    return Cell(name, budget.flags | budget.figure_flags.get(figure, {}) | flags, choosing)


def _addition(budget: Budget) -> list[Cell]:
    return [
        _cell(
            budget,
            "addition",
            f"length_{length}_{strategy}_seed_{seed}",
            task="addition",
            target_length=length,
            strategy=strategy,
            seed=seed,
        )
        for seed in budget.seeds
        for length in budget.addition_lengths
        for strategy in budget.strategies
    ]


def _programs(budget: Budget) -> list[Cell]:
    return [
        _cell(
            budget,
            "programs",
            f"length_{length}_nesting_{nesting}_{strategy}_seed_{seed}",
            task="program",
            target_length=length,
            target_nesting=nesting,
            strategy=strategy,
            seed=seed,
        )
        for i, seed in enumerate(budget.seeds)
        for nesting in budget.program_nestings
        for length in budget.program_lengths
        if i == 0 or (length, nesting) in budget.repeated_programs
        for strategy in budget.strategies
    ]


def _memorization(budget: Budget) -> list[Cell]:
    return [
        _cell(
            budget,
            "memorization",
            f"{form}_{strategy}_seed_{seed}",
            task="copy",
            target_length=budget.memorization_length,
            input_form=form,
            strategy=strategy,
            seed=seed,
        )
        for i, seed in enumerate(budget.seeds)
        for form in budget.forms
        if i == 0 or form in budget.repeated_forms
        for strategy in budget.strategies
    ]


def _optimizers(budget: Budget, rates: dict[str, float] | None) -> list[Cell]:
    def cell(name: str, optimizer: str, rate: float, strategy: str, seed: int, choosing=False):
        return _cell(
            budget,
            "optimizers",
            name,
            choosing,
            task="addition",
            target_length=budget.optimizers_length,
            validate_all_levels=True,
            optimizer=optimizer,
            **OPTIMIZER_FLAGS[optimizer],
            learning_rate=rate,
            strategy=strategy,
            seed=seed,
        )

    trials = [
        # No dots in names.
        cell(
            f"rate_{optimizer}_{rate:.1e}".replace(".", "_"),
            optimizer,
            rate,
            CHOOSING_STRATEGY,
            CHOOSING_SEED,
            choosing=True,
        )
        for optimizer in OPTIMIZERS
        for rate in budget.learning_rates[optimizer]
    ]
    if rates is None:
        return trials
    return trials + [
        cell(f"{optimizer}_{strategy}_seed_{seed}", optimizer, rates[optimizer], strategy, seed)
        for seed in budget.seeds
        for strategy in budget.strategies
        for optimizer in OPTIMIZERS
    ]
