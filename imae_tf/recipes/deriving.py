"""A recipe for images that nobody tuned for: every setting is derived from the images.

`imae-train` uses it for each data set without a recipe of its own. docs/experiments.md, 70 to 91
and after, has the experiments behind the numbers; they were chosen by accuracy on several labelled
sets, as one rule for all of them.
"""

import dataclasses
import math
import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from imae_tf.errors import InputError
from imae_tf.metrics import clustering
from imae_tf.metrics import label_free
from imae_tf.recipes.building import view_of
from imae_tf.recipes.settings import PAPER
from imae_tf.recipes.settings import Recipe

SAMPLE = 2_000  # images that are looked at
COMPONENTS = 20  # principal components of a view, for mixtures
_FITS = 4
_MARGIN = 0.1  # by which pixels must tell neighbours' categories better than edges do
_EVEN = 0.85  # least share of ln K2 that the entropy of even classes has
_MNIST_EXCESS = 160.0  # nats of an image of MNIST above the floor, for the mean image


def auto(x: np.ndarray, num_categories: int, num_images: int | None = None) -> Recipe:
  """The recipe `auto` for images.

  Args:
    x: [N, H, W, C] images in [0, 1]; the first 2,000 are looked at, so give them in random order.
    num_categories: K2.
    num_images: number of training images; None for N.

  Returns:
    `Recipe`.

  Raises:
    InputError: fewer images than categories.
  """
  num_images = num_images or len(x)
  x = x[:SAMPLE]
  if len(x) < num_categories:
    raise InputError(
        f"expected at least {num_categories} training images, one a category, got {len(x)}; add"
        " images or lower num_categories."
    )
  view, balance = _view_and_balance(x, num_categories)
  even = balance >= _EVEN
  batch_size = min(250, num_images)
  epoch = max(num_images // batch_size, 1)  # steps
  excess = _excess(x)
  return dataclasses.replace(
      PAPER,
      # y has layers of its own, so its weights need no relation to the number of pixels.
      network="towers",
      view=view,
      y_units=(256, 512),
      detach_y=True,
      weight_scale=0.1,  # IMSAT's; p(y|x) starts uniform, so no category is chosen by chance
      logits_stddev=3e-4,
      # Relative to H(y|x). Uneven classes must not be pulled apart to make them even.
      entropy_weight=6.0 if even else 0.5,
      consistency=10.0,
      ease_smoothing=True,
      # Lengths that fit the data: the step to the nearest image, and a fifth of it.
      vat_radius="neighbor",
      vat_xi="neighbor",
      neighbor_fraction=0.2,
      # z's weights are relative to what there is to reconstruct, MNIST's 5 and 3.
      beta=round(5.0 * excess / _MNIST_EXCESS, 3),
      gamma=round(3.0 * excess / _MNIST_EXCESS, 3),
      beta_y=100.0,
      optimizer="adam",
      learning_rate=2e-3,
      learning_rate_decay=1.0,
      batch_size=batch_size,
      # A budget in optimizer steps, whatever the number of images.
      epochs=max(math.ceil(1_000 / epoch), 5),
      # No weight of VAT and no size of the transforms is the best for all images, and chance
      # decides: starts of each kind vote on what they agree on.
      lam=8.0,
      transform_size=1.0,
      restarts=8,
      restart_epochs=math.ceil(1_000 / epoch),
      restart_changes="/".join(
          f"lam={lam},transform_size={size}" for lam in (1, 10) for size in (0.5, 1.5)
      ),
      restart_score="neighbors" if even else "ratio",
      restart_categories=True,
      restart_mixtures=0 if even else 4,
      restart_vote=True,
  )


def mixture(rows: np.ndarray, num_categories: int, seed: int = 0) -> tuple[PCA, GaussianMixture]:
  """A Gaussian mixture of the principal components of rows [N, V], the best of four by `ratio`."""
  return _best_mixture(rows, num_categories, seed)[:2]


def _best_mixture(
    rows: np.ndarray, num_categories: int, seed: int = 0
) -> tuple[PCA, GaussianMixture, np.ndarray, float]:
  """`mixture`, with the categories [N] of the rows and their `ratio`."""
  components = min(COMPONENTS, len(rows) - 1, rows.shape[1])
  pca = PCA(components, random_state=seed).fit(rows)
  codes = pca.transform(rows)
  neighbors = label_free.nearest_images(rows, count=min(10, len(rows) - 1))
  with warnings.catch_warnings():  # of duplicates there are fewer kinds than components
    warnings.simplefilter("ignore", ConvergenceWarning)
    fits = [
        GaussianMixture(num_categories, reg_covar=1e-4, random_state=seed + i).fit(codes)
        for i in range(_FITS)
    ]
  found = [fit.predict(codes) for fit in fits]
  ratios = [ratio(categories, neighbors) for categories in found]
  best = int(np.argmax(ratios))
  return pca, fits[best], found[best], ratios[best]


def ratio(categories: np.ndarray, neighbors: np.ndarray) -> float:
  """I(c;c') / H(c): the part of the categories' entropy that near images share, from 0 to 1."""
  entropy = _entropy(categories)
  if entropy < 0.05:  # one category for almost all images says nothing
    return 0.0
  return label_free.neighbor_information(categories, neighbors) / entropy


def _entropy(categories: np.ndarray) -> float:
  return clustering.mi_y_label(categories, categories)


def _view_and_balance(x: np.ndarray, num_categories: int) -> tuple[str, float]:
  """The setting `view`, and H(c) / ln K2 of a mixture's categories in that view."""
  edges = "signed_edges" if x.shape[-1] == 1 else "edges"
  found = {name: _look(x, name, num_categories) for name in (edges, "pixels")}
  view = "pixels" if found["pixels"][0] > found[edges][0] + _MARGIN else edges
  return view, found[view][1]


def _look(x: np.ndarray, view: str, num_categories: int) -> tuple[float, float]:
  rows = np.asarray(view_of(view).features(x.astype("float32")))
  rows = rows - rows.mean(axis=0)
  if not np.abs(rows).max() > 0:  # images of one pixel have no edges
    return -1.0, 1.0
  _, _, categories, share = _best_mixture(rows, num_categories)
  return share, _entropy(categories) / math.log(num_categories)


def _excess(x: np.ndarray) -> float:
  """Reconstruction of images from their mean above the floor, in nats per image."""
  mean = np.clip(x.mean(axis=0, dtype=np.float64), 1e-6, 1.0 - 1e-6)
  entropy = _bernoulli_entropy(mean).sum()
  floor = np.mean([_bernoulli_entropy(image.astype(np.float64)).sum() for image in x])
  return max(float(entropy - floor), 1e-3)


def _bernoulli_entropy(p: np.ndarray) -> np.ndarray:
  p = np.clip(p, 1e-12, 1.0 - 1e-12)
  return -(p * np.log(p) + (1.0 - p) * np.log1p(-p))
