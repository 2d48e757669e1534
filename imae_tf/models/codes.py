"""What a trained model is asked for: codes of images, and images of codes.

`HybridAutoencoder` adds the training to it.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imae_tf import objective
from imae_tf import posterior
from imae_tf._shared import model_checks
from imae_tf._shared import pixels
from imae_tf._shared import streams
from imae_tf._shared.image_model import ImageModel
from imae_tf.errors import InputError
from imae_tf.posterior import Posterior

RECONSTRUCTION = {
    "bernoulli": objective.bernoulli_reconstruction,
    "gaussian": objective.gaussian_reconstruction,
}
_ARRAY_BATCH = 1024


class CodeModel(ImageModel):
  """Encoder, posterior and decoder, as functions of images and of codes.

  Attributes:
    encoder: Keras model, images [B, H, W, C] -> features.
    head: `posterior.HybridPosterior`.
    decoder: Keras model, (y, z) [B, K2 + K1] -> image logits.
    num_categories: K2.
    latent_dim: K1.
    temperature: of the relaxed y.
    likelihood: a key of `RECONSTRUCTION`.
  """

  encoder: keras.Model
  head: posterior.HybridPosterior
  decoder: keras.Model
  num_categories: int
  latent_dim: int
  temperature: float
  likelihood: str

  def call(self, x: Any, training: bool | None = None) -> dict[str, tf.Tensor]:
    """Images [B, H, W, C] to {"y", "z", "z_scale"}; `training` changes nothing."""
    return posterior.codes(self._parameters(pixels.scaled(x), training=False))

  def encoder_model(self) -> keras.Model:
    """A plain `keras.Model`, images -> {"y", "z", "z_scale"}, sharing these weights."""
    image = keras.Input(self.image_shape, name="x")
    codes = posterior.Codes(self.encoder, self.head)(image)
    return keras.Model(image, codes, name=f"{self.name}_encoder_model")

  def posterior(self, x: np.ndarray | tf.Tensor) -> Posterior:
    """The TFP distributions of p(y,z|x) for images x: a `posterior.Posterior`.

    Gradients flow back to a tensor x. Within a `tf.function` its values are not known yet, and
    only the type and shape are checked.

    Raises:
      InputError: as `encode`.
    """
    if not tf.is_tensor(x):
      x = model_checks.images(x, self.image_shape)
    elif tf.executing_eagerly():
      model_checks.images(x, self.image_shape)
    elif tf.TensorShape(x.shape).rank is not None:
      pixels.check_shape(tuple(x.shape), self.image_shape)
    x = pixels.scaled(x)
    return posterior.distributions(self._parameters(x, training=False), self.temperature)

  def encode(self, x: Any) -> dict[str, np.ndarray]:
    """Images to NumPy codes.

    Args:
      x: an array [N, H, W, C] or a list of images; or batches of images, (images, label) or
        {"image": images}: a tf.data.Dataset, a keras PyDataset, a generator. Integers and bools
        are read as `imae_tf.data.load` reads them: white is the type's largest value.

    Returns:
      {"y": [N, K2] probabilities, "z": [N, K1] means, "z_scale": [N, K1]}.

    Raises:
      InputError: the images have another shape, dtype or range.
    """
    with model_checks.told():
      checked = streams.Checked(x, self.image_shape)
      if isinstance(checked.images, np.ndarray):
        return _in_batches(self, checked.images)
      return checked.predicted(lambda images: keras.Model.predict(self, images, verbose=0))

  def decode(self, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Codes y [N, K2] (one-hot or probabilities) and z [N, K1] to images in [0, 1]."""
    y, z = np.asarray(y, "float32"), np.asarray(z, "float32")
    expected = ((len(y), self.num_categories), (len(y), self.latent_dim))
    if (y.shape, z.shape) != expected:
      raise InputError(
          f"expected y of shape [N, {self.num_categories}] and z of shape"
          f" [N, {self.latent_dim}], got {list(y.shape)} and {list(z.shape)}; give the y and z"
          " of encode."
      )
    return _in_batches(lambda y, z: tf.sigmoid(self._logits(y, z)), y, z)

  def reconstruct(self, x: Any) -> np.ndarray:
    """Images to their reconstructions from p(y|x) and the mean of z, in [0, 1]."""
    codes = self.encode(x)
    return self.decode(codes["y"], codes["z"])

  def generate(
      self, n: int, y: int | Sequence[int] | np.ndarray | None = None, seed: int = 0
  ) -> np.ndarray:
    """n images from the prior: z ~ N(0, I), and y uniform or the given category.

    Args:
      n: number of images.
      y: None, a category in 0..K2-1, or n of them.
      seed: of the draws.

    Returns:
      NumPy images [n, H, W, C] in [0, 1].
    """
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, self.latent_dim))
    categories = rng.integers(self.num_categories, size=n) if y is None else np.asarray(y)
    in_range = np.all((categories >= 0) & (categories < self.num_categories))
    if categories.dtype.kind not in "iu" or categories.shape not in ((), (n,)) or not in_range:
      raise InputError(
          f"expected y as an integer in 0..{self.num_categories - 1}, or {n} of them, got {y!r};"
          " correct it."
      )
    categories = np.broadcast_to(categories, (n,))
    return self.decode(np.eye(self.num_categories)[categories], z)

  def reconstruction_loss(self, x: np.ndarray) -> np.ndarray:
    """-log q(x|y,z) from p(y|x) and the mean of z: [N] NumPy, nats per image."""
    x = model_checks.images(x, self.image_shape)

    def nats(x: tf.Tensor) -> tf.Tensor:
      codes = self(x)
      return self._reconstruction(x, self._logits(codes["y"], codes["z"]))

    return _in_batches(nats, x)

  # ---- inside ---------------------------------------------------------------------------

  def _parameters(self, x: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
    return self.head(self.encoder(x, training=training))

  def _logits(self, y: tf.Tensor, z: tf.Tensor, training: bool = False) -> tf.Tensor:
    code = tf.concat([tf.cast(y, tf.float32), tf.cast(z, tf.float32)], axis=1)
    return tf.cast(self.decoder(code, training=training), tf.float32)

  def _reconstruction(self, x: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return RECONSTRUCTION[self.likelihood](tf.cast(x, tf.float32), logits)


def _in_batches(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
  """Applies a function of tensors to NumPy arrays, empty ones included, by slices."""
  starts = range(0, len(arrays[0]), _ARRAY_BATCH) or [0]
  parts = [function(*(tf.constant(a[i : i + _ARRAY_BATCH]) for a in arrays)) for i in starts]
  return tf.nest.map_structure(lambda *p: np.concatenate(p), *parts)
