"""An LSTM layer that trains faster on CPU than Keras' own, with the same weights and numbers.

    layer = lstm.LSTM(256, return_sequences=True, return_state=True)
    outputs, h, c = layer(x, mask=mask)   # a mask must be right-padded, as cuDNN wants it

    table = lstm.EmbeddingTable(43, 64)(token_ids)
    outputs, h, c = layer(token_ids, embeddings=table)

The whole sequence goes forward in one operation instead of a dozen a step; backward, each step is
one operation for the gates and one product, and the weights' gradient is one large product over all
steps. Given token ids and their embeddings, the first product is done once for each token of the
vocabulary instead of once for each position, the steps compute only with tokens that occur, and
first steps that are the same in all rows ("print(" before every sum) are computed once: for sums
read forwards 20.5 to 21.3 ms a step instead of 24.7 to 28.6 at 1 x 128
(results/benchmarks/shared_first_steps.json). benchmarks/training_step.py measures the layer.
"""

import contextlib
from collections.abc import Iterator

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


@keras.saving.register_keras_serializable("keras_l2e")
class LSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` with another way of computing on CPU.

    Takes the arguments of `keras.layers.LSTM`; called with `embeddings` (float32 [v, d]), its input
    are token ids (int32 [n, t]) to be looked up there. With a GPU, with arguments that leave the
    standard cell (dropout, other activations, no bias, backwards, stateful), or while `portable` is
    set, it computes as `keras.layers.LSTM` does.

    Attributes:
        portable: whether it is to use only operations that other engines have, too.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.input_spec = None  # Two axes for token ids, three otherwise.
        self.portable = False

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
        lengths = num_same = None
        if mask is not None:
            lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        if initial_state is None:
            num_rows = tf.shape(sequences)[0]
            if embeddings is not None and not self.return_sequences:
                num_same, num_rows = _common_prefix_length(sequences, lengths), 1
            initial_state = self.get_initial_state(num_rows)
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
        weights = kernel, recurrent_kernel, bias
        outputs, h, c = lstm(x, h, c, *weights, lengths, self.return_sequences, num_same)
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
            not self.portable
            and self.activation is keras.activations.tanh
            and self.recurrent_activation is keras.activations.sigmoid
            and self.use_bias
            and not (self.dropout or self.recurrent_dropout)
            and not (self.go_backwards or self.stateful or self.unroll)
            and not self.zero_output_for_mask
            and self.compute_dtype == "float32"
            and not tf.config.list_logical_devices("GPU")
        )


@contextlib.contextmanager
def computing(network: keras.Model, **settings: bool) -> Iterator[None]:
    """Sets attributes of all LSTM layers of a network while the block runs.

    Args:
        network: of `models.build`.
        settings: `use_cudnn`, since with a GPU Keras would put an operation of cuDNN's into a
            graph, which no CPU has; `portable`.
    """
    parts = network.get_layer("encoder"), network.get_layer("decoder")
    layers = {x for part in parts for x in part.layers if isinstance(x, keras.layers.LSTM)}
    before = [(layer, name, getattr(layer, name)) for layer in layers for name in settings]
    try:
        for layer, name, _ in before:
            setattr(layer, name, settings[name])
        yield
    finally:
        for layer, name, value in before:
            setattr(layer, name, value)


def lstm(
    x,
    h,
    c,
    kernel,
    recurrent_kernel,
    bias,
    lengths=None,
    return_sequences=True,
    num_same=None,
):
    """Runs an LSTM over a time-major batch.

    Args:
        x: float32 [t, n, d], t >= 1.
        h, c: float32 [n, units], the states before the first step; with num_same [1, units].
        kernel, recurrent_kernel, bias: float32 [d, 4 * units], [units, 4 * units], [4 * units],
            gates in Keras' order: input, forget, candidate, output.
        lengths: int32 [n], steps of each row that count; all of them if None.
        return_sequences: bool, whether the outputs are wanted, and not the last states alone.
        num_same: int32 [], below t and not above any length: as many first steps have the same x
            in all rows, and are computed for one row only. Without outputs; x gets no gradient.

    Returns:
        outputs: float32 [t, n, units], or None; what stands behind a row's length has no meaning.
        h, c: float32 [n, units], the states after each row's last step.
    """

    @tf.custom_gradient
    def run(x, first_h, first_c, kernel, recurrent_kernel, bias):
        weights = kernel, recurrent_kernel, bias
        h, c, steps = first_h, first_c, lengths
        if num_same is not None:
            # At least one step, as the gradient has no way for none; it is not taken if none is
            # the same.
            taken = num_same > 0
            x_same, x = x[: tf.maximum(num_same, 1), :1], x[num_same:]
            same = _forward(x_same, h, c, *weights)
            h, c = tf.where(taken, same.h[-1], h), tf.where(taken, same.cs[-1], c)
            h, c = (tf.repeat(state, tf.shape(x)[1], axis=0) for state in (h, c))
            steps = None if steps is None else steps - num_same
        saved = _forward(x, h, c, *weights)
        if steps is None:
            states = saved.h[-1], saved.cs[-1]
        else:
            # Rows without a step keep their states; `last` points their gather anywhere.
            last = tf.stack([tf.maximum(steps - 1, 0), tf.range(tf.size(steps))], axis=1)
            some = (steps > 0)[:, None]
            states = (
                tf.where(some, tf.gather_nd(saved.h, last), h),
                tf.where(some, tf.gather_nd(saved.cs, last), c),
            )

        def gradient(*d):
            # Transposed once: products with a transposed matrix take 1.3 to 3 times as long.
            transposed = tf.transpose(_swap_middle(recurrent_kernel))
            d_outputs = d[0] if return_sequences else None
            d_gates, d_h, d_c = _backward(c, saved, transposed, steps, d_outputs, *d[-2:])
            d_kernel = _sum_of_products(x, d_gates)
            # A product takes half the time of a sum over rows.
            d_bias = _sum_of_products(tf.ones([*tf.unstack(tf.shape(d_gates)[:2]), 1]), d_gates)[0]
            first_hs, d_first = h, d_gates[0]
            if num_same is None:
                d_x = tf.tensordot(d_gates, tf.transpose(_swap_middle(kernel)), 1)
                d_h += tf.matmul(d_first, transposed)
            else:
                d_x = None
                first_hs = h[:1]
                d_first, d_h, d_c = (
                    tf.reduce_sum(y, axis=0, keepdims=True) for y in (d_first, d_h, d_c)
                )
                d_h += tf.matmul(d_first, transposed)
                zeros = tf.zeros_like(first_h)
                d_same, d_before_h, d_before_c = _backward(
                    *(first_c, same, transposed, None, None),
                    *(tf.where(taken, y, zeros) for y in (d_h, d_c)),
                )
                d_before_h += tf.matmul(d_same[0], transposed)
                d_h, d_c = tf.where(taken, d_before_h, d_h), tf.where(taken, d_before_c, d_c)
                d_kernel += _sum_of_products(x_same, d_same)
                d_bias += tf.reduce_sum(d_same, axis=[0, 1])
                first_hs = tf.concat([first_h, same.h[:-1, 0], first_hs], axis=0)
                d_first = tf.concat([d_same[:, 0], d_first], axis=0)
            # Slices, not a copy of all outputs shifted by one step.
            d_recurrent = _sum_of_products(saved.h[:-1], d_gates[1:])
            d_recurrent += tf.matmul(first_hs, d_first, transpose_a=True)
            return d_x, d_h, d_c, *(_swap_middle(y) for y in (d_kernel, d_recurrent, d_bias))

        return (saved.h, *states) if return_sequences else states, gradient

    results = run(x, h, c, kernel, recurrent_kernel, bias)
    return results if return_sequences else (None, *results)


def _common_prefix_length(ids, lengths=None):
    """How many first steps are the same in all rows, the last step of the batch left out.

    Args:
        ids: int32 [n, t].
        lengths: int32 [n], steps of each row that count; all of them if None.
    """
    same = tf.reduce_all(ids == ids[:1], axis=0)
    length = tf.reduce_sum(tf.math.cumprod(tf.cast(same, tf.int32)))
    length = tf.minimum(length, tf.shape(ids)[1] - 1)
    return length if lengths is None else tf.minimum(length, tf.reduce_min(lengths))


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


def _backward(first_c, saved, transposed, lengths, d_outputs, d_last_h, d_last_c):
    """Goes back through the steps of `_forward`.

    Args:
        first_c: float32 [n, units], the cells before the first step.
        saved: what `_forward` gave.
        transposed: float32 [4 * units, units], the recurrent kernel.
        lengths: int32 [n], steps of each row, or None for all.
        d_outputs: float32 [t, n, units], gradient of the outputs, or None for zeros.
        d_last_h, d_last_c: float32 [n, units], gradient of the states after each row's last step.

    Returns:
        d_gates: float32 [t, n, 4 * units]. These and the transposed kernel have the gates in the
            order of the operation that computes them: input, candidate, forget, output.
        d_h, d_c: float32 [n, units], gradient of the states before the first step; to that of h
            belongs also d_gates[0] @ transposed, a product that not everyone needs.
    """
    num_steps = tf.shape(saved.h)[0]
    width, units = transposed.shape
    zeros = tf.zeros_like(first_c)
    no_peephole = tf.zeros([units])

    def gates(t, c_before, d_h, d_c):
        if d_outputs is not None:
            d_h += d_outputs[t]
        d_c, d_gate, *_ = tf.raw_ops.LSTMBlockCellGrad(
            x=zeros[:, :0],  # Of x, h_prev, w and b only the shape counts.
            cs_prev=c_before,
            h_prev=zeros,
            w=tf.reshape(transposed, [units, width]),
            wci=no_peephole,
            wcf=no_peephole,
            wco=no_peephole,
            b=tf.zeros([width]),
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
        return t - 1, tf.matmul(d_gate, transposed), d_c, d_gates.write(t, d_gate)

    def ending(t, d_h, d_c):
        """Adds the gradient of the last states in the rows whose last step is t."""
        end = tf.cast(tf.equal(lengths, t + 1), tf.float32)[:, None]
        return d_h + end * d_last_h, d_c + end * d_last_c

    def step_where_rows_end(t, d_h, d_c, d_gates):
        return step(t, *ending(t, d_h, d_c), d_gates)

    d_gates = tf.TensorArray(tf.float32, num_steps, element_shape=[None, width])
    # A step does not know how many rows there are, even where the states before it do.
    states = tf.TensorShape([None, units])
    shapes = tf.TensorShape([]), states, states, tf.TensorShape(None)
    if lengths is None:
        state = (num_steps - 1, d_last_h, d_last_c, d_gates)
    else:
        first_end = tf.maximum(tf.reduce_min(lengths) - 1, 1)
        state = tf.while_loop(
            lambda t, *_: t >= first_end,
            step_where_rows_end,
            (num_steps - 1, zeros, zeros, d_gates),
            shapes,
        )
    # The first step has other cells before it.
    _, d_h, d_c, d_gates = tf.while_loop(lambda t, *_: t >= 1, step, state, shapes)
    if lengths is not None:
        d_h, d_c = ending(0, d_h, d_c)
    d_c, d_gate = gates(0, first_c, d_h, d_c)
    d_gates = d_gates.write(0, d_gate).stack()
    # The last states of rows without a step are the first ones.
    return d_gates, *(ending(-1, zeros, d_c) if lengths is not None else (zeros, d_c))


def _sum_of_products(a, b):
    """The outer products of the rows of a, float32 [t, n, i], and b, [t, n, j], summed: [i, j]."""
    a, b = (tf.reshape(y, [-1, tf.shape(y)[-1]]) for y in (a, b))
    return tf.matmul(a, b, transpose_a=True)


def _swap_middle(gates):
    """Swaps the second and third quarter of the last axis: one gate order to the other and back."""
    first, second, third, fourth = tf.split(gates, 4, axis=-1)
    return tf.concat([first, third, second, fourth], axis=-1)
