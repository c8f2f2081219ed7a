"""Optimizers: Keras' own, which see the gradient of the whole batch and average the weights.

    optimizer = optimizers.make("muon", 0.01, clip_norm=1.0, average_decay=0.999)
    model.compile(optimizer, loss)
    model.fit(dataset)
    optimizer.averages  # A variable for each trainable variable of the model, in their order.

Keras' `global_clipnorm` clips each replica's part before the parts are summed, so its effect
depends on the number of replicas; here the sum is clipped. Keras' `use_ema` overwrites the weights
with their average at the end of every `fit`, so that many short fits are not one long one; here
the averages are only kept.
"""

import keras
import tensorflow as tf

from keras_l2e.networks import OPTIMIZERS, resolve
from keras_l2e.networks.keras_hooks import variable_index


class _WholeBatch:
    """What our optimizers have in common, by Keras' public methods alone.

    Args:
        *args, **kwargs: those of the optimizer of Keras.
        clip_norm: float, bound on the norm of the whole batch's gradient; 0 for none.
        average_decay: float, decay of the weights' moving average in a step; 0 for no average.
    """

    def __init__(self, *args, clip_norm: float = 0.0, average_decay: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.clip_norm = clip_norm
        self.average_decay = average_decay
        self.averages = []

    def build(self, variables):
        if self.average_decay and not self.built:
            self.averages = self.add_optimizer_variables(variables, "average")
        super().build(variables)

    def apply_gradients(self, grads_and_vars):
        """Updates the variables with the gradients of one replica, in the context of that one."""
        pairs = list(grads_and_vars)
        if not self.built:
            self.build([variable for _, variable in pairs])
        # Dense: in a sparse gradient a token that occurs twice counts twice in the norm.
        gradients = [tf.convert_to_tensor(g) for g, _ in pairs if g is not None]
        variables = [variable for g, variable in pairs if g is not None]
        for gradient, variable in zip(gradients, variables, strict=True):
            gradient.set_shape(variable.shape)  # Lost on the way through batches of any size.
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        steps = tf.cast(self.iterations, tf.float32)
        index = int(tf.get_static_value(replica.replica_id_in_sync_group))
        shares = self._shares(gradients, variables, index, replica.num_replicas_in_sync)
        iterations = super().apply_gradients(zip(shares, variables, strict=True))
        # At full decay from the start, the first weights, which know nothing, would long have the
        # most say, and a curriculum that judges the average would wait for that to end. (At step 0
        # the average is the weights.)
        decay = tf.minimum(self.average_decay, steps / (steps + 9))
        for (_, variable), average in zip(pairs, self.averages, strict=False):
            average.assign(decay * average + (1 - decay) * variable)
        return iterations

    def _shares(self, gradients, variables, index: int, num_replicas: int):
        """What a replica brings to the update: Keras sums over the replicas once more."""
        return [g if index == 0 else tf.zeros_like(g) for g in gradients]


class SGD(_WholeBatch, keras.optimizers.SGD):
    """Plain stochastic gradient descent, the paper's optimizer."""


class Adam(_WholeBatch, keras.optimizers.Adam):
    """Adam with Keras' defaults."""


class Muon(_WholeBatch, keras.optimizers.Muon):
    """Muon for all matrices but those of embeddings and outputs; Adam at its rate for the rest.

    Keras has every replica orthogonalize every kernel. Here the kernels are dealt out among the
    replicas, and each is orthogonalized by products of its smaller side only.
    """

    def __init__(self, *args, **kwargs):
        settings = {
            "exclude_layers": ["logits", "positions", "halt"],
            "adam_beta_2": 0.99,
            "weight_decay": None,
            "adam_weight_decay": None,
        }
        super().__init__(*args, **{**settings, **kwargs})

    def _shares(self, gradients, variables, index: int, num_replicas: int):
        shares = super()._shares(gradients, variables, index, num_replicas)
        kernels = [i for i, variable in enumerate(variables) if self._is_kernel(variable)]
        # Without the large kernels first, one replica might get them all.
        kernels.sort(key=lambda i: -gradients[i].shape.num_elements())
        for place, i in enumerate(kernels):
            momentum = self.momentums[variable_index(self, variables[i])]
            moved = momentum * self.momentum + gradients[i]
            shares[i] = tf.zeros_like(gradients[i])
            if place % num_replicas == index:
                shares[i] = orthogonalize(
                    gradients[i] + self.momentum * moved,
                    (self.muon_a, self.muon_b, self.muon_c),
                    self.ns_steps,
                )
            momentum.assign(moved)
        return shares

    def update_step(self, gradient, variable, learning_rate):
        if self._is_kernel(variable):
            self.assign_sub(variable, self.lr_adjust(learning_rate * gradient))
        else:
            super().update_step(gradient, variable, learning_rate)

    def _is_kernel(self, variable) -> bool:
        return self.adam_velocities[variable_index(self, variable)] is None


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


def averages(model: keras.Model) -> dict[int, keras.Variable]:
    """The averaged weights of a model by the `id` of their weights; none without averaging."""
    pairs = zip(model.trainable_variables, model.optimizer.averages, strict=False)
    return {id(variable): average for variable, average in pairs}
