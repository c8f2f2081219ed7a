"""Optimizers: Keras' own, with the gradient clipped by the norm of the whole batch's gradient.

`global_clipnorm` of Keras clips each replica's part before the parts are summed, so its effect
depends on the number of replicas; here the sum is clipped.
"""

import keras
import tensorflow as tf


class _WholeBatch:
    """Clips after the replicas' gradients are summed, and leaves the averages to the caller."""

    def __init__(self, *args, clip_norm: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.clip_norm = clip_norm

    # Keras' own hook between the sum over replicas and the update. tests/optimizers_test.py fails if
    # a later Keras stops calling it.
    def _all_reduce_sum_gradients(self, grads_and_vars):
        reduced = super()._all_reduce_sum_gradients(grads_and_vars)
        if not self.clip_norm:
            return reduced
        gradients, variables = zip(*reduced, strict=True)
        clipped, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        return list(zip(clipped, variables, strict=True))

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
    """Muon for the LSTM kernels, Adam at the same rate for embedding, biases and output layer."""

    def __init__(self, *args, **kwargs):
        settings = {
            "exclude_layers": ["logits"],
            "adam_beta_2": 0.99,
            "weight_decay": 0,
            "adam_weight_decay": 0,
        }
        super().__init__(*args, **{**settings, **kwargs})


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "muon": Muon}
