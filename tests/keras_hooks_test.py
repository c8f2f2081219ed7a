"""What stands on parts of Keras that are not public: fails when a release no longer calls them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2e.config import Config
from keras_l2e.data import pipeline
from keras_l2e.networks import keras_hooks, models, optimizers


def make_network(strategy):
    with strategy.scope():
        network = models.build("lstm", 5, Config(hidden_dim=4, embedding_dim=3))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        metrics = [keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")]
        network.compile(optimizers.make("sgd", 0.1), loss, weighted_metrics=metrics)
    return network


def example():
    ids = np.array([[1, 2, 3], [4, 3, 2]], np.int32)
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    return inputs, ids, np.full(ids.shape, 1 / 6, np.float32)


def test_fit_reads_nothing_before_it_begins(two_replicas):
    starts = []

    def generate():
        starts.append(1)
        yield from [example()] * 2

    tensors = tf.nest.map_structure(tf.constant, example())
    signature = tf.nest.map_structure(tf.TensorSpec.from_tensor, tensors)

    def make_dataset():
        return tf.data.Dataset.from_generator(generate, output_signature=signature)

    network = make_network(two_replicas)
    for epoch in range(3):
        dataset = pipeline.distribute(make_dataset, two_replicas)
        network.fit(dataset, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0)
    assert len(starts) == 3 * two_replicas.num_replicas_in_sync


# That Keras takes the mean of these, and `fit` runs, is tested with two workers in workers_test.py.
@pytest.mark.parametrize(
    ("strategy", "shape"),
    [(tf.distribute.MultiWorkerMirroredStrategy, [1]), (tf.distribute.MirroredStrategy, [])],
)
def test_logs_of_several_workers_have_a_first_axis(strategy, shape):
    class Model:
        distribute_strategy = strategy.__new__(strategy)

        def train_step(self, data):
            return {"loss": tf.constant(data)}

    class Network(keras_hooks.FitsUnderStrategies, Model):
        pass

    assert Network().train_step(0.5)["loss"].shape == shape
    assert issubclass(models.Network, keras_hooks.FitsUnderStrategies)
    assert keras.Model.train_step is not models.Network.train_step


def test_an_optimizer_knows_its_variables_by_their_places():
    variables = [keras.Variable(np.zeros([2, 2])) for _ in range(3)]
    optimizer = optimizers.make("muon", 0.1)
    optimizer.build(variables)
    assert [keras_hooks.variable_index(optimizer, v) for v in variables] == [0, 1, 2]
    assert [keras_hooks.variable_index(optimizer, v.value) for v in variables] == [0, 1, 2]
