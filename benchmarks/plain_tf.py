"""The tuned objective in plain TensorFlow: one `tf.function`, no Keras, no blocks.

What an engineer would write for this one step: the marginals broadcast to [B, B, K1], the
clean pass of the encoder serves the objective and VAT's target, and the search for VAT's
direction takes no gradient of a parameter. It returns the loss alone, where `imae_tf` also
keeps the means of nine logged terms.
"""

import math
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from benchmarks import harness
from benchmarks import problem as problems
from benchmarks.problem import ADAM
from benchmarks.problem import BATCH_NORM_DECAY
from benchmarks.problem import BATCH_NORM_EPSILON
from benchmarks.problem import MAX_LOG_SCALE


def candidate(
    threads: int, problem: problems.Problem, batches: int
) -> dict[str, Callable[[int], float]]:
  """The harness's factory; `batches` batches lie in memory and are used in turn."""
  harness.limit_threads(threads)
  step = Step(problem, problems.first_parameters(problem))
  images = [tf.constant(x) for x in problems.images(problem, batches)]

  def run(steps: int) -> float:
    for i in range(steps):
      loss = step(images[i % batches])
    return float(loss)

  return {"plain_tf": run}


class Step:
  """Parameters, Adam's slots and the compiled step.

  Args:
    problem: `Problem`.
    arrays: first parameters, in the order of `problem.parameters_of`.
  """

  def __init__(self, problem: problems.Problem, arrays: Iterable[np.ndarray]) -> None:
    self.problem = problem
    self.parameters = [tf.Variable(a) for a in arrays]
    self._slots = [(tf.Variable(tf.zeros_like(p)), tf.Variable(tf.zeros_like(p)))
                   for p in self.parameters]
    self._statistics = [(tf.Variable(tf.zeros([n])), tf.Variable(tf.ones([n])))
                        for n in problem.encoder_units]
    self._powers = [tf.Variable(ADAM["beta1"]), tf.Variable(ADAM["beta2"])]
    depth = len(problem.encoder_units)
    self._encoder = [self.parameters[3 * i : 3 * i + 3] for i in range(depth)]
    pairs = self.parameters[3 * depth :]
    self._z, self._y, *self._decoder = zip(pairs[::2], pairs[1::2])
    self._dtype = tf.bfloat16 if problem.bfloat16 else tf.float32

  @tf.function
  def __call__(self, x: Tensor) -> Tensor:
    """One step on images [B, D]; returns the loss."""
    return self._update(x, self._draw(tf.shape(x)[0]))

  @tf.function
  def with_noise(self, x: Tensor, noise: Any) -> Tensor:
    """The same with given noise {"z": [B, K1] normal, "gumbel": [B, K2], "vat": [B, D]}."""
    return self._update(x, noise)

  def _draw(self, size: Tensor) -> dict[str, Tensor]:
    k2 = self.problem.num_categories
    uniform = tf.random.uniform([size, k2], minval=1e-30)
    return {
        "z": tf.random.normal([size, self.problem.latent_dim]),
        "gumbel": -tf.math.log(-tf.math.log(uniform)),
        "vat": tf.random.normal([size, self.problem.pixels]),
    }

  def _update(self, x: Tensor, noise: Any) -> Tensor:
    with tf.GradientTape() as tape:
      loss = self._loss(x, noise)
    self._adam(tape.gradient(loss, self.parameters))
    return loss

  def _loss(self, x: Tensor, noise: Any) -> Tensor:
    p = self.problem
    features = self._features(x, update=True)
    mean, raw = tf.split(_dense(features, *self._z), 2, axis=1)
    log_scale = MAX_LOG_SCALE * tf.tanh(raw / MAX_LOG_SCALE)
    logits = _dense(features, *self._y)
    log_y = tf.nn.log_softmax(logits)
    z = mean + tf.exp(log_scale) * noise["z"]
    y = tf.stop_gradient(tf.nn.softmax((logits + noise["gumbel"]) / p.temperature))
    reconstruction = tf.reduce_sum(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=self._decode(y, z)), axis=1
    )
    log_p_z, log_p_y, log_p_yz = log_marginals(z, mean, log_scale, log_y)
    prob = tf.exp(log_y)
    kl_z = tf.reduce_sum(log_p_z - _log_normal(z, 0.0, 0.0), axis=1)
    correlation = tf.reduce_sum(prob * (log_p_yz - log_p_y), 1) - tf.reduce_sum(log_p_z, 1)
    entropy = -tf.reduce_sum(prob * log_p_y, axis=1)
    conditional = -tf.reduce_sum(prob * log_y, axis=1)
    l_y = p.entropy_weight * entropy - conditional - p.lam * self._vat(x, prob, noise["vat"])
    terms = reconstruction + p.beta * kl_z - p.beta_y * l_y + p.gamma * correlation
    return tf.reduce_mean(terms)

  def _vat(self, x: Tensor, target: Tensor, noise: Any) -> Tensor:
    target = tf.stop_gradient(target)
    start = self.problem.vat_xi * _unit(noise)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(start)
      divergence = -tf.reduce_sum(target * self._log_y(x + start))
    r = _unit(tape.gradient(divergence, start)) * self._radius(x)[:, None]
    return -tf.reduce_sum(target * self._log_y(x + tf.stop_gradient(r)), axis=1)

  def _radius(self, x: Tensor) -> Tensor:
    norms = tf.reduce_sum(tf.square(x), axis=1)
    squared = norms[:, None] + norms - 2.0 * tf.matmul(x, x, transpose_b=True)
    squared = tf.linalg.set_diag(squared, tf.fill([tf.shape(x)[0]], tf.float32.max))
    nearest = tf.maximum(tf.reduce_min(squared, axis=1), 0.0)
    return self.problem.neighbor_fraction * tf.sqrt(nearest)

  def _log_y(self, x: Tensor) -> Tensor:
    return tf.nn.log_softmax(_dense(self._features(x, update=False), *self._y))

  def _features(self, x: Tensor, update: bool) -> Tensor:
    h = tf.cast(x, self._dtype)
    for (kernel, gamma, beta), moving in zip(self._encoder, self._statistics):
      h = tf.cast(h @ tf.cast(kernel, self._dtype), tf.float32)
      mean, variance = tf.nn.moments(h, axes=[0])
      if update:
        for statistic, value in zip(moving, (mean, variance)):
          statistic.assign_sub((1.0 - BATCH_NORM_DECAY) * (statistic - value))
      h = tf.nn.batch_normalization(h, mean, variance, beta, gamma, BATCH_NORM_EPSILON)
      h = tf.nn.relu(tf.cast(h, self._dtype))
    return tf.cast(h, tf.float32)

  def _decode(self, y: Tensor, z: Tensor) -> Tensor:
    h = tf.cast(tf.concat([y, z], axis=1), self._dtype)
    for kernel, bias in self._decoder[:-1]:
      h = tf.nn.relu(_dense(h, kernel, bias))
    return tf.cast(_dense(h, *self._decoder[-1]), tf.float32)

  def _adam(self, gradients: Iterable[Tensor]) -> None:
    beta1_power, beta2_power = self._powers
    for parameter, (m, v), gradient in zip(self.parameters, self._slots, gradients):
      tf.raw_ops.ResourceApplyAdam(
          var=parameter.handle,
          m=m.handle,
          v=v.handle,
          beta1_power=beta1_power,
          beta2_power=beta2_power,
          lr=self.problem.learning_rate,
          grad=gradient,
          **ADAM,
      )
    beta1_power.assign(beta1_power * ADAM["beta1"])
    beta2_power.assign(beta2_power * ADAM["beta2"])


