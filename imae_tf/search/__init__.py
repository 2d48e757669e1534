"""Searches weights without labels, with keras-tuner, for `imae-tune`."""

from imae_tf._shared import extras

extras.check("search", "search for weights")
