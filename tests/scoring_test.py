import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_network

from keras_l2e.data import pipeline
from keras_l2e.language import vocabulary
from keras_l2e.language.forms import TARGET_FORMS, write_all
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.networks import optimizers
from keras_l2e.training import scoring
from keras_l2e.training.scoring import Scorer, Scores


def make_scores(
    targets, outputs, num_right=(0,), num_tokens=(1,), written_right=(False,), written=()
):
    counts = map(np.array, (num_right, num_tokens, written_right))
    return Scores(*counts, list(targets), list(outputs), list(written or outputs))


@pytest.mark.parametrize(
    ("num_right", "num_tokens", "accuracy"),
    [
        ([4], [4], 1.0),
        ([0], [4], 0.0),
        # Positions count alike, whatever the example they stand in: 7 of 14, not the mean of rates.
        ([2, 1, 4], [2, 2, 10], 0.5),
    ],
)
def test_token_accuracy(num_right, num_tokens, accuracy):
    found = make_scores([], [], num_right, num_tokens).token_accuracy()
    assert found == accuracy
    assert type(found) is float


@pytest.mark.parametrize(
    ("targets", "outputs", "match"),
    [
        (["123"], ["123"], 1.0),
        (["123"], ["12"], 0.0),
        (["12"], ["123"], 0.0),
        (["12"], [""], 0.0),
        (["12"], ["012"], 0.0),
        (["1", "2", "3", "4"], ["1", "2", "3", "5"], 0.75),
    ],
)
def test_exact_match(targets, outputs, match):
    found = make_scores(targets, outputs).exact_match()
    assert found == match
    assert type(found) is float


@pytest.mark.parametrize(
    ("targets", "outputs", "accuracy"),
    [
        (["123"], ["123"], 1.0),
        (["123"], [""], 0.0),
        # Too short and too long: the longer of both lengths counts.
        (["1234"], ["12"], 0.5),
        (["12"], ["1234"], 0.5),
        # One character too many at the start spoils every place behind it.
        (["123"], ["0123"], 0.0),
        (["-12"], ["12"], 0.0),
        # 3 + 0 equal places of 3 + 1.
        (["123", "4"], ["123", "5"], 0.75),
    ],
)
def test_free_token_accuracy(targets, outputs, accuracy):
    assert make_scores(targets, outputs).free_token_accuracy() == accuracy


def draw(task, difficulty, count):
    """Distinct examples as prepared data hold them."""
    rng = random.Random(0)
    drawn = {}
    while len(drawn) < count:
        example = TASKS[task].generate(rng, difficulty)
        drawn[example.program] = example
    columns = zip(*drawn.values(), strict=True)
    return Example(*([text.encode() for text in column] for column in columns))


@pytest.fixture(scope="module")
def model():
    """A network that knows nothing."""
    return make_model()


def make_model():
    return small_network(hidden_dim=32, embedding_dim=16, num_layers=1)


@pytest.mark.parametrize("target_form", TARGET_FORMS)
def test_every_example_keeps_its_place(model, target_form):
    # Random weights answer, too; in other batches, of other neighbours and padding, the same.
    examples = draw("program", Difficulty(3, 2), 20)
    scorer = Scorer(model, "reverse", target_form, max_steps=6, batch_size=7)
    together = scorer.score(examples)
    scorer.batch_size = 1
    alone = scorer.score(examples)
    true_texts = write_all(examples, target_form)
    assert together.targets == [target.decode() for target in examples.target]
    assert (together.outputs, together.written) == (alone.outputs, alone.written)
    if not TARGET_FORMS[target_form].work:
        assert together.outputs == together.written
    np.testing.assert_array_equal(together.num_right, alone.num_right)
    np.testing.assert_array_equal(together.num_tokens, [len(text) + 1 for text in true_texts])
    # An order that was not restored would show; batches are cut by what is longer.
    assert len(set(together.written)) > 1
    for texts in (examples.program, true_texts):
        lengths = list(map(len, texts))
        assert lengths != sorted(lengths)


