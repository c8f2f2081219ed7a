"""The networks: MODELS maps a name to a function that builds a functional `keras.Model`.

A model reads `encoder_token_ids` (int32 [batch, t], padded on the right with 0) and
`decoder_token_ids` (int32 [batch, s]: BOS and the target so far) and gives logits (float32
[batch, s, vocabulary_size]). Its layers `encoder` (ids -> states) and `decoder` ([ids, *states] ->
logits, *states) are models themselves, so decoding can carry the states step by step.
"""

import zipfile

import keras

from keras_l2e.errors import WorkError
from keras_l2e.networks import lstm as layers


def lstm(
    vocabulary_size: int,
    hidden_dim: int,
    num_layers: int,
    embedding_dim: int | None = None,
    tie_encoder_decoder: bool = False,
    uniform_init: float = 0.0,
) -> keras.Model:
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
        The model, inputs named `encoder_token_ids` and `decoder_token_ids`, output logits.
    """

    def initializers(*names: str) -> dict[str, keras.initializers.Initializer]:
        # A new object for each weight: one object gives equal shapes equal values.
        return {
            f"{name}_initializer": keras.initializers.RandomUniform(-uniform_init, uniform_init)
            for name in names
            if uniform_init
        }

    def stack(name: str, outputs_wanted: bool = True) -> list[keras.layers.Layer]:
        return [
            layers.LSTM(
                hidden_dim,
                unit_forget_bias=not uniform_init,
                return_sequences=outputs_wanted or i < num_layers - 1,
                return_state=True,
                name=f"{name}_lstm_{i}",
                **initializers("kernel", "recurrent", "bias"),
            )
            for i in range(num_layers)
        ]

    # Layers.
    embedding = layers.EmbeddingTable(
        vocabulary_size, embedding_dim or hidden_dim, name="embedding", **initializers("embeddings")
    )
    if tie_encoder_decoder:
        reader = writer = stack("shared")
    else:
        reader, writer = stack("encoder", outputs_wanted=False), stack("decoder")
    logits = keras.layers.Dense(vocabulary_size, name="logits", **initializers("kernel", "bias"))

    # Encoder.
    encoder_token_ids = keras.Input([None], dtype="int32", name="encoder_token_ids")
    mask = keras.ops.not_equal(encoder_token_ids, 0)
    x, embeddings = encoder_token_ids, {"embeddings": embedding(encoder_token_ids)}
    encoder_states = []
    for layer in reader:
        x, *states = layer(x, mask=mask, **embeddings)
        embeddings = {}  # Only the first layer reads token ids.
        encoder_states += states
    encoder = keras.Model(encoder_token_ids, encoder_states, name="encoder")

    # Decoder. It needs no mask: targets are padded on the right, behind every position that counts.
    step_token_ids = keras.Input([None], dtype="int32", name="decoder_token_ids")
    state_inputs = [keras.Input([hidden_dim]) for _ in encoder_states]
    x, embeddings = step_token_ids, {"embeddings": embedding(step_token_ids)}
    decoder_states = []
    for i, layer in enumerate(writer):
        x, *states = layer(x, initial_state=state_inputs[2 * i : 2 * i + 2], **embeddings)
        embeddings = {}
        decoder_states += states
    decoder = keras.Model(
        [step_token_ids, *state_inputs], [logits(x), *decoder_states], name="decoder"
    )

    # The training model.
    decoder_token_ids = keras.Input([None], dtype="int32", name="decoder_token_ids")
    outputs, *_ = decoder([decoder_token_ids, *encoder(encoder_token_ids)])
    return layers.Network(
        {"encoder_token_ids": encoder_token_ids, "decoder_token_ids": decoder_token_ids},
        outputs,
        name="lstm",
        arguments={
            "vocabulary_size": vocabulary_size,
            "hidden_dim": hidden_dim,
            "num_layers": num_layers,
            "embedding_dim": embedding_dim,
            "tie_encoder_decoder": tie_encoder_decoder,
            "uniform_init": uniform_init,
        },
    )


MODELS = {"lstm": lstm}


def load(path) -> keras.Model:
    """The model in a .keras file, without an optimizer.

    Raises:
        WorkError: the file is not a whole model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # The weights are read without a look at their checksum.
        if damaged:
            raise ValueError(f"{damaged} was altered")
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Every way in which zipfile, h5py and Keras take a damaged file.
        raise WorkError(f"{path} is not a whole model: {error}") from None
