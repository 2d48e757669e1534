"""Plots as PNG, from `imae_tf.reporting.plots`."""

from imae_tf.reporting.plots import *  # noqa: F403
