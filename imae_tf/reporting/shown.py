"""Collects what pages show of a run: images, their codes, and the names of categories.

The page of a run and the pictures of a comparison each make a `Shown`.
"""

import functools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

from imae_tf.metrics import clustering
from imae_tf.metrics import examples
from imae_tf.reporting import plots

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder


class Shown:
  """A model with images that it has encoded.

  Args:
    model: a `HybridAutoencoder`.
    metrics: the content of metrics.json.
    x: [N, H, W, C] float images in [0, 1].
    labels: [N] integers or None.
    class_names: texts, one per label value 0, 1, ..., or None.
    category_names: what people call the categories, a number where they gave no name; or None.
    files: [N] names of the images' files, or None.

  Attributes:
    codes: {"y": [N, K2], "z": [N, K1], "z_scale": [N, K1]}.
    categories: [N], the likeliest category of each image.
    matched: {category: label}; empty without labels.
    order: the categories in the order of rows and columns; matched ones follow their labels.

  Raises:
    InputError: the images have another shape than the model's.
  """

  def __init__(
      self,
      model: "HybridAutoencoder",
      metrics: Mapping[str, Any],
      x: np.ndarray,
      labels: np.ndarray | None = None,
      class_names: Sequence[str] | None = None,
      category_names: Sequence[str] | None = None,
      files: Sequence[str] | None = None,
  ):
    self.model, self.metrics, self.x = model, metrics, np.asarray(x)
    self.class_names, self.category_names = class_names, category_names
    self.files = files
    self.codes = model.encode(self.x)
    self.num_categories = model.num_categories
    self.categories = self.codes["y"].argmax(axis=1)
    self.labels = None if labels is None else np.asarray(labels)
    self.order = list(range(self.num_categories))
    self.matched: dict[int, int] = {}
    if self.labels is not None:
      arguments = (self.labels, self.categories, self.num_categories)
      self.order = clustering.column_order(*arguments)
      self.matched, _ = clustering.hungarian(*arguments)

  @property
  def method(self) -> str:
    """The name of the method for people."""
    method = self.metrics.get("method", "imae")
    return plots.NAMES.get(method, str(method))

  @property
  def most_informative(self) -> int:
    """The dimension of z with the largest I(x;z_k), naive."""
    return int(np.argmax(self.metrics["mi_z_per_dimension"]["naive"]))

  def class_name(self, label: int) -> str:
    """The name of a label, or its number."""
    names = self.class_names
    return str(names[label]) if names is not None and 0 <= label < len(names) else str(label)

  def category_name(self, category: int) -> tuple[str, str]:
    """Two lines for a category, what it is called and its index.

    It has the name that people gave it, or that of the class that it is matched to.
    """
    given = str(category) if self.category_names is None else self.category_names[category]
    if given != str(category):
      return given, f"category {category}"
    if self.labels is None:
      return f"category {category}", ""
    if category not in self.matched:
      return f"category {category}", "unmatched"
    return self.class_name(self.matched[category]), f"category {category}"

  def members(self, category: int) -> np.ndarray:
    """Indices of a category's images, those with the most certain category first."""
    members = np.flatnonzero(self.categories == category)
    return members[np.argsort(-self.codes["y"][members, category], kind="stable")]

  def image_name(self, index: int) -> str:
    """The name of an image's file, or its number."""
    return f"image {index}" if self.files is None else self.files[index]

  @functools.cached_property
  def confidence(self) -> np.ndarray:
    """[N], the largest p(y|x) of each image."""
    return self.codes["y"].max(axis=1)

  @functools.cached_property
  def excess(self) -> np.ndarray:
    """[N], `examples.excess_loss`."""
    return examples.excess_loss(self.model, self.x)

  @functools.cached_property
  def misfits(self) -> examples.Misfits:
    """The images that fit nowhere."""
    return examples.misfits(self.excess, self.confidence)

  @functools.cached_property
  def duplicates(self) -> list[np.ndarray]:
    """Groups of near-duplicates."""
    return examples.near_duplicates(self.x, self.codes["y"], self.codes["z"])

  def central(self, category: int) -> np.ndarray:
    """Indices of a category's images, the most typical ones first."""
    return examples.typical(self.codes["y"], self.codes["z"], category)

  def right(self) -> np.ndarray | None:
    """[N] bool: the category is the one matched to the label; None without labels."""
    if self.labels is None:
      return None
    return np.array([self.matched.get(c) for c in self.categories]) == self.labels
