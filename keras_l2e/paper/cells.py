"""What each figure of the paper takes: its cells, every one a training run with flags of its own.

    >>> cell = cells("addition", "cpu")[0]
    >>> cell.name
    'length_5_baseline_seed_1'
    >>> cell.flags["target_length"], cell.flags["strategy"], cell.num_examples
    (5, 'baseline', 798720)

A figure is a set of cells in which one thing is compared (the curriculum, the input form, the
optimizer) and all else is equal, the number of training examples included.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from keras_l2e.errors import UsageError
from keras_l2e.language.forms import INPUT_FORMS
from keras_l2e.teaching.teachers import TEACHERS

# Figure -> the names of its cells, and the flags that make it.
FIGURES = {
    "addition": ("length_{target_length}_{strategy}_seed_{seed}", {"task": "addition"}),
    "programs": (
        "length_{target_length}_nesting_{target_nesting}_{strategy}_seed_{seed}",
        {"task": "program"},
    ),
    "memorization": ("{input_form}_{strategy}_seed_{seed}", {"task": "copy"}),
    "optimizers": (
        "{optimizer}_{strategy}_seed_{seed}",
        {"task": "addition", "validate_all_levels": True},
    ),
    # Ours: all teachers, and all networks, side by side.
    "teachers": ("{task}_{strategy}_seed_{seed}", {"validate_all_levels": True}),
    "models": (
        "{task}_{target_form}_{model}_{num_layers}x{hidden_dim}_{strategy}_seed_{seed}",
        {"validate_all_levels": True},
    ),
}
# The paper's; the other teachers are no part of its figures.
STRATEGIES = ("baseline", "naive", "mix", "combined")
OPTIMIZERS = ("sgd", "adam", "muon")

# What belongs to an optimizer. The paper's loss (summed over time) and its clipping at 5 belong
# together; so do ours. No rate falls with time, which would punish the strategies that arrive at
# the target late: the paper's falls at the target only. The rates are the best of three on
# validation, results/paper/README.md.
OPTIMIZER_FLAGS = {
    "sgd": {
        "learning_rate": 1.2,
        "learning_rate_schedule": "plateau",
        "loss_scale": "example",
        "clip_norm": 5.0,
    },
    "adam": {
        "learning_rate": 3e-3,
        "learning_rate_schedule": "constant",
        "loss_scale": "character",
        "clip_norm": 1.0,
    },
    "muon": {
        "learning_rate": 1e-2,
        "learning_rate_schedule": "constant",
        "loss_scale": "character",
        "clip_norm": 1.0,
    },
}


class Cell(NamedTuple):
    """One training run of a figure.

    Attributes:
        name: of its folder; no dots.
        flags: those of its flagfile; the others have their defaults.
    """

    name: str
    flags: dict

    @property
    def num_examples(self) -> int:
        """Training examples seen, if no schedule ends the run before."""
        names = ("num_epochs", "batches_per_epoch", "global_batch_size")
        epochs, batches, examples = (self.flags[name] for name in names)
        return epochs * batches * examples

    @property
    def may_end_early(self) -> bool:
        """Whether its schedule ends the run where the learning rate has fallen low enough."""
        plateau = self.flags.get("learning_rate_schedule") == "plateau"
        return plateau and self.flags["min_learning_rate"] > 0

    def flagfile(self) -> str:
        """The text of the cell's flagfile."""
        return "".join(f"--{name}={value}\n" for name, value in self.flags.items())


@dataclass(frozen=True)
class Budget:
    """How large the figures are made.

    Attributes:
        flags: what all cells share.
        grids: for each figure, dicts of flags and the values they take: a cell for each
            combination, the last flag changing first. Figures of one run a cell have a second,
            smaller grid for another seed, so that the seeds' spread is known there too. A flag
            `optimizer` brings those of OPTIMIZER_FLAGS with it.
        figure_flags: what the cells of one figure share besides.
    """

    flags: dict
    grids: dict[str, list[dict[str, tuple]]]
    figure_flags: dict[str, dict] = field(default_factory=dict)


