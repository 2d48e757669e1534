"""Images to look at: against plain NumPy, on images of which the answer is known."""

import numpy as np
import pytest

from imae_tf.metrics import examples


def test_typical_images_are_near_the_mean_of_their_own_category(rng):
  y = rng.dirichlet(np.ones(3), 50)
  z = rng.normal(size=(50, 4))
  found = [examples.typical(y, z, category) for category in range(3)]
  assert sorted(np.concatenate(found).tolist()) == list(range(50))
  for category, members in enumerate(found):
    assert (y[members].argmax(axis=1) == category).all()
    distances = [np.sqrt(sum((z[i] - z[members].mean(axis=0)) ** 2)) for i in members]
    assert distances == sorted(distances)
  assert examples.typical(y[:, :1], z, 0).shape == (50,)
  assert not len(examples.typical(np.array([[1.0, 0.0]]), z[:1], 1))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_excess_loss_is_what_a_perfect_copy_would_save(tiny_model, digits, likelihood):
  model, x = tiny_model(likelihood=likelihood), digits[0][:20]
  mean = np.clip(model.reconstruct(x).astype("float64"), 1e-7, 1 - 1e-7)
  if likelihood == "bernoulli":
    copy = np.clip(x.astype("float64"), 1e-12, 1 - 1e-12)
    cost = lambda q: -(x * np.log(q) + (1 - x) * np.log(1 - q)).sum(axis=(1, 2, 3))
    expected = cost(mean) - cost(copy)
  else:
    expected = 0.5 * np.square(x - model.reconstruct(x)).sum(axis=(1, 2, 3))
  np.testing.assert_allclose(examples.excess_loss(model, x), expected, rtol=1e-3, atol=1e-3)
  assert (expected >= 0).all()


def test_misfits_are_beyond_tukeys_far_fence(rng):
  excess = np.concatenate([rng.normal(10, 1, 1000), [30.0, 50.0, -20.0]])
  confidence = np.concatenate([np.full(1000, 0.9), [0.3, 0.49, 0.5]])
  found = examples.misfits(excess, confidence)
  low, high = np.percentile(excess, [25, 75])
  assert found.bound == pytest.approx(high + 3 * (high - low))
  assert found.redrawn_badly.tolist() == [1001, 1000]
  assert found.undecided.tolist() == [1000, 1001]
  same = examples.misfits(np.ones(5), np.ones(5))
  assert not len(same.redrawn_badly) and not len(same.undecided)


def test_near_duplicates_are_near_in_pixels_and_in_codes(rng):
  x = rng.random((60, 6, 6, 1)).astype("float32")
  y, z = np.ones((60, 1)), rng.normal(size=(60, 3))
  for first, second in ((3, 40), (40, 7)):  # a chain is one group
    x[second] = np.clip(x[first] + 0.01, 0, 1)
    z[second] = z[first] + 0.01
  x[20] = np.clip(x[10] + 0.01, 0, 1)  # near in pixels alone
  z[31] = z[30]  # near in codes alone
  x[50:59] = x[49]  # equal pixels, whatever the codes
  found = [group.tolist() for group in examples.near_duplicates(x, y, z)]
  assert found == [list(range(49, 59)), [3, 7, 40]]


def test_near_duplicates_of_collapsed_codes_and_of_few_images(rng):
  x = rng.random((30, 4, 4, 3)).astype("float32")
  x[29] = x[4]
  found = examples.near_duplicates(x, np.ones((30, 2)), np.zeros((30, 2)))
  assert [group.tolist() for group in found] == [[4, 29]]
  assert examples.near_duplicates(x[:1], np.ones((1, 2)), np.zeros((1, 2))) == []
  assert examples.near_duplicates(x[:2], np.ones((2, 2)), np.zeros((2, 2))) == []


def test_only_the_first_images_are_compared(rng, monkeypatch):
  monkeypatch.setattr(examples, "MAX_COMPARED", 10)
  x = rng.random((20, 4, 4, 1))
  x[9], x[15], x[16] = x[0], x[0], x[17]
  codes = rng.normal(size=(20, 2))
  found = examples.near_duplicates(x, np.ones((20, 1)), codes)
  assert [group.tolist() for group in found] == [[0, 9]]
