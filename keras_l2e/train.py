"""Trains a network to execute programs, evaluates it and exports it.

    python -m keras_l2e.train --flagfile=keras_l2e/flagfiles/quickstart.cfg --workdir=W

Prepares missing data by itself. The same command goes on where a stopped run left off, bit for bit:
an epoch is a pure function of the flags, its number and the curriculum's state.
"""

import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from absl import flags

from keras_l2e import command_line, run_flags
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.tasks import TASKS, Difficulty, grid

if __name__ == "__main__":
    run_flags.define()
    flags.mark_flag_as_required("workdir")

# A validation split smaller than this cannot tell 95% from chance progress; such splits belong to
# difficulties with so few programs that most are trained on (a hundred 1-digit sums).
JUDGEABLE_EXAMPLES = 200
PLATEAU_DECAY = 0.8


def train(config: SimpleNamespace) -> None:
    """Runs a whole training, or what is left of it, and leaves its results in `config.workdir`.

    Args:
        config: a value for every flag of `run_flags.define`.

    Raises:
        UsageError: a flag's value is wrong.
        WorkError: data or checkpoints are not what they should be, or the loss is not finite.
    """
    workdir = Path(config.workdir)
    config = settle(config, workdir)
    if (workdir / "evaluation.json").exists():
        print(f"{workdir} holds a finished run; nothing to do")
        return
    # TensorFlow's process settings come before anything else of it.
    from keras_l2e import runtime

    try:
        strategy = runtime.start(config.num_replicas, config.onednn)
    except ValueError as error:
        raise UsageError(error) from None
    from keras_l2e import models, optimizers

    check_name("model", config.model, models.MODELS)
    check_name("optimizer", config.optimizer, optimizers.OPTIMIZERS)
    workdir.mkdir(parents=True, exist_ok=True)
    run_flags.write(workdir, config)
    print(f"workdir: {workdir}")
    print(f"{config.num_replicas} replicas, {runtime.num_cores()} cores, oneDNN {config.onednn}")
    from keras_l2e import prepared_data

    levels = grid(Difficulty(config.target_length, config.target_nesting))
    prepared_data.prepare(config.task, levels, config.data_dir, config.examples_per_difficulty)

    run = Run(config, workdir, strategy)
    run.train()
    run.finish()


def settle(config: SimpleNamespace, workdir: Path) -> SimpleNamespace:
    """The flags in force: checked, `auto` values decided, those of a run to be resumed taken over.

    Raises:
        UsageError: a value is wrong, or the run in `workdir` was started with another one.
    """
    from keras_l2e import runtime

    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir={workdir} is not a folder")
    try:
        TASKS[config.task].check(Difficulty(config.target_length, config.target_nesting))
    except ValueError as error:
        raise UsageError(f"--task={config.task}: target {error}") from None
    settled = SimpleNamespace(**vars(config))
    earlier = run_flags.read(workdir) if (workdir / run_flags.NAME).exists() else None
    if settled.num_replicas == 0:
        settled.num_replicas = earlier.num_replicas if earlier else runtime.default_num_replicas()
    if settled.onednn == "auto":
        settled.onednn = earlier.onednn if earlier else runtime.default_onednn()
    if settled.global_batch_size % settled.num_replicas:
        raise UsageError(
            f"--global_batch_size={settled.global_batch_size}; allowed multiples of the "
            f"{settled.num_replicas} replicas"
        )
    if earlier:
        run_flags.check_same(settled, earlier)
    elif workdir.exists() and any(workdir.iterdir()):
        raise UsageError(f"--workdir={workdir} holds other files; name a new or empty folder")
    return settled


def check_name(kind: str, name: str, table: dict) -> None:
    """Raises UsageError, naming the allowed ones, if a table has no such name."""
    if name not in table:
        raise UsageError(f"unknown {kind} {name!r}; one of {', '.join(sorted(table))}")


