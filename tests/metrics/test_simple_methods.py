"""A model's categories beside simple methods': the figures, and what people are told."""

import numpy as np
import pytest
from sklearn import metrics as sk_metrics
from sklearn.neighbors import NearestNeighbors

from imae_tf.metrics import simple_methods


def test_the_figures_are_scikit_learns(rng):
  labels = np.arange(90) % 3
  seen = labels[:, None] + 0.01 * rng.random((90, 2))
  noisy = np.where(rng.random(90) < 0.3, rng.integers(3, size=90), labels)
  found = simple_methods.compared({"model": noisy, "k_means": labels}, seen, labels)
  assert found["k_means"]["accuracy"] == 1.0
  for name, categories in (("model", noisy), ("k_means", labels)):
    assert found[name]["nmi"] == pytest.approx(
        sk_metrics.normalized_mutual_info_score(labels, categories)
    )
    assert found[name]["ari"] == pytest.approx(sk_metrics.adjusted_rand_score(labels, categories))
    near = NearestNeighbors(n_neighbors=11).fit(seen).kneighbors(seen, return_distance=False)
    pairs = np.repeat(categories, 10), categories[near[:, 1:]].ravel()
    assert found[name]["near_mi_y"] == pytest.approx(sk_metrics.mutual_info_score(*pairs))


def test_without_labels_only_what_near_images_share_is_known(rng):
  found = simple_methods.compared({"model": rng.integers(2, size=20)}, rng.random((20, 3)), None)
  assert [k for k, v in found["model"].items() if v is None] == ["accuracy", "nmi", "ari"]


def _metrics(mi_y, own=1.0, k_means=0.5, ward=0.6):
  shares = {"model": own, "k_means": k_means, "ward": ward}
  return {"mi_y": mi_y, "simple_methods": {k: {"near_mi_y": v} for k, v in shares.items()}}


@pytest.mark.parametrize(
    "metrics, expected",
    [
        (_metrics(2.0), []),
        (_metrics(0.1), ["The categories carry little: I(x;y) is 0.10 of at most 2.30 nats"]),
        (_metrics(2.0, ward=1.5), ["share 1.50 nats of their cluster by ward, and 1.00 nats"]),
        (_metrics(0.1, k_means=1.5), ["carry little", "by k means"]),
        ({"mi_y": 2.0}, []),  # without baselines
    ],
)
def test_people_are_told_where_a_simple_method_looks_better(metrics, expected):
  remarks = simple_methods.remarks(metrics, 10)
  assert len(remarks) == len(expected)
  for remark, part in zip(remarks, expected):
    assert part in remark
