"""What a run shows of its epochs: a line on the terminal, timing.jsonl, TensorBoard."""

import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import tensorflow as tf

from keras_l2e import files
from keras_l2e.config import Config
from keras_l2e.language.tasks import Difficulty


class Progress:
    """Reports finished epochs; what depends on the clock stays apart from the history."""

    def __init__(self, config: Config, workdir: Path, num_examples: int):
        """Args: the run's config and folder, and the training examples that it has seen."""
        self.config, self.workdir, self.num_examples = config, workdir, num_examples
        self.summary_writer = None  # Opened by the chief of several workers alone.
        self.started = time.monotonic()

    def report(self, line: dict, validation_seconds: float) -> None:
        """Shows an epoch that has just finished.

        Args:
            line: that of history.jsonl.
            validation_seconds: how much of its time went into looking at what was learnt.
        """
        now = time.monotonic()
        seconds, self.started = now - self.started, now
        rate = (line["num_examples"] - self.num_examples) / seconds
        self.num_examples = line["num_examples"]
        self._print(line, rate, seconds)
        files.append_json_line(
            self.workdir / "timing.jsonl",
            {
                "epoch": line["epoch"],
                "seconds": round(seconds, 3),
                "validation_seconds": round(validation_seconds, 3),
                "programs_per_second": round(rate),
                "most_memory_mib": _most_memory(),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        self._log_scalars(line)

    def _print(self, line: dict, rate: float, seconds: float) -> None:
        config, validation = self.config, line["validation"]
        left = timedelta(seconds=round((config.num_epochs - line["epoch"]) * seconds))
        print(
            f"epoch {line['epoch']}/{config.num_epochs}  "
            f"{config.task} {Difficulty(**line['difficulty']).label}  loss {line['loss']:.3f}  "
            f"validation token_accuracy {_percent(validation['token_accuracy'])} "
            f"exact_match {_percent(validation['exact_match'])}  "
            f"(target: {_percent(line['target_validation']['exact_match'])})  "
            f"{rate:,.0f} programs/s  {left} left at most",
            flush=True,
        )

    def _log_scalars(self, line: dict) -> None:
        if self.summary_writer is None:
            self.summary_writer = tf.summary.create_file_writer(str(self.workdir / "tensorboard"))
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


def _most_memory() -> int:
    """The most memory that this process has had so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def _percent(value: float | None) -> str:
    """A rate in per cent, or a dash."""
    return "-" if value is None else f"{100 * value:.1f}%"
