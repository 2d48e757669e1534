"""`HybridAutoencoder`, a `keras.Model` around p(y,z|x); `methods` has the objectives."""

import copy
import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imae_tf import estimators
from imae_tf import objective
from imae_tf import optimizers  # noqa: F401  registers Adam, for models to load
from imae_tf import posterior
from imae_tf import vat
from imae_tf._shared import model_checks
from imae_tf._shared import pixels
from imae_tf._shared.global_batch import GlobalBatch
from imae_tf._shared.image_model import ImageModel
from imae_tf.errors import InputError
from imae_tf.posterior import Posterior

_RECONSTRUCTION = {
    "bernoulli": objective.bernoulli_reconstruction,
    "gaussian": objective.gaussian_reconstruction,
}
_MARGINALS: dict[str, Callable[..., estimators.LogMarginals]] = {
    "batch": estimators.log_marginals,
    "leave_one_out": functools.partial(estimators.log_marginals, leave_one_out=True),
    "second_batch": estimators.log_marginals_of_other_half,
}
_LOGGED = (
    "loss",
    "reconstruction_loss",
    "mi_y",
    "entropy_y",
    "conditional_entropy_y",
    "mi_z",
    "kl_z",
    "total_correlation",
    "vat_loss",
)
# Arguments that are config keys as they are.
_PLAIN_ARGUMENTS = (
    "num_categories", "latent_dim", "lam", "likelihood", "temperature", "detach_y", "vat_radius",
    "neighbor_fraction", "vat_xi", "vat_detach", "marginals", "max_log_scale", "seed",
)
_ARRAY_BATCH = 1024
Terms = dict[str, tf.Tensor]


