"""A network that looks at what it reads and at what it wrote.

    encoder, decoder = attention(vocabulary_size=43, hidden_dim=192, embedding_dim=64, num_heads=4)

The reader is a bidirectional LSTM. The writer is an LSTM; its output asks, by several heads each,
what was read and what was written before it; a second LSTM takes what they answer. Long work is
written from one place of the program and of itself to the next, which a fixed state cannot hold.
"""

import keras
import tensorflow as tf

from keras_l2e.errors import UsageError
from keras_l2e.networks.lstm import LSTM, EmbeddingTable

# Queries that look back at once, see `_look_back`.
BLOCK = 256


def attention(
    vocabulary_size: int,
    hidden_dim: int,
    embedding_dim: int,
    num_heads: int,
    own_past: bool = True,
    second_lstm: bool = True,
) -> tuple[keras.Model, keras.Model]:
    """Bidirectional LSTM reader; writer: LSTM, attention to text and own past, second LSTM.

    Args:
        vocabulary_size: int, number of token ids, 0 being padding.
        hidden_dim: int, cells of both writing LSTMs; the reader has half as many each way.
        embedding_dim: int, width of the token embedding.
        num_heads: int, heads of each attention; divides hidden_dim.
        own_past: bool, whether the writer looks at what it wrote.
        second_lstm: bool, whether a second LSTM follows; else what was found is written from.

    Returns:
        encoder, decoder. The state is a dict: `lstm` and `second_lstm` (h, c), `read` (keys,
        values, mask of the text) and `past` (keys, values of all that was written so far).

    Raises:
        UsageError: the cells cannot be shared out evenly.
    """
    check_width(hidden_dim, num_heads)
    embedding = EmbeddingTable(vocabulary_size, embedding_dim, name="embedding")
    encoder = _reader(embedding, hidden_dim, num_heads, own_past, second_lstm)
    attend, split = Attention(name="attend"), SplitHeads(num_heads, name="heads")

    ids = keras.Input([None], dtype="int32", name="decoder_token_ids")
    state = state_inputs(encoder)
    outputs = dict(state)
    sequences = {"return_sequences": True, "return_state": True}
    first = LSTM(hidden_dim, **sequences, name="decoder_lstm")
    h, *outputs["lstm"] = first(ids, initial_state=state["lstm"], embeddings=embedding(ids))
    query, *own = map(split, project("ask", hidden_dim, 4 if own_past else 1)(h))
    found = [attend([query, *state["read"]])]
    if own_past:
        query, *keys_and_values = own
        outputs["past"] = append(state["past"], keys_and_values)
        found.append(attend([query, *outputs["past"]]))
    u = h + keras.layers.Dense(hidden_dim, use_bias=False, name="mix")(
        keras.ops.concatenate(found, axis=-1)
    )
    x = u
    if second_lstm:
        second = LSTM(hidden_dim, **sequences, name="decoder_second_lstm")
        x, *outputs["second_lstm"] = second(u, initial_state=state["second_lstm"])
        x = keras.ops.concatenate([x, u], axis=-1)
    logits = keras.layers.Dense(vocabulary_size, name="logits")(x)
    return encoder, keras.Model([ids, state], [logits, outputs], name="decoder")


def check_width(hidden_dim: int, num_heads: int) -> None:
    """Raises UsageError if a width cannot be halved and shared out among heads."""
    if hidden_dim % 2 or hidden_dim % num_heads:
        raise UsageError(
            f"--hidden_dim={hidden_dim}; allowed are multiples of 2 and of --num_heads={num_heads}"
        )


def state_inputs(encoder: keras.Model):
    """A decoder's inputs for the state that an encoder gives, a nest of the same shape."""
    return keras.tree.map_structure(
        lambda x: keras.Input(x.shape[1:], dtype=x.dtype), encoder.output
    )


def append(past: list, new: list) -> list:
    """Keys and values, [n, heads, t, width], with those of the next places behind them."""
    return [keras.ops.concatenate(pair, axis=2) for pair in zip(past, new, strict=True)]


