"""Search without labels: what ranks runs, the HyperModel, and keras-tuner's part of a search."""

import numpy as np
import tensorflow as tf

from imae_tf import vat

_BATCH = 500


def observables(model, x, *, fraction=0.2, seed=0):
  """What can be seen of p(y|x) without labels, in inference, over the images x.

  Every figure is taken in the same way whatever weights, radius or batch size a run was
  trained with, so that runs can be compared; the terms logged in training cannot.

  Args:
    model: a `HybridAutoencoder`.
    x: [N, H, W, C] images in [0, 1], N >= 2.
    fraction: of the distance to an image's nearest other in x, the radius of the
      adversarial perturbation.
    seed: of the search for its direction.

  Returns:
    {name: float}, in nats:
    mi_y: I(x;y) over x.
    conditional_entropy_y: H(y|x).
    vat_loss: mean cross-entropy between p(y|x) and p(y|x+r), eq (12).
    stable_mi_y: I(y;y'), y' the category of the perturbed image.
  """
  log_y, log_perturbed = _log_probabilities(model, x, fraction, seed)
  y, perturbed = np.exp(log_y), np.exp(log_perturbed)
  conditional = -np.mean(np.sum(y * log_y, axis=1))
  return {
      "mi_y": float(entropy(y.mean(0)) - conditional),
      "conditional_entropy_y": float(conditional),
      "vat_loss": float(-np.mean(np.sum(y * log_perturbed, axis=1))),
      "stable_mi_y": shared_information(y, perturbed),
  }


def shared_information(y, other):
  """I(y;y') of two categories drawn from probabilities [N, K2] and [N, K2'] of N images."""
  joint = y.T @ other / len(y)
  return float(entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint))


def entropy(p):
  """-sum p ln p in nats, of probabilities in an array of any shape."""
  return -np.sum(p * np.log(np.maximum(p, 1e-300)))


def _log_probabilities(model, x, fraction, seed):
  """log p(y|x) and log p(y|x+r), r that of vat.py in inference: two float64 [N, K2]."""
  noise = np.random.default_rng(seed).standard_normal(x.shape).astype("float32")
  images = tf.constant(x)

  def log_p_y(part):
    return tf.nn.log_softmax(model.posterior(part).y.logits)

  def both(part, noise, first_row):
    log_y = log_p_y(part)
    radius = vat.neighbor_radius(part, fraction, others=images, first_row=first_row)
    direction = vat.direction(log_p_y, part, log_y, noise, model.vat_xi)
    return log_y, log_p_y(part + radius[:, None, None, None] * direction)

  parts = [
      both(images[i : i + _BATCH], noise[i : i + _BATCH], tf.constant(i))
      for i in range(0, len(x), _BATCH)
  ]
  return [np.concatenate(rows).astype(np.float64) for rows in zip(*parts)]
