"""The flags of a training run: defined once, written to flags.cfg, read back and compared."""

import math
from pathlib import Path
from types import SimpleNamespace

from absl import flags

from keras_l2e import command_line
from keras_l2e.errors import UsageError
from keras_l2e.files import write_text
from keras_l2e.language.programs import OPERATIONS
from keras_l2e.language.tasks import EXAMPLES_PER_DIFFICULTY, INPUT_FORMS, TASKS
from keras_l2e.teaching.teachers import STRATEGIES

NAME = "flags.cfg"
# The names in models.MODELS and optimizers.OPTIMIZERS, which cannot be read without TensorFlow.
MODELS = ("lstm",)
OPTIMIZERS = ("adam", "muon", "sgd")
# Where a run lies and where its data lie do not change what it computes.
PLACES = frozenset({"workdir", "data_dir"})
# What makes two networks ones of the same shape.
SHAPE = ("model", "num_layers", "hidden_dim", "embedding_dim", "tie_encoder_decoder")


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines every flag of a training run."""

    def integer(name, default, text, lower=1, upper=None):
        flags.DEFINE_integer(
            name, default, text, lower_bound=lower, upper_bound=upper, flag_values=flag_values
        )

    def number(name, default, text, upper=None, zero=True):
        lower = 0.0 if zero else None
        flags.DEFINE_float(
            name, default, text, lower_bound=lower, upper_bound=upper, flag_values=flag_values
        )
        flags.register_validator(
            name,
            lambda value: math.isfinite(value) and (zero or value > 0),
            f"a finite {'' if zero else 'positive '}number is needed",
            flag_values=flag_values,
        )

    def choice(name, default, allowed, text):
        flags.DEFINE_enum(name, default, sorted(allowed), text, flag_values=flag_values)

    def boolean(name, default, text):
        flags.DEFINE_bool(name, default, text, flag_values=flag_values)

    def path(name, default, text):
        command_line.define_path(name, default, text, flag_values=flag_values)

    path("workdir", None, "Folder of the run: everything it leaves is written there. Required.")
    command_line.define_path(
        "initial_model",
        "",
        "Start from the weights of this network of the same shape: the folder of a finished run, "
        "or the name of a network that comes with the package. Empty: from new ones.",
        optional=True,
        flag_values=flag_values,
    )
    path("data_dir", "~/keras_l2e_data", "Folder of prepared data; what is missing is prepared.")
    integer(
        "seed",
        1,
        "Seed of the first weights, of the order of stored examples, and of freshly drawn ones.",
        lower=0,
        upper=2**32 - 1,  # Of NumPy, which Keras seeds too.
    )

    choice("task", "addition", TASKS, "What is learnt.")
    lengths, nestings = (
        ", ".join(f"{getattr(task, bound)} ({name})" for name, task in TASKS.items())
        for bound in ("max_length", "max_nesting")
    )
    integer("target_length", 5, f"Digits of the numbers at the target difficulty: 1 to {lengths}.")
    integer(
        "target_nesting",
        1,
        f"Operations of the programs at the target difficulty: 1 to {nestings}.",
    )
    choice(
        "input_form",
        "none",
        INPUT_FORMS,
        "How the network reads the program: none, as it stands; reverse, backwards; double, twice; "
        "reverse_double, backwards and twice.",
    )
    choice(
        "train_source",
        "prepared",
        ["prepared", "generated"],
        "Training examples: stored ones, or freshly drawn ones every epoch.",
    )
    integer(
        "examples_per_difficulty",
        EXAMPLES_PER_DIFFICULTY,
        "Stored training examples of each difficulty. Whatever the --train_source, at most so many "
        "are held out for validation (never more than 2,000) and for test (10,000).",
    )
    integer(
        "validation_examples",
        1_000,
        "Validation examples read at a difficulty, at most (2,000 are stored).",
    )
    integer(
        "test_examples",
        10_000,
        "Test examples read at a difficulty, at most (10,000 are stored).",
    )
    boolean(
        "validate_all_levels",
        False,
        "Look at the validation examples of every difficulty after every epoch, not only at the "
        "current and the target one; history.jsonl then tells when each was mastered.",
    )

    choice(
        "strategy",
        "combined",
        STRATEGIES,
        "The curriculum. The paper's: baseline, the target difficulty only; naive, one after the "
        "other; mix, all of them all the time; combined, naive with a share of mix. Ours: review, "
        "naive with a share of the difficulties so far; frontier, those around the current one.",
    )
    number(
        "mix_share",
        0.2,
        "Share of mix in the strategy combined, and of the difficulties so far in review (half of "
        "the examples there once the target is reached). The others have no use for it.",
        upper=1.0,
    )
    number(
        "advance_threshold",
        0.95,
        "A difficulty is left when its validation token accuracy is above this, or when learning "
        "stands still (--patience). Difficulties with too few examples to hold out are judged by "
        "training ones.",
        upper=1.0,
    )
    integer(
        "patience",
        5,
        "Epochs which, when they have not raised a difficulty's validation token accuracy by 0.02, "
        "end it although it is not mastered, so that none holds the run up for ever.",
    )
    flags.DEFINE_string(
        "first_operations",
        "",
        "With --task=program and a strategy that climbs: operations, with commas between them, to "
        "be learnt first. All difficulties come twice, at first with programs of these operations "
        f"only; empty: once. Operations are {', '.join(OPERATIONS)}.",
        flag_values=flag_values,
    )
    flags.register_validator("first_operations", _check_operations, flag_values=flag_values)
    number(
        "carry_share",
        0.0,
        "With --task=addition: on the way to the target, share of the training sums that are drawn "
        "from those alone in which a carry runs through at least half of the digits.",
        upper=1.0,
    )

    choice("model", "lstm", MODELS, "The network.")
    integer("num_layers", 1, "LSTM layers of the encoder and of the decoder.")
    integer("hidden_dim", 256, "Cells of each LSTM layer.")
    integer("embedding_dim", 64, "Width of the character embedding.")
    boolean("tie_encoder_decoder", False, "One LSTM stack reads and writes (the paper's network).")
    number("uniform_init", 0.0, "Weights start uniform on +-this (paper: 0.08); 0: Keras' way.")

    choice("optimizer", "muon", OPTIMIZERS, "The rule that changes the weights.")
    number("learning_rate", 4e-3, "Learning rate at the start.", zero=False)
    choice(
        "learning_rate_schedule",
        "constant",
        ["constant", "plateau", "cosine", "target_cosine"],
        "Plateau (the paper's): at the target difficulty x0.8 whenever training is less accurate "
        "than five epochs before, end below --min_learning_rate. Cosine: down to 0 over the run. "
        "Target_cosine: from the target difficulty on down to 0 over the epochs left.",
    )
    number("min_learning_rate", 1e-3, "Learning rate below which plateau ends the run.")
    choice(
        "loss_scale",
        "character",
        ["character", "example"],
        "character: the mean loss of a target character. example: the sum over an answer's "
        "characters, averaged over the examples (the paper's, for its learning rate of 0.5).",
    )
    number("clip_norm", 1.0, "Largest norm of the whole batch's gradient; 0: no clipping.")
    number(
        "average_decay",
        0.99,
        "Decay of the weights' average per step, less in the first steps; the averaged weights are "
        "validated, evaluated and exported. 0: no average.",
        upper=0.9999,
    )
    integer("global_batch_size", 128, "Examples of a step, over all replicas.")
    integer(
        "first_batch_size",
        0,
        "Examples of a step at the first difficulty, growing evenly with the difficulties to "
        "--global_batch_size at the target; 0: as many at every one.",
        lower=0,
    )
    integer(
        "sort_window",
        32,
        "Batches are cut from so many batches' worth of examples sorted by length; with 1 examples "
        "of all lengths stand in a batch, and the short ones are padded.",
    )
    integer("batches_per_epoch", 200, "Steps between two looks at the validation examples.")
    integer("num_epochs", 40, "Epochs, at most.")
    number(
        "stop_at_exact_match",
        0.0,
        "Stop once the validation exact match at the target difficulty has reached this in two "
        "epochs running; 0: never.",
        upper=1.0,
    )

    integer(
        "num_replicas",
        0,
        "Copies of the model that share each batch; 0: one on each GPU, or two on a CPU of two "
        "cores or more.",
        lower=0,
    )
    integer(
        "threads_per_replica",
        0,
        "Threads within an operation on CPU; 0: the cores, shared evenly among the replicas.",
        lower=0,
    )
    choice(
        "onednn",
        "auto",
        ["auto", "on", "off"],
        "TensorFlow's oneDNN kernels on CPU; auto: where the processor makes them the faster ones.",
    )


def names(value: str) -> list[str]:
    """What a flag names, with commas between."""
    return value.split(",") if value else []


def _check_operations(value: str) -> bool:
    if unknown := [name for name in names(value) if name not in OPERATIONS]:
        raise flags.ValidationError(
            f"{unknown[0]!r} is no operation; allowed are {', '.join(OPERATIONS)}"
        )
    if set(names(value)) == set(OPERATIONS):
        raise flags.ValidationError("these are all operations; some must be left for later")
    return True


def write(workdir: Path, config: SimpleNamespace) -> None:
    """Writes every flag in force to flags.cfg, which is a flagfile itself."""
    text = "".join(f"--{name}={value}\n" for name, value in _values(config).items())
    write_text(workdir / NAME, text)


def read(workdir: Path) -> SimpleNamespace:
    """The flags a run was started with.

    Raises:
        UsageError: there is no run in this folder, or its flags.cfg cannot be read.
    """
    path = workdir / NAME
    if not path.is_file():
        raise UsageError(f"no training run in {workdir}: {path} is missing")
    flag_values = flags.FlagValues()
    define(flag_values)
    try:
        flag_values([NAME, *command_line.read_flagfile(path)])
    except flags.Error as error:
        raise UsageError(f"{path}: {error}") from None
    return SimpleNamespace(**flag_values.flag_values_dict())


def read_finished(workdir: Path) -> SimpleNamespace:
    """The flags of a run whose network is trained.

    Raises:
        UsageError: there is no such run in this folder.
    """
    config = read(workdir)
    if not (workdir / "model.keras").is_file():
        raise UsageError(f"no finished training in {workdir}: model.keras is missing")
    return config


def check_same(config: SimpleNamespace, earlier: SimpleNamespace) -> None:
    """Raises UsageError if a run would go on with other flags than it was started with."""
    for name, value in _values(config).items():
        before = getattr(earlier, name)
        if name not in PLACES and value != before:
            raise UsageError(
                f"{config.workdir} was started with --{name}={before}, not --{name}={value}; "
                "take another --workdir"
            )


def _values(config: SimpleNamespace) -> dict:
    flag_values = flags.FlagValues()
    define(flag_values)
    return {name: getattr(config, name) for name in sorted(flag_values)}
