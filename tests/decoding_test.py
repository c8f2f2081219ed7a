import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_l2e.networks.decoding import greedy_decode

SIZE, BOS, EOS = 10, 8, 9


def decode(decoder, state, max_steps):
    """In a graph; gives ids as lists, and logits."""
    run = tf.function(lambda: greedy_decode(decoder, state, max_steps=max_steps, bos=BOS, eos=EOS))
    ids, logits = run()
    assert ids.dtype == tf.int32 and logits.dtype == tf.float32
    return ids.numpy().tolist(), logits.numpy()


class Scripted:
    """A decoder whose rows answer by the script in their state.

    The state: script, the id to write at each step; num_steps, those done; fed, the id that it must
    be given next.
    """

    def __init__(self, max_steps):
        shapes = {"script": [None, max_steps], "num_steps": [None, 1], "fed": [None, 1]}
        self.output = [None, {name: tf.TensorSpec(shape) for name, shape in shapes.items()}]
        self.num_traces = 0

    def __call__(self, inputs):
        self.num_traces += 1
        ids, state = inputs
        tf.debugging.assert_equal(tf.cast(ids, tf.float32), state["fed"])
        column = tf.cast(state["num_steps"], tf.int32)
        chosen = tf.gather(state["script"], column, batch_dims=1)
        logits = 5 * tf.one_hot(tf.cast(chosen, tf.int32), SIZE)
        # A row that has ended is fed PAD, whatever it would write.
        fed = state["fed"]
        ended = tf.reduce_any((fed == EOS) | (fed == 0), axis=1, keepdims=True)
        state = {**state, "num_steps": state["num_steps"] + 1, "fed": tf.where(ended, 0.0, chosen)}
        return [logits, state]


def decode_scripts(scripts, max_steps=6):
    state = {
        "script": tf.constant(scripts, tf.float32, [len(scripts), max_steps]),
        "num_steps": tf.zeros([len(scripts), 1]),
        "fed": tf.fill([len(scripts), 1], float(BOS)),
    }
    return decode(Scripted(max_steps), state, max_steps)


@pytest.mark.parametrize(
    ("scripts", "expected"),
    [
        # It stops when the last row has ended; what stands behind an EOS is 0.
        ([[1, 2, EOS, 3, 3, 3], [4, EOS, 5, 5, 5, 5]], [[1, 2, EOS], [4, EOS, 0]]),
        # A row that never ends holds the others up to the last step.
        ([[1, 2, 3, 4, 5, 6], [EOS, 7, 7, 7, 7, 7]], [[1, 2, 3, 4, 5, 6], [EOS, 0, 0, 0, 0, 0]]),
        # EOS at the first and at the last step.
        ([[EOS, 1, 1, 1, 1, 1]], [[EOS]]),
        ([[1, 2, 3, 4, 5, EOS]], [[1, 2, 3, 4, 5, EOS]]),
        # PAD may be written, too: it does not end a row.
        ([[1, 0, EOS, 1, 1, 1]], [[1, 0, EOS]]),
    ],
)
def test_scripts(scripts, expected):
    ids, logits = decode_scripts(scripts)
    assert ids == expected
    # The logits of each step, also behind a row's EOS, are what the decoder gave.
    picked = np.argmax(logits, axis=2)
    np.testing.assert_array_equal(picked, np.array(scripts)[:, : len(expected[0])])


def test_a_single_step():
    assert decode_scripts([[3], [EOS]], max_steps=1)[0] == [[3], [EOS]]


def test_an_empty_batch():
    ids, logits = decode_scripts([])
    assert np.shape(ids) == (0,)
    assert logits.shape == (0, 1, SIZE)


def test_the_loop_is_in_the_graph():
    decoder = Scripted(50)
    state = {
        "script": tf.ones([2, 50]),
        "num_steps": tf.zeros([2, 1]),
        "fed": tf.fill([2, 1], float(BOS)),
    }
    assert np.shape(decode(decoder, state, 50)[0]) == (2, 50)
    assert decoder.num_traces < 5


def growing():
    """A model that keeps all ids it was given, and writes their sum modulo 10."""
    ids = keras.Input([None], dtype="int32")
    past = keras.Input([None], dtype="int32")
    known = ops.concatenate([past, ids], axis=1)
    total = ops.sum(known, axis=1, keepdims=True) % SIZE
    return keras.Model([ids, {"past": past}], [ops.one_hot(total, SIZE), {"past": known}])


def test_a_state_that_grows():
    # 8 is BOS: 3+5+8 is 16, which writes 6; 3+5+8+6 is 22, and so on.
    state = {"past": tf.constant([[3, 5], [1, 0]])}
    ids, _ = decode(growing(), state, max_steps=5)
    assert ids == [[6, 2, 4, 8, 6], [EOS, 0, 0, 0, 0]]
