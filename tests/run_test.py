"""One run, trained in this process, is rewound for every test: another one would take seconds to be
compiled."""

import dataclasses
import json
import math
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from keras_l2e import devices
from keras_l2e.config import Config
from keras_l2e.data import pipeline
from keras_l2e.errors import WorkError
from keras_l2e.language import vocabulary
from keras_l2e.language.tasks import Difficulty
from keras_l2e.networks import models, optimizers, text
from keras_l2e.teaching.bandits import BANDITS
from keras_l2e.teaching.teacher import Score
from keras_l2e.teaching.teachers import TEACHERS
from keras_l2e.training import run as runs
from keras_l2e.training import schedules, workers
from keras_l2e.training.scoring import Scorer


@pytest.fixture(scope="module")
def make_run(make_config, tmp_path_factory):
    """Makes a small run with some changes, which costs little until it is trained."""

    def make(**changes):
        config = make_config(**changes)
        folder, strategy = tmp_path_factory.mktemp("run"), devices.start(config.num_replicas)
        return runs.Run(config, folder, strategy)

    return make


@pytest.fixture(scope="module")
def shared(make_run):
    run = make_run()
    run.save()
    return run


@pytest.fixture
def rewind(shared, tmp_path, monkeypatch):
    """Puts the shared run before its first epoch, in a new folder, and gives it."""
    start = shared.workdir
    for name in ("workdir", "config", "teacher", "stored", "strategy"):
        monkeypatch.setattr(shared, name, getattr(shared, name))

    def rewind():
        shared.workdir = tmp_path / f"run_{len(list(tmp_path.iterdir()))}"
        shutil.copytree(start / "checkpoints", shared.workdir / "checkpoints")
        shared.restore()
        shared.validation.forget()
        return shared

    return rewind


@pytest.fixture
def run(rewind):
    return rewind()


def change(run, **changes):
    """Gives a run other settings, as far as it reads them only when it trains."""
    run.config = dataclasses.replace(run.config, **changes)
    run.teacher = runs.make_teacher(run.config)
    run.state = run.teacher.start(run.config.levels)
    run.learning_rate = run.config.learning_rate
    if run.config.train_source == "generated":
        run.stored = None


def trained(run):
    """All that training changes, as a checkpoint holds it."""
    return [variable.numpy() for variable in run.variables()]


def assert_same(weights, expected):
    for found, weight in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(found, weight)


def differ(weights, others):
    return any((a != b).any() for a, b in zip(weights, others, strict=True))


def averages(run):
    """The weights that a run's `averaged` is to have."""
    return [average.numpy() for average in run.model.optimizer.averages]


@pytest.fixture
def stop_in_the_middle(monkeypatch):
    """Stops a run as Ctrl-C does, after 16 of the 20 steps of an epoch."""

    def stop(run, epoch):
        def on_train_batch_end(callback, batch, logs=None):
            if run.epoch == epoch - 1:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(runs._FirstNaN, "on_train_batch_end", on_train_batch_end)
            run.train()

    return stop


@pytest.mark.parametrize("train_source", ["prepared", "generated"])
def test_a_run_that_is_stopped_ends_as_one_left_alone(
    rewind, stop_in_the_middle, capsys, train_source
):
    run = rewind()
    change(run, num_epochs=2, train_source=train_source)
    run.train()
    expected, history, state = trained(run), run.history, run.state

    rewind()
    stop_in_the_middle(run, epoch=2)
    stopped = trained(run)
    assert differ(stopped, expected)
    # As if it had been killed before this was written, and with a checkpoint half on the disk.
    (run.workdir / "history.jsonl").unlink()
    half = run.workdir / "checkpoints/epoch_00002.npz"
    half.write_bytes((run.workdir / "checkpoints/epoch_00001.npz").read_bytes()[:1000])
    capsys.readouterr()
    run.restore()
    said = f"{half} is not a whole checkpoint; falling back to the one before\n"
    assert capsys.readouterr().out == f"{said}going on after epoch 1\n"
    assert differ(trained(run), stopped)
    assert (run.workdir / "history.jsonl").read_text() == json.dumps(history[0]) + "\n"
    run.train()
    assert_same(trained(run), expected)
    assert (run.history, run.state) == (history, state)
    assert_same(run.averaged.get_weights(), averages(run))


