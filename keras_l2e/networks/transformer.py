"""Transformers: networks of attention alone, with many blocks or with one applied many times.

    encoder, decoder = transformer(vocabulary_size=43, hidden_dim=128, num_layers=4, num_heads=4)

Blocks are pre-norm: what one adds is computed from the normalized sum of what was added before it
(arXiv 2002.04745). The writer keeps keys and values of all that was written, so that the next
character costs one place.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from keras_l2e.language import vocabulary
from keras_l2e.networks.attention import (
    Attention,
    NoPast,
    SplitHeads,
    append,
    check_width,
    project,
    state_inputs,
)

# Of the layers between two attentions, relative to the width (arXiv 1706.03762).
EXPANSION = 4
# Places with a learned vector of their own.
NUM_POSITIONS = 512
# A place halts when its probabilities of halting add up to so much (arXiv 1603.08983).
THRESHOLD = 0.99

Block = Callable[[keras.KerasTensor], keras.KerasTensor]


def transformer(
    vocabulary_size: int,
    hidden_dim: int,
    num_layers: int,
    num_heads: int,
    positions: str = "sinusoidal",
) -> tuple[keras.Model, keras.Model]:
    """The encoder-decoder of "Attention Is All You Need" (arXiv 1706.03762), pre-norm.

    Args:
        vocabulary_size: int, number of token ids, 0 being padding.
        hidden_dim: int, width of every place.
        num_layers: int, blocks of the encoder and of the decoder.
        num_heads: int, heads of each attention; divides hidden_dim.
        positions: "sinusoidal", which go on behind the longest text seen, or "learned"; then all
            places from the 512th on share a vector.

    Returns:
        encoder, decoder. The state is a dict: `read` (for each block keys and values of the text),
        `mask` of the text, and `past` (for each block keys and values of what was written).

    Raises:
        UsageError: the width cannot be shared out evenly.
    """
    check_width(hidden_dim, num_heads)
    reading = [_ReadingBlock(f"encoder_{i}", hidden_dim, num_heads) for i in range(num_layers)]
    writing = [_WritingBlock(f"decoder_{i}", hidden_dim, num_heads) for i in range(num_layers)]
    way = _one_after_the_other
    return _network(vocabulary_size, hidden_dim, num_heads, positions, reading, writing, way)


def universal_transformer(
    vocabulary_size: int,
    hidden_dim: int,
    num_layers: int,
    num_heads: int,
    positions: str = "sinusoidal",
    halting: bool = False,
    ponder_cost: float = 0.01,
) -> tuple[keras.Model, keras.Model]:
    """One block applied again and again, told its place and step (arXiv 1807.03819).

    Args:
        vocabulary_size: int, number of token ids, 0 being padding.
        hidden_dim: int, width of every place.
        num_layers: int, how often the block is applied. With halting all steps are computed as
            well; a place that has not halted by the last one halts there.
        num_heads: int, heads of each attention; divides hidden_dim.
        positions: see `transformer`.
        halting: bool, whether each place decides when it is done (adaptive computation time, arXiv
            1603.08983). It then stays as it is; what comes out of it is the mean of its steps,
            weighed by the probabilities of halting there.
        ponder_cost: float, what one more step at every place, of the reader or of the writer, adds
            to the loss.

    Returns:
        encoder, decoder. The state is that of `transformer`, with a past for each step.

    Raises:
        UsageError: the width cannot be shared out evenly.
    """
    check_width(hidden_dim, num_heads)
    reading = [_ReadingBlock("encoder", hidden_dim, num_heads)] * num_layers
    writing = [_WritingBlock("decoder", hidden_dim, num_heads)] * num_layers
    way = partial(_until_halted, ponder_cost=ponder_cost) if halting else _again
    return _network(vocabulary_size, hidden_dim, num_heads, positions, reading, writing, way)


def _network(
    vocabulary_size: int,
    hidden_dim: int,
    num_heads: int,
    positions: str,
    reading: Sequence["_ReadingBlock"],
    writing: Sequence["_WritingBlock"],
    way: Callable,
) -> tuple[keras.Model, keras.Model]:
    """Encoder and decoder of some blocks, and of the way that goes through them."""
    # Scaled, characters are as large as places are, as in the code of arXiv 1807.03819.
    scale = math.sqrt(hidden_dim)
    normal = keras.initializers.RandomNormal(stddev=1 / scale)
    embedding = keras.layers.Embedding(
        vocabulary_size, hidden_dim, embeddings_initializer=normal, name="embedding"
    )

    ids = keras.Input([None], dtype="int32", name="encoder_token_ids")
    mask = keras.ops.not_equal(ids, 0)
    x = embedding(ids) * scale
    places = Positions(positions, name="encoder_positions")([x])
    blocks = [partial(block, mask=mask) for block in reading]
    x = way(x, places, blocks, mask, name="encoder")
    x = _norm("encoder_norm")(x)
    nothing = NoPast(num_heads, hidden_dim // num_heads, name="no_past")(ids)
    # A block that is applied again reads the same again.
    read = [block.tell(x) for block in dict.fromkeys(writing)]
    state = {"read": read, "mask": mask, "past": [[nothing, nothing] for _ in writing]}
    encoder = keras.Model(ids, state, name="encoder")

    ids = keras.Input([None], dtype="int32", name="decoder_token_ids")
    state = state_inputs(encoder)
    x = embedding(ids) * scale
    places = Positions(positions, name="decoder_positions")([x, state["past"][0][0]])
    outputs = {**state, "past": []}
    blocks = [
        partial(block, read=[*keys_and_values, state["mask"]], past=past, pasts=outputs["past"])
        for block, keys_and_values, past in zip(
            writing, itertools.cycle(state["read"]), state["past"], strict=False
        )
    ]
    # Behind EOS, too, nothing is written: shorter rows of a batch have it among the ids.
    counted = keras.ops.logical_and(ids != vocabulary.PAD, ids != vocabulary.EOS)
    x = way(x, places, blocks, counted, name="decoder")
    logits = keras.layers.Dense(vocabulary_size, name="logits")(_norm("decoder_norm")(x))
    return encoder, keras.Model([ids, state], [logits, outputs], name="decoder")


def _norm(name: str) -> keras.layers.Layer:
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)


class _FeedForward:
    """x plus two layers, the first one wider, of normalized x."""

    def __init__(self, name: str, width: int):
        self.norm = _norm(f"{name}_norm_of_feedforward")
        self.wide = keras.layers.Dense(EXPANSION * width, activation="relu", name=f"{name}_wide")
        self.narrow = keras.layers.Dense(width, name=f"{name}_narrow")

    def __call__(self, x):
        return x + self.narrow(self.wide(self.norm(x)))


class _ReadingBlock:
    """Looks at all that is read, itself included, [n, t, width]."""

    def __init__(self, name: str, width: int, num_heads: int):
        self.norm = _norm(f"{name}_norm_of_text")
        self.split, self.attend = SplitHeads(num_heads), Attention()
        self.ask, self.mix = project(f"{name}_ask", width, 3), _mix(f"{name}_mix", width)
        self.feedforward = _FeedForward(name, width)

    def __call__(self, x, mask):
        parts = map(self.split, self.ask(self.norm(x)))
        return self.feedforward(x + self.mix(self.attend([*parts, mask])))


class _WritingBlock:
    """Looks at what was written so far, then at what was read."""

    def __init__(self, name: str, width: int, num_heads: int):
        self.norms = [_norm(f"{name}_norm_of_{what}") for what in ("past", "text")]
        self.split, self.attend = SplitHeads(num_heads), Attention()
        self.ask_past = project(f"{name}_ask_past", width, 3)
        self.ask_text = project(f"{name}_ask_text", width, 1)
        self.tell_text = project(f"{name}_tell_text", width, 2)
        self.mix_past, self.mix_text = (
            _mix(f"{name}_mix_{what}", width) for what in ("past", "text")
        )
        self.feedforward = _FeedForward(name, width)

    def tell(self, memory) -> list:
        """Keys and values of what was read."""
        return [self.split(part) for part in self.tell_text(memory)]

    def __call__(self, x, read, past, pasts: list):
        query, *new = map(self.split, self.ask_past(self.norms[0](x)))
        seen = append(past, new)
        pasts.append(seen)
        x = x + self.mix_past(self.attend([query, *seen]))
        (query,) = map(self.split, self.ask_text(self.norms[1](x)))
        return self.feedforward(x + self.mix_text(self.attend([query, *read])))


def _mix(name: str, width: int) -> keras.layers.Layer:
    return keras.layers.Dense(width, use_bias=False, name=name)


def _one_after_the_other(x, places, blocks: Sequence[Block], mask, name: str):
    """Places are told once, before the first block."""
    x = x + places
    for block in blocks:
        x = block(x)
    return x


def _again(x, places, blocks: Sequence[Block], mask, name: str):
    """Places and steps are told before every step."""
    for step, block in enumerate(blocks):
        x = block(x + places + _step_signal(step, x.shape[-1]))
    return x


def _until_halted(x, places, blocks: Sequence[Block], mask, name: str, ponder_cost: float):
    """As `_again`; each place goes on until it halts."""
    bias = keras.initializers.Constant(-1.0)  # At first it hardly halts.
    halt = keras.layers.Dense(1, activation="sigmoid", bias_initializer=bias, name=f"{name}_halt")
    halted = keras.ops.zeros_like(x[..., :1])  # The probabilities of halting so far, summed.
    still_running, ponder_times, mean = halted + 1.0, halted, keras.ops.zeros_like(x)
    for step, block in enumerate(blocks):
        told = x + places + _step_signal(step, x.shape[-1])
        # From what the step is to be taken from, as in the code of arXiv 1807.03819.
        probability, remainder = halt(told), 1.0 - halted
        halts = keras.ops.cast(halted + probability >= THRESHOLD, x.dtype) * still_running
        if step == len(blocks) - 1:
            halts = still_running
        weight = halts * remainder + (still_running - halts) * probability
        ponder_times = ponder_times + still_running + halts * remainder
        x = still_running * block(told) + (1.0 - still_running) * x
        mean = mean + weight * x
        halted, still_running = halted + weight, still_running - halts
    return Ponder(ponder_cost, name=f"{name}_ponder")([mean, ponder_times, mask])


def _rates(width: int) -> np.ndarray:
    """Of waves whose lengths go from 2 pi to 10,000 times that: float32 [width / 2]."""
    rates = np.exp(-math.log(10_000) * np.arange(width // 2) / max(1, width // 2 - 1))
    return rates.astype(np.float32)


def _step_signal(step: int, width: int) -> np.ndarray:
    """Sines, then cosines, as of `Positions`: float32 [1, width]."""
    angles = np.float32(step) * _rates(width)
    return np.concatenate([np.sin(angles), np.cos(angles)])[None]


@keras.saving.register_keras_serializable("keras_l2e")
class Positions(keras.layers.Layer):
    """For x [n, s, width] the vectors of its places, float32 [1, s, width].

    A second tensor, [n, heads, t, ...], says that t places came before.
    """

    def __init__(self, kind: str, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def build(self, input_shape):
        if self.kind == "learned":
            shape = NUM_POSITIONS, input_shape[0][-1]
            normal = keras.initializers.RandomNormal(stddev=0.02)
            self.table = self.add_weight(shape=shape, initializer=normal, name="table")

    def call(self, inputs):
        x, *past = inputs
        # Where one place is asked for, attention is to know that it is one.
        places = tf.range(x.shape[1] or tf.shape(x)[1])
        if past:
            places += tf.shape(past[0])[2]
        if self.kind == "learned":
            return tf.gather(self.table, tf.minimum(places, NUM_POSITIONS - 1))[None]
        angles = tf.cast(places, tf.float32)[:, None] * _rates(x.shape[-1])
        return tf.concat([tf.sin(angles), tf.cos(angles)], -1)[None]

    def compute_output_shape(self, input_shape):
        return 1, *input_shape[0][1:]

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable("keras_l2e")
class Ponder(keras.layers.Layer):
    """Gives x [n, t, width] as it is; in training its steps, [n, t, 1], cost something.

    The mean over the places of a row that a mask, [n, t], counts, then over rows.
    """

    def __init__(self, cost: float, **kwargs):
        super().__init__(**kwargs)
        self.cost = cost

    def call(self, inputs, training=False):
        x, steps, mask = inputs
        if training:
            counts = tf.cast(mask, x.dtype)
            means = tf.reduce_sum(steps[..., 0] * counts, 1) / tf.reduce_sum(counts, 1)
            self.add_loss(self.cost * tf.reduce_mean(means))
        return x

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "cost": self.cost}
