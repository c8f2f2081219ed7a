"""A task, a target form, a model and a teacher from outside the package: a few lines each."""

import random
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_l2e
from keras_l2e import config as configs
from keras_l2e import devices
from keras_l2e.language import vocabulary
from keras_l2e.language.forms import TARGET_FORMS, TargetForm
from keras_l2e.language.programs import Example, Longest
from keras_l2e.language.tasks import TASKS, Difficulty, Task
from keras_l2e.language.traces import Step
from keras_l2e.networks import MODELS, models
from keras_l2e.networks.decoding import greedy_decode
from keras_l2e.teaching.teacher import Score, Teacher
from keras_l2e.teaching.teachers import TEACHERS
from keras_l2e.training import session
from keras_l2e.training.run import Run


def draw_mirrored(rng, difficulty):
    digits = "".join(rng.choices("0123456789", k=difficulty.length))
    return Example(digits, digits[::-1], digits)


MIRROR = Task(
    draw_mirrored,
    answer=lambda text: text[::-1],
    longest=lambda difficulty: Longest(*[difficulty.length] * 3),
    steps=lambda text: [Step(text, "digits")],
    difficulty_of=lambda text: Difficulty(len(text)) if text.isdecimal() else None,
    max_length=9,
    kind="first_digit",
    kinds_of=lambda text, difficulty: [text[0]],
)

# What stands behind the + is the answer.
WORK_FIRST = TargetForm(
    write=lambda example: f"{example.trace}+{example.target}",
    longest=lambda longest: 2 * longest.target + 1,
    separator="+",
    work=lambda written: written.partition("+")[0],
)


class Past(keras.layers.Layer):
    """At each place the mean of all so far; and all of it, for the places to come."""

    def call(self, past, x):
        everything = keras.ops.concatenate([past, x], axis=1)
        counts = keras.ops.arange(1, keras.ops.shape(everything)[1] + 1, dtype="float32")
        means = keras.ops.cumsum(everything, axis=1) / counts[:, None]
        return means[:, keras.ops.shape(past)[1] :], everything


def memory(vocabulary_size, embedding_dim):
    """Its state grows by every step; one table is never trained, and dropout counts its draws."""
    size = vocabulary_size, embedding_dim
    reading = keras.layers.Embedding(*size, mask_zero=True, trainable=False, name="reading")
    ids = keras.Input([None], dtype="int32")
    past = keras.layers.GlobalAveragePooling1D(keepdims=True)(reading(ids))
    encoder = keras.Model(ids, past, name="encoder")
    ids, past = keras.Input([None], dtype="int32"), keras.Input([None, embedding_dim])
    x = keras.layers.Dropout(0.1)(keras.layers.Embedding(*size, name="writing")(ids))
    means, everything = Past()(past, x)
    found = keras.layers.Concatenate()([means, x])
    logits = keras.layers.Dense(vocabulary_size, name="logits")(found)
    return encoder, keras.Model([ids, past], [logits, everything], name="decoder")


def dice(seed):
    """Throws dice for the next level, and remembers what it has seen."""

    def update(state, scores):
        rng = random.Random(state["seed"])
        seen = [*state["seen"], scores[state["level"]].exact_match]
        level = rng.randrange(state["num_levels"])
        return {**state, "level": level, "seed": rng.getrandbits(31), "seen": seen}

    return Teacher(
        start=lambda levels: {"num_levels": len(levels), "level": 0, "seed": seed, "seen": []},
        weights=lambda state: [float(i == state["level"]) for i in range(state["num_levels"])],
        update=update,
    )