@pytest.mark.parametrize("strategy", TEACHERS)
def test_with_any_teacher_a_run_goes_on_as_it_was(rewind, stop_in_the_middle, strategy):
    run = rewind()
    changes = {"strategy": strategy, "train_source": "generated", "progress_window": 2}
    change(run, num_epochs=3, **changes)
    run.train()
    expected, history, state = trained(run), run.history, run.state
    if strategy in BANDITS:  # Shares are no longer those of the start.
        assert run.teacher.weights(state) != [0.5, 0.5]
    change(rewind(), num_epochs=3, **changes)
    stop_in_the_middle(run, epoch=3)
    run.restore()
    run.train()
    assert_same(trained(run), expected)
    assert (run.history, run.state) == (history, state)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"model": "transformer", "target_form": "reversed_trace", "positions": "learned"},
        {"model": "universal_transformer", "halting": True},
        # Its arms are the operations of each level.
        {"model": "attention", "task": "program", "strategy": "space"}
        | {"target_form": "reversed_trace", "target_length": 1, "target_nesting": 2},
    ],
    ids=lambda changes: changes["model"],
)
def test_with_any_network_a_run_goes_on_and_two_replicas_learn_what_one_learns(
    make_run, stop_in_the_middle, changes
):
    changes = changes | {"num_heads": 2, "num_layers": 2, "input_form": "none"}
    changes |= {"train_source": "generated", "num_epochs": 2, "num_replicas": 1}
    # At the usual rate the last bits of a sum, which differ between one and two, grow quickly.
    changes |= {"learning_rate": 3e-4}
    run, stopped = make_run(**changes), make_run(**changes)
    run.train()
    stop_in_the_middle(stopped, epoch=2)
    assert differ(trained(stopped), trained(run))
    stopped.restore()
    stopped.train()
    assert_same(trained(stopped), trained(run))
    assert (stopped.history, stopped.state) == (run.history, run.state)
    two = make_run(**changes | {"num_replicas": 2})
    two.train()
    for one, other in zip(run.history, two.history, strict=True):
        for name in ("loss", "token_accuracy"):
            assert other[name] == pytest.approx(one[name], rel=1e-3)


def test_a_run_that_is_told_to_stop_ends_as_one_left_alone(
    run, small_run, tmp_path, start_command, capsys
):
    """By SIGTERM, in its second epoch; `kill_and_resume_test` kills one at every other place."""
    folder = tmp_path / "stopped"
    command = (f"--flagfile={small_run.folder / 'flags.cfg'}", f"--workdir={folder}")
    process = start_command("train", *command)
    assert any(line.startswith("epoch ") for line in process.stdout), process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert stderr == "stopped; the same command goes on from what is finished\n"
    assert process.returncode == 143
    assert not (folder / "evaluation.json").exists()
    run.workdir = folder
    run.restore()
    assert 1 <= run.epoch < 5
    assert f"going on after epoch {run.epoch}" in capsys.readouterr().out.splitlines()
    run.train()
    name = "checkpoints/epoch_00005.npz"
    with np.load(folder / name) as found, np.load(small_run.folder / name) as expected:
        assert found.files == expected.files
        for array in found.files:
            assert found[array].tobytes() == expected[array].tobytes()
    history = (folder / "history.jsonl").read_text()
    assert history == (small_run.folder / "history.jsonl").read_text()
    expected = models.load(small_run.folder / "model.keras").get_weights()
    assert_same(run.averaged.get_weights(), expected)


@pytest.mark.slow
def test_two_replicas_learn_what_one_learns(make_run, small_run):
    """As `optimizers_test` shows of a batch; and here are all parts of a run."""
    run = make_run(num_replicas=1, num_epochs=2)
    run.train()
    for one, two in zip(run.history, small_run.history[:2], strict=True):
        for name in ("loss", "token_accuracy"):
            assert two[name] == pytest.approx(one[name], rel=1e-4)
        same = {name: one[name] for name in ("epoch", "difficulty", "num_examples", "advanced_to")}
        assert same.items() <= two.items()


