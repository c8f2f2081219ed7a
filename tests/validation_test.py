from types import SimpleNamespace

from keras_l2e.data import stored
from keras_l2e.language.programs import OPERATIONS, Example
from keras_l2e.language.tasks import Difficulty
from keras_l2e.teaching.teacher import Score
from keras_l2e.training import scoring, validation
from keras_l2e.training.validation import Validation


class Counting:
    """A scorer by whose words examples are as right as their number says."""

    def __init__(self):
        self.asked = []

    def score(self, examples):
        self.asked.append(len(examples.program))
        rates = (len(examples.program) / 1000, 0.25, 0.75)
        return SimpleNamespace(rates=lambda: dict(zip(scoring.RATES, rates, strict=True)))


def test_a_level_is_scored_when_it_is_looked_at_and_once(make_config):
    scorer = Counting()
    judge = Validation(make_config(), scorer)
    assert scorer.asked == []
    expected = {"token_accuracy": 0.05, "exact_match": 0.25, "free_token_accuracy": 0.75}
    expected["num_examples"] = 50
    # 300 two-digit sums are held out, of which --validation_examples are read.
    assert judge.score(Difficulty(2), "validation") == expected
    assert judge.judged(Difficulty(2)) == {"judged_by": "validation", **expected}
    assert judge[1] == Score(0.05, 0.25)
    assert list(judge) == [0, 1]
    assert scorer.asked == [50]
    judge.forget()
    assert judge[1] == Score(0.05, 0.25)
    assert scorer.asked == [50, 50]


def test_training_examples_judge_where_few_are_held_out(make_config):
    judge = Validation(make_config(), Counting())
    assert judge.judging_splits == {Difficulty(1): "train", Difficulty(2): "validation"}
    assert judge.judged(Difficulty(1))["judged_by"] == "training"
    assert len(judge.examples[Difficulty(1), "validation"].program) < 200


def test_training_examples_judge_where_most_are_repeats(make_config, monkeypatch):
    # Of 300 of the easiest programs 90 are repeats, of harder ones at most 14.
    monkeypatch.setattr(validation, "JUDGEABLE_REPEATS", 0.2)
    config = make_config(task="program", target_length=2)
    splits = Validation(config, Counting()).judging_splits
    assert splits == {Difficulty(1): "train", Difficulty(2): "validation"}


class Telling(Counting):
    """A scorer by whose words programs with a loop are right, all others wrong."""

    def score(self, examples):
        super().score(examples)
        return self.Found([b"for" in program for program in examples.program])

    class Found(list):
        def subset(self, chosen):
            return type(self)(self[i] for i in chosen)

        def rates(self):
            return dict.fromkeys(scoring.RATES, sum(self) / len(self))


def test_kinds_are_judged_one_by_one_of_one_scoring(make_config):
    scorer = Telling()
    config = make_config(task="program", target_length=2, train_source="generated")
    judge = Validation(config, scorer, of_kinds=True)
    operations = list(OPERATIONS)
    assert judge.arms == [(level, kind) for level in config.levels for kind in operations]
    rates = {arm.kind: judge[6 + i].exact_match for i, arm in enumerate(judge.arms[6:])}
    assert rates == {kind: float(kind == "small_loop") for kind in operations}
    level = judge.judged(Difficulty(2))
    assert level["num_examples"] == 50 and 0 < level["exact_match"] < 0.5
    counts = [judge.judged(Difficulty(2), kind)["num_examples"] for kind in operations]
    assert sum(counts) == 50
    assert scorer.asked == [50]


def test_a_task_without_kinds_to_draw_is_judged_by_levels(make_config):
    judge = Validation(make_config(), Counting(), of_kinds=True)
    assert judge.arms == [(Difficulty(1), ""), (Difficulty(2), "")]


def test_a_level_without_validation_examples_has_no_rates(make_config, monkeypatch):
    monkeypatch.setattr(
        stored, "read", lambda task, level, split, *_: Example(*[[b"1"] * (split == "train")] * 3)
    )
    found = Validation(make_config(), Counting()).score(Difficulty(2), "validation")
    assert found == {**dict.fromkeys(scoring.RATES), "num_examples": 0}
