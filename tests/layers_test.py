import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2e.networks import lstm as layers

TOLERANCE = 1e-5


def run(layer, x, mask, state):
    """Outputs, last states and the gradients of a scalar that depends on all of them."""
    with tf.GradientTape() as tape:
        tape.watch([x, *state])
        outputs, h, c = layer(x, mask=mask, initial_state=state)
        counted = outputs if mask is None else outputs * tf.cast(mask, tf.float32)[:, :, None]
        loss = tf.reduce_sum(tf.sin(counted)) + tf.reduce_sum(tf.cos(h)) + tf.reduce_sum(c**2)
    return [outputs, h, c, *tape.gradient(loss, [x, *state, *layer.trainable_weights])]


def pair(units=7, **settings):
    """Keras' layer and ours with equal weights, returning everything."""
    keras.utils.set_random_seed(3)
    settings = {"return_sequences": True, "return_state": True} | settings
    stock, ours = keras.layers.LSTM(units, **settings), layers.LSTM(units, **settings)
    for layer in (stock, ours):
        layer.build((None, None, 5))
    stock.cell.bias.assign(np.random.default_rng(0).normal(size=4 * units))
    ours.set_weights(stock.get_weights())
    return stock, ours


def batch(rows=4, steps=6, units=7):
    rng = np.random.default_rng(1)
    x = tf.constant(rng.normal(size=(rows, steps, 5)), tf.float32)
    state = [tf.constant(rng.normal(size=(rows, units)), tf.float32) for _ in range(2)]
    return x, state


@pytest.mark.parametrize("lengths", [None, [6, 6, 6, 6], [6, 1, 3, 5], [0, 6, 2, 0], [2, 1, 1, 2]])
@pytest.mark.parametrize("compiled", [False, True])
def test_equals_stock_layer(lengths, compiled):
    stock, ours = pair()
    x, state = batch()
    mask = None if lengths is None else tf.sequence_mask(lengths, 6)
    results = []
    for layer in (stock, ours):
        function = tf.function(run) if compiled else run
        results.append(function(layer, x, mask, state))
    counted = 1.0 if mask is None else tf.cast(mask, tf.float32)[:, :, None].numpy()
    for i, (expected, found) in enumerate(zip(*results, strict=True)):
        # A row without any step has no last output to repeat.
        weight = counted if i == 0 and lengths and 0 in lengths else 1.0
        found, expected = found * weight, expected * weight
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(
    ("rows", "lengths"), [(4, None), (4, [6, 4, 6, 5]), (4, [6, 1, 3, 6]), (1, None)]
)
@pytest.mark.parametrize(
    ("compiled", "return_sequences"), [(False, False), (True, False), (False, True)]
)
def test_steps_that_are_the_same_in_all_rows_change_nothing(
    rows, lengths, compiled, return_sequences
):
    """Of token ids, which equal embedded tokens."""
    stock, ours = pair(return_sequences=return_sequences)
    rng = np.random.default_rng(2)
    table = tf.constant(rng.normal(size=(11, 5)), tf.float32)
    drawn = rng.integers(0, 11, size=(rows, 6))
    mask = None if lengths is None else tf.sequence_mask(lengths, 6)

    def states_and_gradients(layer, ids):
        with tf.GradientTape() as tape:
            tape.watch(table)
            if layer is stock:
                _, h, c = layer(tf.gather(table, ids), mask=mask)
            else:
                _, h, c = layer(ids, mask=mask, embeddings=table)
            loss = tf.reduce_sum(tf.sin(h)) + tf.reduce_sum(c**2)
        gradients = tape.gradient(loss, [table, *layer.trainable_weights])
        return [h, c, *map(tf.convert_to_tensor, gradients)]

    functions = [functools.partial(states_and_gradients, layer) for layer in (stock, ours)]
    if compiled:
        signature = [tf.TensorSpec([rows, None], tf.int32)]  # As in training, the rows are known.
        functions = [tf.function(function, signature) for function in functions]
    for same in (0, 1, 4, 6):
        ids = drawn.copy()
        ids[:, :same] = ids[:1, :same]
        results = [function(tf.constant(ids, tf.int32)) for function in functions]
        for expected, found in zip(*results, strict=True):
            near = {"atol": TOLERANCE, "rtol": TOLERANCE, "err_msg": f"{same} steps are the same"}
            np.testing.assert_allclose(found, expected, **near)


