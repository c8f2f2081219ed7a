"""Two logical CPU devices for the whole session: TensorFlow takes no more once it has started."""

from keras_l2e import runtime

runtime.load_tensorflow()

import tensorflow as tf  # noqa: E402

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
