import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2e import config as run_flags
from keras_l2e.data import pipeline as input_pipeline
from keras_l2e.language import vocabulary
from keras_l2e.networks import models, optimizers

ONE = tf.distribute.MirroredStrategy(["CPU:0"])
BATCH_SIZE = 8
# Small enough to clip every step below: the gradient's norm starts at 0.66.
CLIP_NORM = 0.2


def batches(num_batches, batch_size=BATCH_SIZE):
    """Batches whose first half has targets of one character, the second half of nine."""
    short = [(f"print({i})", str(i)) for i in range(4)]
    long = [(f"print({10**8 + i}+1)", str(10**8 + i + 1)) for i in range(4)]
    programs, targets = zip(*(short + long), strict=True)
    batch = input_pipeline.encode_examples(
        tf.constant(programs[:batch_size]), tf.constant(targets[:batch_size]), "none", "character"
    )
    return tf.data.Dataset.from_tensors(batch).repeat(num_batches)


def make_model(strategy, name, **arguments):
    return compile_model(strategy, lambda: optimizers.OPTIMIZERS[name](0.05, **arguments))


def compile_model(strategy, make_optimizer):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = models.lstm(vocabulary.SIZE, 8, 1)
        optimizer = make_optimizer()
        optimizer.build(model.trainable_variables)
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")],
        )
    return model


def fit(model, dataset, epoch=0):
    return model.fit(
        dataset, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0
    ).history


def weights(model):
    return [variable.numpy() for variable in model.trainable_variables]


def distance(before, after):
    return math.sqrt(
        sum(np.sum(np.square(b - a, dtype="float64")) for a, b in zip(before, after, strict=True))
    )


def test_the_flag_names_every_optimizer():
    assert sorted(optimizers.OPTIMIZERS) == sorted(run_flags.OPTIMIZERS)


# Sums in another order, through six steps. Adam and Muon divide by the size of the gradient: where
# that is almost 0, its last bits move a weight by some thousandths of a step (0.05).
@pytest.mark.parametrize(("name", "tolerance"), [("sgd", 1e-6), ("adam", 1e-4), ("muon", 1e-4)])
def test_two_replicas_learn_what_one_learns(two_replicas, name, tolerance):
    def train(strategy):
        model = make_model(strategy, name, clip_norm=CLIP_NORM)
        before = weights(model)
        history = fit(model, batches(6))
        return before, weights(model), history["loss"] + history["token_accuracy"]

    before, one, one_history = train(ONE)
    _, two, two_history = train(two_replicas)
    np.testing.assert_allclose(two_history, one_history, rtol=1e-5)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, atol=tolerance)
    assert distance(before, one) > 0.05


def test_the_loss_is_that_of_the_whole_batch(two_replicas):
    # Two replicas of which one has 8 of the 48 target positions and the other 40.
    model = make_model(two_replicas, "sgd")
    inputs, labels, batch_weights = next(iter(batches(1)))
    assert np.count_nonzero(batch_weights[:4]) == 8
    assert np.count_nonzero(batch_weights[4:]) == 40
    logits = model(inputs)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    expected = tf.reduce_sum(losses * batch_weights).numpy()
    right = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
    history = fit(model, batches(1))
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    expected_accuracy = tf.reduce_sum(right * batch_weights).numpy()
    assert history["token_accuracy"][0] == pytest.approx(expected_accuracy, abs=1e-6)


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_the_gradient_of_the_whole_batch_is_clipped(two_replicas, num_replicas):
    strategy = two_replicas if num_replicas == 2 else ONE

    def step(clip_norm):
        model = make_model(strategy, "sgd", clip_norm=clip_norm)
        before = weights(model)
        fit(model, batches(1))
        return distance(before, weights(model)) / 0.05

    norm = step(clip_norm=0.0)
    assert norm > 2 * CLIP_NORM
    assert step(clip_norm=CLIP_NORM) == pytest.approx(CLIP_NORM, rel=1e-5)


def test_many_short_fits_are_one_long_fit(two_replicas):
    def train(fits, steps):
        model = make_model(two_replicas, "adam", clip_norm=1.0, use_ema=True, ema_momentum=0.9)
        for epoch in range(fits):
            fit(model, batches(steps), epoch)
        averages = [v.numpy() for v in model.optimizer._model_variables_moving_average]
        return weights(model), averages

    (one, one_averages), (many, many_averages) = train(1, 6), train(3, 2)
    for a, b in zip(one + one_averages, many + many_averages, strict=True):
        np.testing.assert_array_equal(b, a)
    assert distance(one, one_averages) > 0.01


def test_the_average_is_that_of_the_weights_after_each_step(two_replicas):
    model = make_model(two_replicas, "sgd", use_ema=True, ema_momentum=0.6)
    average, decays = None, []
    for epoch in range(18):
        fit(model, batches(1), epoch)
        now = weights(model)
        # It starts at the first weights, not at 0, and forgets them soon.
        decays.append(min(0.6, epoch / (epoch + 9)))
        pairs = zip(average or now, now, strict=True)
        average = [decays[-1] * a + (1 - decays[-1]) * w for a, w in pairs]
        found = [v.numpy() for v in model.optimizer._model_variables_moving_average]
        assert distance(average, found) < 1e-6
    assert decays[1] == 0.1 and decays[-5] < decays[-4] == decays[-1] == 0.6


def test_muon_moves_as_keras_muon_does():
    def train(make_optimizer):
        model = compile_model(ONE, make_optimizer)
        before = weights(model)
        fit(model, batches(4))
        return before, weights(model)

    before, ours = train(lambda: optimizers.Muon(0.01))
    _, stock = train(
        lambda: keras.optimizers.Muon(
            0.01,
            exclude_layers=["logits"],
            adam_beta_2=0.99,
            weight_decay=0,
            adam_weight_decay=0,
        )
    )
    assert distance(before, ours) > 0.1
    assert distance(stock, ours) < 1e-3 * distance(before, ours)


def test_muon_is_for_the_kernels_of_the_lstm():
    optimizer = make_model(ONE, "muon").optimizer
    by_adam = {
        variable.path
        for variable in optimizer._trainable_variables
        if optimizer._should_use_adamw(variable)
    }
    by_muon = {variable.path for variable in optimizer._trainable_variables} - by_adam
    assert len(by_muon) == 4 and all("kernel" in path and "lstm" in path for path in by_muon)
    assert len(by_adam) == 5


def test_weights_without_gradient_stand_still():
    # Embeddings of characters that do not occur; Muon's own defaults let every weight decay.
    model = make_model(ONE, "muon")
    (embedding,) = [v for v in model.trainable_variables if "embedding" in v.path]
    before = embedding.numpy()
    fit(model, batches(3))
    moved = np.any(embedding.numpy() != before, axis=1)
    (absent,), (present,) = vocabulary.encode("x"), vocabulary.encode("p")
    assert moved[present] and not moved[absent]


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_the_configuration_comes_back(name):
    optimizer = optimizers.OPTIMIZERS[name](0.05, clip_norm=0.5)
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert again.clip_norm == 0.5
