"""Clustering scores by hand, and baselines on known clusters."""

import itertools

import numpy as np
import pytest

from imae_tf.errors import InputError
from imae_tf.metrics import clustering


def test_hungarian_by_hand():
  # Taking the largest cell first (category 0 to class 0: 4) would leave 4 + 0 = 4 right;
  # category 0 to class 1 and category 1 to class 0 gives 3 + 3 = 6.
  labels = [0] * 7 + [1] * 3
  categories = [0] * 4 + [1] * 3 + [0] * 3
  mapping, table = clustering.hungarian(labels, categories, 2)
  assert mapping == {0: 1, 1: 0}
  np.testing.assert_array_equal(table, [[4, 3], [3, 0]])
  assert clustering.clustering_accuracy(labels, categories) == pytest.approx(0.6)


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
  assert clustering.clustering_accuracy(labels, categories) == pytest.approx(best / 80)


def test_permuted_perfect_clusters_score_one(rng):
  labels = np.arange(500) % 10
  categories = rng.permutation(10)[labels]
  assert clustering.clustering_accuracy(labels, categories) == 1.0
  assert clustering.nmi(labels, categories) == pytest.approx(1.0)
  assert clustering.ari(labels, categories) == pytest.approx(1.0)
  assert clustering.mi_y_label(labels, categories) == pytest.approx(np.log(10))
  np.testing.assert_array_equal(
      clustering.confusion_matrix(labels, categories, 10), 50 * np.eye(10)
  )


def test_random_categories_score_about_chance(rng):
  labels, categories = np.arange(20_000) % 10, rng.integers(10, size=20_000)
  assert 0.1 <= clustering.clustering_accuracy(labels, categories) < 0.12
  assert clustering.nmi(labels, categories) < 0.002
  assert abs(clustering.ari(labels, categories)) < 0.002
  assert clustering.mi_y_label(labels, categories) < 0.005


def test_one_constant_category_scores_the_largest_class_and_no_information():
  labels = np.array([0] * 5 + [1] * 3 + [2] * 2)
  categories = np.zeros(10, int)
  assert clustering.clustering_accuracy(labels, categories) == 0.5
  assert clustering.nmi(labels, categories) == pytest.approx(0.0, abs=1e-12)
  assert clustering.ari(labels, categories) == pytest.approx(0.0, abs=1e-12)
  assert clustering.mi_y_label(labels, categories) == pytest.approx(0.0, abs=1e-12)


def test_a_class_split_over_two_categories_counts_once():
  labels = np.array([0] * 6 + [1] * 4)
  categories = np.array([2] * 4 + [0] * 2 + [1] * 4)
  assert clustering.clustering_accuracy(labels, categories) == 0.8
  np.testing.assert_array_equal(
      clustering.confusion_matrix(labels, categories, 4), [[4, 0, 2, 0], [0, 4, 0, 0]]
  )
  assert clustering.column_order(labels, categories, 4) == [2, 1, 0, 3]


def test_two_classes_in_one_category_count_the_larger():
  labels = np.array([7] * 6 + [8] * 4 + [9] * 5)
  categories = np.array([1] * 10 + [0] * 5)
  assert clustering.clustering_accuracy(labels, categories) == pytest.approx(11 / 15)
  assert clustering.hungarian(labels, categories, 2)[0] == {1: 7, 0: 9}


def test_mi_y_label_by_hand():
  # The cells are 3/8, 1/8, 0, 4/8; the margins 1/2, 1/2 and 3/8, 5/8.
  labels, categories = [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1]
  expected = 3 / 8 * np.log(2) + 1 / 8 * np.log(2 / 5) + 4 / 8 * np.log(8 / 5)
  assert clustering.mi_y_label(labels, categories) == pytest.approx(expected)


@pytest.mark.parametrize(
    "labels,categories,message",
    [
        ([0, 1], [0, 1, 1], "one label for each of 3 images, got 2"),
        ([0.0, 1.0], [0, 1], "expected labels as a vector of integers"),
        ([[0], [1]], [0, 1], "expected labels as a vector of integers"),
        ([0, 1], [0.5, 1.0], "expected categories as a vector of integers"),
        (np.zeros(0, int), np.zeros(0, int), "at least one image"),
    ],
)
@pytest.mark.parametrize(
    "score", [clustering.clustering_accuracy, clustering.nmi, clustering.ari, clustering.mi_y_label]
)
def test_scores_refuse_bad_labels(score, labels, categories, message):
  with pytest.raises(InputError, match=message):
    score(labels, categories)