def test_a_loss_that_is_no_number_ends_the_run(run):
    change(run, strategy="baseline")
    save = run.save
    run.save = lambda: (save(), setattr(run, "learning_rate", 1e38))
    try:
        with pytest.raises(WorkError) as error:
            run.train()
    finally:
        del run.save
    assert re.fullmatch(
        r"training diverged: the loss is no number in epoch 2 by step (16|20) "
        rf"\(learning rate 1e\+38\); the epochs before it are kept in {run.workdir}",
        str(error.value),
    )
    run.restore()
    assert (run.epoch, len(run.history)) == (1, 1)
    assert all(np.isfinite(weight).all() for weight in trained(run))


def test_the_network_that_is_judged_has_the_averaged_weights(run):
    judged = []
    update = run.teacher.update

    def record(state, scores):
        judged.append(run.averaged.get_weights())
        return update(state, scores)

    run.teacher = run.teacher._replace(update=record)
    run.train_epoch()
    for weights in (*judged, run.averaged.get_weights()):
        assert_same(weights, averages(run))
    assert differ(run.averaged.get_weights(), run.model.get_weights())
    # Also in a run that goes on, if only to be evaluated.
    run.save()
    run.averaged.set_weights([weight + 1 for weight in run.averaged.get_weights()])
    run.restore()
    assert_same(run.averaged.get_weights(), averages(run))


def test_without_an_average_the_weights_themselves_are_judged(make_run):
    run = make_run(average_decay=0.0)
    run.model.set_weights([weight + 1 for weight in run.model.get_weights()])
    run.average_weights()
    assert_same(run.averaged.get_weights(), run.model.get_weights())


@pytest.fixture
def asked_batches(monkeypatch):
    """The arguments that `pipeline.training_batches` is called with."""
    calls = []
    training_batches = pipeline.training_batches

    def record(examples, shares, **keywords):
        calls.append({"examples": examples, "shares": shares, **keywords})
        return training_batches(examples, shares, **keywords)

    monkeypatch.setattr(pipeline, "training_batches", record)
    return calls


@pytest.mark.parametrize(
    ("target_form", "shows_work"), [("answer", False), ("reversed_trace", True)]
)
def test_settings_reach_what_they_are_about(
    make_run, asked_batches, monkeypatch, target_form, shows_work
):
    network = {
        "hidden_dim": 12,
        "num_layers": 2,
        "embedding_dim": 6,
        "tie_encoder_decoder": True,
        "uniform_init": 0.05,
    }
    scored = []

    def make_scorer(model, *arguments):
        scored.append((model, *arguments))
        return Scorer(model, *arguments)

    monkeypatch.setattr(runs, "Scorer", make_scorer)
    run = make_run(
        **network,
        input_form="double",
        target_form=target_form,
        loss_scale="example",
        strategy="combined",
        mix_share=0.5,
        optimizer="sgd",
        learning_rate=0.25,
        clip_norm=3.0,
        average_decay=0.75,
        train_source="generated",
    )
    for model in (run.model, run.averaged):
        assert model.arguments == {"vocabulary_size": vocabulary.SIZE, **network}
        assert 0.049 < max(abs(weight).max() for weight in model.get_weights()) <= 0.05
    assert scored == [(run.averaged, "double", target_form)]
    optimizer = run.model.optimizer
    assert type(optimizer) is optimizers.SGD
    assert optimizer.learning_rate.numpy() == run.learning_rate == 0.25
    assert (optimizer.clip_norm, optimizer.average_decay) == (3.0, 0.75)
    assert "num_layers 2" in runs.describe(run.averaged)
    examples = pipeline.Generated("addition", target_form)
    run.batches(examples, 24)
    (asked,) = asked_batches
    assert {level: weight for level, (weight, _) in asked.pop("shares").items()} == {
        Difficulty(1): 0.75,
        Difficulty(2): 0.25,
    }
    assert asked == {
        "examples": examples,
        "seed": pipeline.seed_of("addition", "mixture", 1, 0),
        "input_form": "double",
        "loss_scale": "example",
        "batch_size": 24,
        "shows_work": shows_work,
        "num_batches": 20,
    }


@pytest.mark.parametrize(("metric", "level"), [("token_accuracy", 0), ("exact_match", 1)])
@pytest.mark.parametrize("strategy", ["naive", "combined", "review", "frontier"])
def test_the_teacher_is_told_what_counts_as_mastered(strategy, metric, level):
    config = Config(strategy=strategy, advance_metric=metric, target_length=2)
    teacher = runs.make_teacher(config)
    found = {0: Score(token_accuracy=0.5, exact_match=1.0), 1: Score(0.0, 0.0)}
    assert teacher.current(teacher.update(teacher.start(config.levels), found)) == level


