import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2e.config import Config
from keras_l2e.language import vocabulary
from keras_l2e.networks import MODELS, models, optimizers

ONE = tf.distribute.MirroredStrategy(["CPU:0"])
NUM_TOKENS = 11
# Small enough to clip every step below: the gradient's norm starts at 1.0.
CLIP_NORM = 0.2
RATE = 0.05


def batch():
    """Eight rows; those of the second half, another replica's, have five times as many targets."""
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(1, NUM_TOKENS - 1, size=(2, 8, 10)).astype(np.int32)
    weights = np.ones([8, 10], np.float32)
    weights[:4, 2:] = 0
    return ids, labels, weights / weights.sum()


def batches(num_batches):
    return tf.data.Dataset.from_tensors(batch()).repeat(num_batches)


def make_model(strategy, name, **arguments):
    return compile_model(strategy, lambda: optimizers.make(name, RATE, **arguments))


def compile_model(strategy, make_optimizer):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        ids = keras.Input([None], dtype="int32")
        x = keras.ops.one_hot(ids, NUM_TOKENS)
        x = keras.layers.Dense(6, use_bias=False, name="embedding")(x)
        for i in range(2):
            x = keras.layers.Dense(8 + i, "tanh", name=f"hidden_{i}")(x)
        model = keras.Model(ids, keras.layers.Dense(NUM_TOKENS, name="logits")(x))
        model.compile(
            make_optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")],
        )
    return model


def fit(model, num_steps, epoch=0):
    return model.fit(
        batches(num_steps), initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0
    ).history


def weights(model):
    return [variable.numpy() for variable in model.trainable_variables]


def averages(model):
    found = optimizers.averages(model)
    return [found[id(variable)].numpy() for variable in model.trainable_variables]


def distance(before, after):
    return math.sqrt(
        sum(np.sum(np.square(b - a, dtype="float64")) for a, b in zip(before, after, strict=True))
    )


# Sums in another order, through six steps. Adam and Muon divide by the size of the gradient: where
# that is almost 0, its last bits move a weight by some thousandths of a step.
@pytest.mark.parametrize(("name", "tolerance"), [("sgd", 1e-6), ("adam", 1e-4), ("muon", 1e-4)])
def test_two_replicas_learn_what_one_learns(two_replicas, name, tolerance):
    def train(strategy):
        model = make_model(strategy, name, clip_norm=CLIP_NORM)
        before = weights(model)
        history = fit(model, 6)
        return before, weights(model), history["loss"] + history["token_accuracy"]

    before, one, one_history = train(ONE)
    _, two, two_history = train(two_replicas)
    np.testing.assert_allclose(two_history, one_history, rtol=1e-5)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, atol=tolerance)
    assert distance(before, one) > 0.05


def test_the_loss_and_its_clipped_gradient_are_those_of_the_whole_batch(two_replicas):
    def step(strategy, clip_norm):
        model = make_model(strategy, "sgd", clip_norm=clip_norm)
        before = weights(model)
        with tf.GradientTape() as tape:
            ids, labels, counts = batch()
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(ids))
            loss = tf.reduce_sum(losses * counts)
        gradient = tape.gradient(loss, [v.value for v in model.trainable_variables])
        norm = tf.linalg.global_norm([tf.convert_to_tensor(g) for g in gradient])
        assert fit(model, 1)["loss"][0] == pytest.approx(loss.numpy(), rel=1e-5)
        return norm.numpy(), distance(before, weights(model)) / RATE

    norm, found = step(two_replicas, 0.0)
    assert found == pytest.approx(norm, rel=1e-5)
    assert norm > 2 * CLIP_NORM
    for strategy in (ONE, two_replicas):
        assert step(strategy, CLIP_NORM)[1] == pytest.approx(CLIP_NORM, rel=1e-5)


