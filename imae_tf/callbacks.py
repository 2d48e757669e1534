"""Callbacks for `fit`, from `imae_tf.training.callbacks`."""

from imae_tf.training.callbacks import *  # noqa: F403
