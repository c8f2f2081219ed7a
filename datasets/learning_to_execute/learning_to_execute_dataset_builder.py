"""The `learning_to_execute` data set: programs and what they print, one config per difficulty.

>>> config_from_name("addition_length_9").candidate(0)
Example(program='print(735221849+208143007)', target='943364856', trace='943364856')
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_l2e.data import beam, stored
from keras_l2e.data.candidates import Candidates
from keras_l2e.language.tasks import TASKS


@dataclasses.dataclass(eq=False, kw_only=True)
class LearningToExecuteConfig(Candidates, tfds.core.BuilderConfig):
    """One task at one difficulty, in one size; see `config_from_name`."""


@functools.cache
def config_from_name(name: str) -> LearningToExecuteConfig | None:
    """The config that `stored.config_name` gives this name, None for any other name."""
    try:
        task, difficulty, examples_per_difficulty = stored.parse_config_name(name)
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

    VERSION = tfds.core.Version(stored.VERSION)
    RELEASE_NOTES: ClassVar = {
        "1.1.0": "New feature `trace`, the value of every operation; all else is as it was.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS: ClassVar = [
        config_from_name(stored.config_name(name, difficulty))
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
                    "trace": tfds.features.Text(),
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
            split: self._generate_examples(numbers)
            for split, numbers in self.builder_config.choose().items()
        }

    def _generate_examples(self, numbers):
        # Drawn again: numbers take 8 bytes each, examples would take a hundred.
        for i in numbers:
            yield i, self.builder_config.features(i)

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
        return beam.split_pipelines(pipeline, candidates, sizes)

    def _example_writer(self):
        return beam.StableExampleWriter(self.info.file_format)

    def _download_and_prepare(self, **kwargs):
        download_config = kwargs["download_config"]
        self._cap = download_config.max_examples_per_split
        if download_config.beam_options or download_config.beam_runner:
            # TFDS makes a pipeline for a method with an argument of this name, and for no other.
            self._split_generators = self._split_pipelines
        super()._download_and_prepare(**kwargs)
        self.info.as_proto.description = "\n".join(
            [self.get_metadata().description, *self._describe_sizes()]
        )

    def _describe_sizes(self) -> Iterator[str]:
        """The splits' sizes, and why a split is smaller than it should be."""
        config = self.builder_config
        sizes = {split: self.info.splits[split].num_examples for split in config.split_sizes}
        yield "Examples: " + ", ".join(f"{split} {n:,}" for split, n in sizes.items()) + "."
        for split, wanted in config.split_sizes.items():
            if sizes[split] == self._cap:
                reason = "this build was capped"
            else:
                draws = f"{config.num_candidates:,} draws"
                reason = f"{draws} yield no more distinct programs of this split"
            if sizes[split] < wanted:
                yield f"{split} is smaller than {wanted:,}: {reason}."
