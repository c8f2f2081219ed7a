"""A training run: epoch after epoch of fit, judge, go on to the next difficulty, keep a checkpoint.

    run = Run(config, workdir, strategy)
    run.train()
    run.averaged  # the network to evaluate and export

An epoch is a pure function of the flags, its number and the curriculum's state, so a run that was
stopped anywhere and goes on ends with the same weights, bit for bit.
"""

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from keras_l2e import command_line, files, pretrained
from keras_l2e import config as run_flags
from keras_l2e.data import pipeline as input_pipeline
from keras_l2e.data import stored as prepared_data
from keras_l2e.errors import WorkError
from keras_l2e.language import vocabulary
from keras_l2e.language.tasks import TASKS, Difficulty, grid, has_long_carry
from keras_l2e.networks import models, optimizers
from keras_l2e.teaching import teachers as curriculum
from keras_l2e.teaching.teachers import Level
from keras_l2e.training import checkpoints, workers
from keras_l2e.training.scoring import Scorer

# A validation split smaller than this cannot judge: 4 sigma at 95% are 6%.
JUDGEABLE_EXAMPLES = 200
# Nor can one of a difficulty whose training examples are repeats for more than this share: training
# knows all it may know of so small a class, and what is held out is what training rarely draws (of
# the distinct programs of length 1, nine in ten are conditionals).
JUDGEABLE_REPEATS = 0.5
# "Each time training stops improving" (the paper, section 4): its released code sees that by an
# accuracy below the one of five evaluations before, and counts anew after each time.
PLATEAU_DECAY, PLATEAU_EPOCHS = 0.8, 5
# Steps made in one call from Python: a call costs 2 ms beside them, and Ctrl-C waits for its end.
STEPS_PER_EXECUTION = 16
# Work of so many seconds should be the most that is done again after a stop.
LONG_EPOCH = 60


