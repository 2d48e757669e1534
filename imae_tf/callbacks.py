"""The public name of `imae_tf.training.callbacks`: callbacks for `fit`."""

from imae_tf.training.callbacks import *  # noqa: F403
