"""The training of a hybrid autoencoder: its terms, its steps and its logs."""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from imae_tf import estimators
from imae_tf import networks
from imae_tf import objective
from imae_tf import optimizers  # noqa: F401  registers Adam, for models to load
from imae_tf import posterior
from imae_tf._shared import model_checks
from imae_tf._shared.global_batch import GlobalBatch
from imae_tf.models import codes
from imae_tf.models import smoothness

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
    "consistency_loss",
)
# Arguments that are config keys as they are.
_PLAIN_ARGUMENTS = (
    "num_categories", "latent_dim", "lam", "likelihood", "temperature", "detach_y", "vat_radius",
    "neighbor_fraction", "vat_xi", "vat_detach", "consistency", "transform_size", "ease_smoothing",
    "marginals", "max_log_scale", "seed",
)
Terms = dict[str, tf.Tensor]


class HybridAutoencoder(codes.CodeModel):
  """Encoder, hybrid posterior and decoder; a subclass is the weighted sum it minimises.

  `model(x)` and `predict` give the codes {"y": [B, K2] probabilities, "z": [B, K1] posterior
  means, "z_scale": [B, K1] standard deviations}, deterministic whatever `training`. Images
  are [B, H, W, C] floats in [0, 1], or integers whose type's largest value is white. Compile
  with an optimizer and no loss. `fit` and `evaluate` take images, (images, label) or
  {"image": images}; labels are never used. They log, in nats per image and unweighted,
  `reconstruction_loss`, `mi_y`, `entropy_y`, `conditional_entropy_y`, `mi_z` (summed over
  dimensions), `kl_z`, `total_correlation`, `vat_loss` and `consistency_loss` (cross-entropies;
  absent when their weights are 0) and their weighted sum `loss`.

  The marginals are taken over the batch, so a batch needs two images at least. A last batch
  of one has weight 0 in the loss, the logs and the statistics of the layers; its optimizer
  step has gradient 0. Layers with noise of their own, such as Dropout, work but do not resume
  to the bit.

  Args:
    encoder: built Keras model, images [B, H, W, C] -> features [B, F], or {"y": [B, F_y],
      "z": [B, F_z]}.
    decoder: built Keras model, (y, z) [B, K2 + K1] -> image logits [B, H, W, C].
    num_categories: K2, at least 2.
    latent_dim: K1, at least 1.
    lam: weight of the VAT cross-entropy in eq (12); 0 leaves VAT out.
    likelihood: "bernoulli", or "gaussian" (unit variance) for real-valued images.
    temperature: of the relaxed y in training, > 0.
    detach_y: stop the reconstruction's gradient at y, so that only L_D(y) forms categories.
    vat_radius: eps of eq (12) in pixel units, or "neighbor" (`vat.neighbor_radius`).
    neighbor_fraction: of the distance to the nearest image, for "neighbor"; > 0.
    vat_xi: step of the power iteration that finds r (`vat.direction`), or "neighbor" for the
      distance to the nearest image of the batch.
    vat_detach: keep the gradient from VAT's target; False is eq (12) to the letter (`vat`).
    consistency: weight of H(p(y|x), p(y|T(x))) beside VAT's (`objective.category_objective`).
    transform_size: size of T (`networks.RandomTransform`).
    ease_smoothing: weaken VAT and consistency while categories stay undecided
      (`models.smoothness.eased`).
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
      vat_xi: float | str = 5.0,
      vat_detach: bool = True,
      consistency: float = 0.0,
      transform_size: float = 1.0,
      ease_smoothing: bool = False,
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
    self.consistency = consistency
    self.transform_size = transform_size
    self.ease_smoothing = ease_smoothing
    self.marginals = marginals
    self.max_log_scale = max_log_scale
    self.logits_initializer = keras.initializers.get(logits_initializer)
    self.seed = seed
    model_checks.check_arguments(self, codes.RECONSTRUCTION, _MARGINALS)
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
    self.category_layers = smoothness.CategoryLayers(encoder, self.head)
    self.transform = networks.RandomTransform(transform_size) if consistency else None
    self.log_smoothing = (
        self.add_weight(shape=(), initializer="zeros", trainable=False, name="log_smoothing",
                        aggregation="only_first_replica") if ease_smoothing else None
    )
    self.lesson: smoothness.Lesson | None = None
    unused = {"vat_loss": not lam, "consistency_loss": not consistency}
    names = [name for name in _LOGGED if not unused.get(name)]
    self._trackers = {name: keras.metrics.Mean(name=name) for name in names}
    self(keras.Input(self.image_shape))  # builds it, so that summary() is full

  def build(self, input_shape: Any) -> None:
    if not self.head.built:
      self.head.build(model_checks.features_shape(self.encoder))
    self.built = True

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
    self.ease(batch.mean(terms["conditional_entropy_y"]), self.optimizer.iterations)
    self.optimizer.apply(gradients, self.trainable_variables)
    for variable, before in state:  # one image has no variance to normalise by
      variable.assign(tf.where(usable, variable.value, before))
    return self._log(terms, batch)

  def ease(self, conditional_entropy_y: tf.Tensor, step: tf.Tensor) -> None:
    """Weakens the smoothness terms after a step with a batch of this H(y|x), if it should."""
    if self.log_smoothing is not None:
      share = conditional_entropy_y / math.log(self.num_categories)
      self.log_smoothing.assign(smoothness.eased(self.log_smoothing.value, step, share))

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
    log_y, terms = self._code_terms(x, batch, seed_codes, training)
    # Before the VAT passes, in which the layers would add to it again.
    terms["regularization"] = sum(self.losses) * tf.ones_like(terms["entropy_y"])
    seen = self.category_layers.seen(x)
    return terms | smoothness.terms(
        self, seen, batch, log_y, seed_vat, step, training=training,
        transformed=lambda seed: smoothness.transformed(self, x, batch, seed),
    )

  def _code_terms(
      self, x: tf.Tensor, batch: GlobalBatch, seed: tf.Tensor, training: bool
  ) -> tuple[tf.Tensor, Terms]:
    """log p(y|x), and the terms of the code and of the reconstruction."""
    # p(y|x) and p(z_k|x)
    parameters = self._parameters(x, training)
    everyone = self._gathered(parameters, batch)
    # Drawn for the whole batch by each replica: rows get the noise that one would give them.
    y, z = map(batch.own, posterior.distributions(everyone, self.temperature).sample(seed))
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
    return log_y, terms

  def _gathered(self, parameters: Terms, batch: GlobalBatch) -> Terms:
    names = ("mean", "log_scale", "logits")
    rows = batch.gather(tf.concat([parameters[name] for name in names], axis=1))
    parts = tf.split(rows, [parameters[name].shape[1] for name in names], axis=1)
    return dict(zip(names, parts))

  def _log(self, terms: Terms, batch: GlobalBatch) -> Terms:
    """Updates the logs with the means over the global batch, equal on every replica."""
    trackers = {name: t for name, t in self._trackers.items() if name in terms}
    sums = batch.sum(tf.stack([tf.reduce_sum(terms[name]) for name in trackers]))
    means = tf.unstack(tf.where(batch.size > 1, sums / _count(batch), 0.0))
    weight = tf.where(batch.size > 1, _count(batch), 0.0)
    for tracker, mean in zip(trackers.values(), means):
      tracker.update_state(mean, sample_weight=weight)
    return {name: batch.one_log(t.result()) for name, t in trackers.items()}


def _count(batch: GlobalBatch) -> tf.Tensor:
  return tf.cast(batch.size, tf.float32)