def test_the_average_is_that_of_the_weights_after_each_step(two_replicas):
    model = make_model(two_replicas, "sgd", average_decay=0.3)
    average, decays = None, []
    for step in range(7):
        fit(model, 1, step)
        now = weights(model)
        # It starts at the first weights, not at 0, and forgets them soon.
        decays.append(min(0.3, step / (step + 9)))
        average = (
            now
            if average is None
            else [decays[-1] * a + (1 - decays[-1]) * b for a, b in zip(average, now, strict=True)]
        )
        for a, b in zip(average, averages(model), strict=True):
            np.testing.assert_allclose(b, a, atol=1e-6)
    assert decays[0] == 0 and decays[-1] == 0.3 and len(set(decays)) > 3
    assert distance(average, now) > 1e-3


def test_weights_of_one_name_have_averages_of_their_own():
    """A model from outside may call layers of encoder and decoder alike."""
    inputs = keras.Input([2])
    encoder, decoder = (
        keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs), name=name)
        for name in ("encoder", "decoder")
    )
    model = keras.Model(inputs, decoder(encoder(inputs)))
    assert len({variable.path for variable in model.variables}) < len(model.variables)
    model.compile(optimizers.make("sgd", 0.1, average_decay=0.5), "mse")
    model.fit(np.ones([4, 2]), np.ones([4, 2]), verbose=0)
    assert len(optimizers.averages(model)) == len(model.variables)


def test_a_variable_without_gradient_is_left_alone():
    keras.utils.set_random_seed(1)
    variables = [keras.Variable(np.ones([2, 3], np.float32)) for _ in range(2)]
    optimizer = optimizers.make("sgd", 0.5, clip_norm=10.0, average_decay=0.9)
    optimizer.apply_gradients([(None, variables[0]), (tf.ones([2, 3]), variables[1])])
    for variable, average, expected in zip(variables, optimizer.averages, [1, 0.5], strict=True):
        np.testing.assert_array_equal(variable, np.full([2, 3], expected))
        np.testing.assert_array_equal(average, np.full([2, 3], expected))


def test_a_token_that_occurs_twice_counts_once_in_the_norm():
    table = keras.Variable(np.zeros([3, 1], np.float32))
    optimizer = optimizers.make("sgd", 1.0, clip_norm=1.0)
    sparse = tf.IndexedSlices(tf.constant([[3.0], [3.0], [8.0]]), tf.constant([0, 0, 2]), [3, 1])
    optimizer.apply_gradients([(sparse, table)])
    np.testing.assert_allclose(table, [[-0.6], [0.0], [-0.8]], rtol=1e-6)


def test_muon_moves_as_keras_muon_does(two_replicas):
    def train(make_optimizer):
        model = compile_model(two_replicas, make_optimizer)
        before = weights(model)
        fit(model, 4)
        return before, weights(model)

    before, ours = train(lambda: optimizers.Muon(0.01))
    settings = {"adam_beta_2": 0.99, "weight_decay": 0, "adam_weight_decay": 0}
    _, stock = train(lambda: keras.optimizers.Muon(0.01, exclude_layers=["logits"], **settings))
    assert distance(before, ours) > 0.1
    assert distance(stock, ours) < 1e-3 * distance(before, ours)


@pytest.mark.parametrize("name", MODELS)
def test_muon_is_for_all_matrices_but_embeddings_and_logits(name):
    sizes = {"hidden_dim": 8, "embedding_dim": 5, "num_heads": 2}
    config = Config(model=name, **sizes, positions="learned", halting=True)
    network = models.build(name, vocabulary.SIZE, config)
    optimizer = optimizers.make("muon", RATE)
    optimizer.build(network.trainable_variables)
    pairs = list(zip(network.trainable_variables, optimizer.adam_velocities, strict=True))
    by_muon = {variable.path for variable, velocity in pairs if velocity is None}
    others = re.compile("bias|logits|embedding|positions|norm|halt")
    assert by_muon == {v.path for v, _ in pairs if not others.search(v.path)}
    assert all(len(v.shape) == 2 for v, _ in pairs if v.path in by_muon) and len(by_muon) >= 4


def test_weights_without_gradient_stand_still():
    # Embeddings of tokens that do not occur; Muon's own defaults let every weight decay.
    model = make_model(ONE, "muon")
    before = model.trainable_variables[0].numpy()
    fit(model, 3)
    moved = np.any(model.trainable_variables[0].numpy() != before, axis=1)
    assert moved.tolist() == [False] + [True] * (NUM_TOKENS - 2) + [False]
