"""Clustering scores by hand, information against known truths, baselines on known clusters."""

import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import reference
import sklearn.cluster
from scipy.special import softmax

from imae_tf import data as data_lib
from imae_tf import metrics
from imae_tf.errors import InputError


class FakeModel:
  """Fixed codes and a fixed loss in place of a trained network."""

  likelihood = "bernoulli"

  def __init__(self, y, z, z_scale, loss=3.0):
    self._codes = {"y": y, "z": z, "z_scale": z_scale}
    self._loss = loss

  def encode(self, x):
    return self._codes

  def reconstruction_loss(self, x):
    return np.full(len(x), self._loss, "float32")


def _images(n):
  return np.full((n, 2, 2, 1), 0.5, "float32")


def _random_model(rng, n=60, k1=3, k2=4):
  y = softmax(2.0 * rng.normal(size=(n, k2)), axis=1).astype("float32")
  z_scale = rng.uniform(0.1, 0.8, size=(n, k1)).astype("float32")
  return FakeModel(y, rng.normal(size=(n, k1)).astype("float32"), z_scale)


# --- categories against labels ---------------------------------------------------------------


def test_hungarian_by_hand():
  # Taking the largest cell first (category 0 to class 0: 4) would leave 4 + 0 = 4 right;
  # category 0 to class 1 and category 1 to class 0 gives 3 + 3 = 6.
  labels = [0] * 7 + [1] * 3
  categories = [0] * 4 + [1] * 3 + [0] * 3
  mapping, table = metrics.hungarian(labels, categories, 2)
  assert mapping == {0: 1, 1: 0}
  np.testing.assert_array_equal(table, [[4, 3], [3, 0]])
  assert metrics.clustering_accuracy(labels, categories) == pytest.approx(0.6)


@pytest.mark.parametrize("classes,k2", [(4, 4), (3, 5), (5, 3)])
def test_accuracy_is_the_best_of_all_one_to_one_assignments(rng, classes, k2):
  labels, categories = rng.integers(classes, size=80), rng.integers(k2, size=80)
  table = np.zeros((max(classes, k2),) * 2, int)
  for label, category in zip(labels, categories):
    table[label, category] += 1
  best = max(
      sum(table[row, column] for row, column in enumerate(order))
      for order in itertools.permutations(range(len(table)))
  )
  assert metrics.clustering_accuracy(labels, categories) == pytest.approx(best / 80)


def test_permuted_perfect_clusters_score_one(rng):
  labels = np.arange(500) % 10
  categories = rng.permutation(10)[labels]
  assert metrics.clustering_accuracy(labels, categories) == 1.0
  assert metrics.nmi(labels, categories) == pytest.approx(1.0)
  assert metrics.ari(labels, categories) == pytest.approx(1.0)
  assert metrics.mi_y_label(labels, categories) == pytest.approx(np.log(10))
  np.testing.assert_array_equal(
      metrics.confusion_matrix(labels, categories, 10), 50 * np.eye(10)
  )


def test_random_categories_score_about_chance(rng):
  labels, categories = np.arange(20_000) % 10, rng.integers(10, size=20_000)
  assert 0.1 <= metrics.clustering_accuracy(labels, categories) < 0.12
  assert metrics.nmi(labels, categories) < 0.002
  assert abs(metrics.ari(labels, categories)) < 0.002
  assert metrics.mi_y_label(labels, categories) < 0.005


def test_one_constant_category_scores_the_largest_class_and_no_information():
  labels = np.array([0] * 5 + [1] * 3 + [2] * 2)
  categories = np.zeros(10, int)
  assert metrics.clustering_accuracy(labels, categories) == 0.5
  assert metrics.nmi(labels, categories) == pytest.approx(0.0, abs=1e-12)
  assert metrics.ari(labels, categories) == pytest.approx(0.0, abs=1e-12)
  assert metrics.mi_y_label(labels, categories) == pytest.approx(0.0, abs=1e-12)