@pytest.mark.parametrize("categories", [[0, 3], [-1, 0]])
def test_a_category_beyond_the_model_is_refused(categories):
  with pytest.raises(InputError, match=r"expected categories in \[0, 3\)"):
    clustering.hungarian([0, 1], categories, 3)


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
  assert clustering.baselines(x_train, x_test, labels, 3) == {
      "k_means": 1.0, "ward": 1.0, "gaussian_mixture": 1.0,
  }


def test_baselines_on_labels_that_say_nothing_are_at_chance(rng):
  x_train, _ = _clusters(rng, 300)
  x_test, _ = _clusters(rng, 3000)
  accuracies = clustering.baselines(x_train, x_test, rng.integers(3, size=3000), 3)
  assert all(1 / 3 - 0.01 < value < 0.38 for value in accuracies.values())


def test_baselines_on_real_digits_repeat_with_their_seed(digits):
  x, labels = digits
  split = (x[:1437], x[1437:], labels[1437:], 10)
  first = clustering.baselines(*split, seed=0)
  assert first == clustering.baselines(*split, seed=0)
  assert 0.68 < first["k_means"] < 0.82
  assert 0.78 < first["ward"] < 0.88
  assert 0.70 < first["gaussian_mixture"] < 0.95


def test_baselines_see_large_images_by_components_that_keep_their_distances(digits):
  """Each pixel as 25: distances are five times as long, so Ward's tree is the same."""
  x = digits[0][:700]
  large = x.repeat(5, axis=1).repeat(5, axis=2)
  of_small, of_large = (
      clustering.baseline_categories(images[:500], images[500:], 10) for images in (x, large)
  )
  for name, least in (("ward", 1.0), ("k_means", 0.6), ("gaussian_mixture", 0.6)):
    assert clustering.scores(of_small[name], of_large[name])["ari"] >= least, name


def test_baselines_use_no_more_images_than_they_say(rng, monkeypatch):
  monkeypatch.setattr(clustering, "MAX_BASELINE_IMAGES", 60)
  monkeypatch.setattr(clustering, "MAX_WARD_IMAGES", 30)
  seen = {}
  monkeypatch.setattr(clustering, "MAX_MIXTURE_IMAGES", 20)
  for name in ("KMeans", "AgglomerativeClustering", "GaussianMixture"):
    _record_fit_size(monkeypatch, getattr(clustering, name), seen, name)
  x_train, _ = _clusters(rng, 300)
  x_test, labels = _clusters(rng, 30)
  clustering.baselines(x_train, x_test, labels, 3)
  # The mixture's starts on 20, and the best of them on all.
  assert (seen["AgglomerativeClustering"], seen["GaussianMixture"]) == ([30], [20, 60])
  assert seen["KMeans"] == [60, *[20] * 5]  # the mixture's starts begin at it, too


def _record_fit_size(monkeypatch, cls, seen, name):
  method = "fit_predict" if name == "AgglomerativeClustering" else "fit"
  original = getattr(cls, method)

  def recording(self, x, *args, **kwargs):
    seen.setdefault(name, []).append(len(x))
    return original(self, x, *args, **kwargs)

  monkeypatch.setattr(cls, method, recording)


def _images(n):
  return np.full((n, 2, 2, 1), 0.5, "float32")


@pytest.mark.parametrize(
    "train,test,labels,message",
    [
        (np.zeros((0, 2, 2, 1)), _images(5), np.zeros(5, int), "N >= 1"),
        (_images(9), np.zeros((0, 2, 2, 1)), np.zeros(0, int), "N >= 1"),
        (_images(9), np.zeros((5, 3, 2, 1)), np.zeros(5, int), "images of one shape"),
        (_images(9), _images(5), np.zeros(4, int), "one label for each of 5 images"),
        (_images(9), _images(5), np.zeros(5), "vector of integers"),
        (_images(2), _images(5), np.zeros(5, int), "at least 3 training images"),
    ],
)
def test_baselines_refuse_bad_input(train, test, labels, message):
  with pytest.raises(InputError, match=message):
    clustering.baselines(train, test, labels, 3)
