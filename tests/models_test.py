import dataclasses
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_l2e import pretrained
from keras_l2e.config import Config
from keras_l2e.data import pipeline
from keras_l2e.errors import WorkError
from keras_l2e.language import vocabulary
from keras_l2e.networks import MODELS, OPTIMIZERS, models, resolve
from keras_l2e.networks.lstm import LSTM, EmbeddingTable

# Logits are sums of less than a hundred float32 products of size 1: eps * 100.
TOLERANCE = 1e-5
EMBEDDING = "embedding/embeddings"
SMALL = Config(hidden_dim=8, embedding_dim=5)
SHAPES = {
    "one layer": SMALL,
    "two layers": dataclasses.replace(SMALL, num_layers=2),
    "tied": dataclasses.replace(SMALL, num_layers=2, embedding_dim=8, tie_encoder_decoder=True),
}


def build(config=SMALL, name="lstm"):
    keras.utils.set_random_seed(1)
    return models.build(name, vocabulary.SIZE, config)


@pytest.fixture(scope="module", params=[(name, shape) for name in MODELS for shape in SHAPES])
def model(request):
    """Every model in every shape."""
    name, shape = request.param
    return build(SHAPES[shape], name)


def pad(ids, count):
    return tf.pad(ids, [[0, 0], [0, count]], constant_values=vocabulary.PAD)


def examples(encoder_padding=0, decoder_padding=0):
    """Three sums as `fit` takes them, with so much padding more than they need."""
    inputs, labels, weights = pipeline.encode_examples(
        tf.constant(["print(1+2)", "print(12+345)", "print(7)"]),
        tf.constant(["3", "357", "7"]),
        "none",
        "character",
    )
    inputs = {
        "encoder_token_ids": pad(inputs["encoder_token_ids"], encoder_padding),
        "decoder_token_ids": pad(inputs["decoder_token_ids"], decoder_padding),
    }
    return inputs, pad(labels, decoder_padding), tf.pad(weights, [[0, 0], [0, decoder_padding]])


@pytest.mark.parametrize("table", [MODELS, OPTIMIZERS], ids=["MODELS", "OPTIMIZERS"])
def test_tables_name_what_there_is(table):
    for name in table:
        assert callable(resolve(table, name))


def test_names_and_shapes(model):
    inputs, labels, _ = examples()
    assert sorted(model.input) == ["decoder_token_ids", "encoder_token_ids"]
    assert all(tensor.name == name for name, tensor in model.input.items())
    logits = model(inputs)
    assert logits.shape == (*labels.shape, vocabulary.SIZE)
    assert logits.dtype == tf.float32
    # No softmax: the numbers of a distribution would be positive and sum to 1.
    assert tf.reduce_min(logits) < 0


def test_encoder_and_decoder_carry_the_state(model):
    # Step by step and all at once: the same logits.
    inputs, _, _ = examples()
    whole = model(inputs)
    state = model.get_layer("encoder")(inputs["encoder_token_ids"])
    assert {len(tensor) for tensor in tf.nest.flatten(state)} == {3}
    for step in range(whole.shape[1]):
        ids = inputs["decoder_token_ids"][:, step : step + 1]
        logits, state = model.get_layer("decoder")([ids, state])
        np.testing.assert_allclose(logits[:, 0], whole[:, step], atol=TOLERANCE)


