"""`HybridAutoencoder`, a `keras.Model` around p(y,z|x); `methods` has the objectives."""

from imae_tf.models.hybrid import HybridAutoencoder

__all__ = ["HybridAutoencoder"]
