"""Another name for `keras_l2e.language.interpreter`."""

from keras_l2e.language.interpreter import *  # noqa: F403
