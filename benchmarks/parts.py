"""The parts of imae_tf's training step, each compiled by itself; see `step.py --profile`.

A part that training differentiates returns the gradients of a sum of its outputs, those of
its inputs included where another part needs them.
"""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf
from tensorflow import Tensor

from benchmarks import problem as problems
from benchmarks import step
from imae_tf import estimators
from imae_tf import objective
from imae_tf import posterior
from imae_tf import vat
from imae_tf.models import HybridAutoencoder

SEED = (0, 1)


def candidate(threads: int, precision: str) -> dict[str, Callable[[int], Any]]:
  """The harness's factory: {part: run}, "whole step" first."""
  problem = step.problem_of(precision)
  whole = step.imae_tf(threads, problem, batches=2)["imae_tf"]
  model = step.build(precision)
  x = tf.constant(problems.images(problem, 1)[0].reshape(-1, *step.PIXELS))
  functions = {name: tf.function(part) for name, part in _parts(model, x).items()}
  return {"whole step": whole, **{name: _repeat(f) for name, f in functions.items()}}


def _repeat(function: Callable[[], Any]) -> Callable[[int], None]:
  def run(steps: int) -> None:
    for _ in range(steps):
      result = function()
    # TensorFlow may return before the work is done.
    tf.nest.map_structure(lambda t: t.numpy() if tf.is_tensor(t) else None, result)

  return run


def _parts(model: HybridAutoencoder, x: Tensor) -> dict[str, Callable[[], Any]]:
  """{name: function without arguments} on fixed inputs."""
  size, k1, k2 = len(x), model.latent_dim, model.num_categories
  features = tf.random.normal([size, model.encoder.output_shape[1]])
  parameters = model.head(features)
  y, z = posterior.distributions(parameters, model.temperature).sample(0)
  log_y = tf.nn.log_softmax(parameters["logits"])
  noise = tf.random.normal(x.shape)
  networks = model.encoder.trainable_variables + model.head.trainable_variables
  gradients = [tf.random.normal(v.shape, stddev=1e-3) for v in model.trainable_variables]

  def log_p_y(images: Tensor) -> Tensor:
    with keras.StatelessScope():
      encoded = model.encoder(images, training=True)
      return tf.nn.log_softmax(model.head(encoded)["logits"])

  def encoder() -> list[Tensor]:
    with tf.GradientTape() as tape:
      outputs = _sum(model.head(model.encoder(x, training=True)))
    return _used(tape.gradient(outputs, networks))

  def encoder_forward() -> Tensor:
    return _sum(model.head(model.encoder(x, training=True)))

  def vat_loss() -> list[Tensor]:
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(vat.cross_entropy(log_y, log_p_y(x + noise)))
    return _used(tape.gradient(loss, networks))

  def decoder() -> list[Tensor]:
    with tf.GradientTape() as tape:
      tape.watch(z)
      logits = tf.cast(model.decoder(tf.concat([y, z], axis=1), training=True), tf.float32)
      loss = tf.reduce_sum(objective.bernoulli_reconstruction(x, logits))
    return tape.gradient(loss, [z, *model.decoder.trainable_variables])

  def pairwise() -> list[Tensor]:
    inputs = (z, parameters["mean"], parameters["log_scale"], log_y)
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      terms = objective.information_terms(*inputs, estimators.log_marginals(*inputs))
      loss = tf.reduce_sum(terms["kl_z"] + terms["total_correlation"] + terms["mi_y"])
    return _used(tape.gradient(loss, inputs))

  def draw() -> tuple[Tensor, ...]:
    normal = tf.random.stateless_normal(x.shape, SEED)
    sampled = posterior.distributions(parameters, model.temperature).sample(tf.constant(SEED))
    return normal, *sampled

  def optimizer() -> Tensor:
    model.optimizer.apply(gradients, model.trainable_variables)
    return model.optimizer.iterations.value

  return {
      "encoder, clean, with gradient": encoder,
      "encoder, clean, forward alone": encoder_forward,
      "VAT direction": lambda: vat.direction(log_p_y, x, log_y, noise, model.vat_xi),
      "VAT radius": lambda: vat.neighbor_radius(x, model.neighbor_fraction),
      "VAT loss, with gradient": vat_loss,
      "decoder and reconstruction, with gradient": decoder,
      "pairwise terms, with gradient": pairwise,
      "noise": draw,
      "optimizer": optimizer,
      **_layer_parts(model, size),
      "an empty function": lambda: tf.zeros([k1 + k2]),
  }


def _layer_parts(model: HybridAutoencoder, size: int) -> dict[str, Callable[[], Any]]:
  """Batch normalisation and ReLU of one pass; a step has three, the direction's included."""
  layers = [v for v in model.encoder.layers if isinstance(v, keras.layers.BatchNormalization)]
  inputs = [
      tf.cast(tf.random.normal([size, v.input.shape[1]]), v.compute_dtype) for v in layers
  ]

  def batch_norm() -> list[Tensor]:
    variables = [v for layer in layers for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      outputs = [tf.nn.relu(layer(x, training=True)) for layer, x in zip(layers, inputs)]
      loss = tf.add_n([tf.reduce_sum(tf.cast(o, tf.float32)) for o in outputs])
    return tape.gradient(loss, [*inputs, *variables])

  return {"one pass's batch normalisation, with gradient": batch_norm}


def _sum(outputs: Any) -> Tensor:
  return tf.add_n([tf.reduce_sum(v) for v in tf.nest.flatten(outputs)])


def _used(gradients: Iterable[Tensor | None]) -> list[Tensor]:
  return [g for g in gradients if g is not None]
