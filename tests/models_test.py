import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2e import config as run_flags
from keras_l2e.data import pipeline as input_pipeline
from keras_l2e.errors import WorkError
from keras_l2e.language import vocabulary
from keras_l2e.networks import models

# Logits are sums of less than a hundred float32 products of size 1: eps * 100.
TOLERANCE = 1e-5

PROGRAMS = tf.constant(["print(1+2)", "print(12+345)", "print(7)"])
TARGETS = tf.constant(["3", "357", "7"])

SHAPES = [
    {"num_layers": 1},
    {"num_layers": 2, "embedding_dim": 5},
    {"num_layers": 2, "embedding_dim": 8, "tie_encoder_decoder": True},
]


@pytest.fixture(params=[(name, i) for name in models.MODELS for i in range(len(SHAPES))], ids=str)
def model(request):
    """Every model in every shape."""
    name, i = request.param
    keras.utils.set_random_seed(1)
    return models.MODELS[name](vocabulary_size=vocabulary.SIZE, hidden_dim=8, **SHAPES[i])


def pad(ids, count):
    return tf.pad(ids, [[0, 0], [0, count]], constant_values=vocabulary.PAD)


def padded(inputs, encoder_padding, decoder_padding):
    return {
        "encoder_token_ids": pad(inputs["encoder_token_ids"], encoder_padding),
        "decoder_token_ids": pad(inputs["decoder_token_ids"], decoder_padding),
    }


def examples():
    return input_pipeline.encode_examples(PROGRAMS, TARGETS, "none", "character")


def test_the_flag_names_every_model():
    assert sorted(models.MODELS) == sorted(run_flags.MODELS)


def test_names_and_shapes(model):
    inputs, labels, _ = examples()
    assert sorted(model.input) == ["decoder_token_ids", "encoder_token_ids"]
    assert all(tensor.name == name for name, tensor in model.input.items())
    logits = model(inputs)
    assert logits.shape == (*labels.shape, vocabulary.SIZE)
    assert logits.dtype == tf.float32
    # No softmax: the numbers of a distribution would be positive and sum to 1.
    assert tf.reduce_min(logits) < 0


def test_encoder_and_decoder_carry_the_states(model):
    # Step by step and all at once: the same logits.
    inputs, _, _ = examples()
    whole = model(inputs)
    states = model.get_layer("encoder")(inputs["encoder_token_ids"])
    for step in range(whole.shape[1]):
        ids = inputs["decoder_token_ids"][:, step : step + 1]
        logits, *states = model.get_layer("decoder")([ids, *states])
        np.testing.assert_allclose(logits[:, 0], whole[:, step], atol=TOLERANCE)


def test_padding_changes_no_logits(model):
    inputs, labels, _ = examples()
    logits = model(inputs)
    more = model(padded(inputs, 9, 4))[:, : labels.shape[1]]
    np.testing.assert_allclose(more, logits, atol=TOLERANCE)
    alone = model({name: ids[2:, : 9 if "encoder" in name else 2] for name, ids in inputs.items()})
    np.testing.assert_allclose(logits[2:, :2], alone, atol=TOLERANCE)


