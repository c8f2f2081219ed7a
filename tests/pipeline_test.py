import math

import numpy as np
import pytest
import tensorflow as tf

from keras_l2e.data import pipeline
from keras_l2e.language import programs, vocabulary
from keras_l2e.language.forms import TARGET_FORMS
from keras_l2e.language.tasks import TASKS, Difficulty

PAD, BOS, EOS = vocabulary.PAD, vocabulary.BOS, vocabulary.EOS
A, B, C = Difficulty(1), Difficulty(2), Difficulty(3)


def numbered_texts(name, count):
    """Distinct programs of many lengths."""
    return [f"{name}{'+' * (i % 7)}{i}".encode() for i in range(count)]


def table(**counts):
    """Stored examples: for each of the difficulties A, B and C its name and number of texts.

    What is written is the texts of the difficulty backwards.
    """
    texts = {name: numbered_texts(name, count) for name, count in counts.items()}
    columns = {d: (found, found[::-1]) for d, found in zip((A, B, C), texts.values(), strict=False)}
    return pipeline.Stored(columns), texts


def batches(examples, weights, source_seed=0, **changes):
    """The batches of an epoch; the weights are of the difficulties A, B, C."""
    arguments = {
        "seed": 1,
        "input_form": "none",
        "loss_scale": "character",
        "batch_size": 4,
        "num_batches": 5,
    }
    shares = {d: (weight, source_seed) for d, weight in zip((A, B, C), weights, strict=False)}
    return pipeline.training_batches(examples, shares, **arguments | changes)


def texts_in(ids):
    return [vocabulary.decode(row[: row.index(EOS)]) for row in ids.numpy().tolist()]


def programs_of(dataset):
    """The programs in a dataset of batches, batch by batch."""
    return [texts_in(inputs["encoder_token_ids"]) for inputs, _, _ in dataset]


def as_lists(dataset):
    return [tf.nest.map_structure(lambda x: x.numpy().tolist(), batch) for batch in dataset]


# The mixture


@pytest.mark.parametrize("weights", [[0.55, 0.45, 0.0], [0.0, 0.02, 0.98]])
def test_the_weights_are_the_shares_that_come_out(weights):
    n = 10_000
    sources = [tf.data.Dataset.from_tensors(i).repeat() for i in range(3)]
    (drawn,) = pipeline.mixture(sources, weights, seed=1).batch(n).take(1)
    for count, share in zip(np.bincount(drawn, minlength=3), weights, strict=True):
        # 4 sigma of a binomial; exactly none, or all, where the share is 0 or 1.
        assert abs(count - n * share) <= 4 * math.sqrt(n * share * (1 - share))


def test_sources_without_weight_stay_in_the_graph():
    stored, _ = table(a=1, b=1, c=1)
    sources = [stored.numbers(d, 0) for d in (A, B, C)]
    for weights in ([1.0, 0.0, 0.0], [0.2, 0.3, 0.5]):
        assert len(pipeline.mixture(sources, weights, seed=1)._inputs()) == 1 + len(sources)


# Windows and batches


@pytest.mark.parametrize("num_batches", [1, 5, 32, 70])
def test_every_batch_is_full_and_every_drawn_example_comes_once(num_batches):
    # As many examples as the epoch draws: none twice, none left behind in a window.
    stored, texts = table(a=4 * num_batches)
    dataset = batches(stored, [1.0], num_batches=num_batches)
    # Else `fit` would set up an iterator more at its end.
    assert dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    found = programs_of(dataset)
    assert [len(batch) for batch in found] == [4] * num_batches
    drawn = [text.encode() for batch in found for text in batch]
    assert sorted(drawn) == sorted(texts["a"])


@pytest.mark.parametrize("shows_work", [False, True])
def test_a_batch_holds_similar_lengths_and_batches_come_in_no_order(shows_work):
    stored, _ = table(a=320)
    dataset = batches(stored, [1.0], batch_size=10, num_batches=32, shows_work=shows_work)
    found = [(texts_in(inputs["encoder_token_ids"]), texts_in(y)) for inputs, y, _ in dataset]
    read, written = (
        [list(map(len, batch)) for batch in column] for column in zip(*found, strict=True)
    )
    lengths, others = (written, read) if shows_work else (read, written)
    assert max(max(batch) - min(batch) for batch in lengths) <= 1
    assert max(max(batch) - min(batch) for batch in others) > 1
    longest = [max(batch) for batch in lengths]
    assert longest != sorted(longest)


