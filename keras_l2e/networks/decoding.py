"""Greedy decoding in graph: from a decoder's first state, one id at a time, until all rows ended.

    state = model.get_layer("encoder")(encoder_token_ids)
    ids, logits = greedy_decode(model.get_layer("decoder"), state, max_steps=7, bos=41, eos=42)

`ids` are what the model writes, `logits` what it thought at each step.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Rows of a batch whose work is written. Lengths of work differ so widely that 256 rows, all written
# until the longest ends, take up to four times as long.
WORK_ROWS = 32


def similar_lengths(
    texts: Sequence[str | bytes], batch_size: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Deals texts out in batches of similar lengths: all are written until the longest one ends.

    Args:
        texts: what decides.
        batch_size: texts in a batch, fewer in the last one.

    Returns:
        batches: the numbers of the texts in each, the longest first, so that threads that take one
            batch after the other end at about the same time; one without any if there is no text.
        places: what is found batch by batch stands for the text i at place places[i].
    """
    order = np.argsort([-len(text) for text in texts], kind="stable")
    starts = range(0, max(1, len(order)), batch_size)
    return [order[i : i + batch_size] for i in starts], np.argsort(order)


def greedy_decode(decoder, state, *, max_steps: int, bos: int, eos: int):
    """The most probable id at each step, given the ids written before it.

    Args:
        decoder: ([ids int32 [n, steps], state]) -> [logits float32 [n, steps, v], state], a
            functional `keras.Model` of `models.MODELS`.
        state: what its encoder gives, any nest of tensors whose first axis is the batch; later
            axes may grow from step to step where the decoder's own output says so (None).
        max_steps: the most ids to write, EOS included; decoding stops as soon as every row has
            written EOS.
        bos, eos: ids that start the decoder and that end an answer.

    Returns:
        ids: int32 [n, steps]; what stands after a row's first EOS is 0.
        logits: float32 [n, steps, v] of each step.
    """
    n = tf.shape(tf.nest.flatten(state)[0])[0]
    ids = tf.TensorArray(tf.int32, max_steps, element_shape=[None])
    logits = tf.TensorArray(tf.float32, max_steps, element_shape=[None, None])

    def some_unfinished(step, finished, *_):
        # The first step is always made, so that an empty batch has a shape.
        return (step == 0) | ((step < max_steps) & ~tf.reduce_all(finished))

    def write_one(step, finished, last, state, ids, logits):
        step_logits, state = decoder([last[:, None], state])
        step_logits = step_logits[:, 0]
        picked = tf.argmax(step_logits, axis=-1, output_type=tf.int32)
        picked = tf.where(finished, 0, picked)
        return (
            step + 1,
            finished | (picked == eos),
            picked,
            state,
            ids.write(step, picked),
            logits.write(step, step_logits),
        )

    start = (0, tf.zeros([n], tf.bool), tf.fill([n], bos), state, ids, logits)
    rows, unknown = tf.TensorShape([None]), tf.TensorShape(None)
    _, state_outputs = decoder.output
    shapes = tf.nest.map_structure(lambda x: tf.TensorShape(x.shape), state_outputs)
    steps, _, _, _, ids, logits = tf.while_loop(
        some_unfinished,
        write_one,
        start,
        (tf.TensorShape([]), rows, rows, shapes, unknown, unknown),
    )
    written = tf.range(steps)  # Of work that may be long only what was written takes memory.
    return tf.transpose(ids.gather(written)), tf.transpose(logits.gather(written), [1, 0, 2])