class Run:
    """A training run: the model, its data, and how far it has got.

    Attributes:
        averaged: what is judged, evaluated and exported: the network with the averaged weights.
        history: one entry for each finished epoch, the lines of history.jsonl.
    """

    def __init__(self, config: SimpleNamespace, workdir: Path, strategy: tf.distribute.Strategy):
        """Builds the model, reads the prepared data and the newest checkpoint, if there is one.

        Args:
            config: a value for every flag of `run_flags.define`.
            workdir: where the run leaves its files.
            strategy: the distribution strategy to train under.
        """
        self.config, self.workdir, self.strategy = config, workdir, strategy
        self.curriculum = curriculum.Curriculum(
            config.strategy,
            curriculum.levels_up_to(
                Difficulty(config.target_length, config.target_nesting),
                run_flags.names(config.first_operations),
            ),
            config.mix_share,
            config.advance_threshold,
            config.patience,
        )
        self.target = self.curriculum.levels[-1]
        difficulties = grid(self.target.difficulty)
        data = {
            (difficulty, split): prepared_data.read(
                config.task, difficulty, split, config.data_dir, config.examples_per_difficulty
            )
            for difficulty in difficulties
            for split in ("train", "validation")
        }
        self.data = {
            (level, split): _kept(data[level.difficulty, split], level)
            for level in self.curriculum.levels
            for split in ("train", "validation")
        }
        for level in self.curriculum.levels:
            if not len(self.data[level, "train"][0]):
                raise WorkError(
                    f"no stored example of {_name(level.as_dict())}; more "
                    "--examples_per_difficulty are needed"
                )
        self.stored = None
        if config.train_source == "prepared":
            self.stored = input_pipeline.Stored({d: data[d, "train"] for d in difficulties})
        # Counted once: repeats are sought among all stored examples of a level.
        self.judging_splits = {level: self.judging_split(level) for level in self.curriculum.levels}
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            self.model = self.build_model()
            self.compile()
        self.averaged = self.build_model()
        longest_target = TASKS[config.task].longest(self.target.difficulty)[1]
        self.scorer = Scorer(self.averaged, config.input_form, longest_target + 1)

        self.epoch = 0
        self.state = self.curriculum.start()
        self.history: list[dict] = []
        self.learning_rate = config.learning_rate
        print(self.describe())
        self.restore()
        if config.initial_model and not self.epoch:
            self.start_from(pretrained.find_run(config.initial_model))
        self.first_epoch = self.epoch + 1
        if workers.is_chief():
            self.summary_writer = tf.summary.create_file_writer(str(workdir / "tensorboard"))

    def build_model(self) -> keras.Model:
        """The network with its first weights."""
        config = self.config
        return models.MODELS[config.model](
            vocabulary_size=vocabulary.SIZE,
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            embedding_dim=config.embedding_dim,
            tie_encoder_decoder=config.tie_encoder_decoder,
            uniform_init=config.uniform_init,
        )

    def start_from(self, folder: Path) -> None:
        """Takes over the weights of a finished run, and leaves the levels that they master."""
        weights = models.load(folder / "model.keras").get_weights()
        self.model.set_weights(weights)
        self.averaged.set_weights(weights)
        self.judge({})
        self.decide(workers.share(self.strategy, self.decisions()))
        level = _name(self.curriculum.current(self.state).as_dict())
        print(f"starting from the weights of {folder}, at {level}")

    def compile(self) -> None:
        """Gives the model its optimizer, with the variables of it, and its loss."""
        config = self.config
        averaging = {"use_ema": True, "ema_momentum": config.average_decay}
        optimizer = optimizers.OPTIMIZERS[config.optimizer](
            config.learning_rate,
            clip_norm=config.clip_norm,
            **(averaging if config.average_decay else {}),
        )
        optimizer.build(self.model.trainable_variables)
        # Sums over several workers, collective operations, cannot run in the loop of several steps.
        self.compile_with(optimizer, 1 if workers.num_workers() > 1 else STEPS_PER_EXECUTION)

    def compile_with(self, optimizer: keras.Optimizer, steps_per_execution: int) -> None:
        """Gives the model an optimizer that has its variables, and the loss."""
        self.model.compile(
            optimizer,
            # Weights sum to 1 over the whole batch, whatever the number of replicas.
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")],
            steps_per_execution=steps_per_execution,
        )
        if workers.num_workers() > 1:
            workers.let_fit_run()

    def describe(self) -> str:
        """One line on the network."""
        config = self.config
        tied = "one stack reads and writes" if config.tie_encoder_decoder else "encoder and decoder"
        shape = (
            config.num_layers,
            config.hidden_dim,
            config.embedding_dim,
            config.tie_encoder_decoder,
        )
        paper = " (the paper's network)" if shape == (2, 400, 400, True) else ""
        return (
            f"model {config.model}: {config.num_layers} x {config.hidden_dim} cells, {tied}, "
            f"{self.averaged.count_params():,} parameters{paper}"
        )

    def variables(self) -> list[keras.Variable]:
        """Every variable that training changes."""
        return [*self.model.trainable_variables, *self.model.optimizer.variables]

    def save(self) -> None:
        """Keeps all that the epochs to come depend on."""
        if not workers.is_chief():
            return
        state = {
            "epoch": self.epoch,
            "history": self.history,
            **self.decisions(),
        }
        checkpoints.save(self.workdir / "checkpoints", self.epoch, self.variables(), state)

    def restore(self) -> None:
        """Goes back to where `save` was called last, if it was."""
        saved = checkpoints.restore(self.workdir / "checkpoints", self.variables())
        found = saved["epoch"] if saved else 0
        if (expected := workers.share(self.strategy, found)) != found:
            raise WorkError(
                f"{self.workdir} ends with epoch {found} here and with {expected} at the chief; "
                "all workers need the same folder"
            )
        if saved is None:
            return
        self.epoch = found
        self.history = saved["history"]
        self.decide(saved)
        self.average_weights()
        if workers.is_chief():
            # A run that was killed between its last checkpoint and this file lacks a line of it.
            self.write_history()
        print(f"going on after epoch {self.epoch}")

    def write_history(self) -> None:
        """Writes history.jsonl as far as the epochs have got."""
        files.write_json_lines(self.workdir / "history.jsonl", self.history)

    def decisions(self) -> dict:
        """What the epoch to come is trained on, and how fast, as JSON holds it."""
        return {"curriculum": self.state, "learning_rate": self.learning_rate}

    def decide(self, decisions: dict) -> None:
        """Takes over what `decisions` gave.

        Of several workers the chief's: each has judged by itself, and on another processor a
        rounding may differ.
        """
        level, accuracies = decisions["curriculum"]
        self.state = curriculum.State(level, tuple(accuracies))
        self.learning_rate = decisions["learning_rate"]

    def train(self) -> None:
        """Trains epoch by epoch until the run is over; every epoch ends with a checkpoint."""
        while not self.is_over():
            started, before = time.monotonic(), self.num_examples()
            line = self.train_epoch()
            line, decisions = workers.share(self.strategy, [line, self.decisions()])
            self.decide(decisions)
            seconds = time.monotonic() - started
            self.history.append(line)
            self.save()
            if workers.is_chief():
                self.write_history()
                self.report(line, line["num_examples"] - before, seconds)

    def num_examples(self) -> int:
        """Training examples of all finished epochs."""
        return self.history[-1]["num_examples"] if self.history else 0

    def is_over(self) -> bool:
        """Whether the last epoch was the last one."""
        config = self.config
        if self.epoch >= config.num_epochs:
            return True
        if (
            config.learning_rate_schedule == "plateau"
            and self.learning_rate < config.min_learning_rate
        ):
            return True
        # The rate of a target without validation examples is None.
        recent = [line["target_validation"]["exact_match"] or 0 for line in self.history[-2:]]
        return len(recent) == 2 and min(recent) >= config.stop_at_exact_match > 0

    def train_epoch(self) -> dict:
        """One epoch: fit, judge, go on to the next difficulty if it is time.

        Returns:
            The epoch's line of history.jsonl.

        Raises:
            WorkError: the loss or a weight is no number any more.
        """
        config = self.config
        level = self.curriculum.current(self.state)
        weights = self.curriculum.weights(self.state)
        rate = self.rate()
        batch_size = self.batch_size()
        num_examples = self.num_examples()
        self.model.optimizer.learning_rate = rate
        start = [variable.numpy() for variable in self.variables()]
        fitted = self.fit(weights)
        loss = fitted["loss"][0]
        if not (math.isfinite(loss) and _are_finite(self.model.trainable_variables)):
            raise self.explain(loss, start, weights)
        self.epoch += 1
        self.average_weights()
        accuracy = fitted["token_accuracy"][0]
        if config.learning_rate_schedule == "plateau" and self.has_stopped_improving(accuracy):
            self.learning_rate *= PLATEAU_DECAY
        scores = {}
        judged = self.judge(scores)
        if config.validate_all_levels:
            judged["levels"] = [
                self.level_scores(level, scores) for level in self.curriculum.levels
            ]
        return {
            "epoch": self.epoch,
            "num_examples": num_examples + config.batches_per_epoch * batch_size,
            "difficulty": level.as_dict(),
            "loss": loss,
            "token_accuracy": accuracy,
            "learning_rate": rate,
            "validation": self.score(level, "validation", scores),
            "target_validation": self.score(self.target, "validation", scores),
            **judged,
        }

    def rate(self) -> float:
        """The learning rate of the epoch to come."""
        schedule, num_epochs = self.config.learning_rate_schedule, self.config.num_epochs
        start = {"cosine": 0, "target_cosine": self.epochs_below_target()}.get(schedule, num_epochs)
        if self.epoch <= start:
            return self.learning_rate
        share = (self.epoch - start) / (num_epochs - start)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def has_stopped_improving(self, accuracy: float) -> bool:
        """Whether an epoch at the target is worse than five before it at the same rate.

        Args:
            accuracy: token accuracy in training of the epoch that is to be added to the history.
        """
        target = self.target.as_dict()
        before = [
            line["token_accuracy"]
            for line in self.history
            if (line["difficulty"], line["learning_rate"]) == (target, self.learning_rate)
        ]
        return len(before) >= PLATEAU_EPOCHS and accuracy < before[-PLATEAU_EPOCHS]

    def batch_size(self) -> int:
        """Examples of each step of the epoch to come, over all replicas."""
        config = self.config
        first, last = config.first_batch_size, config.global_batch_size
        steps = len(self.curriculum.levels) - 1
        if not first or not steps:
            return last
        size = first + (last - first) * self.state.level / steps
        return max(1, round(size / config.num_replicas)) * config.num_replicas

    def epochs_below_target(self) -> int:
        """Epochs before the target became the current difficulty."""
        target = self.target.as_dict()
        return sum(line["difficulty"] != target for line in self.history)

    def fit(self, weights: list[float], *callbacks: keras.callbacks.Callback) -> dict:
        """Trains on the batches of the epoch to come; gives the means of its loss and accuracy."""
        examples = self.examples()
        batches = input_pipeline.distribute(
            lambda: self.batches(examples, weights, self.config.input_form), self.strategy
        )
        with workers.lost_worker_as_error():
            return self.model.fit(
                batches,
                initial_epoch=self.epoch,
                epochs=self.epoch + 1,
                steps_per_epoch=self.config.batches_per_epoch,
                shuffle=False,
                verbose=0,
                callbacks=list(callbacks),
            ).history

    def explain(self, loss: float, start: list[np.ndarray], weights: list[float]) -> WorkError:
        """Finds the batch at which an epoch came to grief, and writes its programs to a file.

        To look at every step costs time, so it is done only now: the epoch, which is a pure
        function of its start, is trained again step by step.

        Args:
            loss: the epoch's mean loss.
            start: the values of `variables()` before the epoch.
            weights: the epoch's shares of the difficulties.

        Returns:
            An error that names the batch and the file.
        """
        for variable, value in zip(self.variables(), start, strict=True):
            variable.assign(value)
        with self.strategy.scope():
            self.compile_with(self.model.optimizer, steps_per_execution=1)
        search = _FirstBadBatch()
        self.fit(weights, search)
        epoch, rate = self.epoch + 1, float(self.model.optimizer.learning_rate.numpy())
        what = "the weights are no numbers" if math.isfinite(loss) else f"the loss is {loss}"
        kept = f"the epochs before it are kept in {self.workdir}"
        if search.step is None:
            return WorkError(f"{what} in epoch {epoch} (learning rate {rate:g}); {kept}")
        # As they were drawn, whatever the form in which the network reads them.
        batches = self.batches(self.examples(), weights, "none").skip(search.step)
        (inputs, labels, _), *_ = batches.take(1)
        programs, targets = (
            [text.decode() for text in vocabulary.decode_batch(ids).numpy()]
            for ids in (inputs["encoder_token_ids"], labels)
        )
        path = self.workdir / "bad_batch.json"
        found = {
            "epoch": epoch,
            "step": search.step + 1,
            "loss": str(search.loss),  # JSON has no nan.
            "learning_rate": rate,
            "programs": programs,
            "targets": targets,
        }
        if workers.is_chief():
            files.write_json(path, found)
        return WorkError(
            f"{what} in epoch {epoch}, from step {search.step + 1} on (learning rate {rate:g}); "
            f"the programs of that step are in {path}; {kept}"
        )

    def examples(self) -> input_pipeline.Stored | input_pipeline.Generated:
        """What an epoch's sources draw from; all replicas share it."""
        return self.stored or input_pipeline.Generated(self.config.task)

    def batches(self, examples, weights: list[float], input_form: str):
        """The batches of the epoch to come."""
        config = self.config

        def source(level: Level, name: str, keep=None):
            return examples.source(level.difficulty, self.seed_of(level.difficulty, name), keep)

        levels = self.curriculum.levels
        drawn_from = [
            source(level, "first_operations", level.keeps)
            if level.operations
            else source(level, "train")
            for level in levels
        ]
        if config.carry_share:
            drawn_from += [source(level, "long_carries", has_long_carry) for level in levels]
            share = 0.0 if self.curriculum.at_target(self.state) else config.carry_share
            weights = [(1 - share) * w for w in weights] + [share * w for w in weights]
        return input_pipeline.training_batches(
            drawn_from,
            weights,
            seed=self.seed_of("mixture"),
            input_form=input_form,
            loss_scale=config.loss_scale,
            batch_size=self.batch_size(),
            num_batches=config.batches_per_epoch,
            look_up=examples.look_up,
            window=config.sort_window,
        )

    def seed_of(self, *names) -> int:
        """A seed for something drawn in this epoch."""
        return input_pipeline.seed_of(self.config.task, *names, self.config.seed, self.epoch)

    def average_weights(self) -> None:
        """Puts the averaged weights into the network that is judged."""
        optimizer = self.model.optimizer
        values = (
            optimizer._model_variables_moving_average
            if optimizer.use_ema
            else self.model.trainable_variables
        )
        for variable, value in zip(self.averaged.trainable_variables, values, strict=True):
            variable.assign(value.numpy())

    def judge(self, scores: dict) -> dict:
        """Lets the curriculum go on as far as the present accuracies allow; gives what was read.

        A mastered difficulty is left at once, and the next one judged in the same epoch, so that
        easy levels do not cost an epoch each.
        """
        first = None
        while True:
            level = self.curriculum.current(self.state)
            split = self.judging_splits[level]
            accuracy = self.score(level, split, scores)["token_accuracy"]
            if first is None:
                first = {
                    "judged_by": "validation" if split == "validation" else "training",
                    "judged_token_accuracy": accuracy,
                    "advanced_to": None,
                }
            before, self.state = self.state, self.curriculum.judge(self.state, accuracy)
            if self.state.level == before.level:
                return first
            first["advanced_to"] = self.curriculum.current(self.state).as_dict()
            if accuracy <= self.config.advance_threshold:
                return first

    def judging_split(self, level: Level) -> str:
        """The split whose accuracy decides about going on: validation where it can, else train."""
        programs, _ = self.data[level, "train"]
        num_validation = len(self.data[level, "validation"][0])
        repeats = 1 - len(set(programs)) / max(1, len(programs))
        judgeable = num_validation >= JUDGEABLE_EXAMPLES and repeats <= JUDGEABLE_REPEATS
        return "validation" if judgeable else "train"

    def score(self, level: Level, split: str, scores: dict) -> dict:
        """Accuracies on stored examples of a level, computed once an epoch (`scores`)."""
        if (level, split) not in scores:
            limit = self.config.validation_examples
            programs, targets = (column[:limit] for column in self.data[level, split])
            if len(programs):
                scored = self.scorer.score(programs, targets)
                result = {
                    "token_accuracy": scored.token_accuracy(),
                    "exact_match": scored.exact_match(),
                }
            else:
                result = {"token_accuracy": None, "exact_match": None}
            scores[level, split] = {**result, "num_examples": len(programs)}
        return scores[level, split]

    def level_scores(self, level: Level, scores: dict) -> dict:
        """Accuracies at a level on the split that can judge it."""
        split = self.judging_splits[level]
        judged_by = "validation" if split == "validation" else "training"
        score = self.score(level, split, scores)
        return {**level.as_dict(), "judged_by": judged_by, **score}

    def report(self, line: dict, num_examples: int, seconds: float) -> None:
        """Shows a finished epoch, and logs what depends on the clock apart from the history.

        Args:
            line: the epoch's line of history.jsonl.
            num_examples: training examples of this epoch.
            seconds: how long it took.
        """
        config = self.config
        rate = num_examples / seconds
        left = (config.num_epochs - self.epoch) * seconds
        validation = line["validation"]
        print(
            f"epoch {self.epoch}/{config.num_epochs}  "
            f"{config.task} {_name(line['difficulty'])}  loss {line['loss']:.3f}  "
            f"validation token_accuracy {_percent(validation['token_accuracy'])} "
            f"exact_match {_percent(validation['exact_match'])}  "
            f"(target: {_percent(line['target_validation']['exact_match'])})  "
            f"{rate:,.0f} programs/s  {command_line.clock(left)} left at most",
            flush=True,
        )
        if seconds > LONG_EPOCH and self.epoch == self.first_epoch:
            print(
                f"note: a stopped run repeats the epoch under way, here {seconds:.0f} s; with a "
                "smaller --batches_per_epoch it is less",
                flush=True,
            )
        files.append_json_line(
            self.workdir / "timing.jsonl",
            {
                "epoch": self.epoch,
                "seconds": round(seconds, 3),
                "programs_per_second": round(rate),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        scalars = {key: line[key] for key in ("loss", "token_accuracy", "learning_rate")}
        for split in ("validation", "target_validation"):
            for key in ("token_accuracy", "exact_match"):
                scalars[f"{split}/{key}"] = line[split][key]
        # tf.summary.scalar needs TensorBoard itself, which is not among the requirements.
        metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        with self.summary_writer.as_default(step=line["num_examples"]):
            for key, value in scalars.items():
                if value is not None:
                    tf.summary.write(key, value, metadata=metadata)
        self.summary_writer.flush()


class _FirstBadBatch(keras.callbacks.Callback):
    """Stops a fit of single steps at the first whose loss, or what it makes of the weights, is nan.

    Attributes:
        step: int, from 0; None if there is none.
        loss: float, that batch's own.
    """

    def __init__(self):
        super().__init__()
        self.step = self.loss = None

    def on_train_batch_end(self, batch, logs=None):
        self.model.reset_metrics()  # Or the next loss would be the mean of all.
        if not (math.isfinite(logs["loss"]) and _are_finite(self.model.trainable_variables)):
            self.step, self.loss = batch, float(logs["loss"])
            self.model.stop_training = True


def _kept(examples: tuple[np.ndarray, np.ndarray], level: Level) -> tuple:
    """Of programs and targets those that belong to a level."""
    if not level.operations:  # No copy of what is kept whole.
        return examples
    kept = [level.keeps(program.decode()) for program in examples[0]]
    return tuple(column[kept] for column in examples)


def _are_finite(variables: Sequence[keras.Variable]) -> bool:
    return all(np.isfinite(variable.numpy()).all() for variable in variables)


def _name(difficulty: dict) -> str:
    """A level for the eye: its length, and its nesting if there is more than one."""
    nesting = f" nesting {difficulty['nesting']}" if difficulty["nesting"] > 1 else ""
    operations = f" ({', '.join(difficulty['operations'])})" if "operations" in difficulty else ""
    return f"length {difficulty['length']}{nesting}{operations}"


def _percent(value: float | None) -> str:
    """A rate in per cent, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}%"
