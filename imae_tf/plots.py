"""The public name of `imae_tf.reporting.plots`: matplotlib figures of a run."""

from imae_tf.reporting.plots import *  # noqa: F403