def test_padding_changes_no_loss_and_no_gradient(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    def loss_and_gradients(encoder_padding, decoder_padding):
        inputs, labels, weights = examples()
        with tf.GradientTape() as tape:
            value = loss(
                pad(labels, decoder_padding),
                model(padded(inputs, encoder_padding, decoder_padding), training=True),
                tf.pad(weights, [[0, 0], [0, decoder_padding]]),
            )
        gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
        return value, [tf.convert_to_tensor(gradient) for gradient in gradients]

    value, gradients = loss_and_gradients(0, 0)
    more_value, more_gradients = loss_and_gradients(9, 4)
    assert abs(more_value - value) < TOLERANCE
    for variable, one, more in zip(model.trainable_variables, gradients, more_gradients):  # noqa: B905
        np.testing.assert_allclose(more, one, atol=TOLERANCE, err_msg=variable.path)
        assert np.any(one), f"no gradient reaches {variable.path}"


def test_a_tied_model_reads_and_writes_with_the_same_weights():
    def shared(tie_encoder_decoder):
        model = models.lstm(vocabulary.SIZE, 8, 2, tie_encoder_decoder=tie_encoder_decoder)
        encoder, decoder = (
            {id(v): v.path for v in model.get_layer(name).trainable_variables}
            for name in ("encoder", "decoder")
        )
        return {path for key, path in encoder.items() if key in decoder}, len(encoder)

    paths, count = shared(tie_encoder_decoder=False)
    assert len(paths) == 1 and "embedding" in paths.pop()
    # Every variable of the encoder: an embedding and two layers of three.
    paths, count = shared(tie_encoder_decoder=True)
    assert len(paths) == count == 7


def test_two_tied_layers_of_400_are_the_size_of_the_paper():
    model = models.lstm(vocabulary.SIZE, 400, 2, embedding_dim=400, tie_encoder_decoder=True)
    cell = 4 * (400 * 400 + 400 * 400 + 400)
    assert model.count_params() == 2 * cell + 43 * 400 + (400 * 43 + 43) == 2_597_643


@pytest.mark.parametrize("tie_encoder_decoder", [False, True])
def test_uniform_init(tie_encoder_decoder):
    keras.utils.set_random_seed(1)
    model = models.lstm(
        vocabulary.SIZE, 32, 2, tie_encoder_decoder=tie_encoder_decoder, uniform_init=0.08
    )
    for variable in model.trainable_variables:
        value = variable.numpy()
        # The largest of n draws falls short of the bound by a factor q with probability q**n.
        assert 0.08 * 1e-6 ** (1 / value.size) < np.abs(value).max() <= 0.08, variable.path
        # 4 sigma of the mean of n draws, each with a deviation of 0.08 / sqrt(3).
        assert abs(value.mean()) < 4 * 0.08 / np.sqrt(3 * value.size), variable.path
    flat = [variable.numpy().tobytes() for variable in model.trainable_variables]
    assert len(set(flat)) == len(flat)


def test_without_it_the_forget_gates_start_open():
    model = models.lstm(vocabulary.SIZE, 8, 1)
    biases = [v.numpy() for v in model.trainable_variables if "lstm" in v.path and "bias" in v.path]
    assert len(biases) == 2
    for bias in biases:
        np.testing.assert_array_equal(bias, [0] * 8 + [1] * 8 + [0] * 16)


def test_a_saved_model_comes_back(model, tmp_path):
    inputs, _, _ = examples()
    model.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    assert loaded.count_params() == model.count_params()
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    for name in ("encoder", "decoder"):
        found = len(loaded.get_layer(name).trainable_variables)
        assert found == len(model.get_layer(name).trainable_variables)
    # Once more, from the loaded one.
    loaded.save(tmp_path / "again.keras")
    np.testing.assert_array_equal(models.load(tmp_path / "again.keras")(inputs), model(inputs))


def test_every_argument_comes_back(tmp_path):
    arguments = {
        "vocabulary_size": 20,
        "hidden_dim": 6,
        "num_layers": 2,
        "embedding_dim": 6,
        "tie_encoder_decoder": True,
        "uniform_init": 0.1,
    }
    assert list(arguments) == list(inspect.signature(models.lstm).parameters)
    model = models.lstm(**arguments)
    model.save(tmp_path / "model.keras")
    assert models.load(tmp_path / "model.keras").get_config() == model.get_config()


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2]])
def test_a_damaged_file_is_an_error_of_one_line(tmp_path, damage):
    path = tmp_path / "model.keras"
    models.lstm(vocabulary.SIZE, 8, 1).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WorkError, match=r"model\.keras is not a whole model"):
        models.load(path)


def test_fit_reads_each_batch_once():
    # As it comes, Keras would read the first one of every epoch twice, to learn its shapes.
    read = []

    def note(number):
        read.append(int(number))
        return number

    def noted(number, batch):
        with tf.control_dependencies([tf.numpy_function(note, [number], tf.int64)]):
            return tf.nest.map_structure(tf.identity, batch)

    batch = tf.data.Dataset.from_tensors(examples()).repeat(3)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = models.lstm(vocabulary.SIZE, hidden_dim=8, num_layers=1)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")
        model.compile("sgd", loss, weighted_metrics=[accuracy])
    for epoch in range(2):
        dataset = batch.enumerate(10 * epoch).map(noted)
        history = model.fit(dataset, shuffle=False, verbose=0).history
        assert set(history) == {"loss", "token_accuracy"}
    assert read == [0, 1, 2, 10, 11, 12]