def test_a_class_split_over_two_categories_counts_once():
  labels = np.array([0] * 6 + [1] * 4)
  categories = np.array([2] * 4 + [0] * 2 + [1] * 4)
  assert metrics.clustering_accuracy(labels, categories) == 0.8
  np.testing.assert_array_equal(
      metrics.confusion_matrix(labels, categories, 4), [[4, 0, 2, 0], [0, 4, 0, 0]]
  )
  assert metrics.column_order(labels, categories, 4) == [2, 1, 0, 3]


def test_two_classes_in_one_category_count_the_larger():
  labels = np.array([7] * 6 + [8] * 4 + [9] * 5)
  categories = np.array([1] * 10 + [0] * 5)
  assert metrics.clustering_accuracy(labels, categories) == pytest.approx(11 / 15)
  assert metrics.hungarian(labels, categories, 2)[0] == {1: 7, 0: 9}


def test_mi_y_label_by_hand():
  # The cells are 3/8, 1/8, 0, 4/8; the margins 1/2, 1/2 and 3/8, 5/8.
  labels, categories = [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1]
  expected = 3 / 8 * np.log(2) + 1 / 8 * np.log(2 / 5) + 4 / 8 * np.log(8 / 5)
  assert metrics.mi_y_label(labels, categories) == pytest.approx(expected)


@pytest.mark.parametrize(
    "labels,categories,message",
    [
        ([0, 1], [0, 1, 1], "one label for each of 3 images; got 2"),
        ([0.0, 1.0], [0, 1], "Labels must be a vector of integers"),
        ([[0], [1]], [0, 1], "Labels must be a vector of integers"),
        ([0, 1], [0.5, 1.0], "Categories must be a vector of integers"),
        (np.zeros(0, int), np.zeros(0, int), "at least one image"),
    ],
)
@pytest.mark.parametrize(
    "score", [metrics.clustering_accuracy, metrics.nmi, metrics.ari, metrics.mi_y_label]
)
def test_scores_refuse_bad_labels(score, labels, categories, message):
  with pytest.raises(InputError, match=message):
    score(labels, categories)


@pytest.mark.parametrize("categories", [[0, 3], [-1, 0]])
def test_a_category_beyond_the_model_is_refused(categories):
  with pytest.raises(InputError, match=r"must lie in \[0, 3\)"):
    metrics.hungarian([0, 1], categories, 3)


# --- categories without labels ---------------------------------------------------------------


def test_neighbours_are_those_of_plain_distances(rng):
  x = rng.uniform(size=(40, 2, 3, 1)).astype("float32")
  rows = x.reshape(40, -1).astype("float64")
  distances = np.linalg.norm(rows[:, None] - rows, axis=2)
  np.fill_diagonal(distances, np.inf)
  nearest = np.argsort(distances, axis=1)
  np.testing.assert_array_equal(metrics.nearest_images(x, count=5), nearest[:, :5])
  np.testing.assert_array_equal(metrics.nearest_images(x, first=7, count=5), nearest[:7, :5])


def test_a_small_set_has_no_more_neighbours_than_others(rng):
  assert metrics.nearest_images(rng.uniform(size=(4, 2, 2, 1))).shape == (4, 3)


@pytest.mark.parametrize(("first", "count"), [(100, 10), (2000, 10), (4000, 5), (30_000, 1)])
def test_few_images_get_more_neighbours_each(rng, monkeypatch, first, count):
  class Search:
    """As many rows as asked for; a search of 30,000 images takes a while."""

    def __init__(self, n_neighbors, algorithm):
      self._count = n_neighbors

    def fit(self, rows):
      return self

    def kneighbors(self, rows, return_distance):
      return np.arange(len(rows))[:, None] + np.arange(self._count)

  monkeypatch.setattr(metrics, "NearestNeighbors", Search)
  assert metrics.nearest_images(np.zeros((first + 50, 1, 1, 1)), first).shape == (first, count)


def test_twins_are_each_others_neighbours():
  x = np.repeat(np.linspace(0, 1, 5), 2).reshape(10, 1, 1, 1)
  assert metrics.nearest_images(x, count=1).ravel().tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]


