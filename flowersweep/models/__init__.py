"""Networks: backbones with their weights, and the classifier built on one."""

import keras

# Whatever ~/.keras/keras.json says: another layout or precision gives a network other numbers.
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
