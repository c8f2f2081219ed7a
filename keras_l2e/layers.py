"""An LSTM layer that trains faster on CPU than Keras' own, with the same weights and numbers.

    layer = layers.LSTM(256, return_sequences=True, return_state=True)
    outputs, h, c = layer(x, mask=mask)   # a mask must be right-padded, as cuDNN wants it

    table = layers.EmbeddingTable(43, 64)(token_ids)
    outputs, h, c = layer(token_ids, embeddings=table)

The whole sequence goes forward in one operation instead of a dozen a step; backward, each step is
one operation for the gates and one product, and the weights' gradient is one large product over all
steps. Given token ids and their embeddings, the first product is done once for each token of the
vocabulary instead of once for each position, and the steps compute only with tokens that occur.
benchmarks/training_step.py measures it.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_l2e")
class EmbeddingTable(keras.layers.Embedding):
    """`keras.layers.Embedding` that gives its whole table, float32 [input_dim, output_dim].

    It is called on token ids, int32 [n, t], only to stand in the model's graph where the stock
    layer stands; `LSTM` does the looking up.
    """

    def call(self, inputs):
        return tf.convert_to_tensor(self.embeddings)

    def compute_output_shape(self, input_shape):
        return (self.input_dim, self.output_dim)

    def compute_mask(self, inputs, mask=None):
        return None


@keras.saving.register_keras_serializable("keras_l2e")
class LSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` with another way of computing on CPU.

    Takes the arguments of `keras.layers.LSTM`; called with `embeddings` (float32 [v, d]), its input
    are token ids (int32 [n, t]) to be looked up there. With a GPU, or with arguments that leave the
    standard cell (dropout, other activations, no bias, backwards, stateful), it computes as
    `keras.layers.LSTM` does.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.input_spec = None  # Two axes for token ids, three otherwise.

    def build(self, sequences_shape, initial_state_shape=None, embeddings_shape=None):
        if embeddings_shape is not None:
            sequences_shape = (*sequences_shape, embeddings_shape[-1])
        super().build(sequences_shape)

    def compute_output_shape(
        self, sequences_shape, initial_state_shape=None, embeddings_shape=None
    ):
        return super().compute_output_shape(sequences_shape)

    def call(self, sequences, initial_state=None, mask=None, training=False, embeddings=None):
        if not self._is_standard():
            if embeddings is not None:
                sequences = tf.gather(embeddings, sequences)
            return super().call(sequences, initial_state, mask, training)
        if initial_state is None:
            initial_state = self.get_initial_state(tf.shape(sequences)[0])
        h, c = (tf.convert_to_tensor(state) for state in initial_state)
        kernel, recurrent_kernel, bias = map(tf.convert_to_tensor, self.cell.trainable_weights)
        if embeddings is None:
            x = tf.transpose(sequences, [1, 0, 2])
        else:
            # A row of embeddings @ kernel + bias for each position: as fast as looking it up, and
            # its gradient is a product too, not a slow sum over segments.
            table = tf.matmul(embeddings, kernel) + bias
            x, kernel = _one_hot_of_present(tf.transpose(sequences), table)
            bias = tf.zeros_like(bias)
        lengths = None
        if mask is not None:
            lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        outputs, h, c = lstm(
            x, h, c, kernel, recurrent_kernel, bias, lengths, self.return_sequences
        )
        if not self.return_sequences:
            outputs = h
        else:
            outputs = tf.transpose(outputs, [1, 0, 2])
            if mask is not None:
                outputs = tf.where(mask[:, :, None], outputs, h[:, None])
            outputs = tf.ensure_shape(outputs, [*sequences.shape[:2], self.units])
        return (outputs, h, c) if self.return_state else outputs

    def _is_standard(self) -> bool:
        return (
            self.activation is keras.activations.tanh
            and self.recurrent_activation is keras.activations.sigmoid
            and self.use_bias
            and not (self.dropout or self.recurrent_dropout)
            and not (self.go_backwards or self.stateful or self.unroll)
            and self.compute_dtype == "float32"
            and not tf.config.list_logical_devices("GPU")
        )


@keras.saving.register_keras_serializable("keras_l2e")
class Network(keras.Model):
    """A functional model that is saved as the call of `models.MODELS` that builds it.

    Keras saves the graph, but a layer that stands in two models within it (the embedding; with one
    stack for reading and writing, the LSTMs) comes back as two layers, one of them untrained.

    Args:
        inputs, outputs: see `keras.Model`.
        name: its name in `models.MODELS`.
        arguments: what that function was called with.
    """

    def __init__(self, inputs, outputs, *, name: str, arguments: dict):
        super().__init__(inputs, outputs, name=name)
        self.arguments = arguments

    def get_config(self):
        return {"name": self.name, "arguments": dict(self.arguments)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        from keras_l2e import models

        return models.MODELS[config["name"]](**config["arguments"])


def lstm(x, h, c, kernel, recurrent_kernel, bias, lengths=None, return_sequences=True):
    """Runs an LSTM over a time-major batch.

    Args:
        x: float32 [t, n, d], t >= 1.
        h, c: float32 [n, units], the states before the first step.
        kernel, recurrent_kernel, bias: float32 [d, 4 * units], [units, 4 * units], [4 * units],
            gates in Keras' order: input, forget, candidate, output.
        lengths: int32 [n], steps of each row that count; all of them if None.
        return_sequences: bool, whether the outputs are wanted, and not the last states alone.

    Returns:
        outputs: float32 [t, n, units], or None; what stands behind a row's length has no meaning.
        h, c: float32 [n, units], the states after each row's last step.
    """

    @tf.custom_gradient
    def run(*arguments):
        saved = _forward(*arguments)
        if lengths is None:
            states = saved.h[-1], saved.cs[-1]
        else:
            # Rows without a step keep their states; `last` points their gather anywhere.
            last = tf.stack([tf.maximum(lengths - 1, 0), tf.range(tf.size(lengths))], axis=1)
            some = (lengths > 0)[:, None]
            states = (
                tf.where(some, tf.gather_nd(saved.h, last), h),
                tf.where(some, tf.gather_nd(saved.cs, last), c),
            )

        def gradient(*d):
            d_outputs = d[0] if return_sequences else None
            return _backward(arguments, saved, lengths, d_outputs, *d[-2:])

        return (saved.h, *states) if return_sequences else states, gradient

    results = run(x, h, c, kernel, recurrent_kernel, bias)
    return results if return_sequences else (None, *results)


def _one_hot_of_present(ids, table):
    """Token ids as rows to be multiplied with the rows of a table, of those that occur.

    A batch of sums has 18 of the 43 characters, and answers have 13: the products are that much
    smaller. Their number is rounded up to a multiple of 8, or every batch would bring shapes of
    its own, for each of which oneDNN first has to make kernels.

    Args:
        ids: int32 [t, n].
        table: float32 [v, d].

    Returns:
        x: float32 [t, n, k], k <= v.
        rows: float32 [k, d]; x @ rows are the rows of the table at the ids.
    """
    present, places = tf.unique(tf.reshape(ids, [-1]))
    size = tf.size(present)
    depth = tf.minimum((size + 7) // 8 * 8, table.shape[0])
    present = tf.pad(present, [[0, depth - size]], constant_values=-1)  # A row of zeros.
    rows = tf.matmul(tf.one_hot(present, table.shape[0]), table)
    return tf.one_hot(tf.reshape(places, tf.shape(ids)), depth), rows


def _forward(x, h, c, kernel, recurrent_kernel, bias):
    """Gates, cells and outputs of all steps: i, cs, f, o, ci, co, h, each float32 [t, n, units]."""
    no_peephole = tf.zeros_like(bias[: recurrent_kernel.shape[0]])
    return tf.raw_ops.BlockLSTMV2(
        seq_len_max=tf.shape(x, tf.int64)[0],
        x=x,
        cs_prev=c,
        h_prev=h,
        w=tf.concat([kernel, recurrent_kernel], axis=0),
        wci=no_peephole,
        wcf=no_peephole,
        wco=no_peephole,
        b=bias,
        cell_clip=0.0,
        use_peephole=False,
    )


def _backward(arguments, saved, lengths, d_outputs, d_last_h, d_last_c):
    """The gradients of `_forward`'s arguments.

    Args:
        arguments, saved: what `_forward` took and gave.
        lengths: int32 [n], steps of each row, or None for all.
        d_outputs: float32 [t, n, units], gradient of the outputs, or None for zeros.
        d_last_h, d_last_c: float32 [n, units], gradient of the states after each row's last step.
    """
    x, h, c, kernel, recurrent_kernel, bias = arguments
    units = recurrent_kernel.shape[0]
    # Transposed once: products with a transposed matrix take 1.3 to 3 times as long. The gates'
    # operation gives their gradients in the order input, candidate, forget, output.
    recurrent_transposed = tf.transpose(_swap_middle(recurrent_kernel))
    w = tf.concat([kernel, recurrent_kernel], axis=0)
    no_peephole = tf.zeros_like(bias[:units])
    num_steps = tf.shape(x)[0]
    width = 4 * units

    def gates(t, cs_before, d_h, d_c):
        if d_outputs is not None:
            d_h += d_outputs[t]
        d_c, d_gate, *_ = tf.raw_ops.LSTMBlockCellGrad(
            x=x[0],  # Only its shape counts, and those of h_prev and w.
            cs_prev=cs_before,
            h_prev=h,
            w=w,
            wci=no_peephole,
            wcf=no_peephole,
            wco=no_peephole,
            b=bias,
            i=saved.i[t],
            cs=saved.cs[t],
            f=saved.f[t],
            o=saved.o[t],
            ci=saved.ci[t],
            co=saved.co[t],
            cs_grad=d_c,
            h_grad=d_h,
            use_peephole=False,
        )
        return tf.ensure_shape(d_c, [None, units]), d_gate

    def step(t, d_h, d_c, d_gates):
        d_c, d_gate = gates(t, saved.cs[t - 1], d_h, d_c)
        return t - 1, tf.matmul(d_gate, recurrent_transposed), d_c, d_gates.write(t, d_gate)

    def ending(t, d_h, d_c):
        """Adds the gradient of the last states in the rows whose last step is t."""
        end = tf.cast(tf.equal(lengths, t + 1), tf.float32)[:, None]
        return d_h + end * d_last_h, d_c + end * d_last_c

    def step_where_rows_end(t, d_h, d_c, d_gates):
        return step(t, *ending(t, d_h, d_c), d_gates)

    d_gates = tf.TensorArray(tf.float32, num_steps, element_shape=[None, width])
    if lengths is None:
        state = (num_steps - 1, d_last_h, d_last_c, d_gates)
    else:
        zeros = tf.zeros_like(h)
        first_end = tf.maximum(tf.reduce_min(lengths) - 1, 1)
        state = tf.while_loop(
            lambda t, *_: t >= first_end,
            step_where_rows_end,
            (num_steps - 1, zeros, zeros, d_gates),
        )
    _, d_h, d_c, d_gates = tf.while_loop(lambda t, *_: t >= 1, step, state)
    # The first step has other cells before it, and its product is left out of the graph where
    # nobody asks for the gradient of the first states.
    if lengths is not None:
        d_h, d_c = ending(0, d_h, d_c)
    d_c, d_gate = gates(0, c, d_h, d_c)
    d_h = tf.matmul(d_gate, recurrent_transposed)
    d_gates = d_gates.write(0, d_gate)
    if lengths is not None:  # The last states of rows without a step are the first ones.
        d_h, d_c = ending(-1, d_h, d_c)
    d_gates = d_gates.stack()
    flat = tf.reshape(d_gates, [-1, width])
    d_x = tf.reshape(tf.matmul(flat, _swap_middle(kernel), transpose_b=True), tf.shape(x))
    d_kernel = tf.matmul(tf.reshape(x, [-1, tf.shape(x)[-1]]), flat, transpose_a=True)
    # Slices, not a copy of all outputs shifted by one step.
    d_recurrent = tf.matmul(
        tf.reshape(saved.h[:-1], [-1, units]),
        tf.reshape(d_gates[1:], [-1, width]),
        transpose_a=True,
    ) + tf.matmul(h, d_gates[0], transpose_a=True)
    # A product takes half the time of a sum over rows.
    d_bias = tf.matmul(tf.ones([1, tf.shape(flat)[0]]), flat)[0]
    return d_x, d_h, d_c, *(_swap_middle(d) for d in (d_kernel, d_recurrent, d_bias))


def _swap_middle(gates):
    """Swaps the second and third quarter of the last axis: one gate order to the other and back."""
    first, second, third, fourth = tf.split(gates, 4, axis=-1)
    return tf.concat([first, third, second, fourth], axis=-1)
