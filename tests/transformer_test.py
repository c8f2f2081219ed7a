"""The Transformers: places, steps and halting, beside what models_test asks of all."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_network
from models_test import READ, WRITTEN, think, write_step_by_step

from keras_l2e import devices
from keras_l2e.data import pipeline
from keras_l2e.language import vocabulary
from keras_l2e.networks import transformer
from keras_l2e.networks.transformer import NUM_POSITIONS, Ponder, Positions

VARIANTS = [
    {"model": "transformer"},
    {"model": "transformer", "positions": "learned"},
    {"model": "universal_transformer"},
    {"model": "universal_transformer", "halting": True},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_texts_longer_than_any_trained_are_written_as_they_are_taught(changes, monkeypatch):
    monkeypatch.setattr(transformer, "NUM_POSITIONS", 5)
    network = small_network(**changes)
    rng = np.random.default_rng(0)
    read, written = (rng.integers(1, vocabulary.SIZE, [2, n]) for n in (9, 12))
    found = write_step_by_step(network, read, written)
    np.testing.assert_allclose(found, think(network, read, written), atol=1e-5)


def test_places_by_sines():
    found = Positions("sinusoidal")([tf.zeros([3, 4, 6]), tf.zeros([3, 2, 7, 5])]).numpy()
    assert found.shape == (1, 4, 6)
    for i, place in enumerate(range(7, 11)):
        angles = [place / 10_000 ** (k / 2) for k in range(3)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        np.testing.assert_allclose(found[0, i], expected, atol=1e-5)


def test_places_that_are_learnt_go_on_with_the_last():
    layer = Positions("learned")
    found = layer([tf.zeros([1, NUM_POSITIONS + 2, 6])])[0].numpy()
    np.testing.assert_array_equal(found[:NUM_POSITIONS], layer.table.numpy())
    np.testing.assert_array_equal(found[NUM_POSITIONS:], layer.table.numpy()[[-1, -1]])
    assert len(np.unique(found, axis=0)) == NUM_POSITIONS


def test_a_universal_transformer_has_one_block():
    """However often it is applied; a Transformer has as many as layers."""
    sizes = {
        name: [small_network(model=name, num_layers=n).count_params() for n in (1, 2, 3)]
        for name in ("transformer", "universal_transformer")
    }
    one, two, three = sizes["transformer"]
    assert three - two == two - one > 0
    assert sizes["universal_transformer"] == [one] * 3


def test_a_place_that_halts_at_once_is_a_step_of_one():
    """Whatever more steps it might have taken; a place that never halts takes all of them."""

    def halting(bias, **changes):
        network = small_network(model="universal_transformer", halting=True, **changes)
        for variable in network.variables:
            if "halt" in variable.path:
                variable.assign(tf.fill(variable.shape, bias * variable.path.endswith("bias")))
        return network

    def same_weights(network, other):
        values = {variable.path: variable.numpy() for variable in other.variables}
        for variable in network.variables:
            variable.assign(values[variable.path])
        return network

    at_once = halting(20.0, num_layers=3)
    one_step = same_weights(small_network(model="universal_transformer", num_layers=1), at_once)
    np.testing.assert_allclose(think(at_once), think(one_step), atol=1e-5)
    never = halting(-40.0, num_layers=3)
    all_steps = same_weights(small_network(model="universal_transformer", num_layers=3), never)
    np.testing.assert_allclose(think(never), think(all_steps), atol=1e-5)
    # Two steps of probability 0.6 and what is left of it; costs of reader and writer.
    half = halting(math.log(1.5), num_layers=3, ponder_cost=0.5)
    think(half, training=True)
    assert [float(loss) for loss in half.losses] == pytest.approx([0.5 * (2 + 0.4)] * 2)
    think(half)
    assert half.losses == []


def test_each_place_halts_when_it_is_done(monkeypatch):
    """Against the loop of arXiv 1603.08983, one place at a time."""
    num_steps, width = 6, 8
    rng = np.random.default_rng(3)
    x, places = rng.normal(size=[2, 5, width]), rng.normal(size=[1, 5, width])
    mix = rng.normal(size=[width, width]) / 2
    # Steps are told as places are.
    signals = Positions("sinusoidal")([tf.zeros([1, num_steps, width])]).numpy()[0]

    def ponder(x, place, kernel, bias):
        """What comes out of a place, its number of steps, and what was left for the last one."""
        mean, halted = 0.0, 0.0
        for step in range(num_steps):
            told = x + place + signals[step]
            x = np.tanh(told @ mix)
            probability = 1 / (1 + np.exp(-(told @ kernel + bias)))
            if halted + probability >= 0.99 or step == num_steps - 1:
                return mean + (1 - halted) * x, step + 1, 1 - halted
            mean, halted = mean + probability * x, halted + probability

    monkeypatch.setattr(transformer, "Ponder", lambda cost, name: lambda inputs: inputs)
    blocks = [lambda told: keras.ops.tanh(told @ mix.astype("float32"))] * num_steps
    inputs = [keras.Input(values.shape[1:]) for values in (x, places)]
    outputs = transformer._until_halted(*inputs, blocks, None, name="way", ponder_cost=0.0)
    way = keras.Model(inputs, outputs[:2])
    kernel, bias = rng.normal(size=width), -3.0
    way.get_layer("way_halt").set_weights([kernel[:, None], np.array([bias])])
    found, times = way([tf.constant(values, tf.float32) for values in (x, places)])
    numbers = set()
    for i, j in itertools.product(range(2), range(5)):
        mean, steps, rest = ponder(x[i, j], places[0, j], kernel, bias)
        np.testing.assert_allclose(found[i, j], mean, atol=1e-5)
        assert float(times[i, j, 0]) == pytest.approx(steps + rest, abs=1e-5)
        numbers.add(steps)
    assert len(numbers) > 2


def test_only_places_that_count_cost():
    x, steps = tf.zeros([2, 3, 4]), tf.constant([[[1.0], [2.0], [9.0]], [[3.0], [4.0], [5.0]]])
    layer = Ponder(0.1)
    layer([x, steps, tf.constant([[True, True, False], [True] * 3])], training=True)
    assert [float(loss) for loss in layer.losses] == pytest.approx([0.1 * (1.5 + 4) / 2])


def test_a_row_pays_alone_what_it_pays_beside_a_longer_one():
    network = small_network(model="universal_transformer", halting=True, num_layers=4)

    def cost(read, *written):
        think(network, read, np.array(written), training=True)
        return sum(map(float, network.losses))

    alone = [cost(READ[:1], [41, 3, 4, 5]), cost(READ[:1], [41, 8])]
    together = cost(READ[[0, 0]], [41, 3, 4, 5], [41, 8, vocabulary.EOS, vocabulary.PAD])
    assert together == pytest.approx(np.mean(alone), rel=1e-5)
    assert abs(alone[0] - alone[1]) > 1e-4 * together


def test_two_replicas_pay_what_one_pays(two_replicas):
    """The ponder cost under `fit`, beside a loss whose weights sum to 1 over the whole batch."""
    inputs = {
        "encoder_token_ids": np.tile(READ, [2, 1]),
        "decoder_token_ids": np.tile(WRITTEN, [2, 1]),
    }
    inputs["encoder_token_ids"][2:] = np.roll(READ, 1, axis=0)
    labels = np.roll(inputs["decoder_token_ids"], -1, axis=1)
    weights = np.full(labels.shape, 1 / labels.size, "float32")
    found = []
    for strategy in (devices.start(1), two_replicas):
        with strategy.scope():
            network = small_network(model="universal_transformer", halting=True, ponder_cost=0.3)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
            network.compile(keras.optimizers.SGD(0.5), loss)
        data = tf.data.Dataset.from_tensors((inputs, labels, weights)).repeat(3)
        network.fit(pipeline.distribute(lambda data=data: data, strategy), verbose=0)
        found.append(network.get_weights())
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)
