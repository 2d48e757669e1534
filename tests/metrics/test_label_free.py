"""Label-free figures of categories: neighbours by plain distances, sums by hand, rankings."""

import math

import numpy as np
import pytest
import sklearn.cluster

from imae_tf.data import loading
from imae_tf.metrics import dataset_information
from imae_tf.metrics import label_free


def test_neighbours_are_those_of_plain_distances(rng):
  x = rng.uniform(size=(40, 2, 3, 1)).astype("float32")
  rows = x.reshape(40, -1).astype("float64")
  distances = np.linalg.norm(rows[:, None] - rows, axis=2)
  np.fill_diagonal(distances, np.inf)
  nearest = np.argsort(distances, axis=1)
  np.testing.assert_array_equal(label_free.nearest_images(x, count=5), nearest[:, :5])
  np.testing.assert_array_equal(label_free.nearest_images(x, first=7, count=5), nearest[:7, :5])


def test_a_small_set_has_no_more_neighbours_than_others(rng):
  assert label_free.nearest_images(rng.uniform(size=(4, 2, 2, 1))).shape == (4, 3)


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

  monkeypatch.setattr(label_free, "NearestNeighbors", Search)
  assert label_free.nearest_images(np.zeros((first + 50, 1, 1, 1)), first).shape == (first, count)


def test_twins_are_each_others_neighbours():
  x = np.repeat(np.linspace(0, 1, 5), 2).reshape(10, 1, 1, 1)
  assert label_free.nearest_images(x, count=1).ravel().tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]


def test_an_image_among_many_of_its_copies_is_not_its_own_neighbour():
  found = label_free.nearest_images(np.zeros((30, 2, 2, 1)), count=3)
  assert found.shape == (30, 3) and not np.any(found == np.arange(30)[:, None])


def test_neighbour_information_against_a_sum_over_the_table(rng):
  categories, neighbors = rng.integers(3, size=50), rng.integers(50, size=(50, 4))
  joint = np.zeros((3, 3))
  for i in range(50):
    for j in neighbors[i]:
      joint[categories[i], categories[j]] += 1 / 200
  outer = joint.sum(1)[:, None] * joint.sum(0)
  expected = np.sum(joint * np.log(np.where(joint > 0, joint, 1) / outer))
  assert label_free.neighbor_information(categories, neighbors) == pytest.approx(expected)
  more = np.append(categories, [0, 1])  # images that serve as neighbours alone
  assert label_free.neighbor_information(more, neighbors) == pytest.approx(expected)


def test_a_neighborhood_is_of_the_split_among_training_images(monkeypatch):
  monkeypatch.setattr(dataset_information, "MAX_CODES", 100)
  monkeypatch.setattr(label_free, "MAX_NEIGHBORS_AMONG", 300)
  data = loading.load("digits", holdout=150)
  held_out, _ = data.arrays("holdout", limit=100)
  x, nearest = label_free.neighborhood(data, "holdout")
  assert len(x) == 300 and nearest.shape == (100, 10) and nearest.max() > 100
  np.testing.assert_array_equal(x[:100], held_out)
  np.testing.assert_array_equal(nearest, label_free.nearest_images(x, 100))
  x, nearest = label_free.neighborhood(data, "train")
  assert len(x) == 300 and len(nearest) == 100
  monkeypatch.setattr(label_free, "_NEIGHBOR_BYTES", 8 * 8 * 4 * 200)
  assert len(label_free.neighborhood(data, "train")[0]) == 200
  monkeypatch.setattr(label_free, "_NEIGHBOR_BYTES", 0)
  x, nearest = label_free.neighborhood(data, "holdout")  # no room for training images
  assert len(x) == len(nearest) == 100


def test_agreement_is_the_mean_nmi_with_the_others():
  one = np.array([0, 0, 1, 1, 2, 2])
  renamed, merged = np.array([2, 2, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1])
  mutual = np.log(3) - 2 / 3 * np.log(2)  # I(one; merged) = H(merged)
  share = mutual / ((np.log(3) + mutual) / 2)
  expected = [(1 + share) / 2, (1 + share) / 2, share]
  assert label_free.agreement([one, renamed, merged]) == pytest.approx(expected)
  assert label_free.agreement([one]) == [1.0]


@pytest.mark.parametrize("among", [300, 60_000])
def test_images_sorted_by_class_are_looked_at_in_random_order(tmp_path, monkeypatch, among, digits):
  monkeypatch.setattr(dataset_information, "MAX_CODES", 100)
  monkeypatch.setattr(label_free, "MAX_NEIGHBORS_AMONG", among)
  x, labels = digits
  order = np.argsort(labels, kind="stable")
  np.savez(tmp_path / "sorted.npz", x=x[order], y=labels[order])
  data = loading.load(str(tmp_path / "sorted.npz"))
  found, nearest = label_free.neighborhood(data, "train")
  x, labels = data.arrays("train")
  class_of = {row.tobytes(): label for row, label in zip(x, labels, strict=True)}
  first = [class_of[row.tobytes()] for row in found[: len(nearest)]]
  assert len(nearest) == 100 and set(first) == set(labels)


def test_categories_are_ranked_by_how_they_follow_the_images(digits):
  """True classes above k-means, that above classes merged, that above chance; ln K2 at most."""
  x, labels = digits
  neighbors = label_free.nearest_images(x)
  k_means = sklearn.cluster.KMeans(10, n_init=1, random_state=0).fit_predict(x.reshape(len(x), -1))
  chance = np.random.default_rng(0).integers(10, size=len(x))
  merged = np.where(labels == 9, 4, labels)
  found = [
      label_free.neighbor_information(c, neighbors)
      for c in (labels, k_means, chance, np.zeros_like(labels))
  ]
  assert math.log(10) > found[0] > found[1] > 1.5 > 0.01 > found[2] > found[3] == 0.0
  assert found[0] > label_free.neighbor_information(merged, neighbors)


@pytest.mark.parametrize(
    "counts, used",
    [([50, 50], 2), ([100, 0], 1), ([99, 1], 2), ([199, 1], 2), ([1990, 1], 1)],
)
def test_a_category_of_hardly_any_image_is_not_used(counts, used):
  categories = np.repeat(np.arange(len(counts)), counts)
  assert label_free.used_categories(categories, len(counts)) == used
