"""Images that are arrays already: scikit-learn's digits, `.npz` and `.npy` files."""

import pathlib
import zipfile
import zlib

import numpy as np

from imae_tf.data import splits
from imae_tf.data.pipelines import ArrayData
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.errors import listing


def digits(holdout: int) -> ArrayData:
  """scikit-learn's 8x8 digits, divided by 16, the last `holdout` training images held out."""
  import sklearn.datasets

  stored = sklearn.datasets.load_digits()
  images = (stored.images / 16).astype(np.float32)[..., np.newaxis]
  names = tuple(str(name) for name in stored.target_names)
  return _from_arrays("digits", images, stored.target.astype(np.int64), names, holdout)


def npz(path: str, holdout: int) -> ArrayData:
  """The images `x` of a `.npz` and, if there are any, their labels `y`.

  Raises:
    InputError: No such file, a damaged one, or other arrays.
  """
  archive = _load_numpy(path)
  if "x" not in archive:
    raise InputError(
        f"expected images under the name 'x' in {path}, got {listing(archive)}; save them"
        " with np.savez(path, x=images, y=labels)."
    )
  images = _check_images(archive["x"], path)
  if "y" not in archive:
    return _from_arrays(path, images, None, None, holdout)
  values, labels = np.unique(_check_labels(archive["y"], len(images), path), return_inverse=True)
  names = tuple(str(value) for value in values)
  return _from_arrays(path, images, labels.astype(np.int64), names, holdout)


def _from_arrays(name, images, labels, class_names, holdout):
  bounds = splits.train_test(len(images), holdout)
  splits.check_sizes(name, bounds)
  arrays_by_split = {
      split: (images[start:stop], None if labels is None else labels[start:stop])
      for split, (start, stop) in bounds.items()
  }
  return ArrayData(name, images.shape[1:], class_names, arrays_by_split)


def npy(path: str) -> np.ndarray:
  """The images of a `.npy`: uint8, or float32 in [0, 1], [N, H, W, C].

  Raises:
    InputError: No such file, a damaged one, or another array.
  """
  return _check_images(_load_numpy(path), path)


def _load_numpy(path):
  """The array of a `.npy`, or the dict of arrays of a `.npz`."""
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise InputError(f"expected a file at {path}, got none; correct the path.")
  try:
    with file.open("rb") as stream:  # np.load leaves a damaged .npz open
      loaded = np.load(stream, allow_pickle=False)
      if not isinstance(loaded, np.lib.npyio.NpzFile):
        return loaded if path.endswith(".npy") else {"(a single array)": loaded}
      # Other arrays are not read, only named.
      return {key: loaded[key] if key in ("x", "y") else None for key in loaded.files}
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(
        f"expected a whole NumPy file of plain arrays, got {path}, which cannot be read"
        f" ({first_line(error)}); write it again with np.savez or np.save, without pickled"
        " objects."
    ) from error


def _check_images(x, name) -> np.ndarray:
  """Images as uint8 or float32 [N, H, W, C]."""
  x = np.asarray(x)
  if x.ndim == 3:
    x = x[..., np.newaxis]
  if x.ndim != 4:
    raise InputError(
        f"expected images [N, H, W] or [N, H, W, C] in {name}, got the shape {x.shape};"
        " reshape them."
    )
  if not x.size:
    raise InputError(f"expected images in {name}, got the empty shape {x.shape}; add images.")
  if x.dtype == np.uint8:
    return x
  if not np.issubdtype(x.dtype, np.floating):
    raise InputError(
        f"expected images of uint8, or of floats in [0, 1], in {name}, got {x.dtype};"
        " convert them, for example with x.astype('uint8')."
    )
  return _check_range(x.astype(np.float32), name)


def _check_range(x, name):
  low, high = x.min(), x.max()  # NaN if there is one.
  if not np.isfinite(low) or not np.isfinite(high):
    raise InputError(
        f"expected finite pixels in [0, 1] in {name}, got NaN or infinity; remove these"
        " images."
    )
  if low < 0 or high > 1:
    raise InputError(
        f"expected float pixels in [0, 1] in {name}, got values from {low:g} to {high:g};"
        " rescale them, for example with x / 255."
    )
  return x


def _check_labels(y, n, name):
  y = np.asarray(y)
  if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
    raise InputError(
        f"expected integer labels 'y' of shape ({n},) in {name}, got {y.dtype} of shape"
        f" {y.shape}; convert them or leave 'y' out."
    )
  return y
