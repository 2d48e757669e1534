"""scikit-learn's estimator: images to categories and factors, with `fit`, `predict`, `transform`.

It trains as `imae-train` does, in a temporary folder, and takes arrays, files or a folder.
"""

import contextlib
import os
import pathlib
import random
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.base import ClusterMixin
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from imae_tf import recipes
from imae_tf._shared import paths
from imae_tf._shared import setting
from imae_tf.data import arrays
from imae_tf.data import image_folder
from imae_tf.data import many_files
from imae_tf.data import pipelines
from imae_tf.data.preparation import Preparation
from imae_tf.data.reading import checked_size
from imae_tf.data.reading import Reading
from imae_tf.errors import InputError
from imae_tf.training import distribution
from imae_tf.training import run_folder
from imae_tf.training import runs

_BATCH = 512
_Self = TypeVar("_Self", bound="ImageClusterer")
_Images = np.ndarray | Sequence[str | os.PathLike[str]] | str | os.PathLike[str]


class _Quiet(distribution.Job):
  """A job of this process that says nothing."""

  def say(self, text: str) -> None:
    pass


class ImageClusterer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
  """Finds categories y and factors z of images without labels.

  Images are an array [N, H, W, C] or [N, H, W] (bytes, or floats in [0, 1]), a list of paths of
  image files, or the path of a folder of images, whose rows are its files sorted by path. All
  images train.

  Args:
    num_categories: K2, the number of categories.
    latent_dim: K1, the number of factors.
    recipe: "auto", derived from the images; "paper"; or "tuned", that of MNIST.
    method: A key of `imae_tf.methods.METHODS`.
    epochs: Passes over the images; None for the recipe's.
    settings: Settings that replace the recipe's, as {"lam": 3.0}; None for none.
    image_size: (H, W) that images become, or a number for a square; None as of `data.load`.
    image_fit: How images of other proportions become that size: "crop", "pad" or "stretch".
    color: "grey", "rgb" or "auto", which is colour if any image has it.
    random_state: Seed of the weights, the order and the noise: a number, a
      `numpy.random.RandomState`, or None for another one each time. With a number, `fit` repeats to
      the bit; for that it asks TensorFlow for deterministic operations in the whole process.
    verbose: Whether the training tells its progress.

  Attributes:
    labels_: [N] categories of the images of `fit`, 0 to K2 - 1.
    model_: The trained `HybridAutoencoder`.
    preparation_: What is done to images before the model sees them; None for nothing.
    files_: Names of the images of `fit` if they are files.

  >>> import imae_tf
  >>> imae_tf.ImageClusterer(num_categories=3, random_state=0)
  ImageClusterer(num_categories=3, random_state=0)
  """

  def __init__(
      self,
      num_categories: int = 10,
      latent_dim: int = 10,
      *,
      recipe: str = "auto",
      method: str = "imae",
      epochs: int | None = None,
      settings: Mapping[str, Any] | None = None,
      image_size: int | tuple[int, int] | None = None,
      image_fit: str = "crop",
      color: str = "auto",
      random_state: int | np.random.RandomState | None = None,
      verbose: bool = False,
  ) -> None:
    self.num_categories = num_categories
    self.latent_dim = latent_dim
    self.recipe = recipe
    self.method = method
    self.epochs = epochs
    self.settings = settings
    self.image_size = image_size
    self.image_fit = image_fit
    self.color = color
    self.random_state = random_state
    self.verbose = verbose

  def fit(self: _Self, X: _Images, y: Any = None) -> _Self:
    """Trains on images.

    Args:
      X: Images, see the class.
      y: Not used.

    Raises:
      InputError: They are no images, or too few, or a file cannot be read; or a parameter is wrong.
    """
    run = self._run()
    images, self.preparation_ = self._read(X)
    _check_count(len(images), self.num_categories)
    height, width, channels = images.shape[1:]
    data = pipelines.ArrayData(
        "the images", (height, width, channels), None, {"train": (images, None)},
        preparation=self.preparation_,
    )
    job = None if self.verbose else _Quiet()
    with tempfile.TemporaryDirectory(prefix="imae-") as folder, _random_numbers_kept():
      self.model_ = runs.train(
          run, folder, job, progress=self.verbose, data=data, board=self.verbose
      )
    self.labels_ = self.model_.encode(images)["y"].argmax(axis=1)
    return self

  def predict(self, X: _Images) -> np.ndarray:
    """The categories [N] of images, 0 to K2 - 1.

    Args:
      X: Images, see the class.

    Raises:
      InputError: They are no images, or not of the model's size where that was not to change.
      sklearn.exceptions.NotFittedError: `fit` comes first.
    """
    return self.predict_proba(X).argmax(axis=1)

  def predict_proba(self, X: _Images) -> np.ndarray:
    """The probabilities p(y|x) [N, K2] of images.

    Args:
      X: Images, see the class.

    Raises:
      InputError: As `predict`.
      sklearn.exceptions.NotFittedError: As `predict`.
    """
    return self._codes(X, "y")

  def transform(self, X: _Images) -> np.ndarray:
    """The means of the factors z [N, K1] of images.

    Args:
      X: Images, see the class.

    Raises:
      InputError: As `predict`.
      sklearn.exceptions.NotFittedError: As `predict`.
    """
    return self._codes(X, "z")

  @property
  def _n_features_out(self) -> int:
    return self.latent_dim

  def __sklearn_tags__(self) -> Tags:
    tags = super().__sklearn_tags__()
    tags.input_tags.two_d_array = False
    tags.input_tags.three_d_array = True
    tags.transformer_tags.preserves_dtype = []  # z is float32
    tags.non_deterministic = True  # without a random_state
    return tags

  def __getstate__(self) -> dict[str, Any]:
    state = dict(super().__getstate__())
    if "model_" in state:
      with tempfile.TemporaryDirectory(prefix="imae-") as folder:
        path = pathlib.Path(folder, "model.keras")
        state["model_"].save(path, include_optimizer=False)
        state["model_"] = path.read_bytes()
    return state

  def __setstate__(self, state: dict[str, Any]) -> None:
    state = dict(state)
    if "model_" in state:
      with tempfile.TemporaryDirectory(prefix="imae-") as folder:
        path = pathlib.Path(folder, "model.keras")
        path.write_bytes(state["model_"])
        state["model_"] = run_folder.load_keras(path)
    super().__setstate__(state)

  # ---- what is trained --------------------------------------------------------------------------

  def _run(self) -> runs.Run:
    """The `Run` of the parameters."""
    if self.recipe == "auto":
      base = recipes.PAPER
    else:
      base = recipes.get(self.recipe, "mnist", self.method)
    given = dict(self.settings or {})
    if self.epochs is not None:
      given["epochs"] = self.epochs
    recipe = base
    for name, value in given.items():  # as text, which is checked
      recipe = recipes.with_change(recipe, self.method, f"{name}={setting.write(value)}")
    return runs.Run(
        dataset="the images",
        method=self.method,
        recipe_name=self.recipe,
        recipe=recipe,
        changes=tuple((name, getattr(recipe, name)) for name in sorted(given)),
        num_categories=self.num_categories,
        latent_dim=self.latent_dim,
        holdout=0,
        seed=self._seed(),
        deterministic=self.random_state is not None,
    )

  def _seed(self) -> int:
    if isinstance(self.random_state, (int, np.integer)):
      return int(self.random_state)
    return int(check_random_state(self.random_state).randint(2**31 - 1))

  # ---- images -----------------------------------------------------------------------------------

  def _read(self, X: _Images) -> tuple[np.ndarray, Preparation | None]:
    """(uint8, or float32 in [0, 1], [N, H, W, C], what was done to them), to train on."""
    size = None if self.image_size is None else checked_size(self.image_size)
    reading = Reading(size, self.image_fit, self.color, on_bad_file="fail")
    folder = _folder(X)
    if folder is None:
      images = _array(X)
      if size is None and self.color == "auto":
        return images, None
      height, width, channels = images.shape[1:]
      done = reading.prepared({(height, width, channels): len(images)}, 2**62)
      return arrays.prepared(images, done), done
    shapes, _ = folder.scanned(reading)
    done = reading.prepared(shapes, 2**62)
    self.files_ = folder.names
    return np.stack(list(_decoded(folder, done))), done

  def _codes(self, X: _Images, name: str) -> np.ndarray:
    check_is_fitted(self, "model_")
    return np.concatenate([self.model_.encode(batch)[name] for batch in self._batches(X)])

  def _batches(self, X: _Images) -> Iterator[np.ndarray]:
    """Images as the model takes them; those of files are read as they are needed."""
    folder, done = _folder(X), self.preparation_
    if folder is None:
      images = _array(X)
      for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        yield batch if done is None else arrays.prepared(batch, done)
      return
    if done is None:  # trained on an array
      height, width, channels = self.model_.image_shape
      done = Preparation((height, width), self.image_fit, "grey" if channels == 1 else "rgb")
    held: list[np.ndarray] = []
    for image in _decoded(folder, done):
      held.append(image)
      if len(held) == _BATCH:
        yield np.stack(held)
        held = []
    if held:
      yield np.stack(held)


