"""Every setting once: Config, flags and flags.cfg agree on its default and on what is allowed."""

import importlib
import math

import numpy as np
import pytest

from keras_l2e import command_line, settings
from keras_l2e import config as configs
from keras_l2e.config import Config, Run
from keras_l2e.errors import UsageError
from keras_l2e.language.forms import INPUT_FORMS, TARGET_FORMS
from keras_l2e.language.tasks import TASKS
from keras_l2e.networks import MODELS, OPTIMIZERS
from keras_l2e.teaching.teachers import TEACHERS

INFINITE = (math.inf, -math.inf, math.nan)
COUNT = ([1, 2, 10**6], [0, -1, 1.5, "x", True])
COUNT_OR_NONE = ([0, 1, 7], [-1, 0.5, "x"])
SHARE = ([0, 0.5, 1], [-0.01, 1.01, *INFINITE, "x"])
POSITIVE = ([1e-9, 1, 1e3], [0, -1, *INFINITE, "x"])
NOT_NEGATIVE = ([0, 0.1, 1e3], [-1e-9, *INFINITE, "x"])
YES_OR_NO = ([True, False], ["maybe", 2, 0.5])
PATH = (["a b", "~/x", "/x", "."], ["a\n--seed=2", " a", "a ", "~nobody_here/x", "\udcff"])


def names(*allowed):
    return list(allowed), ["", "mixx", allowed[0].upper(), f"{allowed[0]} "]


# Of each setting of a run, what is allowed, at both ends, and what is not.
VALUES = {
    "workdir": PATH,
    "data_dir": ([*PATH[0], "gs://bucket/data"], PATH[1]),
    "initial_model": (["", *PATH[0]], PATH[1]),
    "seed": ([0, 1, 2**32 - 1], [-1, 2**32, 0.5, "x"]),
    "task": names(*TASKS),
    "target_length": ([1, 12], COUNT[1]),
    "target_nesting": ([1, 10], COUNT[1]),
    "input_form": names(*INPUT_FORMS),
    "target_form": names(*TARGET_FORMS),
    "train_source": names("prepared", "generated"),
    "examples_per_difficulty": COUNT,
    "validation_examples": COUNT,
    "test_examples": COUNT,
    "validate_all_levels": YES_OR_NO,
    "strategy": names(*TEACHERS),
    "mix_share": SHARE,
    "advance_threshold": SHARE,
    "advance_metric": names("auto", "token_accuracy", "exact_match"),
    "patience": COUNT,
    "progress_rate": SHARE,
    "progress_window": ([2, 10**6], [1, 0, -1, 1.5, "x", True]),
    "absolute_progress": YES_OR_NO,
    "policy": names("greedy", "boltzmann"),
    "temperature": POSITIVE,
    "exploration": SHARE,
    "exp3s_exploration": SHARE,
    "exp3s_step": POSITIVE,
    "model": names(*MODELS),
    "num_layers": COUNT,
    "hidden_dim": COUNT,
    "embedding_dim": COUNT,
    "num_heads": COUNT,
    "own_past": YES_OR_NO,
    "second_lstm": YES_OR_NO,
    "tie_encoder_decoder": YES_OR_NO,
    "positions": names("sinusoidal", "learned"),
    "halting": YES_OR_NO,
    "ponder_cost": NOT_NEGATIVE,
    "uniform_init": NOT_NEGATIVE,
    "optimizer": names(*OPTIMIZERS),
    "learning_rate": POSITIVE,
    "learning_rate_schedule": names("constant", "plateau", "cosine", "target_cosine"),
    "min_learning_rate": NOT_NEGATIVE,
    "loss_scale": names("character", "example"),
    "clip_norm": NOT_NEGATIVE,
    "average_decay": ([0, 0.5, 0.9999], [-0.01, 0.99991, 1, *INFINITE, "x"]),
    "global_batch_size": COUNT,
    "first_batch_size": ([0, 1, 128], [-1, 129, 0.5, "x"]),
    "batches_per_epoch": COUNT,
    "num_epochs": COUNT,
    "stop_at_exact_match": SHARE,
    "num_replicas": COUNT_OR_NONE,
    "threads_per_replica": COUNT_OR_NONE,
    "onednn": names("auto", "on", "off"),
}
# What only goes with another setting than the default.
BESIDE = {"target_nesting": {"task": "program"}}
each_setting = pytest.mark.parametrize("name", VALUES)