def test_windows_are_put_in_different_orders():
    # Two windows of the same 32 texts, one a batch.
    texts = [b"1" * n for n in range(1, 33)]
    found = programs_of(
        batches(pipeline.Stored({A: (texts, texts)}), [1.0], batch_size=1, num_batches=64)
    )
    assert sorted(found[:32]) == sorted(found[32:])
    assert found[:32] != found[32:]


def test_padding_is_small():
    # Programs of 8 to 40 characters: 45% of unsorted batches would be padding.
    fresh = pipeline.Generated("program", "answer")
    dataset = batches(fresh, [0.0, 0.0, 1.0], batch_size=64, num_batches=32)
    ids = np.concatenate([inputs["encoder_token_ids"].numpy().ravel() for inputs, _, _ in dataset])
    assert np.mean(ids == PAD) < 0.05


def test_batches_depend_on_the_seeds_and_nothing_else():
    def epoch(seed, source_seed):
        stored, _ = table(a=40, b=40)
        return batches(stored, [0.5, 0.5], source_seed, seed=seed)

    dataset = epoch(1, 1)
    found = as_lists(dataset)
    assert found == as_lists(dataset) == as_lists(epoch(1, 1))
    assert found != as_lists(epoch(2, 1))
    assert found != as_lists(epoch(1, 2))


def test_epochs_look_alike_to_fit():
    # Another spec would make `fit` trace its step again.
    ids = tf.TensorSpec([4, None], tf.int32)
    expected = (
        {"encoder_token_ids": ids, "decoder_token_ids": ids},
        ids,
        tf.TensorSpec([4, None], tf.float32),
    )
    stored, _ = table(a=50, b=50)
    fresh = pipeline.Generated("addition", "answer")
    for dataset in (
        batches(stored, [1.0, 0.0]),
        batches(stored, [0.5, 0.5], num_batches=70),
        batches(fresh, [0.0, 1.0], input_form="double"),
    ):
        assert dataset.element_spec == expected


# Where examples come from


def take(examples, difficulty, seed, count):
    """So many pairs of program and written text."""
    (numbers,) = examples.numbers(difficulty, seed).batch(count).take(1)
    columns = [[text.decode() for text in column.numpy()] for column in examples.texts(numbers)]
    return list(zip(*columns, strict=True))


def test_stored_examples_come_each_once_in_an_order_of_the_seed():
    stored, texts = table(a=20, b=20)
    once = take(stored, B, seed=1, count=20)
    pairs = zip(texts["b"], texts["b"][::-1], strict=True)
    assert sorted(once) == sorted((a.decode(), b.decode()) for a, b in pairs)
    assert take(stored, B, seed=1, count=60) == 3 * once
    assert take(stored, B, seed=2, count=20) != once


@pytest.mark.parametrize(
    ("task", "difficulty", "form"),
    [
        *(("program", Difficulty(4, 2), form) for form in TARGET_FORMS),
        ("addition", Difficulty(3), "answer"),
        ("copy", Difficulty(1), "answer"),
    ],
)
def test_generated_examples_are_of_the_train_split(task, difficulty, form):
    def drawn(seed):
        # More than the draws of one seed; copy of length 1 has ten texts in all.
        return take(pipeline.Generated(task, form), difficulty, seed, count=700)

    examples = drawn(seed=1)
    if task == "program":  # The class is so large that hardly any comes twice.
        assert len(set(examples)) > 600
    assert {programs.split_of(program) for program, _ in examples} == {"train"}
    for program, written in examples:
        assert TARGET_FORMS[form].answer(written) == TASKS[task].answer(program)
    assert examples == drawn(seed=1)
    assert examples != drawn(seed=2)


