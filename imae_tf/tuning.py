"""The public name of `imae_tf.search.hypermodel`: a HyperModel for your own keras-tuner code."""

from imae_tf.search.hypermodel import *  # noqa: F403