def test_an_image_among_many_of_its_copies_is_not_its_own_neighbour():
  found = metrics.nearest_images(np.zeros((30, 2, 2, 1)), count=3)
  assert found.shape == (30, 3) and not np.any(found == np.arange(30)[:, None])


def test_neighbour_information_against_a_sum_over_the_table(rng):
  categories, neighbors = rng.integers(3, size=50), rng.integers(50, size=(50, 4))
  joint = np.zeros((3, 3))
  for i in range(50):
    for j in neighbors[i]:
      joint[categories[i], categories[j]] += 1 / 200
  outer = joint.sum(1)[:, None] * joint.sum(0)
  expected = np.sum(joint * np.log(np.where(joint > 0, joint, 1) / outer))
  assert metrics.neighbor_information(categories, neighbors) == pytest.approx(expected)
  more = np.append(categories, [0, 1])  # images that serve as neighbours alone
  assert metrics.neighbor_information(more, neighbors) == pytest.approx(expected)


def test_a_neighborhood_is_of_the_split_among_training_images(monkeypatch):
  monkeypatch.setattr(metrics, "MAX_CODES", 100)
  monkeypatch.setattr(metrics, "MAX_NEIGHBORS_AMONG", 300)
  data = data_lib.load("digits", holdout=150)
  held_out, _ = data.arrays("holdout", limit=100)
  x, nearest = metrics.neighborhood(data, "holdout")
  assert len(x) == 300 and nearest.shape == (100, 10) and nearest.max() > 100
  np.testing.assert_array_equal(x[:100], held_out)
  np.testing.assert_array_equal(nearest, metrics.nearest_images(x, 100))
  x, nearest = metrics.neighborhood(data, "train")
  assert len(x) == 300 and len(nearest) == 100
  monkeypatch.setattr(metrics, "_NEIGHBOR_BYTES", 8 * 8 * 4 * 200)
  assert len(metrics.neighborhood(data, "train")[0]) == 200
  monkeypatch.setattr(metrics, "_NEIGHBOR_BYTES", 0)
  x, nearest = metrics.neighborhood(data, "holdout")  # no room for training images
  assert len(x) == len(nearest) == 100


def test_agreement_is_the_mean_nmi_with_the_others():
  one = np.array([0, 0, 1, 1, 2, 2])
  renamed, merged = np.array([2, 2, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1])
  mutual = np.log(3) - 2 / 3 * np.log(2)  # I(one; merged) = H(merged)
  share = mutual / ((np.log(3) + mutual) / 2)
  expected = [(1 + share) / 2, (1 + share) / 2, share]
  assert metrics.agreement([one, renamed, merged]) == pytest.approx(expected)
  assert metrics.agreement([one]) == [1.0]


@pytest.mark.parametrize("among", [300, 60_000])
def test_images_sorted_by_class_are_looked_at_in_random_order(tmp_path, monkeypatch, among, digits):
  monkeypatch.setattr(metrics, "MAX_CODES", 100)
  monkeypatch.setattr(metrics, "MAX_NEIGHBORS_AMONG", among)
  x, labels = digits
  order = np.argsort(labels, kind="stable")
  np.savez(tmp_path / "sorted.npz", x=x[order], y=labels[order])
  data = data_lib.load(str(tmp_path / "sorted.npz"))
  found, nearest = metrics.neighborhood(data, "train")
  x, labels = data.arrays("train")
  class_of = {row.tobytes(): label for row, label in zip(x, labels, strict=True)}
  first = [class_of[row.tobytes()] for row in found[: len(nearest)]]
  assert len(nearest) == 100 and set(first) == set(labels)


