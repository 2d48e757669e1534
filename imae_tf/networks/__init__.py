"""Builds encoders and decoders: `mlp` (the paper's Table 1), `conv` (64x64), `two_towers`.

`recipes.build` and users call these functions. An encoder maps images [B, H, W, C] to features
[B, F]; the model's `HybridPosterior` maps features to (mean, log-scale, logits). An encoder may
also give {"y": [B, F_y], "z": [B, F_z]}, features for y and for z. A decoder maps the
concatenation (y, z), [B, K2 + K1], to image logits [B, H, W, C]. You can use any other Keras models
with these shapes.
"""

from imae_tf.networks.convolutional import conv
from imae_tf.networks.dense import mlp
from imae_tf.networks.dense import two_towers
from imae_tf.networks.transforms import RandomTransform
from imae_tf.networks.views import EdgeEnergies
from imae_tf.networks.views import Pixels
from imae_tf.networks.views import View

__all__ = ["EdgeEnergies", "Pixels", "RandomTransform", "View", "conv", "mlp", "two_towers"]