def test_padding_changes_no_logits_no_loss_and_no_gradient(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    def compute(*padding):
        inputs, labels, weights = examples(*padding)
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            value = loss(labels, logits, weights)
        gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
        return logits, value, [tf.convert_to_tensor(gradient) for gradient in gradients]

    logits, value, gradients = compute()
    more_logits, more_value, more_gradients = compute(9, 4)
    np.testing.assert_allclose(more_logits[:, : logits.shape[1]], logits, atol=TOLERANCE)
    assert abs(more_value - value) < TOLERANCE
    for variable, one, more in zip(
        model.trainable_variables, gradients, more_gradients, strict=True
    ):
        np.testing.assert_allclose(more, one, atol=TOLERANCE, err_msg=variable.path)
        assert np.any(one), f"no gradient reaches {variable.path}"


def test_neighbours_change_no_logits(model):
    inputs, _, _ = examples()
    alone = {name: ids[2:, : 9 if "encoder" in name else 2] for name, ids in inputs.items()}
    np.testing.assert_allclose(model(inputs)[2:, :2], model(alone), atol=TOLERANCE)


@pytest.mark.parametrize("shape", ["two layers", "tied"])
def test_what_encoder_and_decoder_share(shape):
    model = build(SHAPES[shape])
    encoder, decoder = (
        {id(v): v.path for v in model.get_layer(name).trainable_variables}
        for name in ("encoder", "decoder")
    )
    shared = {path for key, path in encoder.items() if key in decoder}
    # Tied: an embedding and two layers of three.
    assert len(shared) == len(encoder) == 7 if shape == "tied" else shared == {EMBEDDING}


def test_two_tied_layers_of_400_are_the_size_of_the_paper():
    paper = Config(hidden_dim=400, num_layers=2, embedding_dim=400, tie_encoder_decoder=True)
    cell = 4 * (400 * 400 + 400 * 400 + 400)
    assert build(paper).count_params() == 2 * cell + 43 * 400 + (400 * 43 + 43) == 2_597_643


@pytest.mark.parametrize("tie_encoder_decoder", [False, True])
def test_uniform_init(tie_encoder_decoder):
    config = Config(hidden_dim=32, num_layers=2, embedding_dim=32, uniform_init=0.08)
    model = build(dataclasses.replace(config, tie_encoder_decoder=tie_encoder_decoder))
    for variable in model.trainable_variables:
        value = variable.numpy()
        # The largest of n draws falls short of the bound by a factor q with probability q**n.
        assert 0.08 * 1e-6 ** (1 / value.size) < np.abs(value).max() <= 0.08, variable.path
        # 4 sigma of the mean of n draws, each with a deviation of 0.08 / sqrt(3).
        assert abs(value.mean()) < 4 * 0.08 / np.sqrt(3 * value.size), variable.path
    flat = [variable.numpy().tobytes() for variable in model.trainable_variables]
    assert len(set(flat)) == len(flat)


def test_without_it_the_forget_gates_start_open():
    biases = [
        v.numpy() for v in build().trainable_variables if "lstm" in v.path and "bias" in v.path
    ]
    assert len(biases) == 2
    for bias in biases:
        np.testing.assert_array_equal(bias, [0] * 8 + [1] * 8 + [0] * 16)


# Saving and loading


def test_a_saved_model_comes_back(model, tmp_path):
    inputs, _, _ = examples()
    # Once more, from the loaded one.
    for path in (tmp_path / "model.keras", tmp_path / "again.keras"):
        loaded = models.load(path) if path.exists() else model
        loaded.save(path)
        loaded = models.load(path)
        assert loaded.get_config() == model.get_config()
        assert len(loaded.variables) == len(model.variables)
        np.testing.assert_array_equal(loaded(inputs), model(inputs))


def test_a_config_gives_every_argument():
    names = list(inspect.signature(models.lstm).parameters)
    assert ["vocabulary_size", *models.arguments_of("lstm", SMALL)] == names
    assert list(build().arguments) == names


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("EmbeddingTable", lambda: EmbeddingTable(43, 8)),
        ("LSTM", lambda: LSTM(8, return_sequences=True)),
        ("Network", build),
    ],
)
def test_every_registered_class_comes_back_by_its_name(name, make):
    """Files that were made so far hold these names."""
    one = make()
    saved = keras.saving.serialize_keras_object(one)
    assert saved["registered_name"] == f"keras_l2e>{name}"
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(one) and again.get_config() == one.get_config()


@pytest.mark.parametrize("name", pretrained.names())
def test_shipped_networks_load(name):
    folder = pretrained.find(name)
    model = models.load(folder / "model.keras")
    assert model.name in MODELS and model.count_params() > 100_000
    logits = model(examples()[0])
    assert np.isfinite(logits).all() and np.ptp(logits) > 1


def halve(data):
    return data[: len(data) // 2]


def flip_a_bit(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda data: b"", halve, flip_a_bit])
def test_a_damaged_file_is_an_error_of_one_line(tmp_path, damage):
    path = tmp_path / "model.keras"
    build().save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WorkError, match=r"model\.keras is not a whole model") as caught:
        models.load(path)
    assert "\n" not in str(caught.value).partition("(")[0]


# Under fit


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
        model = build()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="token_accuracy")
        model.compile("sgd", loss, weighted_metrics=[accuracy])
    for epoch in range(2):
        dataset = batch.enumerate(10 * epoch).map(noted)
        history = model.fit(dataset, shuffle=False, verbose=0).history
        assert set(history) == {"loss", "token_accuracy"}
    assert read == [0, 1, 2, 10, 11, 12]
