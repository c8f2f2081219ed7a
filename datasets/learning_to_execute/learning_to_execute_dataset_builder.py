"""The `learning_to_execute` data set: programs and what they print, one config per difficulty.

>>> config_from_name("addition_length_9").candidate(0)
Example(program='print(735221849+208143007)', target='943364856')
"""

import dataclasses
import functools
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_l2e.data import beam as building
from keras_l2e.data import stored as prepared_data
from keras_l2e.data.candidates import Candidates
from keras_l2e.language import programs
from keras_l2e.language.tasks import TASKS


@dataclasses.dataclass(eq=False, kw_only=True)
class LearningToExecuteConfig(Candidates, tfds.core.BuilderConfig):
    """One task at one difficulty, in one size; see `config_from_name`."""


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
        return {
            split: self._generate_examples(split, numbers)
            for split, numbers in self.builder_config.choose().items()
        }

    def _generate_examples(self, split, numbers):
        config = self.builder_config
        # Drawn again: numbers take 8 bytes each, examples would take a hundred.
        for i in numbers:
            features = config.features(i)
            if config.task == "program":
                self._operation_counts[split].update(
                    programs.count_operations(features["program"], features["nesting"])
                )
            yield i, features

    def _split_pipelines(self, dl_manager, pipeline):
        """As `_split_generators`, for Apache Beam."""
        config = self.builder_config
        # Of its own, because the config's class may be unknown to workers.
        candidates = Candidates(
            task=config.task,
            difficulty=config.difficulty,
            examples_per_difficulty=config.examples_per_difficulty,
        )
        sizes = {
            split: size if self._cap is None else min(size, self._cap)
            for split, size in config.split_sizes.items()
        }
        return building.split_pipelines(pipeline, candidates, sizes, self.data_path)

    def _process_pipeline_result(self, pipeline_result):
        self._operation_counts = building.read_operation_counts(self.data_path)

    def _example_writer(self):
        return building.StableExampleWriter(self.info.file_format)

    def _download_and_prepare(self, **kwargs):
        download_config = kwargs["download_config"]
        self._cap = download_config.max_examples_per_split
        self._operation_counts = {split: Counter() for split in programs.SPLITS}
        if download_config.beam_options or download_config.beam_runner:
            # TFDS makes a pipeline for a method with an argument of this name, and for no other.
            self._split_generators = self._split_pipelines
        super()._download_and_prepare(**kwargs)
        self.info.as_proto.description = "\n".join(
            [
                self.get_metadata().description,
                *self._describe_sizes(self._cap),
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
