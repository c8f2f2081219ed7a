"""What is not public in Keras and yet needed, in one place: each with its reason.

tests/keras_hooks_test.py fails if a later Keras no longer calls or has one of them.
"""

import keras
import tensorflow as tf


class FitsUnderStrategies:
    """Mixin of a functional `keras.Model` whose inputs are token ids: `fit` for many replicas."""

    # `fit` learns here what batches look like. Under a strategy Keras makes an iterator and reads a
    # batch for this, at every call; for several workers it fails
    # (github.com/keras-team/keras/issues/20585). Nothing public says that the shapes are known.
    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        ids = keras.ops.zeros([1, 1], "int32")
        inputs = {x.name: ids for x in self.inputs}
        super()._maybe_symbolic_build(data_batch=(inputs, ids, keras.ops.zeros([1, 1])))

    # Public, and here because it is about the same issue: over several workers Keras takes the mean
    # of a step's logs along their first axis, and they are scalars.
    def train_step(self, data):
        logs = super().train_step(data)
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            logs = {name: value[None] for name, value in logs.items()}
        return logs


def variable_index(optimizer: keras.Optimizer, variable) -> int:
    """Place of a variable among those that an optimizer was built for.

    Keras' own example of an optimizer (in the docstring of `keras.optimizers.Optimizer`) finds its
    momentum like this: only this way knows a replica's part of a variable again.
    """
    return optimizer._get_variable_index(variable)