class HybridAutoencoder(ImageModel):
  """Encoder, hybrid posterior and decoder; a subclass is the weighted sum it minimises.

  `model(x)` and `predict` give the codes {"y": [B, K2] probabilities, "z": [B, K1] posterior
  means, "z_scale": [B, K1] standard deviations}, deterministic whatever `training`. Images
  are [B, H, W, C] floats in [0, 1], or integers whose type's largest value is white. Compile
  with an optimizer and no loss. `fit` and `evaluate` take images, (images, label) or
  {"image": images}; labels are never used. They log, in nats per image and unweighted,
  `reconstruction_loss`, `mi_y`, `entropy_y`, `conditional_entropy_y`, `mi_z` (summed over
  dimensions), `kl_z`, `total_correlation`, `vat_loss` (the cross-entropy; absent when lam = 0)
  and their weighted sum `loss`.

  The marginals are taken over the batch, so a batch needs two images at least. A last batch
  of one has weight 0 in the loss, the logs and the statistics of the layers; its optimizer
  step has gradient 0. Layers with noise of their own, such as Dropout, work but do not resume
  to the bit.

  Args:
    encoder: built Keras model, images [B, H, W, C] -> features [B, F].
    decoder: built Keras model, (y, z) [B, K2 + K1] -> image logits [B, H, W, C].
    num_categories: K2, at least 2.
    latent_dim: K1, at least 1.
    lam: weight of the VAT cross-entropy in eq (12); 0 leaves VAT out.
    likelihood: "bernoulli", or "gaussian" (unit variance) for real-valued images.
    temperature: of the relaxed y in training, > 0.
    detach_y: stop the reconstruction's gradient at y, so that only L_D(y) forms categories.
    vat_radius: eps of eq (12) in pixel units, or "neighbor" (`vat.neighbor_radius`).
    neighbor_fraction: of the distance to the nearest image, for "neighbor"; > 0.
    vat_xi: step of the power iteration that finds r (`vat.direction`).
    vat_detach: keep the gradient from VAT's target; False is eq (12) to the letter (`vat`).
    marginals: over which images j of a batch the marginals of image i are averaged, eq (35):
      "batch", all of them; "leave_one_out", all but i; "second_batch", those of the half of
      the batch in which i is not.
    max_log_scale: bound of |log sigma| (`posterior.HybridPosterior`).
    logits_initializer: of the layer that gives the logits of p(y|x).
    seed: of the noise, a stateless function of (seed, optimizer step, row).

  Raises:
    InputError: an argument is out of its range, or the networks do not fit together.
  """

  def __init__(
      self,
      encoder: keras.Model,
      decoder: keras.Model,
      num_categories: int = 10,
      latent_dim: int = 10,
      lam: float = 5.0,
      likelihood: str = "bernoulli",
      temperature: float = 0.67,
      detach_y: bool = False,
      vat_radius: float | str = 1.0,
      neighbor_fraction: float = 0.2,
      vat_xi: float = 5.0,
      vat_detach: bool = True,
      marginals: str = "batch",
      max_log_scale: float = 3.0,
      logits_initializer: str | keras.initializers.Initializer = "glorot_uniform",
      seed: int = 0,
      **kwargs: Any,
  ) -> None:
    super().__init__(**kwargs)
    self.encoder = encoder
    self.decoder = decoder
    self.num_categories = num_categories
    self.latent_dim = latent_dim
    self.lam = lam
    self.likelihood = likelihood
    self.temperature = temperature
    self.detach_y = detach_y
    self.vat_radius = vat_radius
    self.neighbor_fraction = neighbor_fraction
    self.vat_xi = vat_xi
    self.vat_detach = vat_detach
    self.marginals = marginals
    self.max_log_scale = max_log_scale
    self.logits_initializer = keras.initializers.get(logits_initializer)
    self.seed = seed
    model_checks.check_arguments(self, _RECONSTRUCTION, _MARGINALS)
    # NumPy integers pass, but Keras's layers refuse them.
    self.num_categories, self.latent_dim = int(num_categories), int(latent_dim)
    self.image_shape: tuple[int, int, int] = tuple(encoder.input_shape[1:])
    self.head = posterior.HybridPosterior(
        self.num_categories,
        self.latent_dim,
        max_log_scale,
        self.logits_initializer,
        name="posterior",
    )
    names = _LOGGED if lam else _LOGGED[:-1]
    self._trackers = {name: keras.metrics.Mean(name=name) for name in names}
    self(keras.Input(self.image_shape))  # builds it, so that summary() is full

  def build(self, input_shape: Any) -> None:
    if not self.head.built:
      self.head.build(self.encoder.output_shape)
    self.built = True

  # ---- codes and images -------------------------------------------------------------

  def call(self, x: Any, training: bool | None = None) -> dict[str, tf.Tensor]:
    """Images [B, H, W, C] to {"y", "z", "z_scale"}; `training` changes nothing."""
    return posterior.codes(self._parameters(pixels.scaled(x), training=False))

  def encoder_model(self) -> keras.Model:
    """A plain `keras.Model`, images -> {"y", "z", "z_scale"}, sharing these weights."""
    image = keras.Input(self.image_shape, name="x")
    codes = posterior.Codes(self.encoder, self.head)(image)
    return keras.Model(image, codes, name=f"{self.name}_encoder_model")

  def posterior(self, x: np.ndarray | tf.Tensor) -> Posterior:
    """The TFP distributions of p(y,z|x) for images x: a `posterior.Posterior`."""
    x = pixels.scaled(x) if tf.is_tensor(x) else model_checks.images(x, self.image_shape)
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
      x = model_checks.given(x, self.image_shape)
      if isinstance(x, np.ndarray):
        return _in_batches(self, x)
      return keras.Model.predict(self, x, verbose=0)  # its images are checked already

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

  # ---- training -----------------------------------------------------------------------

  def terms(self, x: tf.Tensor, step: int | tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
    """The information terms of a batch, {name: [B]} in nats.

    In training y and z are samples and batch normalisation uses the batch; otherwise the
    reconstruction takes p(y|x) and the mean of z.

    `regularization` is what the layers of the networks add to the loss, if they do.

    Args:
      x: [B, H, W, C] images.
      step: integer scalar; the noise is a function of (seed, step).
      training: a Python boolean.
    """
    return self._terms(x, GlobalBatch(x), step, training)

  def objective(
      self, terms: dict[str, tf.Tensor], mean: Callable[[tf.Tensor], tf.Tensor]
  ) -> tf.Tensor:
    """The weighted sum that is minimised: {name: [B]} -> [B], in nats.

    Args:
      terms: of `terms`.
      mean: function, a term [B] -> its mean over the global batch, without gradient; for
        sums that are not linear in the terms.
    """
    raise NotImplementedError

  def train_step(self, data: Any) -> dict[str, tf.Tensor]:
    """One optimizer step on images, or (images, label); returns the logs of the epoch so far."""
    x = self._batch_of(data)
    batch = GlobalBatch(x)
    usable = batch.size > 1
    networks = (self.encoder, self.decoder)
    state = [(v, tf.identity(v.value)) for n in networks for v in n.non_trainable_variables]
    with tf.GradientTape() as tape:
      terms = self._terms(x, batch, self.optimizer.iterations, training=True)
      terms["loss"] = self.objective(terms, batch.mean) + terms["regularization"]
      # This replica's share of the mean over the global batch; gradients are summed.
      loss = tf.reduce_sum(tf.where(usable, terms["loss"], 0.0)) / _count(batch)
      scaled_loss = self.optimizer.scale_loss(loss)
    gradients = tape.gradient(scaled_loss, self.trainable_variables)
    if self.marginals != "batch":  # no image is left to average over: NaN, times 0
      gradients = [tf.where(usable, gradient, 0.0) for gradient in gradients]
    self.optimizer.apply(gradients, self.trainable_variables)
    for variable, before in state:  # one image has no variance to normalise by
      variable.assign(tf.where(usable, variable.value, before))
    return self._log(terms, batch)

  def test_step(self, data: Any) -> dict[str, tf.Tensor]:
    """The same terms without a step, from p(y|x) and the mean of z; returns the logs so far."""
    x = self._batch_of(data)
    batch = GlobalBatch(x)
    terms = self._terms(x, batch, step=0, training=False)
    terms["loss"] = self.objective(terms, batch.mean) + terms["regularization"]
    return self._log(terms, batch)

  @property
  def metrics(self) -> list[keras.metrics.Metric]:
    return list(self._trackers.values())

  def log_sums(self) -> dict[str, tuple[float, float]]:
    """{name: (sum, weight)} of the logs of the current epoch, for `restore_log_sums`.

    Every worker of a distributed job must call it.
    """
    num_replicas = self.distribute_strategy.num_replicas_in_sync
    return {
        name: (float(t.total.numpy()) / num_replicas, float(t.count.numpy()) / num_replicas)
        for name, t in self._trackers.items()
    }

  def restore_log_sums(self, log_sums: dict[str, tuple[float, float]]) -> None:
    """Goes on with the logs of an epoch that was interrupted, `log_sums` being those of then."""
    num_replicas = self.distribute_strategy.num_replicas_in_sync
    for name, (total, count) in log_sums.items():
      self._trackers[name].total.assign(total * num_replicas)
      self._trackers[name].count.assign(count * num_replicas)

  def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
    """Builds the optimizer, the only part of a model that is not built yet.

    Else the first step makes its variables, for which TensorFlow traces that step twice. (Under
    a strategy Keras would average the replicas' images to build on, of uneven batches too.)
    """
    if self.compiled and not self.optimizer.built:
      with self.distribute_strategy.scope():
        self.optimizer.build(self.trainable_variables)

  def get_config(self) -> dict[str, Any]:
    return {
        **super().get_config(),
        "encoder": keras.saving.serialize_keras_object(self.encoder),
        "decoder": keras.saving.serialize_keras_object(self.decoder),
        **{name: getattr(self, name) for name in _PLAIN_ARGUMENTS},
        "logits_initializer": keras.initializers.serialize(self.logits_initializer),
    }

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "HybridAutoencoder":
    # Keras empties the dicts that it deserializes.
    networks = {
        name: keras.saving.deserialize_keras_object(copy.deepcopy(config[name]))
        for name in ("encoder", "decoder")
    }
    return cls(**{**config, **networks})

  # ---- inside ---------------------------------------------------------------------------

  def _terms(
      self, x: tf.Tensor, batch: GlobalBatch, step: int | tf.Tensor, training: bool
  ) -> Terms:
    seed = tf.stack([self.seed, tf.cast(step, tf.int32)])
    seed_codes, seed_vat = tf.unstack(tf.random.split(seed, 2))
    # p(y|x) and p(z_k|x)
    parameters = self._parameters(x, training)
    everyone = self._gathered(parameters, batch)
    # Drawn for the whole batch by each replica: rows get the noise that one would give them.
    y, z = map(batch.own, posterior.distributions(everyone, self.temperature).sample(seed_codes))
    log_y = tf.nn.log_softmax(parameters["logits"])
    # p(y), p(z_k) and p(y,z), eq (35)
    marginals = _MARGINALS[self.marginals](
        z,
        everyone["mean"],
        everyone["log_scale"],
        tf.nn.log_softmax(everyone["logits"]),
        first_row=batch.first_row,
    )
    mean, log_scale = parameters["mean"], parameters["log_scale"]
    terms = objective.information_terms(z, mean, log_scale, log_y, marginals)
    # q(x|y,z)
    code_y, code_z = (y, z) if training else (tf.exp(log_y), mean)
    if self.detach_y:
      code_y = tf.stop_gradient(code_y)
    logits = self._logits(code_y, code_z, training)
    terms["reconstruction_loss"] = self._reconstruction(x, logits)
    # Before the VAT passes, in which the layers would add to it again.
    terms["regularization"] = sum(self.losses) * tf.ones_like(terms["kl_z"])
    if self.lam:
      terms["vat_loss"] = self._vat_loss(x, batch, log_y, seed_vat, training)
    return terms

  def _gathered(self, parameters: Terms, batch: GlobalBatch) -> Terms:
    names = ("mean", "log_scale", "logits")
    rows = batch.gather(tf.concat([parameters[name] for name in names], axis=1))
    parts = tf.split(rows, [parameters[name].shape[1] for name in names], axis=1)
    return dict(zip(names, parts))

  def _vat_loss(
      self, x: tf.Tensor, batch: GlobalBatch, log_y: tf.Tensor, seed: tf.Tensor, training: bool
  ) -> tf.Tensor:
    noise = tf.random.stateless_normal([batch.size, *self.image_shape], seed)
    radius: float | str | tf.Tensor = self.vat_radius
    if radius == "neighbor":
      radius = vat.neighbor_radius(
          x, self.neighbor_fraction, others=batch.gather(x), first_row=batch.first_row
      )
    return vat.loss(
        lambda image: self._log_y_without_updates(image, training),
        x,
        log_y,
        batch.own(noise),
        radius=radius,
        xi=self.vat_xi,
        detach=self.vat_detach,
    )

  def _parameters(self, x: tf.Tensor, training: bool) -> Terms:
    return self.head(self.encoder(x, training=training))

  def _logits(self, y: tf.Tensor, z: tf.Tensor, training: bool = False) -> tf.Tensor:
    code = tf.concat([tf.cast(y, tf.float32), tf.cast(z, tf.float32)], axis=1)
    return tf.cast(self.decoder(code, training=training), tf.float32)

  def _log_y_without_updates(self, x: tf.Tensor, training: bool) -> tf.Tensor:
    # Statistics of perturbed images would spoil the moving averages that inference uses.
    with keras.StatelessScope():
      return tf.nn.log_softmax(self._parameters(x, training)["logits"])

  def _reconstruction(self, x: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return _RECONSTRUCTION[self.likelihood](tf.cast(x, tf.float32), logits)

  def _log(self, terms: Terms, batch: GlobalBatch) -> Terms:
    """Updates the logs with the means over the global batch, equal on every replica."""
    sums = batch.sum(tf.stack([tf.reduce_sum(terms[name]) for name in self._trackers]))
    means = tf.unstack(tf.where(batch.size > 1, sums / _count(batch), 0.0))
    weight = tf.where(batch.size > 1, _count(batch), 0.0)
    for tracker, mean in zip(self._trackers.values(), means):
      tracker.update_state(mean, sample_weight=weight)
    return {name: batch.one_log(t.result()) for name, t in self._trackers.items()}



def _count(batch: GlobalBatch) -> tf.Tensor:
  return tf.cast(batch.size, tf.float32)


def _in_batches(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
  """Applies a function of tensors to NumPy arrays, empty ones included, by slices."""
  starts = range(0, len(arrays[0]), _ARRAY_BATCH) or [0]
  parts = [function(*(tf.constant(a[i : i + _ARRAY_BATCH]) for a in arrays)) for i in starts]
  return tf.nest.map_structure(lambda *p: np.concatenate(p), *parts)