# All training examples are drawn afresh, as in the paper: of stored ones, baseline would see each
# a hundred times. What is stored serves to validate and to test.
_FRESH = {"train_source": "generated", "examples_per_difficulty": 10_000}
_OURS = {"optimizer": "muon", **OPTIMIZER_FLAGS["muon"], "learning_rate": 4e-3}
_BOTH = (1, 2)  # seeds
_ALL = {"strategy": STRATEGIES}
_TWO = {"strategy": ("baseline", "combined")}
# What the figure `teachers` teaches: sums, with the settings of addition_9.cfg at 128 cells, and
# programs with their work.
_SUMS = {
    "task": ("addition",),
    "target_length": (9,),
    "input_form": ("reverse",),
    "advance_threshold": (0.85,),
}
_PROGRAMS = {
    "task": ("program",),
    "target_length": (4,),
    "target_nesting": (2,),
    "model": ("attention",),
    "target_form": ("reversed_trace",),
    "mix_share": (0.2,),
    # With these `review` is at (3,2) after two thirds of the examples (a trial with seed 3).
    "advance_threshold": (0.5,),
    "patience": (2,),
}
# Chosen for `review`.
_TENTH = {"mix_share": (0.1,)}
# The paper's strategy has its own share. A third seed for the four that came furthest with the
# first two, at the target or over all levels.
_TEACHERS_OF_SUMS = [
    {
        **_TENTH,
        "seed": _BOTH,
        "strategy": tuple(name for name in TEACHERS if name != "combined"),
    },
    {**_TENTH, "seed": (3,), "strategy": ("naive", "review", "learnability")},
    {"mix_share": (0.2,), "seed": (1, 2, 3), "strategy": ("combined",)},
]
_TEACHERS_OF_PROGRAMS = [
    {"seed": _BOTH, "strategy": tuple(TEACHERS)},
    {"seed": (3,), "strategy": ("baseline", "combined", "review", "space")},
]
# What the figure `models` compares: networks of about 460,000 weights, on the suite of tasks that
# Transformers were measured on (arXiv 1807.03819), shorter here.
_LSTMS = {"num_layers": (1,), "embedding_dim": (64,)}
_TRANSFORMERS = {"num_layers": (4,)}
_NETWORKS = {
    "lstm": {"hidden_dim": (208,), **_LSTMS},
    "attention": {"hidden_dim": (128,), **_LSTMS},
    "transformer": {"hidden_dim": (64,), **_TRANSFORMERS},
    "universal_transformer": {"hidden_dim": (128,), **_TRANSFORMERS},
}
_COPYING = {"task": ("copy", "reverse", "double"), "target_form": ("answer",)}
_CONTROL_4_2 = {"task": ("control",), "target_length": (4,), "target_nesting": (2,)}
_PROGRAM_4_2 = {**_CONTROL_4_2, "task": ("program",)}
# Each network's learning rate. To copy digits, those that do best at the beginning (results/rates);
# on the others a smaller one where whole runs end better with it (results/rates/whole).
_RATES = {
    _COPYING["task"]: (1e-2, 1e-2, 4e-3, 4e-3),
    ("addition",): (4e-3, 4e-3, 4e-3, 2e-3),
    _CONTROL_4_2["task"]: (4e-3, 4e-3, 4e-3, 4e-3),
    _PROGRAM_4_2["task"]: (4e-3, 4e-3, 4e-3, 4e-3),
}


def _networks_for(tasks: tuple[str, ...]) -> dict[str, dict]:
    """Each model -> the flags of its network, with its rate for these tasks."""
    return {
        model: {"model": (model,), **flags, "learning_rate": (rate,)}
        for (model, flags), rate in zip(_NETWORKS.items(), _RATES[tasks], strict=True)
    }


