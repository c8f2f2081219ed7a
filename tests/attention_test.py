"""The model `attention`: its state and its memory, beside what models_test asks of all."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_network

from keras_l2e.networks import attention


@pytest.mark.parametrize("own_past", [False, True])
@pytest.mark.parametrize("second_lstm", [False, True])
def test_what_the_state_holds(own_past, second_lstm):
    network = small_network(model="attention", own_past=own_past, second_lstm=second_lstm)
    names = {"lstm", "read", *["past"] * own_past, *["second_lstm"] * second_lstm}
    assert set(network.get_layer("decoder").input[1]) == names


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_keras(causal):
    """`MultiHeadAttention` with the same weights, which it keeps with an axis of heads."""
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=[2, 7, 12]), tf.float32)
    mask = tf.sequence_mask([7, 4])
    kernels = [rng.normal(size=[12, 12]).astype("float32") for _ in range(4)]
    theirs = keras.layers.MultiHeadAttention(num_heads=3, key_dim=4, use_bias=False)
    theirs.build(x.shape, x.shape)
    theirs.set_weights(
        [
            kernel.reshape(weight.shape)
            for kernel, weight in zip(kernels, theirs.weights, strict=True)
        ]
    )
    masks = {"use_causal_mask": True} if causal else {"attention_mask": mask[:, None, :]}
    ask, look, value, mix = kernels
    parts = [attention.SplitHeads(3)(x @ kernel) for kernel in (ask, look, value)]
    found = attention.Attention()(parts + [mask] * (not causal)) @ mix
    np.testing.assert_allclose(found, theirs(x, x, **masks), atol=1e-4)


def test_one_row_is_taught_as_it_stands():
    """Its batch is a dimension of one, known beforehand, unlike those of a run."""
    network = small_network(model="attention")
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = {name: np.array([[41, 3, 4]]) for name in network.input}
    assert np.isfinite(network.train_on_batch(ids, np.array([[3, 4, 42]])))


@pytest.mark.parametrize("num_queries", [1, 3, 4, 7])
def test_looking_back_in_blocks(num_queries, monkeypatch):
    """Outputs and gradients are those of the formula, however many queries look back at once."""
    monkeypatch.setattr(attention, "BLOCK", 3)
    rng = np.random.default_rng(0)
    shapes = [(2, 2, num_queries, 4), (2, 2, 7, 4), (2, 2, 7, 4)]
    queries, keys, values = (tf.constant(rng.normal(size=s), tf.float32) for s in shapes)

    def formula(queries, keys, values):
        scores = tf.einsum("nhsd,nhtd->nhst", queries, keys) / 2
        future = np.arange(7) > np.arange(7 - num_queries, 7)[:, None]
        return tf.einsum("nhst,nhtd->nhsd", tf.nn.softmax(scores - 1e9 * future), values)

    @tf.function
    def run(look):
        with tf.GradientTape() as tape:
            tape.watch([queries, keys, values])
            found = look(queries, keys, values)
            loss = tf.reduce_sum(tf.sin(found))
        return found, *tape.gradient(loss, [queries, keys, values])

    for a, b in zip(run(attention._look_back), run(formula), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