def _reader(
    embedding, hidden_dim: int, num_heads: int, own_past: bool, second_lstm: bool
) -> keras.Model:
    """A bidirectional LSTM; gives the writer's first state."""
    forward, backward = (
        LSTM(hidden_dim // 2, return_sequences=True, return_state=True, name=f"encoder_{name}")
        for name in ("forward", "backward")
    )
    ids = keras.Input([None], dtype="int32", name="encoder_token_ids")
    mask = keras.ops.not_equal(ids, 0)
    table = embedding(ids)
    reverse = ReverseSequence(name="reverse")
    onward, h, c = forward(ids, mask=mask, embeddings=table)
    back, back_h, back_c = backward(reverse([ids, mask]), mask=mask, embeddings=table)
    read = keras.ops.concatenate([onward, reverse([back, mask])], axis=-1)
    joined = [keras.ops.concatenate(pair, axis=-1) for pair in ((h, back_h), (c, back_c))]
    split = SplitHeads(num_heads, name="heads")
    state = {"lstm": joined, "read": [*map(split, project("tell", hidden_dim, 2)(read)), mask]}
    if own_past:
        nothing = NoPast(num_heads, hidden_dim // num_heads, name="no_past")(ids)
        state["past"] = [nothing, nothing]
    if second_lstm:
        nothing = keras.ops.zeros_like(joined[0])
        state["second_lstm"] = [nothing, nothing]
    return keras.Model(ids, state, name="encoder")


def project(name: str, width: int, count: int):
    """A function that gives so many projections of a tensor, which one product makes."""
    projection = keras.layers.Dense(count * width, use_bias=False, name=name)
    return lambda x: keras.ops.split(projection(x), count, axis=-1)


@keras.saving.register_keras_serializable("keras_l2e")
class SplitHeads(keras.layers.Layer):
    """Deals a width out among heads: [n, t, d] -> [n, heads, t, d / heads]."""

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def call(self, x):
        n, t = tf.unstack(tf.shape(x)[:2])
        t = x.shape[1] or t
        parts = tf.reshape(x, [n, t, self.num_heads, x.shape[-1] // self.num_heads])
        return tf.transpose(parts, [0, 2, 1, 3])

    def compute_output_shape(self, input_shape):
        n, t, d = input_shape
        return n, self.num_heads, t, d // self.num_heads

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("keras_l2e")
class Attention(keras.layers.Layer):
    """Scaled dot-product attention of several heads (arXiv 1706.03762), without projections.

    Called on queries float32 [n, heads, s, d], keys and values [n, heads, t, d], and a mask bool
    [n, t] of the places that count. Without a mask it is causal: the queries stand at the last s of
    the t places, and each looks at its own place and those before. Gives float32 [n, s, heads * d].
    """

    def call(self, inputs):
        queries, keys, values, *mask = inputs
        if mask:
            found = tf.matmul(_weights(queries, keys, mask[0][:, None, None, :]), values)
        elif queries.shape[2] == 1:  # The newest place sees all.
            found = tf.matmul(_weights(queries, keys, True), values)
        else:
            found = _look_back(queries, keys, values)
        found = tf.transpose(found, [0, 2, 1, 3])
        _, num_heads, _, width = queries.shape
        return tf.reshape(found, [*tf.unstack(tf.shape(found)[:2]), num_heads * width])

    def compute_output_shape(self, input_shape):
        n, num_heads, s, width = input_shape[0]
        return n, s, num_heads * width


def _weights(queries, keys, allowed):
    scores = tf.matmul(queries, keys, transpose_b=True) * queries.shape[-1] ** -0.5
    return tf.nn.softmax(tf.where(allowed, scores, -1e9))


@tf.autograph.experimental.do_not_convert
@tf.custom_gradient
def _look_back(queries, keys, values):
    """Causal attention, some queries at a time; their weights are computed anew for the gradient.

    So the memory for it grows with the length, not with its square: the work of a batch of loops in
    loops may have thousands of characters.
    """
    num_queries, num_keys = tf.shape(queries)[2], tf.shape(keys)[2]

    def block(start):
        """Up to which query it goes, how many keys these see, and their weights."""
        end = tf.minimum(start + BLOCK, num_queries)
        place = num_keys - num_queries
        seen = tf.range(place + end)[None, :] <= tf.range(place + start, place + end)[:, None]
        num_seen = place + end
        return end, num_seen, _weights(queries[:, :, start:end], keys[:, :, :num_seen], seen)

    def look(start, found):
        end, num_seen, weights = block(start)
        return end, tf.concat([found, weights @ values[:, :, :num_seen]], axis=2)

    def differentiate(gradient):
        def look(start, of_queries, of_keys, of_values):
            end, num_seen, weights = block(start)
            upstream, some = gradient[:, :, start:end], queries[:, :, start:end]
            of_weights = tf.matmul(upstream, values[:, :, :num_seen], transpose_b=True)
            mean = tf.reduce_sum(of_weights * weights, axis=-1, keepdims=True)
            of_scores = weights * (of_weights - mean) * queries.shape[-1] ** -0.5
            unseen = [[0, 0], [0, 0], [0, num_keys - num_seen], [0, 0]]
            return (
                end,
                tf.concat([of_queries, of_scores @ keys[:, :, :num_seen]], axis=2),
                of_keys + tf.pad(tf.matmul(of_scores, some, transpose_a=True), unseen),
                of_values + tf.pad(tf.matmul(weights, upstream, transpose_a=True), unseen),
            )

        return _over_blocks(look, queries, tf.zeros_like(keys), tf.zeros_like(values))

    return _over_blocks(look, queries)[0], differentiate


def _over_blocks(look, queries, *sums):
    """What a function of (first query, what it found so far, sums) comes to over all queries."""
    num_queries, nothing = tf.shape(queries)[2], tf.zeros_like(queries[:, :, :0])
    growing = tf.TensorShape([None, queries.shape[1], None, queries.shape[3]])
    _, *results = tf.while_loop(
        lambda start, *_: start < num_queries,
        look,
        [tf.constant(0), nothing, *sums],
        shape_invariants=[tf.TensorShape([]), *[growing] * (1 + len(sums))],
    )
    return results


@keras.saving.register_keras_serializable("keras_l2e")
class ReverseSequence(keras.layers.Layer):
    """Turns round the first steps of each row, [n, t, ...], those that a mask, [n, t], counts."""

    supports_masking = True  # Keras' own mask, which comes with an LSTM's outputs, ends here.

    def compute_mask(self, inputs, previous_mask):
        return None

    def call(self, inputs):
        x, mask = inputs
        return tf.reverse_sequence(x, tf.reduce_sum(tf.cast(mask, tf.int32), axis=1), seq_axis=1)

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable("keras_l2e")
class NoPast(keras.layers.Layer):
    """For ids [n, t], what was written before the first step: float32 [n, heads, 0, width]."""

    def __init__(self, num_heads: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.width = num_heads, width

    def call(self, ids):
        return tf.zeros([tf.shape(ids)[0], self.num_heads, 0, self.width])

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.num_heads, None, self.width

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "width": self.width}
