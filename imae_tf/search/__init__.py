"""A search of the weights without labels, with keras-tuner."""

from imae_tf._shared import extras

extras.check("search", "search for weights")