# Of each task the epochs, and for each network the batches of one. Training on them takes 30 to 55
# s of a core with AVX-512 where LSTMs are in it, 40 to 60 s with Transformers and 40 to 95 s with
# universal ones (results/paper/models), or the comparison after equally many examples would be one
# of beginnings. For that, too, programs with their work, whose batches are few, have half as many
# epochs more. No cell takes over 40 minutes of a core: `control` has longer texts, so the universal
# one has fewer batches there.
_SUITE = [
    ({**_COPYING, "target_length": (40,), "validation_examples": (50,)}, 20, (530, 450, 410, 260)),
    (
        {"task": ("addition",), "target_form": ("answer",), "target_length": (9,)},
        20,
        (1050, 870, 900, 520),
    ),
    (
        {"task": ("addition",), "target_form": ("reversed_trace",), "target_length": (9,)},
        20,
        (700, 580, 600, 350),
    ),
    ({**_CONTROL_4_2, "target_form": ("answer",)}, 20, (660, 720, 500, 230)),
    ({**_PROGRAM_4_2, "target_form": ("answer",)}, 20, (660, 720, 500, 340)),
    ({**_CONTROL_4_2, "target_form": ("reversed_trace",)}, 30, (350, 300, 220, 70)),
    ({**_PROGRAM_4_2, "target_form": ("reversed_trace",)}, 30, (350, 300, 220, 160)),
]
# (task, epochs, network, batches of an epoch) of each.
_SIDE_BY_SIDE = [
    (tasks, num_epochs, network, num_batches)
    for tasks, num_epochs, counts in _SUITE
    for network, num_batches in zip(_networks_for(tasks["task"]).values(), counts, strict=True)
]


def _only(compared: list[tuple], wanted: dict[tuple[str, str], tuple[str, ...]]) -> list[tuple]:
    """Of entries as those of _SIDE_BY_SIDE, one for each task and network that is wanted.

    Args:
        compared: the entries.
        wanted: (task, target form) -> models.
    """
    return [
        ({**tasks, "task": (task,)}, *rest)
        for tasks, *rest in compared
        for task in tasks["task"]
        if rest[1]["model"][0] in wanted.get((task, *tasks["target_form"]), ())
    ]


