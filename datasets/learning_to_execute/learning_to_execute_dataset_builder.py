"""The `learning_to_execute` data set: programs and what they print, one config per difficulty.

Candidate i of a config is a pure function of (task, difficulty, DATA_SEED, i), and its split one of
its program. Every split takes its candidates in order:

    >>> config_from_name("addition_length_9").candidate(0)
    Example(program='print(735221849+208143007)', target='943364856')
"""

import dataclasses
import functools
import random
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer

from keras_l2e import prepared_data, programs
from keras_l2e.programs import Example
from keras_l2e.tasks import TASKS, Difficulty

DATA_SEED = 1410_4615


@dataclasses.dataclass(eq=False, kw_only=True)
class LearningToExecuteConfig(tfds.core.BuilderConfig):
    """One task at one difficulty, in one size; see `config_from_name`.

    Attributes:
        task: a name in `tasks.TASKS`.
        difficulty: length and nesting.
        examples_per_difficulty: examples in the train split.
    """

    task: str
    difficulty: Difficulty
    examples_per_difficulty: int

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of examples each split has, unless the candidates do not yield so many."""
        n = self.examples_per_difficulty
        return {"train": n, "validation": min(n, 2_000), "test": min(n, 10_000)}

    @property
    def num_candidates(self) -> int:
        """Examples drawn at most: held-out splits of classes with few distinct programs end there.

        The train split, which keeps repeats, needs three for each of its examples on average, and
        3.4 in copy of length 2, of whose 100 texts only 29 are its own.
        """
        return 4 * self.examples_per_difficulty + 1_000

    def candidate(self, i: int) -> Example:
        """Example i before the choice of splits; the same for every size of the data set."""
        length, nesting = self.difficulty
        rng = random.Random(f"{self.task}/{length}/{nesting}/{DATA_SEED}/{i}")
        return TASKS[self.task].generate(rng, self.difficulty)

    def choose(self) -> dict[str, array]:
        """The numbers of the candidates that make up each split, in order, from one pass over them.

        The train split keeps repeats, which belong to the class's distribution. The others keep the
        first of candidates that are equal after renaming their variables.
        """
        chosen = {split: array("q") for split in programs.SPLITS}
        unfilled = set(chosen)
        seen = set()
        for i in range(self.num_candidates):
            program = self.candidate(i).program
            split = programs.split_of(program)
            if split not in unfilled:
                continue
            if split != "train":
                digest = programs.digest(program)
                if digest in seen:
                    continue
                seen.add(digest)
            chosen[split].append(i)
            if len(chosen[split]) == self.split_sizes[split]:
                unfilled.remove(split)
                if not unfilled:
                    break
        return chosen


@functools.cache
def config_from_name(name: str) -> LearningToExecuteConfig | None:
    """The config that `prepared_data.config_name` gives this name, None for any other name."""
    try:
        task, difficulty, examples_per_difficulty = prepared_data.parse_config_name(name)
    except ValueError:
        return None
    return LearningToExecuteConfig(
        name=name,
        task=task,
        difficulty=difficulty,
        examples_per_difficulty=examples_per_difficulty,
    )


def _allowed_names() -> str:
    ranges = (
        f"{name}_length_1..{task.max_length}"
        + (f"_nesting_1..{task.max_nesting}" if task.max_nesting > 1 else "")
        for name, task in TASKS.items()
    )
    return ", ".join(ranges) + ", each also with _examples_N for another size"


class StableExampleWriter(writer.ExampleWriter):
    """Writes the features of an example in the order of their names.

    As TFDS serializes them, their order differs from process to process: protobuf seeds its maps
    with an address. Costs 7 us an example.
    """

    def write(self, path, examples):
        import tensorflow as tf  # Late, as in TFDS: only building needs it.

        def stable(serialized):
            return tf.train.Example.FromString(serialized).SerializeToString(deterministic=True)

        return super().write(path, ((key, stable(example)) for key, example in examples))


class Builder(tfds.core.GeneratorBasedBuilder):
    """Programs drawn at one difficulty, and what they print."""

    VERSION = tfds.core.Version(prepared_data.VERSION)
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [
        config_from_name(prepared_data.config_name(name, difficulty))
        for name, task in TASKS.items()
        for difficulty in task.difficulties()
    ]
    # TFDS looks for these through the top-level package; in an editable install that has no folder.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    @classmethod
    def get_builder_config(cls, name, version=None):
        """Also finds the configs of other sizes, `..._examples_1000`, which are not listed."""
        config = super().get_builder_config(name, version) or config_from_name(name)
        if config is None:
            message = f"unknown config {name!r}; allowed are {_allowed_names()}"
            if Path(sys.argv[0]).stem == "tfds":
                # The command would show a ValueError as a traceback under a hundred near names.
                print(f"error: {message}", file=sys.stderr)
                sys.exit(2)
            raise ValueError(message)
        return config

    def _info(self):
        # No description: TFDS prefers one given here to the stored one, which is written last.
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "program": tfds.features.Text(),
                    "target": tfds.features.Text(),
                    "length": np.int64,
                    "nesting": np.int64,
                }
            ),
            supervised_keys=("program", "target"),
            homepage="https://arxiv.org/abs/1410.4615",
            citation=self.get_metadata().citation,
            # Candidates are independent draws. In their order, a small split begins a larger one.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        self._operation_counts = {split: Counter() for split in programs.SPLITS}
        return {
            split: self._generate_examples(split, numbers)
            for split, numbers in self.builder_config.choose().items()
        }

    def _generate_examples(self, split, numbers):
        config = self.builder_config
        length, nesting = config.difficulty
        # Drawn again: numbers take 8 bytes each, examples would take a hundred.
        for i in numbers:
            program, target = config.candidate(i)
            if config.task == "program":
                self._operation_counts[split].update(programs.count_operations(program, nesting))
            features = {"program": program, "target": target, "length": length, "nesting": nesting}
            yield i, features

    def _example_writer(self):
        return StableExampleWriter(self.info.file_format)

    def _download_and_prepare(self, **kwargs):
        super()._download_and_prepare(**kwargs)
        cap = kwargs["download_config"].max_examples_per_split
        self.info.as_proto.description = "\n".join(
            [
                self.get_metadata().description,
                *self._describe_sizes(cap),
                *self._describe_operations(),
            ]
        )

    def _describe_sizes(self, cap: int | None) -> Iterator[str]:
        """The splits' sizes, and why a split is smaller than it should be."""
        config = self.builder_config
        sizes = {split: self.info.splits[split].num_examples for split in programs.SPLITS}
        yield "Examples: " + ", ".join(f"{split} {n:,}" for split, n in sizes.items()) + "."
        for split, n in sizes.items():
            reason = (
                f"{config.num_candidates:,} draws yield no more distinct programs of this split"
            )
            if n == cap:
                reason = "this build was capped"
            if n < config.split_sizes[split]:
                yield f"{split} is smaller than {config.split_sizes[split]:,}: {reason}."

    def _describe_operations(self) -> Iterator[str]:
        """The share of each operation in each split, for the task that has operations."""
        for split, counts in self._operation_counts.items():
            if counts:
                shares = (f"{op} {counts[op] / counts.total():.1%}" for op in programs.OPERATIONS)
                yield f"Operations in {split}: {', '.join(shares)}."
