"""Another name for `keras_l2e.language.vocabulary`."""

from keras_l2e.language.vocabulary import *  # noqa: F403
