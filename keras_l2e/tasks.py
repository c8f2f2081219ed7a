"""Another name for `keras_l2e.language.tasks`."""

from keras_l2e.language.tasks import *  # noqa: F403
