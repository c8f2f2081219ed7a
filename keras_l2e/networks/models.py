"""The networks: what `networks.MODELS` names is built, saved and loaded here.

A model is a pair of functional `keras.Model`s:

    encoder: ids int32 [n, t], padded on the right with 0  ->  state
    decoder: [ids int32 [n, s], state]  ->  [logits float32 [n, s, vocabulary_size], state]

The ids that the decoder is given are BOS and what was written so far. The state is any nest of
tensors with the batch as their first axis: LSTM states, the encoder's outputs with their mask, a
growing past. `build` makes one network of the two, which maps `encoder_token_ids` and
`decoder_token_ids` to logits.
"""

import zipfile
from pathlib import Path

import keras

from keras_l2e import devices
from keras_l2e.errors import WorkError
from keras_l2e.networks import MODELS, resolve
from keras_l2e.networks.keras_hooks import FitsUnderStrategies
from keras_l2e.networks.lstm import LSTM, EmbeddingTable
from keras_l2e.settings import taken_by


def lstm(
    vocabulary_size: int,
    hidden_dim: int,
    num_layers: int,
    embedding_dim: int | None = None,
    tie_encoder_decoder: bool = False,
    uniform_init: float = 0.0,
) -> tuple[keras.Model, keras.Model]:
    """A stacked LSTM that reads the program and one that writes the output from its last states.

    Args:
        vocabulary_size: int, number of token ids, 0 being padding.
        hidden_dim: int, cells in each layer.
        num_layers: int, LSTM layers in the encoder and in the decoder.
        embedding_dim: int, width of the token embedding; `hidden_dim` by default.
        tie_encoder_decoder: bool, whether the decoder is the encoder's own LSTM stack: the paper's
            one network. With 2 layers of 400 cells and embedding_dim 400 it has 2.6 M parameters.
        uniform_init: float, if positive every weight starts uniform on [-uniform_init,
            uniform_init] (the paper's 0.08), else as in Keras (forget-gate bias 1).

    Returns:
        encoder, decoder; the state is a list, h and c of each layer, float32 [n, hidden_dim].
    """
    # Layers.
    width, initializers = embedding_dim or hidden_dim, _uniform(uniform_init, "embeddings")
    embedding = EmbeddingTable(vocabulary_size, width, name="embedding", **initializers)
    arguments = hidden_dim, num_layers, uniform_init
    if tie_encoder_decoder:
        reader = writer = _stack("shared", *arguments)
    else:
        reader = _stack("encoder", *arguments, outputs_wanted=False)
        writer = _stack("decoder", *arguments)
    logits = keras.layers.Dense(
        vocabulary_size, name="logits", **_uniform(uniform_init, "kernel", "bias")
    )

    # Encoder.
    ids = keras.Input([None], dtype="int32", name="encoder_token_ids")
    mask = keras.ops.not_equal(ids, 0)
    states, x = [], ids
    for i, layer in enumerate(reader):  # Only the first layer reads token ids.
        x, *layer_states = layer(x, mask=mask, embeddings=None if i else embedding(ids))
        states += layer_states
    encoder = keras.Model(ids, states, name="encoder")

    # Decoder. It needs no mask: targets are padded on the right, behind every position that counts.
    ids = keras.Input([None], dtype="int32", name="decoder_token_ids")
    state_inputs = [keras.Input([hidden_dim]) for _ in states]
    states, x = [], ids
    for i, layer in enumerate(writer):
        initial, table = state_inputs[2 * i : 2 * i + 2], None if i else embedding(ids)
        x, *layer_states = layer(x, initial_state=initial, embeddings=table)
        states += layer_states
    return encoder, keras.Model([ids, state_inputs], [logits(x), states], name="decoder")


def _stack(
    name: str, hidden_dim: int, num_layers: int, uniform_init: float, outputs_wanted: bool = True
) -> list[keras.layers.Layer]:
    return [
        LSTM(
            hidden_dim,
            unit_forget_bias=not uniform_init,
            return_sequences=outputs_wanted or i < num_layers - 1,
            return_state=True,
            name=f"{name}_lstm_{i}",
            **_uniform(uniform_init, "kernel", "recurrent", "bias"),
        )
        for i in range(num_layers)
    ]


def _uniform(limit: float, *names: str) -> dict[str, keras.initializers.Initializer]:
    # A new object for each weight: one object gives equal shapes equal values.
    return {
        f"{name}_initializer": keras.initializers.RandomUniform(-limit, limit)
        for name in names
        if limit
    }


@keras.saving.register_keras_serializable("keras_l2e")
class Network(FitsUnderStrategies, keras.Model):
    """A network that is saved as the call that builds it.

    Keras saves the graph, but a layer that stands in two models within it (the embedding; with one
    stack for reading and writing, the LSTMs) comes back as two layers, one of them untrained.

    Args:
        inputs, outputs: see `keras.Model`.
        name: its name in `MODELS`.
        arguments: what that function was called with.
    """

    def __init__(self, inputs, outputs, *, name: str, arguments: dict):
        super().__init__(inputs, outputs, name=name)
        self.arguments = arguments

    def get_config(self):
        return {"name": self.name, "arguments": dict(self.arguments)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return _assemble(config["name"], config["arguments"])


def build(name: str, vocabulary_size: int, settings: object) -> Network:
    """A network with its first weights.

    Args:
        name: a name in `MODELS`.
        vocabulary_size: number of token ids.
        settings: an object, as a `Config`, whose attributes are what the model's function takes.
    """
    arguments = taken_by(resolve(MODELS, name), settings)
    return _assemble(name, {"vocabulary_size": vocabulary_size, **arguments})


@devices.own_keras_settings()
def _assemble(name: str, arguments: dict) -> Network:
    encoder, decoder = resolve(MODELS, name)(**arguments)
    encoder_token_ids = keras.Input([None], dtype="int32", name="encoder_token_ids")
    decoder_token_ids = keras.Input([None], dtype="int32", name="decoder_token_ids")
    logits, _ = decoder([decoder_token_ids, encoder(encoder_token_ids)])
    inputs = {"encoder_token_ids": encoder_token_ids, "decoder_token_ids": decoder_token_ids}
    return Network(inputs, logits, name=name, arguments=arguments)


def load(path: Path) -> Network:
    """The network in a .keras file, or in a folder that has its parts, without an optimizer.

    Raises:
        WorkError: it is not a whole network.
    """
    try:
        if not path.is_dir():
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # Weights are read without a look at their checksum.
            if damaged:
                raise ValueError(f"{damaged} was altered")
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Every way in which zipfile, h5py and Keras take a damaged file.
        raise WorkError(f"{path} is not a whole model: {error}") from None