def log_marginals(
    z: Tensor, mean: Tensor, log_scale: Tensor, log_y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
  """(log p(z_k) [B, K1], log p(y) [1, K2], log p(y, z) [B, K2]), naive, eq (35)."""
  log_count = tf.math.log(tf.cast(tf.shape(z)[0], tf.float32))
  density = _log_normal(z[:, None], mean, log_scale)  # [B, B, K1]
  joint = tf.reduce_sum(density, axis=2)
  top = tf.stop_gradient(tf.reduce_max(joint, axis=1, keepdims=True))
  p_yz = tf.exp(joint - top) @ tf.exp(log_y)
  return (
      tf.reduce_logsumexp(density, axis=1) - log_count,
      tf.reduce_logsumexp(log_y, axis=0, keepdims=True) - log_count,
      tf.math.log(tf.maximum(p_yz, 1e-37)) + top - log_count,
  )


def _log_normal(z: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
  standardized = (z - mean) * tf.exp(-log_scale)
  return -0.5 * tf.square(standardized) - log_scale - 0.5 * math.log(2.0 * math.pi)


def _dense(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
  return x @ tf.cast(kernel, x.dtype) + tf.cast(bias, x.dtype)


def _unit(x: Tensor) -> Tensor:
  x /= tf.reduce_max(tf.abs(x), axis=1, keepdims=True) + 1e-37
  return x * tf.math.rsqrt(tf.reduce_sum(tf.square(x), axis=1, keepdims=True) + 1e-12)
