"""Optimizers: Keras' own, with the gradient clipped by the norm of the whole batch's gradient.

`global_clipnorm` of Keras clips each replica's part before the parts are summed, so its effect
depends on the number of replicas; here the sum is clipped.
"""

import keras
import tensorflow as tf

from keras_l2e.networks import OPTIMIZERS, resolve


class _WholeBatch:
    """Clips after the replicas' gradients are summed; averages weights, and leaves it at that."""

    def __init__(self, *args, clip_norm: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.clip_norm = clip_norm

    # Keras' own hook between the sum over replicas and the update. tests/optimizers_test.py fails
    # if a later Keras stops calling it.
    def _all_reduce_sum_gradients(self, grads_and_vars):
        reduced = super()._all_reduce_sum_gradients(grads_and_vars)
        if not self.clip_norm:
            return reduced
        gradients, variables = zip(*reduced, strict=True)
        clipped, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        return list(zip(clipped, variables, strict=True))

    # At full decay from the start, the first weights, which know nothing, would long have the most
    # say, and a curriculum that judges the average would wait for that to end. (At step 0 the
    # average is the weights.)
    def _update_model_variables_moving_average(self, trainable_variables):
        if not self.use_ema:
            return
        steps = tf.cast(self.iterations, tf.float32)
        decay = tf.minimum(self.ema_momentum, steps / (steps + 9))
        averages = self._model_variables_moving_average
        for variable, average in zip(trainable_variables, averages, strict=True):
            average.assign(decay * average + (1 - decay) * variable)

    def finalize_variable_values(self, var_list):
        # Keras would overwrite the weights with their average at the end of EVERY fit, so that
        # training in many short fits would not be one long training.
        pass

    def get_config(self):
        return {**super().get_config(), "clip_norm": self.clip_norm}


class SGD(_WholeBatch, keras.optimizers.SGD):
    """Plain stochastic gradient descent, the paper's optimizer."""


class Adam(_WholeBatch, keras.optimizers.Adam):
    """Adam with Keras' defaults."""


class Muon(_WholeBatch, keras.optimizers.Muon):
    """Muon for the LSTM kernels, Adam at the same rate for embedding, biases and output layer.

    Keras has every replica orthogonalize every kernel. Here the kernels are dealt out among the
    replicas, and each is orthogonalized by products of its smaller side only.
    """

    def __init__(self, *args, **kwargs):
        settings = {
            "exclude_layers": ["logits"],
            "adam_beta_2": 0.99,
            "weight_decay": 0,
            "adam_weight_decay": 0,
        }
        super().__init__(*args, **{**settings, **kwargs})

    # Keras' hook for the update, in which it sees all replicas.
    def _distributed_tf_update_step(self, distribution, grads_and_vars, learning_rate):
        others = []
        kernels = []
        for gradient, variable in grads_and_vars:
            by_adam = self.adam_velocities[self._get_variable_index(variable)] is not None
            (others if by_adam else kernels).append((gradient, variable))
        # Without the large kernels first, one replica might get them all.
        kernels.sort(key=lambda pair: -pair[1].shape.num_elements())
        for i, (gradient, variable) in enumerate(kernels):
            direction = self._direction(distribution, i, gradient, variable)
            arguments = (gradient, direction, learning_rate)
            distribution.extended.update(variable, self._update_kernel, args=arguments, group=False)
        super()._distributed_tf_update_step(distribution, others, learning_rate)

    def _direction(self, distribution, i: int, gradient, variable):
        """A kernel's orthogonalized momentum, computed on one replica's device."""
        momentum = self.momentums[self._get_variable_index(variable)].value
        gradients = distribution.experimental_local_results(gradient)
        momenta = distribution.experimental_local_results(momentum)
        chosen = i % len(gradients)
        with tf.device(gradients[chosen].device):
            gradient, moved = gradients[chosen], momenta[chosen] * self.momentum
            return orthogonalize(
                gradient + self.momentum * (moved + gradient),
                (self.muon_a, self.muon_b, self.muon_c),
                self.ns_steps,
            )

    def _update_kernel(self, variable, gradient, direction, learning_rate):
        momentum = self.momentums[self._get_variable_index(variable)]
        self.assign(momentum, momentum * self.momentum + gradient)
        self.assign_sub(variable, self.lr_adjust(learning_rate * direction))


def orthogonalize(matrix, coefficients: tuple[float, float, float], num_steps: int):
    """Newton-Schulz steps towards the nearest orthogonal matrix, as in `keras.optimizers.Muon`.

    A step is X <- (a + b G + c G^2) X with G = X X^T. All these factors commute with G, so the
    steps need not touch X: the product of the factors is gathered and applied once in the end.

    Args:
        matrix: float32 [m, n].
        coefficients: a, b, c of the polynomial.
        num_steps: how many steps.

    Returns:
        float32 [m, n].
    """
    a, b, c = coefficients
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix / (tf.norm(matrix) + 1e-7)
    gram = tf.matmul(x, x, transpose_b=wide, transpose_a=not wide)
    identity = tf.eye(min(matrix.shape))
    product = None
    for step in range(num_steps):
        factor = a * identity + b * gram + c * tf.matmul(gram, gram)
        product = factor if product is None else tf.matmul(factor, product)
        if step < num_steps - 1:
            gram = tf.matmul(factor, tf.matmul(gram, factor))
    return tf.matmul(product, x) if wide else tf.matmul(x, product)


def make(name: str, *args, **kwargs) -> keras.Optimizer:
    """The optimizer of a name in `networks.OPTIMIZERS`."""
    return resolve(OPTIMIZERS, name)(*args, **kwargs)


def averages(model: keras.Model) -> dict[str, keras.Variable]:
    """The averaged weights of a model by their weights' paths; none without averaging."""
    if not model.optimizer.use_ema:
        return {}
    averaged = model.optimizer._model_variables_moving_average
    return {v.path: average for v, average in zip(model.trainable_variables, averaged, strict=True)}