def test_categories_are_ranked_by_how_they_follow_the_images(digits):
  """True classes above k-means, that above classes merged, that above chance; ln K2 at most."""
  x, labels = digits
  neighbors = metrics.nearest_images(x)
  k_means = sklearn.cluster.KMeans(10, n_init=1, random_state=0).fit_predict(x.reshape(len(x), -1))
  chance = np.random.default_rng(0).integers(10, size=len(x))
  merged = np.where(labels == 9, 4, labels)
  found = [
      metrics.neighbor_information(c, neighbors)
      for c in (labels, k_means, chance, np.zeros_like(labels))
  ]
  assert math.log(10) > found[0] > found[1] > 1.5 > 0.01 > found[2] > found[3] == 0.0
  assert found[0] > metrics.neighbor_information(merged, neighbors)


@pytest.mark.parametrize(
    "counts, used",
    [([50, 50], 2), ([100, 0], 1), ([99, 1], 2), ([199, 1], 2), ([1990, 1], 1)],
)
def test_a_category_of_hardly_any_image_is_not_used(counts, used):
  categories = np.repeat(np.arange(len(counts)), counts)
  assert metrics.used_categories(categories, len(counts)) == used


# --- continuous codes and pixels -------------------------------------------------------------


def test_active_units_counts_variances_above_the_threshold():
  signs = np.array([1.0, -1.0] * 50)[:, None]
  mean = 5.0 + signs * np.sqrt([1.0, 0.011, 0.009, 0.0])
  assert metrics.active_units(mean) == 2
  assert metrics.active_units(mean, threshold=0.001) == 3


def test_bernoulli_floor_by_hand_and_as_the_loss_of_a_perfect_copy(digits):
  x = np.array([[0.0, 1.0, 0.5], [0.25, 1.0, 0.0]]).reshape(2, 3, 1, 1)
  quarter = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
  assert metrics.reconstruction_floor(x, "bernoulli") == pytest.approx((np.log(2) + quarter) / 2)

  import tensorflow as tf

  from imae_tf import objective

  images, _ = digits
  logits = np.log(np.maximum(images, 1e-30)) - np.log(np.maximum(1 - images, 1e-30))
  copied = np.mean(objective.bernoulli_reconstruction(tf.constant(images), tf.constant(logits)))
  assert metrics.reconstruction_floor(images, "bernoulli") == pytest.approx(copied, rel=1e-5)


def test_gaussian_floor_is_the_loss_of_a_perfect_copy(digits):
  from imae_tf import objective

  images = digits[0][:10].clip(1e-4, 1 - 1e-4)
  copied = np.mean(objective.gaussian_reconstruction(images, np.log(images / (1 - images))))
  assert metrics.reconstruction_floor(images, "gaussian") == pytest.approx(copied, rel=1e-5)
  assert metrics.reconstruction_floor(images, "gaussian") == pytest.approx(32 * np.log(2 * np.pi))


@pytest.mark.parametrize(
    "x,likelihood,message",
    [
        (np.zeros((0, 2, 2, 1)), "bernoulli", "N >= 1"),
        (_images(2), "laplace", "'bernoulli' or 'gaussian'"),
        (_images(2) * 3, "bernoulli", r"must lie in \[0, 1\]"),
        (_images(2) * np.nan, "bernoulli", r"must lie in \[0, 1\]"),
        (np.full((2, 2, 2, 1), 255, "uint8"), "bernoulli", "uint8 / 255"),
    ],
)
def test_floor_refuses_bad_images(x, likelihood, message):
  with pytest.raises(InputError, match=message):
    metrics.reconstruction_floor(x, likelihood)


@pytest.mark.parametrize("name,floor", [("mnist", 45.53), ("fashion_mnist", 189.86)])
def test_floor_of_the_real_test_images(name, floor):
  folder = os.environ.get("TFDS_DATA_DIR", pathlib.Path.home() / "tensorflow_datasets")
  if not (pathlib.Path(folder) / name).is_dir():
    pytest.skip(f"no {name} in {folder}")
  import tensorflow_datasets as tfds

  x = tfds.as_numpy(tfds.load(name, split="test", batch_size=-1, download=False))["image"]
  assert metrics.reconstruction_floor(x / np.float32(255), "bernoulli") == pytest.approx(
      floor, abs=0.01
  )


# --- drawn images ----------------------------------------------------------------------------


