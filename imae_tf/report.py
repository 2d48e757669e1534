"""The page of a run, from `imae_tf.reporting.run_page`."""

from imae_tf.reporting.run_page import *  # noqa: F403
