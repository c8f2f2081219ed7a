import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import small_network

from keras_l2e.data import pipeline
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.language import vocabulary
from keras_l2e.networks import MODELS, decoding, models
from keras_l2e.networks.lstm import LSTM, EmbeddingTable

# Logits are sums of less than a hundred float32 products of size 1: eps * 100.
TOLERANCE = 1e-5
EMBEDDING = "embedding/embeddings"
TIED = {"embedding_dim": 8, "tie_encoder_decoder": True}
VARIANTS = [
    *({"model": name} for name in MODELS),
    {"num_layers": 1},
    TIED,
    {"model": "attention", "own_past": False},
    {"model": "attention", "second_lstm": False},
    {"model": "attention", "own_past": False, "second_lstm": False},
    {"model": "transformer", "positions": "learned"},
    {"model": "universal_transformer", "halting": True},
]
# The ids of two texts, and of two that are written.
READ = np.array([[9, 10, 11, 12, 42], [20, 21, 42, 0, 0]])
WRITTEN = np.array([[41, 3, 4, 5, 6, 7], [41, 8, 9, 10, 11, 12]])


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def model(request):
    """Every model, and all that its settings make of it."""
    return small_network(**request.param)


def think(network, read=READ, written=WRITTEN, **options):
    inputs = {"encoder_token_ids": tf.constant(read), "decoder_token_ids": tf.constant(written)}
    return network(inputs, **options).numpy()


def write_step_by_step(network, read, written):
    """The logits of each place, written one after the other."""
    state, found = network.get_layer("encoder")(tf.constant(read)), []
    assert {len(tensor) for tensor in tf.nest.flatten(state)} == {len(read)}
    for place in range(written.shape[1]):
        ids = tf.constant(written[:, place : place + 1])
        logits, state = network.get_layer("decoder")([ids, state])
        found.append(logits)
    return np.concatenate(found, axis=1)


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
    found = write_step_by_step(model, inputs["encoder_token_ids"], inputs["decoder_token_ids"])
    np.testing.assert_allclose(found, model(inputs), atol=TOLERANCE)


def test_what_is_written_greedily_is_most_probable_at_every_place(model):
    """The loop that decodes, and all places at once of what it wrote."""
    state = model.get_layer("encoder")(tf.constant(READ))
    ids, logits = decoding.greedy_decode(
        model.get_layer("decoder"), state, max_steps=7, bos=vocabulary.BOS, eos=vocabulary.EOS
    )
    expected = think(model, written=np.column_stack([np.full(2, vocabulary.BOS), ids[:, :-1]]))
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE)
    running = np.column_stack([np.full(2, True), ids[:, :-1] != vocabulary.EOS]).cumprod(1) == 1
    np.testing.assert_array_equal(ids, expected.argmax(-1) * running)


def changed(array, row, column):
    array = array.copy()
    array[row, column] -= 1
    return array


def test_each_place_depends_on_what_is_read_and_was_written(model):
    logits = think(model)
    # An LSTM numbers the ids that occur in a batch, which may move the last bits of all its rows.
    least = 1e-7 if model.name == "lstm" else 0
    for place in range(6):  # Of what is written only what stands before.
        found = think(model, written=changed(WRITTEN, 0, place))
        one, neighbour = (abs(found - logits) > least).any(-1).tolist()
        assert one == [i >= place for i in range(6)] and not any(neighbour)
    for place in range(5):
        found = think(model, read=changed(READ, 0, place))
        assert (abs(found - logits)[0] > least).any(-1).all()
        np.testing.assert_allclose(found[1], logits[1], atol=1e-6)
    if "transformer" in model.name:  # The same symbols in another order are another text.
        assert abs(think(model, READ[:, [1, 0, 2, 3, 4]]) - logits).max() > 1e-3


