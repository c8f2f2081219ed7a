"""How far each arm is learnt: scores on stored examples, as the teacher asks for them."""

import time
from collections.abc import Iterator, Mapping, Sequence

from keras_l2e.config import Config
from keras_l2e.data import stored
from keras_l2e.language.forms import write_all
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.teaching.teacher import Arm, Score
from keras_l2e.training.scoring import RATES, Scorer, Scores

# A validation split smaller than this cannot judge: 4 sigma at 95% are 6%.
JUDGEABLE_EXAMPLES = 200
# Nor can one of a difficulty whose training examples are repeats for more than this share: training
# knows all it may know of so small a class, and what is held out is what training rarely draws (of
# the distinct programs of length 1, nine in ten are conditionals).
JUDGEABLE_REPEATS = 0.5


class Validation(Mapping[int, Score]):
    """The scores of a network at the levels of a run, by the index of an arm.

    A level is scored when it is looked at, once in each epoch.

    Attributes:
        seconds: how long the looks of this epoch took.
    """

    def __init__(self, config: Config, scorer: Scorer, of_kinds: bool = False):
        """Reads the stored examples.

        Args:
            config, scorer: of the run, and of the network that is judged.
            of_kinds: whether the arms are the kinds that the task can draw, level by level. They
                are the levels if it can draw none by itself.
        """
        self.levels, self.scorer, self.task = config.levels, scorer, TASKS[config.task]
        kinds = (self.task.drawn_kinds if of_kinds else ()) or ("",)
        self.arms = [Arm(level, kind) for level in self.levels for kind in kinds]
        self.limit, self.target_form = config.validation_examples, config.target_form
        self.examples = {
            (level, split): stored.read(
                config.task, level, split, config.data_dir, config.examples_per_difficulty
            )
            for level in self.levels
            for split in ("train", "validation")
        }
        # Counted once: repeats are sought among all stored examples of a level.
        self.judging_splits = {level: self._judging_split(level) for level in self.levels}
        self.seconds = 0.0
        self._scores: dict[tuple, Scores] = {}
        self._numbers: dict[tuple, dict[str, list[int]]] = {}

    def _judging_split(self, level: Difficulty) -> str:
        """The split whose accuracy decides about going on: validation where it can, else train."""
        programs = self.examples[level, "train"].program
        repeats = 1 - len(set(programs)) / len(programs)
        num_validation = len(self.examples[level, "validation"].program)
        judgeable = num_validation >= JUDGEABLE_EXAMPLES and repeats <= JUDGEABLE_REPEATS
        return "validation" if judgeable else "train"

    def forget(self) -> None:
        """To be called when the network has changed."""
        self._scores.clear()
        self.seconds = 0.0

    def score(self, level: Difficulty, split: str, kind: str = "") -> dict:
        """Accuracies on stored examples of a level, or of a kind of them, as history.jsonl has."""
        key = level, split
        examples = Example(*(column[: self.limit] for column in self.examples[key]))
        chosen = self._of_kind(key, examples.program, kind)
        found = dict.fromkeys(RATES)
        if chosen:
            if key not in self._scores:
                started = time.monotonic()
                self._scores[key] = self.scorer.score(examples)
                self.seconds += time.monotonic() - started
            scores = self._scores[key].subset(chosen) if kind else self._scores[key]
            found = scores.rates()
        return {**found, "num_examples": len(chosen)}

    def judged(self, level: Difficulty, kind: str = "") -> dict:
        """Accuracies on the split that can judge the level, and which one that is."""
        split = self.judging_splits[level]
        judged_by = "validation" if split == "validation" else "training"
        return {"judged_by": judged_by, **self.score(level, split, kind)}

    def __getitem__(self, index: int) -> Score:
        judged = self.judged(*self.arms[index])
        return Score(judged["token_accuracy"], judged["exact_match"])

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.arms)))

    def __len__(self) -> int:
        return len(self.arms)

    def all_levels(self, shares: Mapping[Difficulty, Mapping[str, float]]) -> list[dict]:
        """Accuracies of every level beside its share of the epoch, as history.jsonl has them."""
        return [
            {**level._asdict(), "share": sum(kinds.values()), **self.judged(level)}
            for level, kinds in shares.items()
        ]

    def _of_kind(self, key: tuple, programs: Sequence[bytes], kind: str) -> Sequence[int]:
        """The numbers of the programs that are of a kind; of all for ""."""
        if not kind:
            return range(len(programs))
        if key not in self._numbers:  # They stay as they are: sorted out once.
            texts = [program.decode() for program in programs]
            self._numbers[key] = self.task.by_kind(texts, key[0])
        return self._numbers[key].get(kind, [])

    def training_texts(self) -> dict[Difficulty, tuple]:
        """What is stored of all levels, UTF-8 `bytes`: programs, and what is to be written."""
        found = {level: self.examples[level, "train"] for level in self.levels}
        return {level: (x.program, write_all(x, self.target_form)) for level, x in found.items()}