@pytest.fixture
def script(run, monkeypatch):
    """Trains the shared run at its target by given results; gives its rates and batch sizes."""

    def script(accuracies, exact_matches=None, **changes):
        change(run, **{"strategy": "mix", "num_epochs": len(accuracies), **changes})
        asked = []

        def fit(rate, batch_size):
            asked.append((rate, batch_size))
            return 1.0, accuracies[len(asked) - 1]

        def score(level, split, kind=""):
            rate = exact_matches[run.epoch] if exact_matches else 0.0
            return {"token_accuracy": 0.99, "exact_match": rate, "num_examples": 50}

        monkeypatch.setattr(run, "fit", fit)
        monkeypatch.setattr(run.validation, "score", score)
        run.train()
        assert [line["learning_rate"] for line in run.history] == [rate for rate, _ in asked]
        return zip(*asked, strict=True)

    return script


def test_plateau_decays_the_rate_when_training_is_worse_than_five_epochs_before(script):
    accuracies = [0.1, 0.2, 0.3, 0.2, 0.2, 0.15, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1, 0.05, 0.1, 0.9]
    schedule = {"learning_rate_schedule": "plateau", "min_learning_rate": 0.33}
    rates, _ = script(accuracies, learning_rate=0.5, **schedule)
    # The seventh epoch is worse than the second; then five epochs of the new rate are needed. The
    # thirteenth is worse than the eighth; 0.5 * 0.8**2 is below 0.33, so there is no fourteenth.
    assert rates == pytest.approx([0.5] * 7 + [0.4] * 6)


def test_plateau_looks_at_epochs_at_the_target_only(run, script, monkeypatch):
    # Teachers that follow learning may leave it again.
    below, target = run.config.levels[0], run.config.target
    levels = [*[target] * 5, below, below, target, target]
    monkeypatch.setattr(run, "current", lambda: levels[run.epoch])
    accuracies = [*[0.6] * 5, 0.1, 0.9, 0.5, 0.9]
    rates, _ = script(accuracies, learning_rate=0.5, learning_rate_schedule="plateau")
    assert rates == pytest.approx([0.5] * 8 + [0.4])


# From 0.5 down a cosine, in four steps.
HALF = 0.5 * math.sqrt(0.5)
DOWN = [(0.5 + HALF) / 2, 0.25, (0.5 - HALF) / 2]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", (0.5,) * 4), ("cosine", pytest.approx([0.5, *DOWN]))],
)
def test_rates_that_depend_on_the_epoch_alone(script, schedule, expected):
    rates, _ = script([0.5, 0.4, 0.3, 0.2], learning_rate=0.5, learning_rate_schedule=schedule)
    assert rates == expected


def test_target_cosine_goes_down_from_the_target_on(run):
    change(run, learning_rate_schedule="target_cosine", num_epochs=6)
    history = [{"difficulty": {"length": length, "nesting": 1}} for length in (1, 1, 2, 2, 2)]
    rates = [schedules.learning_rate(run.config, history[:epoch], 0.5) for epoch in range(6)]
    assert rates == pytest.approx([0.5, 0.5, 0.5, *DOWN])


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_two_good_epochs_running_end_the_run(run, script, schedule):
    matches = [0.95, 0.5, 0.9, 0.9, 1.0, 1.0]
    script([0.5] * 6, matches, learning_rate_schedule=schedule, stop_at_exact_match=0.9)
    assert len(run.history) == 4


def test_batches_grow_with_the_difficulty_and_can_be_shared(run, script):
    # The first level is mastered at once; of seven examples three replicas share six.
    changes = {"strategy": "naive", "first_batch_size": 7, "num_replicas": 3}
    _, sizes = script([0.5] * 3, **changes, global_batch_size=33)
    assert sizes == (6, 33, 33)
    assert [line["num_examples"] for line in run.history] == [120, 780, 1440]
    assert [line["difficulty"]["length"] for line in run.history] == [1, 2, 2]
    assert [line["advanced_to"] for line in run.history] == [
        {"length": 2, "nesting": 1},
        None,
        None,
    ]


