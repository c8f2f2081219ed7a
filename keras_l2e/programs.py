"""Another name for `keras_l2e.language.programs`."""

from keras_l2e.language.programs import *  # noqa: F403
