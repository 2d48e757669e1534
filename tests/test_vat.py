"""The adversarial direction against finite differences, the radius, and batch statistics."""

import keras
import numpy as np
import scipy.spatial
import tensorflow as tf

from imae_tf import vat


def _linear(weights):
  return lambda x: tf.nn.log_softmax(tf.reshape(x, [tf.shape(x)[0], -1]) @ weights)


def _problem(rng, n=5, k2=3):
  x = rng.random((n, 4, 4, 1)).astype("float32")
  log_p_y = _linear(rng.normal(size=(16, k2)).astype("float32"))
  noise = rng.normal(size=x.shape).astype("float32")
  return x, log_p_y, noise


def test_direction_matches_finite_differences(rng):
  x, log_p_y, noise = _problem(rng)
  target = log_p_y(x)
  xi, step = 1.0, 1e-2
  got = vat.direction(log_p_y, x, target, noise, xi).numpy()
  start = xi * noise / np.sqrt((noise**2).sum((1, 2, 3), keepdims=True))
  gradient = np.zeros_like(x)
  for pixel in np.ndindex(4, 4, 1):
    move = np.zeros((4, 4, 1), "float32")
    move[pixel] = step
    up = vat.cross_entropy(target, log_p_y(x + start + move))
    down = vat.cross_entropy(target, log_p_y(x + start - move))
    gradient[(slice(None), *pixel)] = (up - down) / (2 * step)
  unit = gradient / np.sqrt((gradient**2).sum((1, 2, 3), keepdims=True))
  np.testing.assert_allclose(got, unit, atol=2e-3)


def test_two_categories_have_a_closed_form(rng):
  """For a linear logit the worst direction is the difference of the weight vectors."""
  weights = rng.normal(size=(16, 2)).astype("float32")
  x, _, noise = _problem(rng)
  log_p_y = _linear(weights)
  got = vat.direction(log_p_y, x, log_p_y(x), noise, xi=0.5).numpy().reshape(5, 16)
  difference = weights[:, 0] - weights[:, 1]
  cosine = got @ difference / np.linalg.norm(difference)
  np.testing.assert_allclose(np.abs(cosine), 1.0, atol=1e-4)


def test_adversarial_beats_random_perturbation(rng):
  x, log_p_y, noise = _problem(rng, n=50)
  target = log_p_y(x)
  adversarial = vat.loss(log_p_y, x, target, noise, radius=0.5, xi=1.0)
  unit = noise / np.sqrt((noise**2).sum((1, 2, 3), keepdims=True))
  at_random = vat.cross_entropy(target, log_p_y(x + 0.5 * unit))
  assert np.mean(adversarial) > np.mean(at_random) + 0.05


def test_target_is_detached(rng):
  """d/dq H(p, q) alone: the gradient in the logits is q - p, as of a fixed target."""
  logits = tf.Variable(rng.normal(size=(4, 3)).astype("float32"))
  moved = tf.constant(rng.normal(size=(4, 3)).astype("float32"))
  with tf.GradientTape() as tape:
    value = tf.reduce_sum(
        vat.cross_entropy(tf.nn.log_softmax(logits), tf.nn.log_softmax(logits + moved))
    )
  expected = tf.nn.softmax(logits + moved) - tf.nn.softmax(logits)
  np.testing.assert_allclose(tape.gradient(value, logits), expected, atol=1e-6)


def test_confident_predictions_still_give_a_unit_direction(rng):
  """Gradients near float32's smallest must not become 0 or NaN when normalised."""
  x, _, noise = _problem(rng)
  log_p_y = _linear(40.0 * rng.normal(size=(16, 3)).astype("float32"))
  got = vat.direction(log_p_y, x, log_p_y(x), noise, xi=1e-3).numpy()
  assert np.isfinite(got).all()


def test_neighbor_radius_is_a_fraction_of_the_nearest_distance(rng):
  x = rng.random((30, 4, 4, 1)).astype("float32")
  distance = scipy.spatial.distance.cdist(x.reshape(30, -1), x.reshape(30, -1))
  np.fill_diagonal(distance, np.inf)
  expected = 0.3 * distance.min(1)
  np.testing.assert_allclose(vat.neighbor_radius(tf.constant(x), 0.3), expected, rtol=1e-4)
  part = vat.neighbor_radius(tf.constant(x[7:20]), 0.3, others=tf.constant(x), first_row=7)
  np.testing.assert_allclose(part, expected[7:20], rtol=1e-4)


def test_batch_norm_statistics_come_from_clean_images_alone(tiny_model, digits):
  """One step with and without VAT leaves the same moving averages."""
  x = digits[0][:64]
  statistics = []
  for lam in (0.0, 5.0):
    model = tiny_model(lam=lam)
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    model.fit(x, batch_size=64, verbose=0)
    statistics.append([v.numpy() for v in model.encoder.non_trainable_variables])
  for without, with_vat in zip(*statistics):
    np.testing.assert_array_equal(without, with_vat)
  assert np.abs(statistics[0][0]).max() > 0  # they did move from their first value


def test_to_the_letter_the_target_has_a_gradient_too(rng):
  """eq (12) without the detached target: d/dp H(p, q) adds to d/dq H(p, q); the value stays."""
  logits = tf.Variable(rng.normal(size=(4, 3)).astype("float32"))
  shift = rng.normal(size=(4, 3)).astype("float32")
  gradients, values = [], []
  for detach in (True, False):
    with tf.GradientTape() as tape:
      values.append(vat.cross_entropy(
          tf.nn.log_softmax(logits), tf.nn.log_softmax(logits + shift), detach
      ))
      loss = tf.reduce_sum(values[-1])
    gradients.append(tape.gradient(loss, logits).numpy())
  np.testing.assert_array_equal(*values)
  p = tf.nn.softmax(logits).numpy()
  log_q = tf.nn.log_softmax(logits + shift).numpy()
  of_target = -p * (log_q - np.sum(p * log_q, axis=1, keepdims=True))
  np.testing.assert_allclose(gradients[1] - gradients[0], of_target, atol=1e-5)