class Painter:
  """An image is its category (pixel 0, from 0 to 1) and z; read back with pixels above `most`
  taken for category 0."""

  def __init__(self, num_categories, most=np.inf):
    self._k2, self._most = num_categories, most

  def decode(self, y, z):
    share = np.argmax(y, axis=1) / self._k2
    return np.concatenate([share[:, None], z], axis=1)[:, None, :, None]

  def encode(self, x):
    category = np.rint(x[:, 0, 0, 0] * self._k2).astype(int)
    category = np.where(x[:, 0, 2, 0] > self._most, 0, category)
    return {"y": np.eye(self._k2)[category]}


def test_categories_are_drawn_from_their_mean_with_one_dimension_moved():
  y = np.eye(3)[[0, 0, 2, 2]]  # category 1 is no image's
  z = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], "float32")
  categories, drawn = metrics.category_traversals(Painter(3), y, z, 1, [-2, 0, 2])
  assert categories == [0, 2] and drawn.shape == (2, 3, 1, 3, 1)
  np.testing.assert_allclose(drawn[..., 0, 0, 0], [[0] * 3, [2 / 3] * 3])
  np.testing.assert_allclose(drawn[..., 0, 1, 0], [[2] * 3, [6] * 3])  # the mean of dimension 0
  np.testing.assert_allclose(drawn[..., 0, 2, 0], [[-2, 0, 2]] * 2)


def test_overlap_is_the_share_that_is_read_back_otherwise():
  y, z = np.eye(3)[[0, 1, 2]], np.zeros((3, 2), "float32")
  assert metrics.category_overlap(Painter(3), y, z, 1) == 0.0
  # Of 41 positions the 20 above 0 are lost for two categories of three.
  assert metrics.category_overlap(Painter(3, most=0), y, z, 1) == pytest.approx(2 * 20 / 123)


# --- evaluate --------------------------------------------------------------------------------


def test_evaluate_matches_the_equations_in_float64(rng):
  model = _random_model(rng)
  codes = {key: value.astype("float64") for key, value in model.encode(None).items()}
  noise = np.random.default_rng(4).standard_normal(codes["z"].shape)
  z, log_scale = codes["z"] + codes["z_scale"] * noise, np.log(codes["z_scale"])
  posterior = (z, codes["z"], log_scale, np.log(codes["y"]))
  got = metrics.evaluate(model, _images(60), seed=4)
  naive = reference.terms(*posterior)
  left_out = reference.terms(*posterior, leave_one_out=True)
  for key in ("mi_y", "entropy_y", "conditional_entropy_y", "kl_z"):
    assert got[key] == pytest.approx(naive[key], abs=1e-5), key
  names = {"mi_z": "mi_z", "mi_z_per_dimension": "mi_z_per_dimension",
           "total_correlation": "total_correlation", "mi_joint": "joint",
           "mi_z_joint": "mi_of_all_z"}
  for key, wanted in names.items():
    np.testing.assert_allclose(got[key]["naive"], naive[wanted], atol=1e-5)
    np.testing.assert_allclose(got[key]["leave_one_out"], left_out[wanted], atol=1e-5)


def test_evaluate_summarises_codes_and_labels_by_hand():
  # Two sure categories that agree with the labels on three of four images.
  y = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], "float32")
  z = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0]], "float32")
  z_scale = np.array([[0.5, 1]] * 4, "float32")
  got = metrics.evaluate(FakeModel(y, z, z_scale, loss=7.0), _images(4), [3, 3, 5, 3])
  assert got["n"] == got["codes"] == 4
  assert got["reconstruction"] == pytest.approx(7.0)
  assert got["reconstruction_floor"] == pytest.approx(4 * np.log(2))
  assert got["mi_y"] == pytest.approx(np.log(2), abs=1e-6)
  assert got["conditional_entropy_y"] == pytest.approx(0.0, abs=1e-6)
  assert got["active_units"] == 1
  assert got["var_mean_per_dimension"] == [1.0, 0.0]
  assert got["mean_variance_per_dimension"] == [0.25, 1.0]
  assert got["accuracy"] == 0.75
  assert got["mi_z_per_dimension"]["naive"][1] == pytest.approx(0.0, abs=1e-6)


