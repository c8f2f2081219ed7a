import random

import keras
import numpy as np
import pytest

from keras_l2e.data import pipeline as input_pipeline
from keras_l2e.language import vocabulary
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.networks import models, optimizers
from keras_l2e.training.scoring import Scorer


def draw(task, difficulty, count, seed=0):
    """Distinct examples as prepared data hold them."""
    rng = random.Random(seed)
    examples = {}
    while len(examples) < count:
        example = TASKS[task].generate(rng, difficulty)
        examples[example.program] = example
    programs, targets = zip(*examples.values(), strict=True)
    return [p.encode() for p in programs], [t.encode() for t in targets]


def make_model():
    keras.utils.set_random_seed(1)
    return models.lstm(vocabulary.SIZE, 32, 1, embedding_dim=16)


def test_every_example_keeps_its_place():
    # Random weights answer, too; in other batches, of other neighbours and padding, the same.
    programs, targets = draw("program", Difficulty(3, 2), 40)
    model = make_model()
    together = Scorer(model, "reverse", max_steps=6, batch_size=7).score(programs, targets)
    alone = Scorer(model, "reverse", max_steps=6, batch_size=1).score(programs, targets)
    assert together.targets == [target.decode() for target in targets]
    assert together.outputs == alone.outputs
    np.testing.assert_array_equal(together.num_right, alone.num_right)
    np.testing.assert_array_equal(together.num_tokens, [len(target) + 1 for target in targets])
    # An order that was not restored would show.
    assert len(set(together.outputs)) > 1
    assert [len(p) for p in programs] != sorted(len(p) for p in programs)


def test_a_subset_is_scored_like_its_members():
    programs, targets = draw("addition", Difficulty(2), 10)
    scores = Scorer(make_model(), "none", max_steps=4).score(programs, targets)
    chosen = [7, 2]
    subset = scores.subset(chosen)
    assert subset.targets == [targets[7].decode(), targets[2].decode()]
    assert subset.outputs == [scores.outputs[7], scores.outputs[2]]
    lengths = [len(targets[i]) + 1 for i in chosen]
    assert subset.num_tokens.tolist() == lengths
    assert subset.token_accuracy() == scores.num_right[chosen].sum() / sum(lengths)


@pytest.mark.parametrize(
    ("task", "difficulty", "input_form"),
    [
        ("addition", Difficulty(2), "none"),
        ("program", Difficulty(2, 2), "reverse"),
        ("copy", Difficulty(4), "double"),
    ],
)
def test_a_handful_of_programs_is_learnt_by_heart(task, difficulty, input_form):
    programs, targets = draw(task, difficulty, 8)
    model = make_model()
    model.compile(
        optimizers.OPTIMIZERS["adam"](0.01, clip_norm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
    )
    scorer = Scorer(model, input_form, max_steps=12)
    assert scorer.score(programs, targets).exact_match() == 0
    stored = input_pipeline.Stored({difficulty: (programs, targets)})
    dataset = input_pipeline.training_batches(
        [stored.source(difficulty, seed=1)],
        [1.0],
        seed=1,
        input_form=input_form,
        loss_scale="character",
        batch_size=8,
        num_batches=400,
        look_up=stored.look_up,
    )
    model.fit(dataset, steps_per_epoch=400, shuffle=False, verbose=0)
    scores = scorer.score(programs, targets)
    assert scores.exact_match() == 1.0
    assert scores.token_accuracy() == 1.0
    assert scores.free_token_accuracy() == 1.0
    assert scores.outputs == [target.decode() for target in targets]
