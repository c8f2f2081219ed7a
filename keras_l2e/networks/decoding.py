"""Greedy decoding in graph: from the encoder's states, one id at a time, until every row has ended.

    states = model.get_layer("encoder")(encoder_token_ids)
    ids, logits = greedy_decode(model, states, max_steps=7, bos=41, eos=42)

`ids` are what the model writes, `logits` what it thought at each step.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf


def greedy_decode(
    model: keras.Model, states: Sequence[tf.Tensor], *, max_steps: int, bos: int, eos: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The most probable id at each step, given the ids written before it.

    Args:
        model: a model of `models.MODELS`.
        states: what its encoder gives, float32 [n, hidden_dim] each.
        max_steps: the most ids to write, EOS included; decoding stops as soon as every row has
            written EOS.
        bos, eos: ids that start the decoder and that end an answer.

    Returns:
        ids: int32 [n, steps]; what stands after a row's first EOS is 0.
        logits: float32 [n, steps, vocabulary_size] of each step.
    """
    decoder = model.get_layer("decoder")
    n = tf.shape(states[0])[0]
    ids = tf.TensorArray(tf.int32, max_steps, element_shape=[None])
    logits = tf.TensorArray(tf.float32, max_steps, element_shape=[None, None])

    def some_unfinished(step, finished, *_):
        # The first step is always made, so that an empty batch has a shape.
        return (step == 0) | ((step < max_steps) & ~tf.reduce_all(finished))

    def write_one(step, finished, last, states, ids, logits):
        step_logits, *states = decoder([last[:, None], *states])
        step_logits = step_logits[:, 0]
        picked = tf.argmax(step_logits, axis=-1, output_type=tf.int32)
        picked = tf.where(finished, 0, picked)
        return (
            step + 1,
            finished | (picked == eos),
            picked,
            states,
            ids.write(step, picked),
            logits.write(step, step_logits),
        )

    steps, _, _, _, ids, logits = tf.while_loop(
        some_unfinished,
        write_one,
        (0, tf.zeros([n], tf.bool), tf.fill([n], bos), list(states), ids, logits),
    )
    return tf.transpose(ids.stack()[:steps]), tf.transpose(logits.stack()[:steps], [1, 0, 2])