def test_every_level_can_be_looked_at(run, monkeypatch):
    change(run, validate_all_levels=True, strategy="naive")
    monkeypatch.setattr(run, "fit", lambda *_: (1.0, 0.5))
    line = run.train_epoch()
    names = ("length", "nesting", "judged_by")
    levels = [tuple(level[name] for name in names) for level in line["levels"]]
    assert levels == [(1, 1, "training"), (2, 1, "validation")]
    target = {"length": 2, "nesting": 1, "share": 0.0, "judged_by": "validation"}
    assert line["levels"][-1] == {**target, **line["target_validation"]}
    assert line["levels"][0]["share"] == 1.0
    assert line["levels"][0]["token_accuracy"] == line["judged_token_accuracy"]


@pytest.mark.parametrize("train_source", ["prepared", "generated"])
def test_every_epoch_level_and_seed_has_examples_of_its_own(run, asked_batches, train_source):
    change(run, strategy="baseline", train_source=train_source)

    def read():
        """The sums in the first batches of an epoch, in the order read."""
        examples = run.stored or pipeline.Generated("addition", "answer")
        return [
            program
            for inputs, _, _ in run.batches(examples, 32).take(4)
            for program in text.decode(inputs["encoder_token_ids"]).numpy()
        ]

    first = read()
    assert read() == first
    run.history = [{}]
    second = read()
    run.history, run.config = [], dataclasses.replace(run.config, seed=2)
    third = read()
    for other in (second, third):
        assert len(other) == len(first) == 128
        # Of 300 stored or 2,700 possible ones 55 or 6 are expected in both, in another order;
        # 4 sigma are 17 and 10 more.
        assert other != first
        assert len(set(other) & set(first)) < (72 if train_source == "prepared" else 17)
    run.batches(run.stored or pipeline.Generated("addition", "answer"), 32)
    assert len({seed for _, seed in asked_batches[-1]["shares"].values()}) == 2


def test_the_threads_of_the_input_pipeline_do_not_change_the_batches(
    run, two_replicas, monkeypatch
):
    change(run, strategy="mix", train_source="generated")
    without_autotuning = pipeline._without_autotuning

    def as_lists(batch, parts):
        return tf.nest.map_structure(lambda x: [part.numpy().tolist() for part in parts(x)], batch)

    def read(num_threads):
        """The shares of both replicas, which draw from the same examples."""

        def with_threads(dataset):
            options = tf.data.Options()
            options.threading.private_threadpool_size = num_threads
            return without_autotuning(dataset).with_options(options)

        monkeypatch.setattr(pipeline, "_without_autotuning", with_threads)
        examples = pipeline.Generated("addition", "answer")
        distributed = pipeline.distribute(lambda: run.batches(examples, 32), two_replicas)
        return [as_lists(batch, two_replicas.experimental_local_results) for batch in distributed]

    whole = run.batches(pipeline.Generated("addition", "answer"), 32)
    halves = [as_lists(batch, lambda x: tf.split(x, 2)) for batch in whole]
    assert len(halves) == 20
    for num_threads in (1, 16):
        assert read(num_threads) == halves


def test_training_starts_from_a_network(run, small_run):
    change(run, strategy="naive", advance_threshold=0.0)
    run.start_from(small_run.folder)
    expected = models.load(small_run.folder / "model.keras").get_weights()
    assert_same(run.model.get_weights(), expected)
    assert_same(run.averaged.get_weights(), expected)
    # What it masters need not be learnt again.
    assert run.current() == Difficulty(2)
    # Its average starts there as well: twenty steps do not lead far.
    run.train_epoch()
    for found, weight in zip(run.averaged.get_weights(), expected, strict=True):
        assert abs(found - weight).max() < 20 * run.learning_rate


def test_a_worker_that_does_not_see_the_chief_s_folder_is_told_so(run, monkeypatch):
    monkeypatch.setattr(workers, "share", lambda strategy, value: 3)
    with pytest.raises(WorkError) as error:
        run.restore()
    assert str(error.value) == (
        f"{run.workdir} ends with epoch 0 here and with 3 at the chief; "
        "all workers need the same folder"
    )


def test_a_run_of_another_release_cannot_go_on(run, monkeypatch):
    decisions = {"curriculum": [1, []], "learning_rate": 0.1}
    monkeypatch.setattr(run, "decisions", lambda: decisions)
    run.save()
    with pytest.raises(WorkError, match="was begun by another release; it cannot go on in this"):
        run.restore()
