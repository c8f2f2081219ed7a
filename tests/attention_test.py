"""The model `attention`: what its writer looks at, beside what tests/models_test.py asks of all."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2e.config import Config
from keras_l2e.errors import UsageError
from keras_l2e.language import vocabulary
from keras_l2e.networks import attention, models
from keras_l2e.networks.attention import Attention, ReverseSequence, SplitHeads

SMALL = Config(model="attention", hidden_dim=8, embedding_dim=5, num_heads=2)
READ = np.array([[9, 10, 11, 12, 42], [20, 21, 42, 0, 0]])
WRITTEN = np.array([[41, 3, 4, 5, 6, 7], [41, 8, 9, 10, 11, 12]])


def build(**changes):
    keras.utils.set_random_seed(1)
    return models.build("attention", vocabulary.SIZE, dataclasses.replace(SMALL, **changes))


def think(network, read=READ, written=WRITTEN):
    inputs = {"encoder_token_ids": tf.constant(read), "decoder_token_ids": tf.constant(written)}
    return network(inputs).numpy()


def changed(array, row, column):
    array = array.copy()
    array[row, column] += 1
    return array


def by_hand(queries, keys, values, allowed):
    """One head of attention for one example, step by step."""
    found = []
    for query, places in zip(queries, allowed, strict=True):
        weights = [np.exp(query @ key / np.sqrt(len(query))) for key in keys]
        weights = np.where(places, weights, 0)
        found.append(weights @ values / weights.sum())
    return np.array(found)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_by_hand(causal):
    rng = np.random.default_rng(0)
    queries, keys, values = (rng.normal(size=(2, n, 6)).astype("float32") for n in (3, 5, 5))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)
    inputs = [queries, keys, values, *([] if causal else [mask])]
    split = SplitHeads(num_heads=2)
    inputs = [*(split(tf.constant(x)) for x in inputs[:3]), *inputs[3:]]
    found = Attention()(inputs).numpy()
    for row in range(2):
        allowed = np.tri(3, 5, 2, bool) if causal else np.tile(mask[row], [3, 1])
        for head in (slice(0, 3), slice(3, 6)):
            parts = (x[row, :, head] for x in (queries, keys, values))
            np.testing.assert_allclose(found[row, :, head], by_hand(*parts, allowed), atol=1e-6)


def test_what_counts_is_turned_round():
    x, mask = tf.constant([[1, 2, 3], [4, 5, 0]]), tf.constant([[True] * 3, [True, True, False]])
    assert ReverseSequence()([x, mask]).numpy().tolist() == [[3, 2, 1], [5, 4, 0]]


@pytest.mark.parametrize("own_past", [False, True])
@pytest.mark.parametrize("second_lstm", [False, True])
def test_each_place_depends_on_what_is_read_and_was_written(own_past, second_lstm):
    network = build(own_past=own_past, second_lstm=second_lstm)
    state = network.get_layer("decoder").input[1]
    assert {"lstm", "read"} <= set(state)
    assert (own_past, second_lstm) == ("past" in state, "second_lstm" in state)
    logits = think(network)
    for place in range(6):  # Of what is written only what stands before.
        other = think(network, written=changed(WRITTEN, 0, place)) != logits
        assert other[0].any(-1).tolist() == [i >= place for i in range(6)] and not other[1].any()
    for place in range(5):
        assert (think(network, read=changed(READ, 0, place)) != logits)[0].any(-1).all()
    padded = think(network, read=np.pad(READ, [[0, 0], [0, 3]]))
    np.testing.assert_allclose(padded, logits, atol=1e-6)


@pytest.mark.parametrize(("cells", "heads"), [(9, 3), (10, 4), (2, 4)])
def test_cells_that_cannot_be_shared_out(cells, heads):
    message = f"--hidden_dim={cells}; allowed are multiples of 2 and of --num_heads={heads}"
    with pytest.raises(UsageError, match=message):
        build(hidden_dim=cells, num_heads=heads)


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
