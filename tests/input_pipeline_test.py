import collections
import math

import numpy as np
import pytest
import tensorflow as tf

from keras_l2e.data import pipeline as input_pipeline
from keras_l2e.language import programs, vocabulary
from keras_l2e.language.tasks import TASKS, Difficulty

PAD, BOS, EOS = vocabulary.PAD, vocabulary.BOS, vocabulary.EOS


def constant_source(text):
    return tf.data.Dataset.from_tensors((text, text)).repeat()


def numbered_texts(name, count):
    """Distinct programs of many lengths."""
    return [f"{name}{'+' * (i % 7)}{i}".encode() for i in range(count)]


def numbered_source(name, count, seed=0):
    texts = tf.constant(numbered_texts(name, count), tf.string, [count])
    examples = tf.data.Dataset.from_tensor_slices((texts, texts))
    return examples.shuffle(max(1, count), seed, reshuffle_each_iteration=False).repeat()


def batches(sources, weights, **changes):
    arguments = {
        "seed": 1,
        "input_form": "none",
        "loss_scale": "character",
        "batch_size": 4,
        "num_batches": 5,
        "look_up": lambda texts: texts,  # The sources of most tests give texts at once.
    }
    return input_pipeline.training_batches(sources, weights, **arguments | changes)


def texts_of(dataset):
    """The programs in a dataset of batches, batch by batch."""
    return [
        [
            vocabulary.decode(row[: row.index(EOS)])
            for row in inputs["encoder_token_ids"].numpy().tolist()
        ]
        for inputs, _, _ in dataset
    ]


def generated(task, difficulty, seed=1, count=1, keep=None):
    """So many freshly drawn pairs of program and target."""
    fresh = input_pipeline.Generated(task)
    source = fresh.source(difficulty, seed, keep)
    (numbers,) = source.batch(count).take(1)
    columns = [[text.decode() for text in column.numpy()] for column in fresh.look_up(numbers)]
    return list(zip(*columns, strict=True))


def as_lists(dataset):
    return [tf.nest.map_structure(lambda x: x.numpy().tolist(), batch) for batch in dataset]


@pytest.mark.parametrize(
    "weights", [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.55, 0.45, 0.0], [0.0, 0.02, 0.98]]
)
def test_the_weights_are_the_shares_that_come_out(weights):
    num_batches, batch_size = 50, 400
    sources = [constant_source(text) for text in "abc"]
    drawn = texts_of(batches(sources, weights, batch_size=batch_size, num_batches=num_batches))
    counts = collections.Counter(text for batch in drawn for text in batch)
    n = num_batches * batch_size
    assert counts.total() == n
    for text, share in zip("abc", weights, strict=True):
        # 4 sigma of a binomial; exactly none, or all, where the share is 0 or 1.
        assert abs(counts[text] - n * share) <= 4 * math.sqrt(n * share * (1 - share))


def test_sources_without_weight_stay_in_the_graph():
    sources = [constant_source(text) for text in "abc"]

    def num_inputs(weights):
        return len(input_pipeline.mixture(sources, weights, seed=1)._inputs())

    assert num_inputs([1.0, 0.0, 0.0]) == num_inputs([0.2, 0.3, 0.5]) == 1 + len(sources)


def test_the_share_of_an_empty_source_goes_to_the_others():
    sources = [numbered_source("a", 0), constant_source("b"), constant_source("c")]
    drawn = texts_of(batches(sources, [0.5, 0.5, 0.0], num_batches=9))
    assert drawn == [["b"] * 4] * 9
    with pytest.raises(ValueError, match="no examples"):
        batches(sources, [1.0, 0.0, 0.0])


@pytest.mark.parametrize("task", TASKS)
def test_even_the_easiest_difficulty_has_texts_to_train_on(task):
    # Copy of length 1 has ten texts in all; a source of none of them would never give an element.
    assert len(generated(task, Difficulty(1), count=3)) == 3


