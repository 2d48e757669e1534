"""A search of the weights without labels, with keras-tuner."""