@pytest.mark.parametrize("target_form", ["answer", "reversed_trace"])
def test_without_a_bound_a_text_is_cut_by_the_longest_true_one_of_its_batch(model, target_form):
    """There, or half as long again where work is written."""
    examples = draw("program", Difficulty(3, 2), 20)
    true_texts = write_all(examples, target_form)
    cut = Scorer(model, "none", target_form, batch_size=10).score(examples)
    # Work is put into batches by its own length, answers by that of their programs.
    longer = true_texts if TARGET_FORMS[target_form].work else examples.program
    order = sorted(range(20), key=lambda i: -len(longer[i]))
    bounds = []
    for batch in (order[:10], order[10:]):
        longest = 1 + max(len(true_texts[i]) for i in batch)
        bounds.append(longest * 3 // 2 if target_form == "reversed_trace" else longest)
        alone = Example(*([column[i] for i in batch] for column in examples))
        bounded = Scorer(model, "none", target_form, max_steps=bounds[-1]).score(alone)
        assert [cut.written[i] for i in batch] == bounded.written
    # One bound for all would show.
    assert bounds[0] != bounds[1]
    unbounded = Scorer(model, "none", target_form, max_steps=max(bounds)).score(examples)
    assert cut.written != unbounded.written


def test_a_subset_is_scored_like_its_members():
    scores = make_scores(
        ["1", "22", "3"],
        ["1", "23", "4"],
        num_right=[2, 1, 0],
        num_tokens=[2, 3, 2],
        written_right=[True, True, False],
        written=["1;1", "9;23", "7;4"],
    )
    subset = scores.subset([2, 0])
    assert (subset.targets, subset.outputs) == (["3", "1"], ["4", "1"])
    assert subset.written == ["7;4", "1;1"]
    assert subset.token_accuracy() == 2 / 4
    assert (subset.exact_match(), subset.written_match()) == (0.5, 0.5)
    assert scores.written_match() == 2 / 3


def test_the_answer_is_judged_and_the_whole_text_beside_it(model, monkeypatch):
    """Of a target form that has work before the answer: each of the two may be right alone."""
    work = TARGET_FORMS["answer"]._replace(
        write=lambda example: f"{example.target[::-1]};{example.target}",
        separator=";",
    )
    monkeypatch.setitem(TARGET_FORMS, "work", work)
    written = ["21;12", "34;43", "9;65", "87;7"]
    targets = ["12", "43", "65", "78"]

    def write(*arguments, **keywords):
        ids = [[*vocabulary.encode(text), vocabulary.EOS, 0][:6] for text in written]
        return np.array(ids, "int32"), None

    monkeypatch.setattr(scoring, "greedy_decode", write)
    programs = [b"print(1)"] * 4
    examples = Example(programs, *[[target.encode() for target in targets]] * 2)
    scores = Scorer(model, "none", "work", max_steps=6).score(examples)
    assert scores.outputs == ["12", "43", "65", "7"]
    assert scores.written == written
    assert scores.exact_match() == 0.75
    assert scores.written_match() == 0.5
    assert scores.num_tokens.tolist() == [6] * 4


def test_a_piece_of_a_number_is_no_answer(model, monkeypatch):
    """Work that does not end is cut at one and a half times the longest true text."""

    def write(*arguments, max_steps, **keywords):
        return tf.constant([[*vocabulary.encode("99;35555"), vocabulary.EOS]])[:, :max_steps], None

    monkeypatch.setattr(scoring, "greedy_decode", write)
    examples = Example([b"print((35))"], [b"35"], [b"1;35"])
    for max_steps, written, output in ((None, "99;3555", ""), (20, "99;35555", "35555")):
        scores = Scorer(model, "none", "trace", max_steps).score(examples)
        assert (scores.written, scores.outputs) == ([written], [output])


BY_HEART = [
    ("program", Difficulty(2, 2), "reverse"),
    pytest.param("addition", Difficulty(2), "none", marks=pytest.mark.slow),
    pytest.param("copy", Difficulty(4), "double", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("task", "difficulty", "input_form"), BY_HEART)
def test_a_handful_of_programs_is_learnt_by_heart(task, difficulty, input_form):
    examples = draw(task, difficulty, 8)
    model = make_model()
    model.compile(
        optimizers.make("adam", 0.01, clip_norm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
        steps_per_execution=50,
    )
    scorer = Scorer(model, input_form, "answer", max_steps=12)
    assert scorer.score(examples).exact_match() == 0
    dataset = pipeline.training_batches(
        pipeline.Stored({difficulty: examples[:2]}),
        {difficulty: (1.0, 1)},
        seed=1,
        input_form=input_form,
        loss_scale="character",
        batch_size=8,
        num_batches=400,
    )
    model.fit(dataset, steps_per_epoch=400, shuffle=False, verbose=0)
    scores = scorer.score(examples)
    assert scores.exact_match() == 1.0
    assert scores.token_accuracy() == 1.0
    assert scores.free_token_accuracy() == 1.0
    assert scores.written_match() == 1.0
    assert scores.outputs == [target.decode() for target in examples.target]