@pytest.mark.parametrize("num_batches", [1, 5, 32, 70])
def test_every_batch_is_full(num_batches):
    dataset = batches([numbered_source("a", 50)], [1.0], num_batches=num_batches)
    # Else `fit` would set up an iterator more at its end.
    assert dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    found = list(dataset)
    assert len(found) == num_batches
    for inputs, labels, weights in found:
        assert inputs["encoder_token_ids"].shape[0] == 4
        assert inputs["decoder_token_ids"].shape == labels.shape == weights.shape


def test_epochs_look_alike_to_fit():
    # Another spec would make `fit` trace its step again.
    sources = [numbered_source("a", 50), numbered_source("b", 50)]
    ids = tf.TensorSpec([4, None], tf.int32)
    expected = (
        {"encoder_token_ids": ids, "decoder_token_ids": ids},
        ids,
        tf.TensorSpec([4, None], tf.float32),
    )
    fresh = input_pipeline.Generated("addition")
    fresh_sources = [fresh.source(Difficulty(1), seed=1)] * 2
    assert batches(sources, [1.0, 0.0]).element_spec == expected
    assert batches(sources, [0.5, 0.5], num_batches=70).element_spec == expected
    doubled = batches(fresh_sources, [0.0, 1.0], input_form="double", look_up=fresh.look_up)
    assert doubled.element_spec == expected


@pytest.mark.parametrize("num_batches", [3, 32, 70])
def test_every_drawn_example_comes_once(num_batches):
    # As many examples as the epoch draws: none twice, none left behind in a window.
    count = 4 * num_batches
    dataset = batches([numbered_source("a", count)], [1.0], num_batches=num_batches)
    drawn = [text for batch in texts_of(dataset) for text in batch]
    assert len(drawn) == len(set(drawn)) == count


def test_a_batch_holds_similar_lengths_and_batches_come_in_no_order():
    dataset = batches([numbered_source("a", 320)], [1.0], batch_size=10, num_batches=32)
    lengths = [[len(text) for text in batch] for batch in texts_of(dataset)]
    assert max(max(batch) - min(batch) for batch in lengths) <= 1
    longest = [max(batch) for batch in lengths]
    assert longest != sorted(longest)


def test_a_window_of_one_batch_holds_all_lengths():
    texts = [b"1" * n for n in (1, 9) * 200]
    source = tf.data.Dataset.from_tensor_slices((texts, texts)).repeat()
    drawn = texts_of(batches([source], [1.0], batch_size=10, num_batches=40, window=1))
    for batch in drawn:
        assert collections.Counter(map(len, batch)) == {1: 5, 9: 5}
    # The same examples as in other windows.
    wider = texts_of(batches([source], [1.0], batch_size=10, num_batches=40))
    assert sorted(t for batch in drawn for t in batch) == sorted(t for b in wider for t in b)


def test_windows_are_put_in_different_orders():
    # Two windows of the same 32 texts.
    texts = [b"1" * n for n in range(1, 33)]
    source = tf.data.Dataset.from_tensor_slices((texts, texts)).repeat()
    drawn = texts_of(batches([source], [1.0], batch_size=1, num_batches=64))
    assert sorted(drawn[:32]) == sorted(drawn[32:])
    assert drawn[:32] != drawn[32:]


def test_batches_depend_on_the_seed_and_nothing_else():
    def epoch(seed):
        sources = [numbered_source("a", 40, seed=seed), numbered_source("b", 40, seed=seed)]
        return as_lists(batches(sources, [0.5, 0.5], seed=seed, num_batches=40))

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)


def test_seeds_come_from_names():
    names = ("addition", Difficulty(3), "train", 1)
    assert input_pipeline.seed_of(*names, 0) == input_pipeline.seed_of(*names, 0)
    seeds = {input_pipeline.seed_of(*names, epoch) for epoch in range(1000)}
    # 31 bits: a thousand draws collide with a probability of 1000**2 / 2**32, one in 4000.
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