@contextlib.contextmanager
def _random_numbers_kept() -> Iterator[None]:
  """Training seeds Python's and NumPy's generators, which are the caller's."""
  python, numpy = random.getstate(), np.random.get_state()
  try:
    yield
  finally:
    random.setstate(python)
    np.random.set_state(numpy)


def _folder(X: Any) -> image_folder.Folder | None:
  """The files that X names; None if it is an array."""
  if isinstance(X, (str, os.PathLike)):
    return image_folder.listed(paths.text(X), say=lambda text: None)
  is_array = hasattr(X, "dtype") and np.dtype(X.dtype).kind not in "OU"
  if is_array or not len(X) or not all(isinstance(path, (str, os.PathLike)) for path in X):
    return None
  files = [pathlib.Path(paths.text(path)) for path in X]
  facts = [many_files.facts(file) for file in files]
  return image_folder.Folder("the list of paths", files, [str(file) for file in files], facts)


def _array(X: Any) -> np.ndarray:
  images = np.asarray(X)
  if images.ndim == 2:
    raise InputError(
        f"expected images [N, H, W, C] or [N, H, W], paths of files or a folder's path, got vectors"
        f" {list(images.shape)}; reshape them into images."
    )
  return arrays.images_of(images, "X")


def _decoded(folder: image_folder.Folder, done: Preparation) -> Iterator[np.ndarray]:
  for image in folder.images(done):
    if isinstance(image, InputError):  # the rows would no longer be the files'
      raise image
    yield image


def _check_count(n: int, num_categories: int) -> None:
  fewest = max(num_categories, 2)
  if n < fewest:
    raise InputError(
        f"expected at least {fewest} images for {num_categories} categories, got {n}; give more, or"
        " lower num_categories."
    )
