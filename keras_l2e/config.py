"""The settings of a training run: said once, kept in flags.cfg, read back and compared.

>>> Config(task="addition", target_length=3).learning_rate
0.004
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from keras_l2e import command_line
from keras_l2e.errors import UsageError
from keras_l2e.files import write_text
from keras_l2e.language import forms
from keras_l2e.language.forms import INPUT_FORMS, TARGET_FORMS, Interface, shows_work
from keras_l2e.language.tasks import EXAMPLES_PER_DIFFICULTY, TASKS, Difficulty, grid
from keras_l2e.networks import MODELS, OPTIMIZERS
from keras_l2e.settings import Settings, boolean, choice, integer, number, path, taken_by
from keras_l2e.teaching.teacher import Teacher
from keras_l2e.teaching.teachers import TEACHERS

NAME = "flags.cfg"
# Schedules of the learning rate under which an epoch does not depend on how many there will be.
OPEN_ENDED = ("constant", "plateau")
# Of release 0.1.0, whose runs can still be evaluated, exported and executed.
REMOVED = ("carry_share", "first_operations", "sort_window")


def _ranges(bound: str) -> str:
    return ", ".join(f"{getattr(task, bound)} ({name})" for name, task in TASKS.items())


@dataclass(frozen=True)
class Curriculum(Settings):
    """Which teacher, and what it is told."""

    strategy: str = choice(
        "combined",
        TEACHERS,
        "The curriculum. baseline: the target difficulty only; naive: one after the other; mix: "
        "all at once; combined: naive with a share of mix. docs/teachers.md has the others.",
    )
    mix_share: float = number(
        0.2,
        "Share of mix in the strategy combined, and of the difficulties so far in review.",
        upper=1.0,
    )
    advance_threshold: float = number(
        0.95,
        "A difficulty is left when its validation accuracy (--advance_metric) is above this, or "
        "when learning stands still (--patience).",
        upper=1.0,
    )
    advance_metric: str = choice(
        "auto",
        ("auto", "token_accuracy", "exact_match"),
        "By what a difficulty counts as mastered: characters (teacher-forced) or whole answers "
        "(free-running). auto: exact_match where the network writes its work, else token_accuracy.",
    )
    patience: int = integer(
        5,
        "A difficulty is left, mastered or not, when so many epochs have not raised its validation "
        "accuracy by 0.02.",
    )

    progress_rate: float = number(
        0.1,
        "How far an estimate of progress moves to what was seen last (online, naive_slope, space).",
        upper=1.0,
    )
    progress_window: int = integer(
        10, "Epochs over which progress is estimated (naive_slope, window, sampling).", lower=2
    )
    absolute_progress: bool = boolean(
        True,
        "Where a strategy follows progress, what is forgotten calls for practice as well.",
    )
    policy: str = choice(
        "greedy",
        ("greedy", "boltzmann"),
        "From progress to shares. greedy: most for the difficulty of most progress. boltzmann: the "
        "softmax of progress / --temperature.",
    )
    temperature: float = number(4e-4, "Temperature of --policy=boltzmann.", positive=True)
    exploration: float = number(
        0.1,
        "Share of examples spread over all difficulties, where a strategy follows what is learnt "
        "(exp3s: --exp3s_exploration; none with --policy=boltzmann).",
        upper=1.0,
    )
    exp3s_exploration: float = number(0.05, "That share in the strategy exp3s.", upper=1.0)
    exp3s_step: float = number(1e-3, "Step of Exp3.S for a training step's reward.", positive=True)


@dataclass(frozen=True)
class Config(Curriculum):
    """What a training run does; each field is a flag of `python -m keras_l2e.train` as well.

    Raises UsageError for a value that is not allowed.
    """

    data_dir: str = path(
        "~/keras_l2e_data", "Folder of prepared data; what is missing is prepared.", required=True
    )
    initial_model: str = path(
        "",
        "Start from the weights of this network of the same shape: the folder of a finished run, "
        "or the name of a network that comes with the package.",
    )
    seed: int = integer(
        1,
        "Seed of the first weights, of the order of stored examples, and of freshly drawn ones.",
        lower=0,
        upper=2**32 - 1,  # Of NumPy, which Keras seeds too.
    )

    task: str = choice("addition", TASKS, "What is learnt.")
    target_length: int = integer(
        5, f"Digits of the numbers at the target difficulty: 1 to {_ranges('max_length')}."
    )
    target_nesting: int = integer(
        1, f"Operations of the programs at the target difficulty: 1 to {_ranges('max_nesting')}."
    )
    input_form: str = choice(
        "none",
        INPUT_FORMS,
        "How the network reads the program: none, as it stands; reverse, backwards; double, twice; "
        "reverse_double, backwards and twice.",
    )
    target_form: str = choice(
        "answer",
        TARGET_FORMS,
        "What the network writes. answer: what the program prints. The others: its work, the value "
        "of every operation, in three ways (docs/running.md).",
    )
    train_source: str = choice(
        "prepared",
        ("prepared", "generated"),
        "Training examples: stored ones, or freshly drawn ones every epoch.",
    )
    examples_per_difficulty: int = integer(
        EXAMPLES_PER_DIFFICULTY,
        "Stored training examples of each difficulty. Whatever the --train_source, at most so many "
        "are held out for validation (never more than 2,000) and for test (10,000).",
    )
    validation_examples: int = integer(
        1_000, "Validation examples read at a difficulty, at most (2,000 are stored)."
    )
    test_examples: int = integer(
        10_000, "Test examples read at a difficulty, at most (10,000 are stored)."
    )
    validate_all_levels: bool = boolean(
        False,
        "Validate every difficulty after every epoch, not only the current and the target one; "
        "history.jsonl then tells when each was mastered.",
    )

    model: str = choice(
        "lstm",
        MODELS,
        "The network. lstm: one LSTM stack reads, another writes. attention: the writer also looks "
        "back. transformer: attention alone; universal_transformer: one block again and again.",
    )
    num_layers: int = integer(
        1,
        "Layers or blocks of the encoder and of the decoder; in a universal_transformer, how often "
        "their one block is applied. The model attention has one.",
    )
    hidden_dim: int = integer(256, "Cells of each LSTM layer; the width of a Transformer.")
    embedding_dim: int = integer(
        64, "Width of the character embedding; in a Transformer it is --hidden_dim."
    )
    num_heads: int = integer(4, "Heads of an attention; --hidden_dim is a multiple of it.")
    own_past: bool = boolean(True, "The writer of the model attention looks at its own past.")
    second_lstm: bool = boolean(True, "It has a second LSTM behind its attention.")
    tie_encoder_decoder: bool = boolean(
        False, "In the model lstm, one stack reads and writes (the paper's)."
    )
    positions: str = choice(
        "sinusoidal",
        ("sinusoidal", "learned"),
        "How a Transformer is told places: by sines, or by vectors that are learnt (one and the "
        "same from place 512 on).",
    )
    halting: bool = boolean(
        False, "In a universal_transformer each place decides how many steps it takes."
    )
    ponder_cost: float = number(
        0.01, "With --halting: what one more step at every place adds to the loss."
    )
    uniform_init: float = number(
        0.0, "Weights of the model lstm start uniform on +-this (paper: 0.08); 0: Keras' way."
    )

    optimizer: str = choice("muon", OPTIMIZERS, "The rule that changes the weights.")
    learning_rate: float = number(4e-3, "Learning rate at the start.", positive=True)
    learning_rate_schedule: str = choice(
        "constant",
        ("constant", "plateau", "cosine", "target_cosine"),
        "plateau (the paper's): at the target x0.8 when training is worse than five epochs before. "
        "cosine: down to 0 over the run. target_cosine: down to 0 from the target on.",
    )
    min_learning_rate: float = number(1e-3, "Learning rate below which plateau ends the run.")
    loss_scale: str = choice(
        "character",
        ("character", "example"),
        "character: the mean loss of a target character. example: the sum over an answer's "
        "characters, averaged over the examples (the paper's, for its learning rate of 0.5).",
    )
    clip_norm: float = number(1.0, "Largest norm of the whole batch's gradient; 0: no clipping.")
    average_decay: float = number(
        0.99,
        "Decay of the weights' average per step, less in the first steps; the averaged weights are "
        "validated, evaluated and exported. 0: no average.",
        upper=0.9999,
    )
    global_batch_size: int = integer(128, "Examples of a step, over all replicas.")
    first_batch_size: int = integer(
        0,
        "Examples of a step at the first difficulty, growing evenly with the difficulties to "
        "--global_batch_size at the target; 0: as many at every one.",
        lower=0,
    )
    batches_per_epoch: int = integer(200, "Steps between two looks at the validation examples.")
    num_epochs: int = integer(40, "Epochs, at most.")
    stop_at_exact_match: float = number(
        0.0,
        "Stop once the validation exact match at the target difficulty has reached this in two "
        "epochs running; 0: never.",
        upper=1.0,
    )

    num_replicas: int = integer(
        0,
        "Copies of the model that share each batch; 0: one on each GPU, or two on a CPU of two "
        "cores or more.",
        lower=0,
    )
    threads_per_replica: int = integer(
        0,
        "Threads within an operation on CPU; 0: the cores, shared evenly among the replicas.",
        lower=0,
    )
    onednn: str = choice(
        "auto",
        ("auto", "on", "off"),
        "TensorFlow's oneDNN kernels on CPU; auto: where the processor makes them the faster ones.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_together(self)

    @property
    def target(self) -> Difficulty:
        """The difficulty that is to be learnt."""
        return Difficulty(self.target_length, self.target_nesting)

    @property
    def levels(self) -> list[Difficulty]:
        """The difficulties of the curriculum, easiest first, the target last."""
        return grid(self.target)

    @property
    def mastered_by(self) -> str:
        """The accuracy that `--advance_metric` means, a field of `teaching.teacher.Score`."""
        if self.advance_metric != "auto":
            return self.advance_metric
        return "exact_match" if shows_work(self.target_form) else "token_accuracy"

    @property
    def interface(self) -> Interface:
        """What must be known to use the trained network.

        The longest texts of all levels are those of the target, the longest and deepest one.
        """
        task = TASKS[self.task]
        longest = task.longest(self.target)
        return Interface(
            self.task,
            self.input_form,
            self.target_form,
            self.target_length,
            self.target_nesting,
            longest.program,
            TARGET_FORMS[self.target_form].longest(longest),
            task.white_space,
        )


def make_teacher(config: Config) -> Teacher:
    """The teacher that a config names, with what it takes of its settings."""
    teacher = TEACHERS[config.strategy]
    return teacher(**taken_by(teacher, config))


def _check_together(config: Config) -> None:
    """Raises UsageError if values that are allowed each are not allowed together."""
    try:
        TASKS[config.task].check(config.target)
        forms.check(config.task, config.target_form)
    except ValueError as error:
        raise UsageError(f"--task={config.task}: {error}") from None
    task, prepared = TASKS[config.task], config.train_source == "prepared"
    if prepared and task.drawn_kinds and make_teacher(config).of_kinds:
        raise UsageError(
            f"--train_source=prepared: the strategy {config.strategy} draws the {task.kind}s of "
            f"the task {config.task} one by one; allowed is generated"
        )
    if config.first_batch_size > config.global_batch_size:
        raise UsageError(
            f"--first_batch_size={config.first_batch_size}; allowed 0 to --global_batch_size="
            f"{config.global_batch_size}"
        )
    falls = config.learning_rate_schedule == "plateau"
    if falls and config.learning_rate < config.min_learning_rate:
        raise UsageError(
            f"--learning_rate={config.learning_rate}; allowed is --min_learning_rate="
            f"{config.min_learning_rate} or more, where plateau ends the run"
        )


@dataclass(frozen=True)
class Run(Config):
    """A config and the folder of its run: what flags.cfg holds."""

    workdir: str = path(
        "", "Folder of the run: everything it leaves is written there.", required=True
    )

    @property
    def config(self) -> Config:
        """What the run does, wherever it lies."""
        names = (field.name for field in dataclasses.fields(Config))
        return Config(**{name: getattr(self, name) for name in names})


def write(workdir: Path, config: Config) -> None:
    """Writes every setting in force to flags.cfg, which is a flagfile itself."""
    values = sorted((dataclasses.asdict(config) | {"workdir": workdir}).items())
    write_text(workdir / NAME, "".join(f"--{name}={value}\n" for name, value in values))


def read(workdir: Path) -> Config:
    """The config of the run in a folder.

    Raises:
        UsageError: there is no run in this folder, or its flags.cfg cannot be read.
    """
    path = workdir / NAME
    if not path.is_file():
        raise UsageError(f"no training run in {workdir}: {path} is missing")
    try:
        lines = path.read_text("utf-8").splitlines()
        known = [line for line in lines if line.split("=")[0].lstrip("-") not in REMOVED]
        return command_line.parse(Run, [NAME, *known]).config
    except (UsageError, UnicodeError) as error:
        raise UsageError(f"{path}: {error}") from None


def read_finished(workdir: Path) -> Config:
    """The config of a run whose network is trained.

    Raises:
        UsageError: there is no such run in this folder.
    """
    config = read(workdir)
    network_in(workdir)
    return config


def network_in(workdir: Path) -> Path:
    """What Keras loads of a run: model.keras, or the folder itself, as networks lie on hubs.

    Raises:
        UsageError: the run has no network.
    """
    path = workdir / "model.keras"
    if path.is_file():
        return path
    if (workdir / "model.weights.h5").is_file():
        return workdir
    raise UsageError(f"no finished training in {workdir}: {path.name} is missing")


def check_same(workdir: Path, config: Config, earlier: Config) -> None:
    """Raises UsageError if a run would go on with other settings than it was started with.

    More epochs are allowed where those before would have been the same.
    """
    open_ended = config.learning_rate_schedule in OPEN_ENDED
    for name, value in dataclasses.asdict(config).items():
        before = getattr(earlier, name)
        more_epochs = open_ended and name == "num_epochs" and value > before
        # Where the data lie does not change what a run computes.
        if value != before and name != "data_dir" and not more_epochs:
            raise UsageError(
                f"{workdir} was started with --{name}={before}, not --{name}={value}; take another "
                "--workdir"
            )
