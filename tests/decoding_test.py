import numpy as np
import pytest
import tensorflow as tf

from keras_l2e.networks import decoding

VOCABULARY_SIZE, BOS, EOS = 10, 8, 9


class ScriptedModel:
    """A model whose rows answer by the script in their states.

    The states of a row are its script (the id to write at each step), the number of steps done, and
    the id it wrote last.
    """

    def __init__(self):
        self.num_traces = 0

    def get_layer(self, name):
        assert name == "decoder"
        return self.step

    def step(self, inputs):
        self.num_traces += 1
        ids, script, num_steps, last = inputs
        tf.debugging.assert_equal(tf.cast(ids, tf.float32), last)
        column = tf.cast(num_steps, tf.int32)
        chosen = tf.gather(script, column, batch_dims=1)
        logits = 5 * tf.one_hot(tf.cast(chosen, tf.int32), VOCABULARY_SIZE)
        # A row that has ended is fed PAD, whatever it would write.
        ended = tf.reduce_any((last == EOS) | (last == 0), axis=1, keepdims=True)
        fed = tf.where(ended, 0.0, chosen)
        return logits, script, num_steps + 1, fed


def decode(scripts, max_steps=6):
    n = len(scripts)
    states = [
        tf.constant(scripts, tf.float32, shape=[n, max_steps]),
        tf.zeros([n, 1]),
        tf.fill([n, 1], float(BOS)),
    ]

    @tf.function
    def run():
        return decoding.greedy_decode(
            ScriptedModel(), states, max_steps=max_steps, bos=BOS, eos=EOS
        )

    ids, logits = run()
    assert ids.dtype == tf.int32 and logits.dtype == tf.float32
    return ids.numpy().tolist(), logits.numpy()


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
    ids, logits = decode(scripts)
    assert ids == expected
    # The logits of each step, also behind a row's EOS, are what the decoder gave.
    picked = np.argmax(logits, axis=2)
    np.testing.assert_array_equal(picked, np.array(scripts)[:, : len(expected[0])])


def test_a_single_step():
    assert decode([[3], [EOS]], max_steps=1)[0] == [[3], [EOS]]


def test_an_empty_batch():
    ids, logits = decode([])
    assert np.shape(ids) == (0,)
    assert logits.shape == (0, 1, VOCABULARY_SIZE)


def test_the_loop_is_in_the_graph():
    model = ScriptedModel()
    states = [tf.fill([2, 50], 1.0), tf.zeros([2, 1]), tf.fill([2, 1], float(BOS))]
    run = tf.function(
        lambda: decoding.greedy_decode(model, states, max_steps=50, bos=BOS, eos=EOS)[0]
    )
    assert run().shape == (2, 50)
    assert model.num_traces < 5