def stored_texts():
    texts = {name: numbered_texts(name, 20) for name in "ab"}
    return input_pipeline.Stored({name: (texts[name], texts[name][::-1]) for name in "ab"}), texts


def test_a_stored_difficulty_gives_every_example_in_an_order_of_its_seed():
    stored, texts = stored_texts()

    def first(seed, count):
        rows = list(stored.source("b", seed).take(count).as_numpy_iterator())
        return [program for program in stored.look_up(rows)[0].numpy()]

    once = first(seed=1, count=20)
    assert sorted(once) == sorted(texts["b"])
    assert first(seed=1, count=60) == 3 * once
    assert first(seed=2, count=20) != once
    assert sorted(first(seed=2, count=20)) == sorted(once)


def test_stored_examples_are_kept_as_asked():
    stored, texts = stored_texts()
    wanted = {text.decode() for text in texts["b"][::5]}
    rows = list(stored.source("b", seed=1, keep=wanted.__contains__).take(8).as_numpy_iterator())
    assert sorted(stored.look_up(rows[:4])[0].numpy()) == sorted(texts["b"][::5])
    assert rows[:4] == rows[4:]


def test_stored_programs_keep_their_targets():
    stored, texts = stored_texts()
    sources = [stored.source(name, seed=3) for name in "ab"]
    drawn = list(batches(sources, [0.5, 0.5], num_batches=20, look_up=stored.look_up))
    target_of = {
        text.decode(): target.decode()
        for name in "ab"
        for text, target in zip(texts[name], texts[name][::-1], strict=True)
    }
    written = [
        vocabulary.decode(row[: row.index(EOS)])
        for _, labels, _ in drawn
        for row in labels.numpy().tolist()
    ]
    read = [text for batch in texts_of(drawn) for text in batch]
    assert written == [target_of[text] for text in read]
    assert {text[0] for text in read} == {"a", "b"}


def test_a_generated_source_keeps_what_is_asked_for():
    def drawn(keep=None):
        return [program for program, _ in generated("copy", Difficulty(3), count=50, keep=keep)]

    kept = drawn(lambda program: "7" in program)
    assert kept[:10] == [program for program in drawn() if "7" in program][:10]
    assert all("7" in program for program in kept)


@pytest.mark.parametrize(
    ("task", "difficulty"),
    [("program", Difficulty(4, 2)), ("addition", Difficulty(3)), ("copy", Difficulty(1))],
)
def test_a_generated_source_draws_training_examples_only(task, difficulty):
    def drawn(seed):
        return generated(task, difficulty, seed, count=700)

    examples = drawn(seed=1)
    assert len(examples) == 700  # More than the draws of one seed.
    if task == "program":  # The class is so large that hardly any comes twice.
        assert len(set(examples)) > 600
    assert {programs.split_of(program) for program, _ in examples} == {"train"}
    assert all(TASKS[task].answer(program) == target for program, target in examples)
    assert examples == drawn(seed=1)
    assert examples != drawn(seed=2)


def test_replicas_share_what_is_drawn():
    seen = []

    def keep(program):
        seen.append(program)
        return True

    fresh = input_pipeline.Generated("copy")
    other = fresh.source(Difficulty(4), seed=2)
    first, second = (fresh.source(Difficulty(5), seed=1, keep=keep) for _ in range(2))
    numbers = [list(source.take(20).as_numpy_iterator()) for source in (first, second)]
    drawn = [fresh.look_up(rows)[0].numpy().tolist() for rows in numbers]
    assert drawn[0] == drawn[1] == [program.encode() for program in seen]
    (row,) = other.take(1).as_numpy_iterator()
    (program,), _ = fresh.look_up([row])
    assert len(program.numpy()) == 4


