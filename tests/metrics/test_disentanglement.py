"""Scores of representations that are known to be good, bad, mixed and repeated."""

import numpy as np
import pytest
from scipy.stats import entropy

from imae_tf.errors import InputError
from imae_tf.metrics import disentanglement

NAMES = ("shape", "scale", "x")
VALUES = (3, 4, 6)


@pytest.fixture(scope="module")
def factors():
  grid = np.stack(np.meshgrid(*map(np.arange, VALUES), indexing="ij"), axis=-1)
  return np.tile(grid.reshape(-1, 3), (12, 1))


def _scores(category, z, factors, k2=3, **kwargs):
  return disentanglement.scores(np.eye(k2)[category], z, factors, NAMES, **kwargs)


def _noise(n, columns, seed=1):
  return np.random.default_rng(seed).normal(size=(n, columns))


def _identity(factors):
  """The shape is the category; scale and x a dimension each; the third says nothing."""
  return factors[:, 0], np.c_[factors[:, 1:].astype(float), 0.2 * _noise(len(factors), 1)]


def test_the_factors_themselves_are_perfect(factors):
  got = _scores(*_identity(factors), factors)
  assert got["mig"] > 0.95 and got["factor_vae_score"] == 1.0
  assert got["dci_disentanglement"] > 0.95 and got["dci_completeness"] > 0.95
  assert got["dci_informativeness"] == 1.0
  assert set(got["mig_per_factor"]) == set(NAMES)


def test_noise_says_nothing(factors):
  category = np.random.default_rng(2).integers(3, size=len(factors))
  got = _scores(category, _noise(len(factors), 3), factors)
  assert got["mig"] < 0.05 and got["dci_disentanglement"] < 0.1
  assert got["dci_informativeness"] == pytest.approx(np.mean(1 / np.array(VALUES)), abs=0.08)
  assert got["factor_vae_score"] < 0.55  # a third, and what the votes fit by chance


def test_noise_in_its_dimension_does_not_entangle_a_factor(factors):
  """Each part still speaks of one factor alone: less informative, not less disentangled."""
  many = np.tile(factors, (4, 1))
  category, z = _identity(many)
  z[:, :2] = z[:, :2] / z[:, :2].std(axis=0) + 0.5 * _noise(len(z), 2)
  got = _scores(category, z, many)
  assert got["dci_informativeness"] < 0.9
  assert got["dci_disentanglement"] > 0.8 and got["dci_completeness"] > 0.8
  assert got["factor_vae_score"] == 1.0


def test_noise_scores_near_chance_among_many_images():
  draw = np.random.default_rng(3)
  many = np.stack([draw.integers(size, size=6000) for size in VALUES], axis=1)
  got = _scores(draw.integers(3, size=6000), draw.normal(size=(6000, 3)), many)
  assert got["factor_vae_score"] == pytest.approx(1 / 3, abs=0.06)
  assert got["mig"] < 0.01
  assert got["dci_disentanglement"] < 0.05 and got["dci_completeness"] < 0.15


def test_a_category_is_the_likeliest_whatever_its_probability(factors):
  category, z = _identity(factors)
  soft = 0.3 + 0.1 * np.eye(3)[category]
  sure = disentanglement.scores(np.eye(3)[category], z, factors, NAMES)
  assert disentanglement.scores(soft, z, factors, NAMES) == sure


def test_a_factor_in_two_dimensions_leaves_no_gap(factors):
  category, z = _identity(factors)
  twice = _scores(category, np.c_[z, z], factors)
  once = _scores(category, z, factors)
  assert twice["mig_per_factor"]["x"] == pytest.approx(0, abs=1e-9)
  assert twice["mig_per_factor"]["shape"] == pytest.approx(once["mig_per_factor"]["shape"])
  assert twice["dci_disentanglement"] > 0.95  # each part still speaks of one factor
  assert twice["dci_completeness"] < once["dci_completeness"] - 0.2
  assert twice["factor_vae_score"] == 1.0


def test_mixed_dimensions_are_entangled_and_as_informative(factors):
  category, z = _identity(factors)
  scaled = z[:, :2] / z[:, :2].std(axis=0)
  mixed = _scores(category, scaled @ np.array([[1, 1], [1, -1]]), factors)
  plain = _scores(category, scaled, factors)
  assert mixed["mig_per_factor"]["x"] < plain["mig_per_factor"]["x"] - 0.5
  assert mixed["dci_disentanglement"] < plain["dci_disentanglement"] - 0.3
  assert mixed["dci_informativeness"] > 0.9


def test_order_sign_scale_and_names_of_categories_do_not_matter(factors):
  category, z = _identity(factors)
  plain = _scores(category, z, factors)
  other = _scores(np.array([2, 0, 1])[category], -3.0 * z[:, ::-1], factors)
  for name in ("mig", "dci_disentanglement", "dci_completeness", "factor_vae_score"):
    assert other[name] == pytest.approx(plain[name], abs=0.03), name


def test_mig_from_tables_of_counts(factors):
  """Independent of scikit-learn: entropies of counts."""
  category = (factors[:, 0] + (np.arange(len(factors)) % 5 == 0)) % 3
  z = factors[:, 1:2] + _noise(len(factors), 2)
  got = disentanglement.mig(category, z, factors)
  bins = [np.clip(((c - c.min()) / np.ptp(c) * 20).astype(int), 0, 19) for c in z.T]
  for k, factor in enumerate(factors.T):
    information = sorted(_information(factor, part) for part in [category, *bins])
    wanted = (information[-1] - information[-2]) / np.log(VALUES[k])
    assert got[k] == pytest.approx(wanted, abs=1e-6)


def _information(a, b):
  table = np.zeros((a.max() + 1, b.max() + 1))
  np.add.at(table, (a, b), 1)
  return entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table.ravel())


def test_dimensions_that_never_move_do_not_vote(factors):
  category, z = _identity(factors)
  still = np.c_[z, np.zeros((len(z), 2)), 1e-4 * _noise(len(z), 1)]
  assert disentanglement.factor_vae_score(category, still, factors) == 1.0
  nothing = np.zeros(len(factors), int)
  assert disentanglement.factor_vae_score(nothing, np.zeros((len(z), 2)), factors) == 0.0


def test_equal_seeds_give_equal_scores(factors):
  category, z = _identity(factors)
  z = z + _noise(len(z), 3)
  assert _scores(category, z, factors, seed=3) == _scores(category, z, factors, seed=3)
  assert _scores(category, z, factors, seed=3) != _scores(category, z, factors, seed=4)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda y, z, v: (y[:-1], z, v), "the same 100 images or more, got 863, 864 and 864"),
        (lambda y, z, v: (y[:9], z[:9], v[:9]), "100 images or more, got 9, 9 and 9"),
        (lambda y, z, v: (y, np.where(z == 2, np.nan, z), v), "expected finite codes, got NaN"),
        (lambda y, z, v: (y, z, v.astype(float)), "expected factors as integers, got float64"),
        (lambda y, z, v: (y, z, v[:, :2]), "expected 2 names of factors, got 3"),
        (lambda y, z, v: (y, z, v * [1, 0, 1]), "two values or more, got one of scale"),
        (lambda y, z, v: (y, z[:, 0], v), r"z as an array of two dimensions, .* got shape"),
        (lambda y, z, v: (y, z[:, :0], v), r"with a column or more, got shape \(864, 0\)"),
    ],
)
def test_what_cannot_be_scored(factors, change, message):
  category, z = _identity(factors)
  with pytest.raises(InputError, match=message):
    disentanglement.scores(*change(np.eye(3)[category], z, factors), NAMES)
