"""The public name of `imae_tf.reporting.run_page`: the report of a run."""

from imae_tf.reporting.run_page import *  # noqa: F403
