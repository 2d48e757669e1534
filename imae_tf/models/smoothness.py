"""The terms of L_D(y) beside the two entropies: VAT, consistency under transforms, and teaching.

`HybridAutoencoder` adds them to the terms of each training step. y's layers may see a view of the
image (`networks.views`) instead of its pixels: then VAT perturbs the view.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from imae_tf import networks
from imae_tf import vat
from imae_tf._shared.global_batch import GlobalBatch

_BATCH = 250
# Of `eased`: p(y|x) is undecided while H(y|x) is above this part of ln K2.
_UNDECIDED = 0.5
_FIRST_STEP = 100  # before it every p(y|x) is undecided
_RATE = 0.02  # of the logarithm, per step
_LEAST = -5.0  # of the logarithm


class Lesson(NamedTuple):
  """What votes of other models say about y, for the first steps of a training.

  Attributes:
    targets: function, what y's layers see [B, ...] -> [B, K2], rows one-hot, or 0 where the votes
      disagree.
    steps: number of optimizer steps that are taught.
  """

  targets: Callable[[tf.Tensor], tf.Tensor]
  steps: int


class CategoryLayers:
  """The layers between an image and the logits of p(y|x), as functions.

  Args:
    encoder: the model's encoder; its `networks.View` and its layer "y_tower" are used if it has
      them.
    head: `posterior.HybridPosterior`.
  """

  def __init__(self, encoder: keras.Model, head: keras.layers.Layer) -> None:
    towers = [layer for layer in encoder.layers if layer.name == "y_tower"]
    views = [layer for layer in encoder.layers if towers and isinstance(layer, networks.View)]
    self.view = views[0] if views else None
    self._encoder, self._head = encoder, head
    self._tower = towers[0] if views else None

  @property
  def trainable_variables(self) -> list[keras.Variable]:
    """The weights that only y has; of an encoder with a view."""
    assert self._tower is not None
    return [*self._tower.trainable_variables, *self._head.y_dense.trainable_variables]

  def small(self, x: tf.Tensor) -> tf.Tensor:
    """Images [B, h, w, C] of which y's layers see the same: perhaps smaller ones."""
    x = tf.cast(x, tf.float32)
    return x if self.view is None else self.view.small(x)

  def seen(self, x: tf.Tensor) -> tf.Tensor:
    """What y's layers see of images [B, H, W, C]: their view [B, V], or the images."""
    return x if self.view is None else self.view(x)

  def seen_of_all(self, x: np.ndarray) -> np.ndarray:
    """`seen` of an array of images [N, H, W, C], in batches."""
    parts = [np.asarray(self.seen(x[i : i + _BATCH])) for i in range(0, len(x), _BATCH)]
    return np.concatenate(parts)

  def log_y(self, seen: tf.Tensor, training: bool) -> tf.Tensor:
    """log p(y|x) [B, K2] of what `seen` gives."""
    if self._tower is None:
      logits = self._head(self._encoder(seen, training=training))["logits"]
    else:
      logits = self._head.y_dense(self._tower(seen, training=training))
    return tf.nn.log_softmax(logits)


def terms(
    model: Any,
    seen: tf.Tensor,
    batch: GlobalBatch,
    log_y: tf.Tensor,
    seed: tf.Tensor,
    step: int | tf.Tensor,
    *,
    training: bool,
    transformed: Callable[[tf.Tensor], tf.Tensor],
) -> dict[str, tf.Tensor]:
  """The terms of a batch that a `HybridAutoencoder` has beside the entropies: {name: [B]}, in nats.

  Args:
    model: its weights and settings.
    seen: [B, ...], what y's layers see of the images.
    batch: of all replicas.
    log_y: [B, K2], log p(y|x).
    seed: [2], of the noise.
    step: number of optimizer steps before.
    training: whether batch normalisation uses the batch.
    transformed: function, a seed [2] -> [B, ...], what y's layers see of the images under T.
  """
  terms = {}
  if model.lam:
    terms["vat_loss"] = _vat_loss(model, seen, batch, log_y, seed, training)
  if model.consistency:
    other = transformed(tf.random.fold_in(seed, 1))
    terms["consistency_loss"] = vat.cross_entropy(log_y, _without_updates(model, other, training))
  if model.log_smoothing is not None:
    terms["smoothing"] = tf.exp(model.log_smoothing.value)
  if model.lesson and training:
    targets = tf.stop_gradient(model.lesson.targets(seen))
    terms["teaching_loss"] = -tf.reduce_sum(targets * log_y, axis=1)
    terms["taught"] = tf.cast(step < model.lesson.steps, tf.float32)
  return terms


def transformed(model: Any, x: tf.Tensor, batch: GlobalBatch, seed: tf.Tensor) -> tf.Tensor:
  """What y's layers see of images [B, H, W, C] under the model's transform T."""
  draws = batch.own(model.transform.draws(batch.size, seed))
  layers = model.category_layers
  return layers.seen(model.transform.transformed(layers.small(x), draws))


def _vat_loss(
    model: Any, seen: tf.Tensor, batch: GlobalBatch, log_y: tf.Tensor, seed: tf.Tensor,
    training: bool,
) -> tf.Tensor:
  """`vat.loss` of a `HybridAutoencoder` [B], with its radius and step, in nats."""
  noise = tf.random.stateless_normal([batch.size, *seen.shape[1:]], seed)
  radius, xi = model.vat_radius, model.vat_xi
  if "neighbor" in (radius, xi):
    nearest = vat.neighbor_radius(
        seen, 1.0, others=batch.gather(seen), first_row=batch.first_row
    )
    radius = model.neighbor_fraction * nearest if radius == "neighbor" else radius
    xi = nearest if xi == "neighbor" else xi
  return vat.loss(
      lambda perturbed: _without_updates(model, perturbed, training),
      seen,
      log_y,
      batch.own(noise),
      radius=radius,
      xi=xi,
      detach=model.vat_detach,
  )


def eased(log_smoothing: tf.Tensor, step: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
  """The logarithm of the weight of the smoothness terms for the next step.

  Where no feature of the images is as stable as VAT and transforms ask, the uniform p(y|x) is a
  fixed point of training and all information is lost. So the terms weaken for as long as the
  categories stay undecided.

  Args:
    log_smoothing: of this step; 0 at the start.
    step: the number of steps done before.
    share: H(y|x) / ln K2 of the batch.
  """
  fall = _RATE * tf.nn.relu(share - _UNDECIDED)
  fall = tf.where(step >= _FIRST_STEP, fall, 0.0)
  return tf.maximum(log_smoothing - fall, _LEAST)


def _without_updates(model: Any, seen: tf.Tensor, training: bool) -> tf.Tensor:
  # Statistics of perturbed images would spoil the moving averages that inference uses.
  with keras.StatelessScope():
    return model.category_layers.log_y(seen, training)
