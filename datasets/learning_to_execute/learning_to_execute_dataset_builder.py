"""The `learning_to_execute` data set: programs and what they print, one config per difficulty.

>>> config_from_name("addition_length_9").candidates.candidate(0)
Example(program='print(735221849+208143007)', target='943364856', trace='943364856')
"""

import dataclasses
import functools
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_l2e.data import beam, stored
from keras_l2e.data.candidates import Candidates
from keras_l2e.language.tasks import TASKS


@dataclasses.dataclass(eq=False, kw_only=True)
class LearningToExecuteConfig(tfds.core.BuilderConfig):
    """One task at one difficulty, in one size; see `config_from_name`.

    Attributes:
        candidates: what the examples are chosen from.
    """

    candidates: Candidates


@functools.cache
def config_from_name(name: str) -> LearningToExecuteConfig:
    """The config that `stored.config_name` gives this name; TFDS wants one object for each name.

    Raises:
        ValueError: it gives no config this name.
    """
    candidates = Candidates(*stored.parse_config_name(name))
    return LearningToExecuteConfig(name=name, candidates=candidates)


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
        return super().get_builder_config(name, version) or config_from_name(name)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.get_metadata().description,
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
            for split, numbers in self.builder_config.candidates.choose().items()
        }

    def _generate_examples(self, numbers):
        # Drawn again: numbers take 8 bytes each, examples would take a hundred.
        for i in numbers:
            yield i, self.builder_config.candidates.features(i)

    def _split_pipelines(self, dl_manager, pipeline):
        """As `_split_generators`, for Apache Beam."""
        return beam.split_pipelines(pipeline, self.builder_config.candidates)

    def _example_writer(self):
        return beam.StableExampleWriter(self.info.file_format)

    def _download_and_prepare(self, dl_manager, download_config):
        if download_config.beam_options or download_config.beam_runner:
            # TFDS makes a pipeline for a method with an argument of this name, and for no other.
            self._split_generators = self._split_pipelines
        super()._download_and_prepare(dl_manager, download_config)