@pytest.mark.parametrize("num_same", [0, 1, 3])
def test_states_before_the_same_steps_get_their_gradient(num_same):
    _, ours = pair()
    x, _ = batch()
    x = np.transpose(x, [1, 0, 2]).copy()
    x[:num_same] = x[:num_same, :1]
    start = [tf.constant(np.random.default_rng(5).normal(size=(1, 7)), tf.float32) for _ in "hc"]
    weights = [w.value for w in ours.cell.trainable_weights]
    lengths = tf.constant([6, 3, 4, 6])
    results = []
    for shared in (False, True):
        with tf.GradientTape() as tape:
            tape.watch([start, weights])
            states = start if shared else [tf.repeat(s, 4, axis=0) for s in start]
            counted = tf.constant(num_same) if shared else None
            _, h, c = layers.lstm(tf.constant(x), *states, *weights, lengths, False, counted)
            loss = tf.reduce_sum(tf.sin(h)) + tf.reduce_sum(c**2)
        results.append([h, c, *tape.gradient(loss, start + weights)])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_standard_cell_takes_the_fast_path(monkeypatch):
    _, ours = pair()
    monkeypatch.setattr(keras.layers.LSTM, "call", lambda *_: pytest.fail("stock computation"))
    x, state = batch()
    assert ours(x, initial_state=state)[0].shape == (4, 6, 7)


@pytest.mark.parametrize("settings", [{}, {"return_sequences": False}, {"return_state": False}])
@pytest.mark.parametrize("steps", [1, 6])
def test_returns_what_stock_returns(settings, steps):
    stock, ours = pair(**settings)
    x, _ = batch(steps=steps)
    expected, found = (tf.nest.flatten(layer(x)) for layer in (stock, ours))
    assert [e.shape for e in expected] == [f.shape for f in found]
    for e, f in zip(expected, found, strict=True):
        np.testing.assert_allclose(f, e, atol=TOLERANCE)


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.5},
        {"use_bias": False},
        {"activation": "relu"},
        {"go_backwards": True},
        {"zero_output_for_mask": True, "return_sequences": True},
        {},
    ],
)
@pytest.mark.parametrize("embedded", [False, True])
def test_other_cells_and_those_of_a_gpu_are_left_to_stock(settings, embedded, monkeypatch):
    stock, ours = keras.layers.LSTM(3, **settings), layers.LSTM(3, **settings)
    if not settings:  # As if there were a GPU.
        monkeypatch.setattr(layers.LSTM, "_is_standard", lambda self: False)
    assert not ours._is_standard()
    x, _ = batch()
    inputs, table = (x,), None
    if embedded:
        rng = np.random.default_rng(2)
        table = tf.constant(rng.normal(size=(11, x.shape[2])), tf.float32)
        ids = tf.constant(rng.integers(0, 11, size=x.shape[:2]), tf.int32)
        inputs, x = (ids,), tf.gather(table, ids)
    stock.build(x.shape)
    ours.build(*(y.shape for y in inputs), embeddings_shape=table.shape if embedded else None)
    ours.set_weights(stock.get_weights())
    for mask in (None, tf.sequence_mask([1] * x.shape[0], x.shape[1])):
        found = ours(*inputs, mask=mask, embeddings=table)
        np.testing.assert_allclose(found, stock(x, mask=mask), atol=TOLERANCE)


def test_longer_padding_changes_nothing():
    _, ours = pair()
    x, state = batch()
    mask = tf.sequence_mask([3, 1, 4, 2], 6)
    short = run(ours, x[:, :4], mask[:, :4], state)
    long = run(ours, x, mask, state)
    for i, (expected, found) in enumerate(zip(short, long, strict=True)):
        found = found[:, :4] if i in (0, 3) else found
        if i < 3:
            np.testing.assert_array_equal(found, expected)
        else:  # Gradients are products of other shapes, which may be summed in another order.
            np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
