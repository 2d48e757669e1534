"""For keras-tuner code, from `imae_tf.search.hypermodel`."""

from imae_tf.search.hypermodel import *  # noqa: F403
