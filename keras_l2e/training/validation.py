"""How far each level is learnt: scores on stored examples, as the teacher asks for them."""

import numpy as np

from keras_l2e.config import Config
from keras_l2e.data import stored
from keras_l2e.errors import WorkError
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import Difficulty
from keras_l2e.teaching.teachers import Score
from keras_l2e.training.scoring import Scorer

# A validation split smaller than this cannot judge: 4 sigma at 95% are 6%.
JUDGEABLE_EXAMPLES = 200
# Nor can one of a difficulty whose training examples are repeats for more than this share: training
# knows all it may know of so small a class, and what is held out is what training rarely draws (of
# the distinct programs of length 1, nine in ten are conditionals).
JUDGEABLE_REPEATS = 0.5


class Validation:
    """The scores of a network at the levels of a run; a mapping from a level's index to its Score.

    A level is scored when it is looked at, once in each epoch.
    """

    def __init__(self, config: Config, scorer: Scorer):
        """Reads the stored examples.

        Args:
            config: of the run.
            scorer: of the network that is judged.
        """
        self.levels, self.scorer = config.levels, scorer
        self.limit = config.validation_examples
        self.examples = {
            (level, split): stored.read(
                config.task, level, split, config.data_dir, config.examples_per_difficulty
            )
            for level in self.levels
            for split in ("train", "validation")
        }
        # Counted once: repeats are sought among all stored examples of a level.
        self.judging_splits = {level: self._judging_split(level) for level in self.levels}
        self._scores: dict[tuple, dict] = {}

    def _judging_split(self, level: Difficulty) -> str:
        """The split whose accuracy decides about going on: validation where it can, else train."""
        programs = self.examples[level, "train"].program
        if not len(programs):
            raise WorkError(
                f"no stored example of {level.label}; more --examples_per_difficulty are needed"
            )
        repeats = 1 - len(set(programs)) / len(programs)
        num_validation = len(self.examples[level, "validation"].program)
        judgeable = num_validation >= JUDGEABLE_EXAMPLES and repeats <= JUDGEABLE_REPEATS
        return "validation" if judgeable else "train"

    def forget(self) -> None:
        """To be called when the network has changed."""
        self._scores.clear()

    def score(self, level: Difficulty, split: str) -> dict:
        """Accuracies on stored examples of a level, as history.jsonl holds them."""
        if (level, split) not in self._scores:
            examples = Example(*(column[: self.limit] for column in self.examples[level, split]))
            found = {"token_accuracy": None, "exact_match": None}
            if len(examples.program):
                scores = self.scorer.score(examples)
                found = {name: getattr(scores, name)() for name in found}
            self._scores[level, split] = {**found, "num_examples": len(examples.program)}
        return self._scores[level, split]

    def judged(self, level: Difficulty) -> dict:
        """Accuracies at a level on the split that can judge it, and which one that is."""
        split = self.judging_splits[level]
        judged_by = "validation" if split == "validation" else "training"
        return {"judged_by": judged_by, **self.score(level, split)}

    def __getitem__(self, index: int) -> Score:
        judged = self.judged(self.levels[index])
        return Score(judged["token_accuracy"], judged["exact_match"])

    def stored(self, split: str) -> dict[Difficulty, Example]:
        """The stored examples of all levels, UTF-8 `bytes`."""
        return {level: self.examples[level, split] for level in self.levels}


def are_finite(variables) -> bool:
    """Whether every value of some variables is a number."""
    return all(np.isfinite(variable.numpy()).all() for variable in variables)
