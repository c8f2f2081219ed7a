"""A training run: epoch after epoch of fit, judge, let the teacher go on, keep a checkpoint.

    run = Run(config, workdir, strategy)
    run.train()
    run.averaged  # the network to evaluate and export

An epoch is a pure function of the config, its number and the teacher's state, so a run that was
stopped anywhere and goes on ends with the same weights, bit for bit.
"""

import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_l2e import config as configs
from keras_l2e import files, pretrained
from keras_l2e.config import Config, make_teacher
from keras_l2e.data import pipeline, stored
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.language import vocabulary
from keras_l2e.language.forms import shows_work
from keras_l2e.language.tasks import Difficulty
from keras_l2e.networks import models, optimizers
from keras_l2e.teaching.teacher import share_out
from keras_l2e.training import checkpoints, schedules, workers
from keras_l2e.training.progress import Progress
from keras_l2e.training.scoring import Scorer
from keras_l2e.training.validation import Validation

# Steps made in one call from Python: a call costs 2 ms beside them, and Ctrl-C waits for its end.
STEPS_PER_EXECUTION = 16


class Run:
    """A training run: the model, its teacher, and how far it has got.

    Attributes:
        averaged: what is judged, evaluated and exported: the network with the averaged weights.
        history: one entry for each finished epoch, the lines of history.jsonl.
    """

    def __init__(self, config: Config, workdir: Path, strategy: tf.distribute.Strategy):
        """Builds the model, prepares and reads the data, and reads the newest checkpoint, if any.

        The model comes first: settings that do not fit it show before data are built for minutes.
        """
        self.config, self.workdir, self.strategy = config, workdir, strategy
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            self.model = models.build(config.model, vocabulary.SIZE, config)
            compile_model(self.model, config)
        self.averaged = models.build(config.model, vocabulary.SIZE, config)
        stored.prepare(config.task, config.levels, config.data_dir, config.examples_per_difficulty)
        self.teacher = make_teacher(config)
        scorer = Scorer(self.averaged, config.input_form, config.target_form)
        self.validation = Validation(config, scorer, self.teacher.of_kinds)
        prepared = config.train_source == "prepared"
        self.stored = pipeline.Stored(self.validation.training_texts()) if prepared else None
        self.state = self.teacher.start([arm.level for arm in self.validation.arms])
        self.history: list[dict] = []
        self.learning_rate = config.learning_rate
        print(describe(self.averaged))
        self.restore()
        if config.initial_model and not self.epoch:
            self.start_from(pretrained.find_run(config.initial_model))

    def start_from(self, folder: Path) -> None:
        """Takes over the weights of a finished run, and leaves the levels that they master."""
        take_over(folder, self.model, self.averaged)
        self.state = self.teacher.update(self.state, self.validation)
        self.decide(workers.share(self.strategy, self.decisions()))
        print(f"starting from the weights of {folder}, at {self.current().label}")

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return len(self.history)

    def current(self) -> Difficulty:
        """The difficulty that the teacher reports."""
        return self.validation.arms[self.teacher.current(self.state)].level

    def variables(self) -> list[keras.Variable]:
        """Every variable that training changes."""
        return [*self.model.variables, *self.model.optimizer.variables]

    def save(self) -> None:
        """Keeps all that the epochs to come depend on."""
        state = {"epoch": self.epoch, "history": self.history, **self.decisions()}
        checkpoints.save(self.workdir / "checkpoints", self.epoch, self.variables(), state)

    def restore(self) -> None:
        """Goes back to where `save` was called last, if it was.

        Raises:
            WorkError: what it was at is not known, or only to another process or release.
        """
        saved = checkpoints.restore(self.workdir / "checkpoints", self.variables())
        found = saved["epoch"] if saved else 0
        if (expected := workers.share(self.strategy, found)) != found:
            there = f"ends with epoch {found} here and with {expected} at the chief"
            raise WorkError(f"{self.workdir} {there}; all workers need the same folder")
        if saved is None:
            if (self.workdir / "history.jsonl").exists():
                raise WorkError(f"{self.workdir} has no checkpoints, so it cannot go on")
            return
        if "teacher" not in saved:
            raise WorkError(f"{self.workdir} was begun by another release; it cannot go on in this")
        self.history = saved["history"]
        self.decide(saved)
        self.average_weights()
        if workers.is_chief():
            # A run that was killed between its last checkpoint and this file lacks a line of it.
            files.write_json_lines(self.workdir / "history.jsonl", self.history)
        print(f"going on after epoch {self.epoch}")

    def decisions(self) -> dict:
        """What the epoch to come is trained on, and how fast, as JSON holds it."""
        return {"teacher": self.state, "learning_rate": self.learning_rate}

    def decide(self, decisions: dict) -> None:
        """Takes over what `decisions` gave.

        Of several workers the chief's: each has judged by itself, and on another processor a
        rounding may differ.
        """
        self.state, self.learning_rate = decisions["teacher"], decisions["learning_rate"]

    def train(self) -> None:
        """Trains epoch by epoch until the run is over; every epoch ends with a checkpoint."""
        progress = Progress(self.config, self.workdir, schedules.num_examples(self.history))
        while not schedules.is_over(self.config, self.history, self.learning_rate):
            line = self.train_epoch()
            line, decisions = workers.share(self.strategy, [line, self.decisions()])
            self.decide(decisions)
            self.history.append(line)
            if workers.is_chief():
                self.save()
                files.write_json_lines(self.workdir / "history.jsonl", self.history)
                progress.report(line, self.validation.seconds)

    def train_epoch(self) -> dict:
        """One epoch: fit, judge, let the teacher go on; gives its line of history.jsonl."""
        config, level = self.config, self.current()
        rate = schedules.learning_rate(config, self.history, self.learning_rate)
        size = schedules.batch_size(config, config.levels.index(level))
        shares = self.shares()
        loss, accuracy = self.fit(rate, size)
        self.average_weights()
        self.learning_rate = schedules.plateau(
            config, self.history, self.learning_rate, level, accuracy
        )
        self.validation.forget()
        self.state = self.teacher.update(self.state, self.validation)
        judged = self.validation.judged(level)
        new = self.current()
        line = {
            "epoch": self.epoch + 1,
            "num_examples": schedules.num_examples(self.history) + config.batches_per_epoch * size,
            "difficulty": level._asdict(),
            "loss": loss,
            "token_accuracy": accuracy,
            "learning_rate": rate,
            "validation": self.validation.score(level, "validation"),
            "target_validation": self.validation.score(config.target, "validation"),
            "judged_by": judged["judged_by"],
            f"judged_{config.mastered_by}": judged[config.mastered_by],
            "advanced_to": None if new == level else new._asdict(),
        }
        if config.validate_all_levels:
            line["levels"] = self.validation.all_levels(shares)
        return line

    def shares(self) -> dict[Difficulty, dict[str, float]]:
        """Of the examples of the epoch to come, by level and kind."""
        return share_out(self.validation.arms, self.teacher.weights(self.state))

    def fit(self, rate: float, batch_size: int) -> tuple[float, float]:
        """Trains on the batches of the epoch to come; gives the means of its loss and accuracy.

        Raises:
            WorkError: the loss or a weight is no number any more.
        """
        config, where = self.config, _FirstNaN()
        self.model.optimizer.learning_rate = rate
        examples = self.stored or pipeline.Generated(config.task, config.target_form, self.shares())
        batches = pipeline.distribute(lambda: self.batches(examples, batch_size), self.strategy)
        with workers.lost_worker_as_error():
            found = self.model.fit(
                batches,
                initial_epoch=self.epoch,
                epochs=self.epoch + 1,
                steps_per_epoch=config.batches_per_epoch,
                shuffle=False,
                verbose=0,
                callbacks=[where],
            ).history
        weights = self.model.trainable_variables
        if where.step or not all(np.isfinite(weight.numpy()).all() for weight in weights):
            raise WorkError(
                f"training diverged: the loss is no number in epoch {self.epoch + 1} by step "
                f"{where.step or config.batches_per_epoch} (learning rate {rate:g}); the epochs "
                f"before it are kept in {self.workdir}"
            )
        return found["loss"][0], found["token_accuracy"][0]

    def batches(self, examples, batch_size: int):
        """The batches of the epoch to come, of examples that all replicas share."""
        config = self.config

        def seed_of(*names) -> int:
            return pipeline.seed_of(config.task, *names, config.seed, self.epoch)

        return pipeline.training_batches(
            examples,
            {x: (sum(kinds.values()), seed_of(x, "train")) for x, kinds in self.shares().items()},
            seed=seed_of("mixture"),
            input_form=config.input_form,
            loss_scale=config.loss_scale,
            batch_size=batch_size,
            num_batches=config.batches_per_epoch,
            shows_work=shows_work(config.target_form),
        )

    def average_weights(self) -> None:
        """Puts the averaged weights into the network that is judged."""
        averages = optimizers.averages(self.model)
        for variable, source in zip(self.averaged.variables, self.model.variables, strict=True):
            variable.assign(averages.get(id(source), source).numpy())