def test_of_many_images_some_codes_are_compared_with_all(rng, monkeypatch):
  model, x = _random_model(rng), _images(60)
  every = metrics.evaluate(model, x)
  monkeypatch.setattr(metrics, "MAX_CODES", 20)
  some = metrics.evaluate(model, x)
  assert (every["n"], every["codes"], some["n"], some["codes"]) == (60, 60, 60, 20)
  assert some["mi_y"] == pytest.approx(every["mi_y"])
  assert some["mi_z"] != every["mi_z"]


def _independent_gaussians(rng, n, information):
  """Posteriors of independent z_k ~ N(0, 1) with these I(x;z_k), and of an even, sure y."""
  variance = np.exp(-2 * np.asarray(information))
  mean = rng.normal(size=(n, len(variance))) * np.sqrt(1 - variance)
  y = np.eye(4)[rng.integers(4, size=n)] * 0.96 + 0.01
  scale = np.broadcast_to(np.sqrt(variance), mean.shape)
  return [part.astype("float32") for part in (y, mean, scale)]


def test_the_floor_of_tc_is_what_independent_gaussians_give(rng):
  information = [1.5, 1.0, 1.0, 0.5]
  floors = [
      metrics.information(*_independent_gaussians(rng, 800, information), seed=s)[
          "total_correlation"] for s in range(3)
  ]
  y, mean, scale = _independent_gaussians(rng, 800, information)
  mean[:, 1] = mean[:, 2] = mean[:, 2] * (1 - 1e-3)  # now two dimensions are one
  got = metrics.independent_total_correlation(y, mean, scale, seed=5)
  for version in ("naive", "leave_one_out"):
    wanted = [floor[version] for floor in floors]
    assert got[version] == pytest.approx(np.mean(wanted), abs=0.06 + 4 * np.std(wanted))
  dependent = metrics.information(y, mean, scale)["total_correlation"]
  assert dependent["naive"] > got["naive"] + 0.5
  assert got["naive"] > 0.1  # at this n there is a bias to tell


def test_evaluate_is_json_and_repeats_with_its_seed(rng):
  model, x = _random_model(rng), _images(60)
  first = metrics.evaluate(model, x, seed=1)
  assert json.loads(json.dumps(first, allow_nan=False)) == first
  assert first == metrics.evaluate(model, x, seed=1)
  other = metrics.evaluate(model, x, seed=2)
  assert first["mi_z"] != other["mi_z"] and first["mi_y"] == other["mi_y"]
  for key in ("accuracy", "nmi", "ari", "mi_y_label"):
    assert first[key] is None


def test_naive_estimates_hold_the_identity_3(rng):
  got = metrics.evaluate(_random_model(rng, n=300, k1=8, k2=10), _images(300))
  pieces = got["mi_y"] + got["mi_z"]["naive"] - got["total_correlation"]["naive"]
  assert got["mi_joint"]["naive"] == pytest.approx(pieces, abs=1e-4)
  assert got["mi_z"]["naive"] == pytest.approx(sum(got["mi_z_per_dimension"]["naive"]), abs=1e-4)


def _gaussian_model(rng, n, k1, scale, k2=2):
  """p(z_k) = N(0, 1) exactly in the limit, so that I(x;z_k) = -ln(scale); y says nothing."""
  # A stream of its own: that of default_rng(0) is the noise of evaluate(seed=0).
  (own,) = rng.spawn(1)
  mean = own.normal(scale=np.sqrt(1 - scale**2), size=(n, k1)).astype("float32")
  uniform = np.full((n, k2), 1 / k2, "float32")
  return FakeModel(uniform, mean, np.full((n, k1), scale, "float32"))


def _mean_information(rng, n, scale):
  runs = [
      metrics.evaluate(_gaussian_model(rng, n, 20, scale), _images(n), seed=seed)
      for seed in range(5)
  ]
  return [
      np.mean([run["mi_z_per_dimension"][name] for run in runs])
      for name in ("naive", "leave_one_out")
  ]