@pytest.fixture(scope="module")
def toys():
    """A line for each of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "mirror", MIRROR)
        patch.setitem(TARGET_FORMS, "work_first", WORK_FIRST)
        patch.setitem(MODELS, "memory", memory)
        patch.setitem(TEACHERS, "dice", dice)
        yield {
            "task": "mirror",
            "target_form": "work_first",
            "model": "memory",
            "strategy": "dice",
        }


def live(config, folder):
    """A run from its first epoch to its export; another one that is stopped and goes on."""
    session.train(config, folder / "run")
    config = configs.read(folder / "run")
    checkpoints = sorted((folder / "run/checkpoints").iterdir())
    (folder / "stopped/checkpoints").mkdir(parents=True)
    for path in checkpoints[:-1]:
        shutil.copy(path, folder / "stopped/checkpoints")
    keras.utils.set_random_seed(99)
    resumed = Run(config, folder / "stopped", devices.start(config.num_replicas))
    assert resumed.epoch == config.num_epochs - 1
    resumed.train()
    with (
        np.load(checkpoints[-1]) as expected,
        np.load(folder / "stopped/checkpoints" / checkpoints[-1].name) as found,
    ):
        assert found.files == expected.files
        for name in found.files:
            assert found[name].tobytes() == expected[name].tobytes(), name
    return SimpleNamespace(resumed=resumed, trained=keras_l2e.load(folder / "run"), folder=folder)


@pytest.fixture(scope="module")
def lived(toys, make_config, tmp_path_factory):
    """A run of all four toys at once, of stored examples."""
    folder = tmp_path_factory.mktemp("toys")
    # Its data are missing: the run prepares them.
    config = make_config(**toys, num_replicas=1, num_epochs=3, seed=5, data_dir=folder / "data")
    return live(config, folder)


@pytest.mark.slow
@pytest.mark.parametrize("toy", ["task", "target_form", "model", "strategy"])
def test_each_toy_gets_on_with_the_package_s_own_parts(toys, make_config, tmp_path, toy):
    """Also on two replicas, with examples that are drawn afresh, and by Adam."""
    changes = {"train_source": "generated", "optimizer": "adam", "num_epochs": 2}
    live(make_config(**{toy: toys[toy]}, **changes), tmp_path)


def test_a_task(lived):
    evaluation = lived.trained.evaluation
    assert [row["length"] for row in evaluation["rows"]] == [1, 2]
    kinds = [kind["first_digit"] for kind in evaluation["by_first_digit"] if kind["length"] == 2]
    assert kinds == sorted(set(kinds)) and set(kinds) <= set("0123456789")
    assert [row["length"] for row in evaluation["beyond_training"]] == [3, 4]
    for sample in evaluation["samples"]:
        assert sample["target"] == sample["program"][::-1]
        assert lived.trained.execute(sample["program"]).true_output == sample["target"]


def test_a_target_form(lived):
    trained = lived.trained
    for row in trained.evaluation["rows"]:
        assert 0 <= row["written_match"] <= row["exact_match"] <= 1
    # The evaluation cuts what is longer than one and a half times the longest true text, two times
    # the length and a +; these are shorter than that text.
    samples = [
        sample
        for sample in trained.evaluation["samples"]
        if sample["correct"]
        or 0 < len(sample["output"]) < 2 * sample["length"] - len(sample["work"])
    ]
    assert samples
    exported = keras_l2e.load(lived.folder / "run/saved_model")
    for network in (trained, exported):
        for sample, answer in zip(
            samples, network.execute([sample["program"] for sample in samples]), strict=True
        ):
            assert answer.output == sample["output"]
            assert answer.work == sample["work"]
            assert answer.right == sample["correct"]


def test_a_model(lived):
    model = lived.trained.model
    assert model.arguments == {"vocabulary_size": vocabulary.SIZE, "embedding_dim": 8}
    # Step by step, each from the state that the last one left, it thinks what it thinks at once.
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    state = encoder(tf.constant([[9, 10, vocabulary.EOS], [11, vocabulary.EOS, 0]]))
    settings = {"bos": vocabulary.BOS, "eos": vocabulary.EOS}
    ids, logits = greedy_decode(decoder, state, max_steps=6, **settings)
    assert ids.shape[1] > 1
    begun = tf.concat([tf.fill([2, 1], vocabulary.BOS), ids[:, :-1]], axis=1)
    expected, past = decoder([begun, state])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert past.shape[1] == 1 + ids.shape[1]
    # What is not trained is kept: the table, which is drawn at random,
    table = encoder.get_layer("reading").get_weights()
    drawn = models.build("memory", vocabulary.SIZE, lived.trained.config).get_layer("encoder")
    assert (drawn.get_layer("reading").get_weights()[0] != table[0]).any()
    np.testing.assert_array_equal(lived.resumed.averaged.get_weights()[0], table[0])
    # and the count of dropout's draws, which goes on from epoch to epoch.
    counts = []
    for path in sorted((lived.folder / "run/checkpoints").iterdir()):
        with np.load(path) as archive:
            (name,) = (name for name in archive.files if "seed_generator_state" in name)
            counts.append(archive[name].tolist())
    assert len(counts) == 2 and counts[0] != counts[1]


def test_a_teacher(lived):
    teacher, scores = dice(seed=5), {level: Score(0.0, 0.0) for level in (0, 1)}
    state, expected = teacher.start([Difficulty(1), Difficulty(2)]), []
    for _ in range(3):
        expected.append(1 + state["level"])
        state = teacher.update(state, scores)
    history = lived.resumed.history
    assert history == lived.trained.history
    assert [line["difficulty"]["length"] for line in history] == expected
    assert len(set(expected)) == 2
    assert lived.resumed.state["seed"] == state["seed"]
    assert len(lived.resumed.state["seen"]) == 3