def test_kinds_are_drawn_by_their_weights():
    difficulty = Difficulty(3, 2)
    kinds = {difficulty: {"pair": 0.2, "smallmul": 0.6, "ifstat": 0.0}}
    fresh = pipeline.Generated("program", "answer", kinds)
    found = [programs.count_operations(x, 2) for x, _ in take(fresh, difficulty, 1, 800)]
    assert all(counts["pair"] or counts["smallmul"] for counts in found)
    # A quarter are pairs, beside which a sixth are products.
    products = sum(counts["smallmul"] > 0 for counts in found)
    assert abs(products - 800 * (3 / 4 + 1 / 4 / 6)) < 4 * math.sqrt(800 * 0.8 * 0.2)
    # Where "" has a weight, so many come as they come: eleven of 36 have a conditional.
    mixed = pipeline.Generated("program", "answer", {difficulty: {"": 0.5, "ifstat": 0.5}})
    found = [programs.count_operations(x, 2) for x, _ in take(mixed, difficulty, 1, 800)]
    share = 1 / 2 + 1 / 2 * 11 / 36
    conditionals = sum(counts["ifstat"] > 0 for counts in found)
    assert abs(conditionals - 800 * share) < 4 * math.sqrt(800 * share * (1 - share))
    # Where it has all of the weight, and of other difficulties, all do.
    anything = pipeline.Generated("program", "answer", {difficulty: {"": 1.0}})
    without = pipeline.Generated("program", "answer")
    for level in (difficulty, Difficulty(2, 2)):
        assert take(anything, level, 1, 50) == take(without, level, 1, 50)
    assert take(fresh, Difficulty(2, 2), 1, 50) == take(without, Difficulty(2, 2), 1, 50)


# From texts to ids


def test_the_example_of_the_module():
    inputs, labels, weights = pipeline.encode_examples(
        tf.constant(["print(1+2)"]), tf.constant(["3"]), "none", "character"
    )
    for name, value in {**inputs, "labels": labels, "weights": weights}.items():
        (line,) = [x for x in pipeline.__doc__.splitlines() if x.strip().startswith(name)]
        assert str(value.numpy().tolist()) in line


# The ids of 1, 2, 3 and +: CHARACTERS holds + at 6, counted from 1, and the digits from 8 on.
ONE, PLUS, TWO, THREE = 9, 6, 10, 11


@pytest.mark.parametrize("loss_scale", ["character", "example"])
def test_targets_shift_and_weights(loss_scale):
    # Targets of 1 and 3 characters: with EOS 2 and 4 positions.
    inputs, labels, weights = pipeline.encode_examples(
        tf.constant(["1+23", "2"]), tf.constant(["1", "123"]), "reverse", loss_scale
    )
    assert inputs["encoder_token_ids"].numpy().tolist() == [
        [THREE, TWO, PLUS, ONE, EOS],
        [TWO, EOS, PAD, PAD, PAD],
    ]
    assert labels.numpy().tolist() == [[ONE, EOS, PAD, PAD], [ONE, TWO, THREE, EOS]]
    assert inputs["decoder_token_ids"].numpy().tolist() == [
        [BOS, ONE, EOS, PAD],
        [BOS, ONE, TWO, THREE],
    ]
    # Mean over 6 characters; or sum over time and mean over 2 examples.
    weight = np.float32(1 / 6 if loss_scale == "character" else 1 / 2)
    assert weights.numpy().tolist() == [[weight, weight, 0, 0], [weight] * 4]


# Replicas


def test_replicas_share_each_batch_in_order():
    dataset = tf.data.Dataset.range(12).batch(6).map(lambda x: ({"ids": x}, x + 100))
    shares = [as_lists(pipeline.share_of_replica(dataset, i, 2)) for i in range(2)]
    assert shares == [
        [({"ids": [0, 1, 2]}, [100, 101, 102]), ({"ids": [6, 7, 8]}, [106, 107, 108])],
        [({"ids": [3, 4, 5]}, [103, 104, 105]), ({"ids": [9, 10, 11]}, [109, 110, 111])],
    ]
    turns = as_lists(pipeline.in_turns(dataset, 2))
    assert turns == [batch for both in zip(*shares, strict=True) for batch in both]


@pytest.mark.parametrize(
    "examples", [table(a=50, b=50)[0], pipeline.Generated("copy", "answer")], ids=type
)
def test_two_replicas_see_together_what_one_sees(examples, two_replicas):
    """Of all else that makes them equal, see optimizers_test."""

    def make_batches():
        return batches(examples, [0.5, 0.5])

    alone = as_lists(make_batches())
    shares = pipeline.distribute(make_batches, two_replicas)
    halves = two_replicas.experimental_local_results
    together = [
        tf.nest.map_structure(lambda x: np.concatenate(halves(x)).tolist(), batch)
        for batch in shares
    ]
    assert together == alone