def test_estimates_bracket_a_known_information_and_close_in_on_it(rng):
  truth = -np.log(0.1)
  naive, left_out = _mean_information(rng, 100, 0.1)
  assert truth - 0.2 < naive < truth - 0.04
  assert truth + 0.1 < left_out < truth + 0.6
  closer_naive, closer_left_out = _mean_information(rng, 1000, 0.1)
  assert naive + 0.03 < closer_naive < truth < closer_left_out < left_out - 0.1


def test_a_uniform_y_carries_no_information(rng):
  got = metrics.evaluate(_gaussian_model(rng, 50, 2, 0.5), _images(50))
  assert got["mi_y"] == pytest.approx(0.0, abs=1e-6)
  assert got["entropy_y"] == pytest.approx(np.log(2), abs=1e-6)


def test_naive_joint_is_capped_at_log_n_and_leave_one_out_is_not(rng):
  n, scale = 200, 0.2
  got = metrics.evaluate(_gaussian_model(rng, n, 10, scale), _images(n))
  truth = 10 * -np.log(scale)  # 16.1 nats, far above ln 200 = 5.3
  assert np.log(n) - 0.1 < got["mi_joint"]["naive"] <= np.log(n) + 1e-4
  assert got["mi_joint"]["leave_one_out"] > truth


def test_kl_z_of_a_shifted_aggregate(rng):
  model = _gaussian_model(rng, 3000, 2, 0.5)
  centred = metrics.evaluate(model, _images(3000))["kl_z"]
  assert 0 <= centred + 0.02 < 0.04
  codes = model.encode(None)
  shifted = FakeModel(codes["y"], codes["z"] + np.float32(2), codes["z_scale"])
  # KL(N(2, 1) || N(0, 1)) = 2 per dimension.
  assert metrics.evaluate(shifted, _images(3000))["kl_z"] == pytest.approx(4.0, abs=0.15)


def test_a_certain_posterior_stays_finite():
  y = np.eye(3, dtype="float32")[np.arange(30) % 3]  # exact zeros, as float32 softmax gives
  far = (np.arange(30, dtype="float32") * 1e3)[:, None]
  got = metrics.evaluate(FakeModel(y, far, np.full((30, 1), 1e-2, "float32")), _images(30))
  json.dumps(got, allow_nan=False)
  assert got["mi_y"] == pytest.approx(np.log(3), abs=1e-5)
  assert got["mi_z"]["naive"] == pytest.approx(np.log(30), abs=1e-4)


@pytest.mark.parametrize(
    "n,labels,message",
    [
        (0, None, "N >= 1"),
        (1, None, "at least 2 images"),
        (60, np.zeros(59, int), "one label for each of 60 images; got 59"),
        (60, np.zeros(60), "vector of integers"),
    ],
)
def test_evaluate_refuses_bad_input(rng, n, labels, message):
  with pytest.raises(InputError, match=message):
    metrics.evaluate(_random_model(rng), _images(n), labels)


@pytest.mark.parametrize("name", ["y", "z", "z_scale"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_evaluate_refuses_codes_that_are_not_finite(rng, name, bad):
  model = _random_model(rng)
  model.encode(None)[name][[3, 5], 0] = bad
  with pytest.raises(InputError, match=rf"; {name} holds NaN or infinity for 2 of 60"):
    metrics.evaluate(model, _images(60))


def test_evaluate_refuses_a_scale_of_zero(rng):
  model = _random_model(rng)
  model.encode(None)["z_scale"][0, 0] = 0
  with pytest.raises(InputError, match="z_scale must be positive"):
    metrics.evaluate(model, _images(60))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and KiB of ru_maxrss")
def test_ten_thousand_codes_stay_within_one_gibibyte():
  program = textwrap.dedent("""
      import resource
      import numpy as np
      import test_metrics as t
      from imae_tf import metrics
      rng = np.random.default_rng(0)
      metrics.evaluate(t._random_model(rng, 200, 10, 10), t._images(200))  # TensorFlow's own
      model, x = t._random_model(rng, 10_000, 10, 10), t._images(10_000)
      with open("/proc/self/statm") as f:
        before = int(f.read().split()[1]) * resource.getpagesize()
      metrics.evaluate(model, x)
      print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
  """)
  here = pathlib.Path(__file__).parent
  extra = subprocess.run(
      [sys.executable, "-c", program],
      env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])},
      capture_output=True,
      text=True,
      check=True,
  ).stdout
  assert int(extra.split()[-1]) < 2**30