class _FirstNaN(keras.callbacks.Callback):
    """Stops a fit when its mean loss is no number.

    Attributes:
        step: the number of steps made until then; 0 if it never was.
    """

    step = 0

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            self.step = batch + 1
            self.model.stop_training = True


def compile_model(model: keras.Model, config: Config) -> None:
    """Gives a model its optimizer, with the variables of it, and its loss."""
    optimizer = optimizers.make(
        config.optimizer,
        config.learning_rate,
        clip_norm=config.clip_norm,
        average_decay=config.average_decay,
    )
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        # Weights sum to 1 over the whole batch, whatever the number of replicas.
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")],
        # Sums over several workers, collective operations, cannot run in a loop of several steps.
        steps_per_execution=1 if workers.num_workers() > 1 else STEPS_PER_EXECUTION,
    )


def take_over(folder: Path, *networks: models.Network) -> None:
    """Gives networks, all of one kind, the weights of a finished run.

    Raises:
        UsageError: they are of other shapes, or of attentions with other heads.
    """
    source = models.load(configs.network_in(folder))
    theirs, ours = (network.arguments.get("num_heads") for network in (source, networks[0]))
    try:
        for network in networks:
            network.set_weights(source.get_weights())
        if theirs != ours:  # No shape tells.
            raise ValueError(f"it has num_heads {theirs}, this network {ours}")
    except ValueError as error:
        raise UsageError(f"--initial_model={folder}: {error}") from None


def describe(network: models.Network) -> str:
    """One line on a network."""
    arguments = ", ".join(f"{name} {value}" for name, value in network.arguments.items())
    return f"model {network.name}: {arguments}; {network.count_params():,} parameters"