def test_padding_changes_no_logits_no_loss_and_no_gradient(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    def compute(*padding):
        inputs, labels, weights = examples(*padding)
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            value = loss(labels, logits, weights) + sum(model.losses)
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


@pytest.mark.parametrize("tied", [False, True])
def test_what_encoder_and_decoder_share(tied):
    model = small_network(**TIED if tied else {})
    encoder, decoder = (
        {id(v): v.path for v in model.get_layer(name).trainable_variables}
        for name in ("encoder", "decoder")
    )
    shared = {path for key, path in encoder.items() if key in decoder}
    # Tied: an embedding and two layers of three.
    assert len(shared) == len(encoder) == 7 if tied else shared == {EMBEDDING}


@pytest.mark.parametrize("name", ["attention", "transformer", "universal_transformer"])
@pytest.mark.parametrize(("width", "heads"), [(9, 3), (10, 4), (2, 4)])
def test_widths_that_cannot_be_shared_out(name, width, heads):
    message = f"--hidden_dim={width}; allowed are multiples of 2 and of --num_heads={heads}"
    with pytest.raises(UsageError, match=message):
        small_network(model=name, hidden_dim=width, num_heads=heads)


def test_two_tied_layers_of_400_are_the_size_of_the_paper():
    paper = small_network(hidden_dim=400, embedding_dim=400, tie_encoder_decoder=True)
    cell = 4 * (400 * 400 + 400 * 400 + 400)
    assert paper.count_params() == 2 * cell + 43 * 400 + (400 * 43 + 43) == 2_597_643


@pytest.mark.parametrize("tie_encoder_decoder", [False, True])
def test_uniform_init(tie_encoder_decoder):
    changes = {"hidden_dim": 32, "embedding_dim": 32, "uniform_init": 0.08}
    model = small_network(**changes, tie_encoder_decoder=tie_encoder_decoder)
    for variable in model.trainable_variables:
        value = variable.numpy()
        # The largest of n draws falls short of the bound by a factor q with probability q**n.
        assert 0.08 * 1e-6 ** (1 / value.size) < np.abs(value).max() <= 0.08, variable.path
        # 4 sigma of the mean of n draws, each with a deviation of 0.08 / sqrt(3).
        assert abs(value.mean()) < 4 * 0.08 / np.sqrt(3 * value.size), variable.path
    flat = [variable.numpy().tobytes() for variable in model.trainable_variables]
    assert len(set(flat)) == len(flat)


def test_without_it_the_forget_gates_start_open():
    variables = small_network().trainable_variables
    biases = [v.numpy() for v in variables if "lstm" in v.path and "bias" in v.path]
    assert len(biases) == 4
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


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("EmbeddingTable", lambda: EmbeddingTable(43, 8)),
        ("LSTM", lambda: LSTM(8, return_sequences=True)),
        ("Network", small_network),
    ],
)
def test_every_registered_class_comes_back_by_its_name(name, make):
    """Files that were made so far hold these names."""
    one = make()
    saved = keras.saving.serialize_keras_object(one)
    assert saved["registered_name"] == f"keras_l2e>{name}"
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(one) and again.get_config() == one.get_config()


def test_a_damaged_file_is_an_error_of_one_line_or_harmless(tmp_path):
    network, path, rng = small_network(), tmp_path / "model.keras", random.Random(1)
    network.save(path)
    data = path.read_bytes()
    weights = [value.tobytes() for value in network.get_weights()]
    damaged = [b"", data[: len(data) // 2]]
    for _ in range(60):
        place = rng.randrange(len(data))
        flipped = data[place] ^ 1 << rng.randrange(8)
        damaged.append(data[:place] + bytes([flipped]) + data[place + 1 :])
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            found = models.load(path).get_weights()
        except WorkError as error:
            assert str(error).startswith(f"{path} is not a whole model: ")
            assert "\n" not in str(error).partition("(")[0]
            refused += 1
        else:  # A date, say.
            assert [value.tobytes() for value in found] == weights
    assert refused > 42