# --- baselines -------------------------------------------------------------------------------


def _clusters(rng, n, k=3):
  """Images of k well separated patterns with a little noise, and their labels."""
  labels = np.arange(n) % k
  patterns = np.zeros((k, 4, 4, 1))
  for i in range(k):
    patterns[i, i] = 0.9
  noise = rng.uniform(0, 0.1, size=(n, 4, 4, 1))
  return (patterns[labels] + noise).astype("float32"), labels


def test_baselines_find_separated_clusters(rng):
  x_train, _ = _clusters(rng, 300)
  x_test, labels = _clusters(rng, 90)
  assert metrics.baselines(x_train, x_test, labels, 3) == {
      "k_means": 1.0, "ward": 1.0, "gaussian_mixture": 1.0,
  }


def test_baselines_on_labels_that_say_nothing_are_at_chance(rng):
  x_train, _ = _clusters(rng, 300)
  x_test, _ = _clusters(rng, 3000)
  accuracies = metrics.baselines(x_train, x_test, rng.integers(3, size=3000), 3)
  assert all(1 / 3 - 0.01 < value < 0.38 for value in accuracies.values())


def test_baselines_on_real_digits_repeat_with_their_seed(digits):
  x, labels = digits
  split = (x[:1437], x[1437:], labels[1437:], 10)
  first = metrics.baselines(*split, seed=0)
  assert first == metrics.baselines(*split, seed=0)
  assert 0.68 < first["k_means"] < 0.82
  assert 0.78 < first["ward"] < 0.88
  assert 0.70 < first["gaussian_mixture"] < 0.95


def test_baselines_use_no_more_images_than_they_say(rng, monkeypatch):
  monkeypatch.setattr(metrics, "MAX_BASELINE_IMAGES", 60)
  monkeypatch.setattr(metrics, "MAX_WARD_IMAGES", 30)
  seen = {}
  for name in ("KMeans", "AgglomerativeClustering", "GaussianMixture"):
    _record_fit_size(monkeypatch, getattr(metrics, name), seen, name)
  x_train, _ = _clusters(rng, 300)
  x_test, labels = _clusters(rng, 30)
  metrics.baselines(x_train, x_test, labels, 3)
  assert seen == {"KMeans": 60, "AgglomerativeClustering": 30, "GaussianMixture": 60}


def _record_fit_size(monkeypatch, cls, seen, name):
  method = "fit_predict" if name == "AgglomerativeClustering" else "fit"
  original = getattr(cls, method)

  def recording(self, x, *args, **kwargs):
    seen[name] = len(x)
    return original(self, x, *args, **kwargs)

  monkeypatch.setattr(cls, method, recording)


@pytest.mark.parametrize(
    "train,test,labels,message",
    [
        (np.zeros((0, 2, 2, 1)), _images(5), np.zeros(5, int), "N >= 1"),
        (_images(9), np.zeros((0, 2, 2, 1)), np.zeros(0, int), "N >= 1"),
        (_images(9), np.zeros((5, 3, 2, 1)), np.zeros(5, int), "must have one shape"),
        (_images(9), _images(5), np.zeros(4, int), "one label for each of 5 images"),
        (_images(9), _images(5), np.zeros(5), "vector of integers"),
        (_images(2), _images(5), np.zeros(5, int), "3 clusters need at least as many"),
    ],
)
def test_baselines_refuse_bad_input(train, test, labels, message):
  with pytest.raises(InputError, match=message):
    metrics.baselines(train, test, labels, 3)