# The ids of `1+23`: CHARACTERS holds + at 6 (counted from 1) and the digits from 8 on.
ONE, PLUS, TWO, THREE = 9, 6, 10, 11


@pytest.mark.parametrize(
    ("input_form", "ids"),
    [
        ("none", [ONE, PLUS, TWO, THREE, EOS]),
        ("reverse", [THREE, TWO, PLUS, ONE, EOS]),
        ("double", [ONE, PLUS, TWO, THREE, EOS, ONE, PLUS, TWO, THREE, EOS]),
        ("reverse_double", [THREE, TWO, PLUS, ONE, EOS, THREE, TWO, PLUS, ONE, EOS]),
    ],
)
def test_input_forms(input_form, ids):
    found = input_pipeline.encode_programs(tf.constant(["1+23", "1", ""]), input_form)
    repeats = 2 if input_form.endswith("double") else 1
    assert found.dtype == tf.int32
    assert found.numpy().tolist() == [
        ids,
        [ONE, EOS] * repeats + [PAD] * (3 * repeats),
        [EOS] * repeats + [PAD] * (4 * repeats),
    ]


def test_the_example_of_the_module():
    inputs, labels, weights = input_pipeline.encode_examples(
        tf.constant(["print(1+2)"]), tf.constant(["3"]), "none", "character"
    )
    found = {**inputs, "labels": labels, "weights": weights}
    for name, value in found.items():
        (line,) = [x for x in input_pipeline.__doc__.splitlines() if x.strip().startswith(name)]
        assert str(value.numpy().tolist()) in line


@pytest.mark.parametrize("loss_scale", ["character", "example"])
def test_targets_shift_and_weights(loss_scale):
    # Targets of 1 and 3 characters: with EOS 2 and 4 positions.
    inputs, labels, weights = input_pipeline.encode_examples(
        tf.constant(["1", "2"]), tf.constant(["1", "123"]), "none", loss_scale
    )
    assert labels.numpy().tolist() == [[ONE, EOS, PAD, PAD], [ONE, TWO, THREE, EOS]]
    assert inputs["decoder_token_ids"].numpy().tolist() == [
        [BOS, ONE, EOS, PAD],
        [BOS, ONE, TWO, THREE],
    ]
    # Mean over 6 characters; or sum over time and mean over 2 examples.
    weight = np.float32(1 / 6 if loss_scale == "character" else 1 / 2)
    assert weights.numpy().tolist() == [[weight, weight, 0, 0], [weight] * 4]


def test_padding_is_small():
    # Real programs at (4, 2): 20 to 80 characters, so unsorted batches would be half padding.
    fresh = input_pipeline.Generated("program")
    source = fresh.source(Difficulty(4, 2), seed=1)
    dataset = batches([source], [1.0], batch_size=64, num_batches=32, look_up=fresh.look_up)
    ids = [inputs["encoder_token_ids"].numpy() for inputs, _, _ in dataset]
    padding = sum(np.sum(batch == PAD) for batch in ids) / sum(batch.size for batch in ids)
    assert padding < 0.05


def test_an_epoch_read_twice_is_the_same_epoch():
    dataset = batches([numbered_source("a", 40), numbered_source("b", 40)], [0.5, 0.5])
    assert as_lists(dataset) == as_lists(dataset)


def test_replicas_share_each_batch_in_order():
    dataset = tf.data.Dataset.range(12).batch(6).map(lambda x: ({"ids": x}, x + 100))
    shares = [
        [(inputs["ids"].numpy().tolist(), labels.numpy().tolist()) for inputs, labels in share]
        for share in (input_pipeline.share_of_replica(dataset, i, 2) for i in range(2))
    ]
    assert shares == [
        [([0, 1, 2], [100, 101, 102]), ([6, 7, 8], [106, 107, 108])],
        [([3, 4, 5], [103, 104, 105]), ([9, 10, 11], [109, 110, 111])],
    ]