# What sharing a block costs or gains, on two of the tasks: a Transformer of the width, the depth
# and the speed of the universal one, with four times its weights.
_UNSHARED = [
    (tasks, num_epochs, network | {"model": ("transformer",)}, num_batches)
    for tasks, num_epochs, network, num_batches in _only(
        _SIDE_BY_SIDE,
        {
            ("reverse", "answer"): ("universal_transformer",),
            ("program", "answer"): ("universal_transformer",),
        },
    )
]
# What our best teacher, with its settings from the figure `teachers`, teaches as well: which
# networks (all but the LSTM copy digits without it; the universal one would need up to an hour
# of a core for programs with their work), and how many of its epochs make one of `mix`,
# for it goes up a level after an epoch at the soonest.
_ALL_NETWORKS = tuple(_NETWORKS)
_QUICKER_NETWORKS = ("lstm", "attention", "transformer")
_CLIMB_SUMS = {"advance_threshold": _SUMS["advance_threshold"], **_TENTH}
_CLIMB_PROGRAMS = {name: _PROGRAMS[name] for name in ("advance_threshold", "patience", "mix_share")}
_CLIMBED = {
    (_COPYING["task"], "answer"): (("lstm",), 5, _CLIMB_SUMS),
    (("addition",), "answer"): (_ALL_NETWORKS, 2, _CLIMB_SUMS),
    (("addition",), "reversed_trace"): (_ALL_NETWORKS, 2, _CLIMB_SUMS),
    (_CONTROL_4_2["task"], "answer"): (_ALL_NETWORKS, 2, _CLIMB_PROGRAMS),
    (_PROGRAM_4_2["task"], "answer"): (_ALL_NETWORKS, 2, _CLIMB_PROGRAMS),
    (_CONTROL_4_2["task"], "reversed_trace"): (_QUICKER_NETWORKS, 2, _CLIMB_PROGRAMS),
    (_PROGRAM_4_2["task"], "reversed_trace"): (_QUICKER_NETWORKS, 2, _CLIMB_PROGRAMS),
}
_REVIEWED = [
    ({**tasks, **teacher}, shorter * num_epochs, network, num_batches // shorter)
    for tasks, num_epochs, network, num_batches in _SIDE_BY_SIDE
    for models, shorter, teacher in [_CLIMBED[tasks["task"], *tasks["target_form"]]]
    if network["model"][0] in models
]


# With a second seed, where what is said hangs on chance. By `mix`: who learns sums (of the
# Transformer, that it does with its work), and who is ahead on programs. By `review`: that it is
# the LSTM that adds at once, not `attention`.
_AGAIN = _only(
    _SIDE_BY_SIDE,
    {
        ("addition", "answer"): ("lstm", "attention", "universal_transformer"),
        ("addition", "reversed_trace"): _ALL_NETWORKS,
        ("program", "answer"): ("attention", "transformer"),
        ("program", "reversed_trace"): ("attention", "transformer"),
    },
)
_REVIEWED_AGAIN = _only(_REVIEWED, {("addition", "answer"): ("lstm", "attention")})

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
            **_OURS,
        },
        grids={
            "addition": [{"seed": _BOTH, "target_length": (2,), **_TWO}],
            "programs": [{"seed": (1,), "target_nesting": (1,), "target_length": (1, 2), **_TWO}],
            "memorization": [
                {"seed": (1,), "target_length": (3,), "input_form": ("none", "reverse_double")}
                | _TWO
            ],
            "optimizers": [{"seed": _BOTH, "target_length": (2,), **_TWO, "optimizer": OPTIMIZERS}],
            "teachers": [
                {**_SUMS, "target_length": (2,), "seed": _BOTH, "strategy": ("review", "online")},
                {
                    **_PROGRAMS,
                    "target_length": (1,),
                    "target_nesting": (1,),
                    "seed": (1,),
                    "strategy": ("review", "space"),
                },
            ],
            "models": [
                {**tasks, "target_length": (2,), "seed": (1,), "model": tuple(_NETWORKS)}
                | {"strategy": ("mix",), "num_layers": (2,)}
                for tasks in (
                    {**_COPYING, "task": ("copy",)},
                    {"task": ("addition",), "target_form": ("answer", "reversed_trace")},
                )
            ],
        },
    ),
    # Two cores with AVX-512, 6.5 hours for the paper's four figures, two cells at once with a core
    # each. Whole cells timed there, start to exported network (results/paper/timing): programs
    # 570 s at most, memorization 469 s, optimizers 278 s; all of addition took 1.1 h. Were all as
    # slow, (40 * 570 + 20 * 469 + 24 * 278) / 2 s + 1.1 h = 6.5 h. With AVX2 alone an epoch takes
    # 2.6 to 3.3 times as long.
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
            **_OURS,
        },
        figure_flags={
            "optimizers": {"min_learning_rate": 0.0},
            # All levels are looked at after every epoch: so few examples, and so many steps between
            # two looks, that it takes less than a sixth of the time.
            "teachers": {"batches_per_epoch": 100, "num_epochs": 50},
            "models": {
                "global_batch_size": 64,
                # Over the last ninth of the steps, as averages begin, until it is 500 of them.
                "average_decay": 0.998,
                "validation_examples": 200,
                "test_examples": 1_000,
            },
        },
        grids={
            "addition": [{"seed": _BOTH, "target_length": (5, 7, 9), **_ALL}],
            "programs": [
                {"seed": (1,), "target_nesting": (1, 2, 3), "target_length": (2, 4, 6), **_ALL},
                {"seed": (2,), "target_nesting": (2,), "target_length": (4,), **_ALL},
            ],
            "memorization": [
                {"seed": (1,), "target_length": (20,), "input_form": INPUT_FORMS, **_ALL},
                {"seed": (2,), "target_length": (20,), "input_form": ("none",), **_ALL},
            ],
            "optimizers": [{"seed": _BOTH, "target_length": (7,), **_ALL, "optimizer": OPTIMIZERS}],
            "teachers": [
                # The rate of addition_9.cfg, kept: there it falls once the target is taught, which
                # says nothing where all levels are from the start.
                *(
                    {**_SUMS, "learning_rate": (6e-3,), "validation_examples": (250,)} | teachers
                    for teachers in _TEACHERS_OF_SUMS
                ),
                *(
                    {
                        **_PROGRAMS,
                        "global_batch_size": (64,),
                        "batches_per_epoch": (150,),
                        "num_epochs": (40,),
                        "validation_examples": (120,),
                        "test_examples": (2_000,),
                    }
                    | teachers
                    for teachers in _TEACHERS_OF_PROGRAMS
                ),
            ],
            "models": [
                {**tasks, **network, "seed": (seed,), "strategy": (strategy,)}
                | {"num_epochs": (num_epochs,), "batches_per_epoch": (num_batches,)}
                for seed, strategy, compared in (
                    (1, "mix", _SIDE_BY_SIDE + _UNSHARED),
                    (1, "review", _REVIEWED),
                    (2, "mix", _AGAIN),
                    (2, "review", _REVIEWED_AGAIN),
                )
                for tasks, num_epochs, network, num_batches in compared
            ],
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
        grids={
            "addition": [{"seed": _BOTH, "target_length": tuple(range(4, 10)), **_ALL}],
            "programs": [
                {"seed": (1,), "target_nesting": (1, 2, 3), "target_length": tuple(range(1, 10))}
                | _ALL
            ],
            "memorization": [
                {"seed": (1,), "target_length": (65,), "input_form": INPUT_FORMS, **_ALL}
            ],
            "optimizers": [
                {"seed": _BOTH, "target_length": (9,), **_ALL, "optimizer": ("sgd",)}
                | {"learning_rate": (0.5,)},  # The paper's.
                {"seed": _BOTH, "target_length": (9,), **_ALL, "optimizer": ("adam", "muon")},
            ],
            "teachers": [_SUMS | teachers for teachers in _TEACHERS_OF_SUMS],
            # Digits and programs of the lengths of arXiv 1807.03819, trained as ours are.
            "models": [
                {**tasks, "target_length": (length,), **network, "seed": _BOTH}
                | {"strategy": ("mix",), "optimizer": ("muon",)}
                | {"tie_encoder_decoder": (False,), "uniform_init": (0.0,)}
                | {"average_decay": (0.998,)}
                for (tasks, *_), length in zip(_SUITE, (55, 9, 9, 5, 5, 5, 5), strict=True)
                for network in _networks_for(tasks["task"]).values()
            ],
        },
    ),
}