class Run:
    """A training run: the model, its data, and how far it has got."""

    def __init__(self, config: SimpleNamespace, workdir: Path, strategy):
        import keras

        from keras_l2e import checkpoints, curriculum, models, optimizers, prepared_data, vocabulary
        from keras_l2e.scoring import Scorer

        self.config, self.workdir, self.strategy = config, workdir, strategy
        self.curriculum = curriculum.Curriculum(
            config.strategy,
            grid(Difficulty(config.target_length, config.target_nesting)),
            config.mix_share,
            config.advance_threshold,
        )
        self.data = {
            (difficulty, split): prepared_data.read(
                config.task, difficulty, split, config.data_dir, config.examples_per_difficulty
            )
            for difficulty in self.curriculum.levels
            for split in ("train", "validation")
        }
        keras.utils.set_random_seed(config.seed)
        build = models.MODELS[config.model]
        shape = {
            "vocabulary_size": vocabulary.SIZE,
            "hidden_dim": config.hidden_dim,
            "num_layers": config.num_layers,
            "embedding_dim": config.embedding_dim,
            "tie_encoder_decoder": config.tie_encoder_decoder,
            "uniform_init": config.uniform_init,
        }
        averaging = config.average_decay > 0
        with strategy.scope():
            self.model = build(**shape)
            optimizer = optimizers.OPTIMIZERS[config.optimizer](
                config.learning_rate,
                clip_norm=config.clip_norm,
                use_ema=averaging,
                ema_momentum=config.average_decay if averaging else 0.99,
            )
            optimizer.build(self.model.trainable_variables)
            self.model.compile(
                optimizer,
                # Weights sum to 1 over the whole batch, whatever the number of replicas.
                keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
                weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")],
            )
        # What is judged, evaluated and exported: the same network with the averaged weights.
        self.averaged = build(**shape)
        print(self.describe())
        longest_target = TASKS[config.task].longest(self.curriculum.levels[-1])[1]
        self.scorer = Scorer(self.averaged, config.input_form, longest_target + 1)

        self.epoch = 0
        self.state = self.curriculum.start()
        self.history: list[dict] = []
        self.learning_rate = config.learning_rate
        self.checkpoints = workdir / "checkpoints"
        saved = checkpoints.restore(self.checkpoints, self.variables())
        if saved:
            self.epoch = saved["epoch"]
            level, accuracies = saved["curriculum"]
            self.state = curriculum.State(level, tuple(accuracies))
            self.history = saved["history"]
            self.learning_rate = saved["learning_rate"]
            print(f"going on after epoch {self.epoch}")

    def describe(self) -> str:
        """One line on the network."""
        config = self.config
        tied = "one stack reads and writes" if config.tie_encoder_decoder else "encoder and decoder"
        paper = (
            " (the paper's network)"
            if (config.num_layers, config.hidden_dim, config.tie_encoder_decoder) == (2, 400, True)
            else ""
        )
        return (
            f"model {config.model}: {config.num_layers} x {config.hidden_dim} cells, {tied}, "
            f"{self.averaged.count_params():,} parameters{paper}"
        )

    def variables(self) -> list:
        """Every variable that training changes."""
        return [*self.model.variables, *self.model.optimizer.variables]

    def train(self) -> None:
        """Trains epoch by epoch until the run is over; every epoch ends with a checkpoint."""
        from keras_l2e import checkpoints, files

        while not self.is_over():
            started = time.monotonic()
            line = self.train_epoch()
            seconds = time.monotonic() - started
            self.history.append(line)
            checkpoints.save(
                self.checkpoints,
                self.epoch,
                self.variables(),
                {
                    "epoch": self.epoch,
                    "curriculum": self.state,
                    "history": self.history,
                    "learning_rate": self.learning_rate,
                },
            )
            files.write_json_lines(self.workdir / "history.jsonl", self.history)
            self.report(line, seconds)

    def is_over(self) -> bool:
        """Whether the last epoch was the last one."""
        config = self.config
        if self.epoch >= config.num_epochs:
            return True
        if config.learning_rate_schedule == "plateau":
            return self.learning_rate < config.min_learning_rate
        recent = [line["target_validation"]["exact_match"] for line in self.history[-2:]]
        return bool(
            config.stop_at_exact_match
            and len(recent) == 2
            and None not in recent
            and min(recent) >= config.stop_at_exact_match
        )

    def train_epoch(self) -> dict:
        """One epoch: fit, judge, go on to the next difficulty if it is time; gives history's line."""
        config = self.config
        difficulty = self.curriculum.difficulty(self.state)
        weights = self.curriculum.weights(self.state)
        rate = self.learning_rate
        if config.learning_rate_schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * self.epoch / config.num_epochs))
        self.model.optimizer.learning_rate = rate
        fitted = self.model.fit(
            self.batches(weights),
            initial_epoch=self.epoch,
            epochs=self.epoch + 1,
            shuffle=False,
            verbose=0,
        ).history
        if not math.isfinite(fitted["loss"][0]):
            raise WorkError(
                f"the loss is {fitted['loss'][0]} in epoch {self.epoch + 1} (learning rate {rate:g}); "
                f"the epochs before it are kept in {self.workdir}"
            )
        self.epoch += 1
        self.average_weights()
        target = self.curriculum.levels[-1]
        if config.learning_rate_schedule == "plateau" and difficulty == target:
            before = [x["loss"] for x in self.history if x["difficulty"] == target._asdict()]
            if before and fitted["loss"][0] >= min(before):
                self.learning_rate *= PLATEAU_DECAY
        scores = {}
        judged = self.judge(scores)
        return {
            "epoch": self.epoch,
            "num_examples": self.epoch * config.batches_per_epoch * config.global_batch_size,
            "difficulty": difficulty._asdict(),
            "loss": fitted["loss"][0],
            "token_accuracy": fitted["token_accuracy"][0],
            "learning_rate": rate,
            "validation": self.score(difficulty, "validation", scores),
            "target_validation": self.score(target, "validation", scores),
            **judged,
        }

    def batches(self, weights: list[float]):
        """The batches of the epoch to come."""
        from keras_l2e import input_pipeline

        config = self.config

        def source(difficulty: Difficulty):
            seed = self.seed_of(difficulty, "train")
            if config.train_source == "generated":
                return input_pipeline.generated_source(config.task, difficulty, seed)
            return input_pipeline.prepared_source(*self.data[difficulty, "train"], seed)

        return input_pipeline.training_batches(
            [source(difficulty) for difficulty in self.curriculum.levels],
            weights,
            seed=self.seed_of("mixture"),
            input_form=config.input_form,
            loss_scale=config.loss_scale,
            batch_size=config.global_batch_size,
            num_batches=config.batches_per_epoch,
        )

    def seed_of(self, *names) -> int:
        """A seed for something drawn in this epoch."""
        from keras_l2e.input_pipeline import seed_of

        return seed_of(self.config.task, *names, self.config.seed, self.epoch)

    def average_weights(self) -> None:
        """Puts the averaged weights into the network that is judged."""
        optimizer = self.model.optimizer
        if optimizer.use_ema and self.epoch:
            values = optimizer._model_variables_moving_average
        else:
            values = self.model.trainable_variables
        for variable, value in zip(self.averaged.trainable_variables, values, strict=True):
            variable.assign(value.numpy())

    def judge(self, scores: dict) -> dict:
        """Lets the curriculum go on as far as the present accuracies allow; gives what was read.

        A mastered difficulty is left at once, and the next one judged in the same epoch, so that
        easy levels do not cost an epoch each.
        """
        first = None
        while True:
            difficulty = self.curriculum.difficulty(self.state)
            stored = len(self.data[difficulty, "validation"][0])
            split = "validation" if stored >= JUDGEABLE_EXAMPLES else "train"
            accuracy = self.score(difficulty, split, scores)["token_accuracy"]
            if first is None:
                first = {
                    "judged_by": "validation" if split == "validation" else "training",
                    "judged_token_accuracy": accuracy,
                    "advanced_to": None,
                }
            before, self.state = self.state, self.curriculum.judge(self.state, accuracy)
            if self.state.level == before.level:
                return first
            first["advanced_to"] = self.curriculum.difficulty(self.state)._asdict()
            if accuracy <= self.config.advance_threshold:
                return first

    def score(self, difficulty: Difficulty, split: str, scores: dict) -> dict:
        """Accuracies on stored examples of a difficulty, computed once an epoch (`scores`)."""
        if (difficulty, split) not in scores:
            limit = self.config.validation_examples
            programs, targets = (column[:limit] for column in self.data[difficulty, split])
            if len(programs):
                scored = self.scorer.score(programs, targets)
                result = {
                    "token_accuracy": scored.token_accuracy(),
                    "exact_match": scored.exact_match(),
                }
            else:
                result = {"token_accuracy": None, "exact_match": None}
            scores[difficulty, split] = {**result, "num_examples": len(programs)}
        return scores[difficulty, split]

    def report(self, line: dict, seconds: float) -> None:
        """Shows a finished epoch, and logs what depends on the clock apart from the history."""
        import tensorflow as tf

        config = self.config
        rate = config.batches_per_epoch * config.global_batch_size / seconds
        left = (config.num_epochs - self.epoch) * seconds
        validation = line["validation"]
        print(
            f"epoch {self.epoch}/{config.num_epochs}  "
            f"{config.task} {name(line['difficulty'])}  loss {line['loss']:.3f}  "
            f"validation token_accuracy {percent(validation['token_accuracy'])} "
            f"exact_match {percent(validation['exact_match'])}  "
            f"(target: {percent(line['target_validation']['exact_match'])})  "
            f"{rate:,.0f} programs/s  {clock(left)} left at most",
            flush=True,
        )
        with open(self.workdir / "timing.jsonl", "a") as file:
            entry = {
                "epoch": self.epoch,
                "seconds": round(seconds, 3),
                "programs_per_second": round(rate),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            file.write(json.dumps(entry) + "\n")
        scalars = {key: line[key] for key in ("loss", "token_accuracy", "learning_rate")}
        for split in ("validation", "target_validation"):
            for key in ("token_accuracy", "exact_match"):
                scalars[f"{split}/{key}"] = line[split][key]
        # tf.summary.scalar needs TensorBoard itself, which is not among the requirements.
        metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        with tf.summary.create_file_writer(str(self.workdir / "tensorboard")).as_default():
            for key, value in scalars.items():
                if value is not None:
                    tf.summary.write(key, value, step=line["num_examples"], metadata=metadata)

    def finish(self) -> None:
        """Saves, evaluates and exports the averaged network; evaluation.json comes last."""
        from keras_l2e import evaluate, export, files, report

        self.average_weights()

        def save(path: Path) -> None:
            self.averaged.save(path)

        files.write_atomically(self.workdir / "model.keras", save)
        export.export(self.config, self.averaged, self.workdir / "saved_model")
        if self.history:
            report.plot_learning_curve(self.history, self.workdir / "learning_curve.png")
        print("evaluating on the test split")
        result = evaluate.evaluate(self.config, self.averaged)
        evaluate.write(self.workdir, result)
        print(report.format_table(result))
        print(report.format_samples(result))
        print(f"results, plots and SavedModel: {self.workdir}")


def name(difficulty: dict) -> str:
    """A difficulty for the eye: its length, and its nesting if there is more than one."""
    nesting = f" nesting {difficulty['nesting']}" if difficulty["nesting"] > 1 else ""
    return f"length {difficulty['length']}{nesting}"


def percent(value: float | None) -> str:
    """A rate in per cent, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}%"


def clock(seconds: float) -> str:
    """A time span as hours:minutes:seconds.

    >>> clock(3725)
    '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


if __name__ == "__main__":
    command_line.run(train)