def parse(*arguments):
    return command_line.parse(Run, ["train", "--workdir=run", *arguments])


def flags_of(values):
    return [f"--{name}={value}" for name, value in values.items()]


def test_every_setting_stands_here():
    assert VALUES.keys() == settings.of(Run).keys()


@each_setting
def test_a_default_is_allowed_and_is_its_own_flag(name):
    default = Run.__dataclass_fields__[name].default
    setting = settings.of(Run)[name]
    assert setting.help.endswith((".", ")"))
    if setting.required and not default:
        for without in (Run, lambda: command_line.parse(Run, ["train", f"--{name}="])):
            with pytest.raises(UsageError) as error:
                without()
            assert str(error.value) == f"--{name} is required"
        return
    assert getattr(Run(workdir="run"), name) == default
    assert parse(f"--{name}={default}") == parse() == Run(workdir="run")


@each_setting
def test_what_is_allowed_is_read_and_written_alike(name, tmp_path):
    for value in VALUES[name][0]:
        values = BESIDE.get(name, {}) | {name: value}
        run = Run(**{"workdir": "run"} | values)
        assert getattr(run, name) == value
        assert type(getattr(run, name)) is type(Run.__dataclass_fields__[name].default)
        assert parse(*flags_of(values)) == run
        configs.write(tmp_path, run.config)
        assert configs.read(tmp_path) == run.config


def test_numbers_of_numpy_are_numbers():
    of_numpy = Config(target_length=np.int64(3), learning_rate=np.float32(0.5))
    assert of_numpy == Config(target_length=3, learning_rate=0.5)
    assert type(of_numpy.target_length) is int and type(of_numpy.learning_rate) is float
    assert Config(halting=np.True_).halting is True


@each_setting
def test_what_is_not_allowed_is_refused_alike(name):
    for value in VALUES[name][1]:
        values = BESIDE.get(name, {}) | {name: value}
        with pytest.raises(UsageError) as in_python:
            Run(**{"workdir": "run"} | values)
        message = str(in_python.value)
        assert message.startswith(f"--{name}={value}")
        with pytest.raises(UsageError) as in_flags:
            parse(*flags_of(values))
        _, _, reason = message.partition(f"--{name}={value}")
        assert str(in_flags.value).endswith(reason)
        assert f"--{name}={value}" in str(in_flags.value)
        for allowed in settings.of(Run)[name].names:
            assert allowed in reason


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target_length": 65}, "--task=addition: length 65 is out of range; allowed 1..64"),
        ({"target_nesting": 2}, "--task=addition: nesting 2 is out of range; allowed 1..1"),
        (
            {"task": "program", "target_length": 13},
            "--task=program: length 13 is out of range; allowed 1..12",
        ),
        (
            {"task": "program", "target_nesting": 11},
            "--task=program: nesting 11 is out of range; allowed 1..10",
        ),
        (
            {"first_batch_size": 9, "global_batch_size": 8},
            "--first_batch_size=9; allowed 0 to --global_batch_size=8",
        ),
        (
            {"strategy": "space", "task": "program"},
            "--train_source=prepared: the strategy space draws the operations of the task program "
            "one by one; allowed is generated",
        ),
        (
            {"learning_rate_schedule": "plateau", "learning_rate": 1e-4},
            "--learning_rate=0.0001; allowed is --min_learning_rate=0.001 or more, where plateau "
            "ends the run",
        ),
        *(
            (
                {"task": "copy", "target_form": form},
                f"--task=copy: target form {form}: the task copy has nothing to compute; allowed "
                "is answer",
            )
            for form in ("trace", "reversed_trace")
        ),
    ],
)
def test_settings_that_do_not_go_together(values, message):
    for make in (lambda: Config(**values), lambda: parse(*flags_of(values))):
        with pytest.raises(UsageError) as error:
            make()
        assert str(error.value) == message


@pytest.mark.parametrize("name", ["evaluate", "execute", "export", "reproduce", "show"])
def test_the_other_entry_points_have_allowed_defaults(name):
    arguments = importlib.import_module(f"keras_l2e.{name}").Arguments
    for setting_name, setting in settings.of(arguments).items():
        default = arguments.__dataclass_fields__[setting_name].default
        assert setting.required or setting.parser.parse(default) == default, setting_name
        assert setting.help.endswith((".", ")"))