def cells(figure: str, budget_name: str) -> list[Cell]:
    """The cells of a figure, in the order in which they are best run.

    Args:
        figure: a name in FIGURES.
        budget_name: a name in BUDGETS.
    """
    budget = BUDGETS[budget_name]
    pattern, made_by = FIGURES[figure]
    shared = budget.flags | budget.figure_flags.get(figure, {}) | made_by
    combinations = [
        dict(zip(grid, values, strict=True))
        for grid in budget.grids[figure]
        for values in itertools.product(*grid.values())
    ]
    all_flags = [
        shared | OPTIMIZER_FLAGS.get(flags.get("optimizer"), {}) | flags for flags in combinations
    ]
    return [Cell(pattern.format(**flags), flags) for flags in all_flags]


def name_network(flags: Mapping) -> str:
    """Of a cell or a run: its model, layers (blocks, steps) and width.

    >>> name_network({"model": "transformer", "num_layers": 4, "hidden_dim": 64})
    'transformer 4 x 64'
    """
    return "{model} {num_layers} x {hidden_dim}".format_map(flags)


def check_flags(wanted: Iterable[Cell], folder: Path) -> None:
    """Raises UsageError if a cell that lies in a folder was run with other flags than these."""
    for cell in wanted:
        path = folder / cell.name / "flags.cfg"
        # It holds the flags that were left at their defaults as well.
        if path.exists() and not {*cell.flagfile().split()} <= {*path.read_text("utf-8").split()}:
            raise UsageError(
                f"{path} holds other flags than these: another --budget, or another version of the "
                "package; take another --workdir"
            )
