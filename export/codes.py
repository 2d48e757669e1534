"""Codes from a SavedModel with TensorFlow alone, and the files that keep them.

Nothing here imports Keras, TensorFlow Probability or the model's code, and the files alone not
even TensorFlow.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tqdm

from imae_tf._shared import files
from imae_tf._shared import paths
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import descriptions
from imae_tf.export import tables

SUFFIXES = (".npz", ".csv")
# What TensorFlow raises for a damaged SavedModel, beside errors of its own.
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)


class Encoder:
  """The `serving_default` signature of a SavedModel as a function of NumPy batches.

  Attributes:
    image_shape: (H, W, C) of the images that it takes.

  Args:
    path: folder of the SavedModel.

  Raises:
    InputError: it cannot be loaded, is no SavedModel of `imae-export`, or of another format.
  """

  def __init__(self, path: str | os.PathLike[str]) -> None:
    import tensorflow as tf

    descriptions.check(path)
    try:
      self._loaded = tf.saved_model.load(str(path))
    except (*_UNREADABLE, tf.errors.OpError) as error:
      if isinstance(error, PermissionError):
        raise
      if "Op type not registered" in str(error):
        raise InputError(
            f"expected a SavedModel that TensorFlow {tf.__version__} can load, got {path}, which"
            f" needs another ({last_line(error)}); install the TensorFlow that its card names, or"
            " run imae-export with this one."
        ) from error
      raise InputError(
          f"expected a whole SavedModel in {path}, got a damaged or incomplete one"
          f" ({last_line(error)}); copy or export it again, or name another version."
      ) from error
    self._to_tensor = tf.constant
    self._encode = self._loaded.signatures.get("serving_default")
    inputs = self._encode.structured_input_signature[1] if self._encode else {}
    outputs = self._encode.structured_outputs if self._encode else {}
    if set(inputs) != {"x"} or set(outputs) != {"y", "z", "z_scale"}:
      raise InputError(
          "expected a SavedModel whose serving_default turns x into y, z and z_scale, got"
          f" another kind in {path}; name a folder that imae-export wrote."
      )
    self.image_shape = tuple(inputs["x"].shape[1:])

  def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
    """Images [B, H, W, C] in [0, 1] to {"y": [B, K2], "z": [B, K1], "z_scale": [B, K1]}."""
    if images.shape[1:] != self.image_shape:
      mend = _mend(images.shape[1:], self.image_shape)
      raise InputError(
          f"expected images of shape {list(self.image_shape)} (height, width, channels), as"
          f" the SavedModel was trained on, got {list(images.shape[1:])}; {mend}, or name"
          " another --saved_model."
      )
    codes = self._encode(x=self._to_tensor(images))
    return {name: value.numpy() for name, value in codes.items()}


def _mend(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
  """The mend of images of another shape."""
  if (*shape[1:], shape[0]) == wanted:
    return "put the channels last: np.moveaxis(x, 1, -1)"
  mends = [f"resize them to {wanted[0]}x{wanted[1]}"] if shape[:2] != wanted[:2] else []
  if shape[2:] != wanted[2:]:
    mends.append("make them grey" if wanted[2] == 1 else f"give them {wanted[2]} channels")
  return " and ".join(mends)


def encode_batches(
    encoder: Callable[[Any], dict[str, np.ndarray]], batches: Iterable[Any], n: int
) -> dict[str, np.ndarray]:
  """The codes of all batches, joined; a progress bar counts n images on a terminal.

  Args:
    encoder: an `Encoder`, or any function from a batch to codes.
    batches: iterable of float32 [B, H, W, C] in [0, 1], or of what the function takes, at
      least one.
    n: number of images in all.

  Raises:
    InputError: images of another shape.
  """
  return joined(codes for _, codes in encoded(encoder, ((None, part) for part in batches), n))


def encoded(
    encoder: Callable[[Any], dict[str, np.ndarray]],
    batches: Iterable[tuple[list[str] | None, Any]],
    n: int,
    done: int = 0,
) -> Iterator[tuple[list[str] | None, dict[str, np.ndarray]]]:
  """Yields (names, codes) of each batch; a progress bar counts as in `encode_batches`.

  Args:
    encoder: As of `encode_batches`.
    batches: Iterable of (names [B] or None, a batch as of `encode_batches`).
    n: As of `encode_batches`.
    done: Number of those that were encoded before.
  """
  with tqdm.tqdm(total=n, initial=done, unit=" images", disable=None) as progress:
    for names, images in batches:
      yield names, encoder(images)
      progress.update(len(images))


def joined(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """The codes of batches, of which there is at least one, as those of all images."""
  listed = list(parts)
  return {name: np.concatenate([part[name] for part in listed]) for name in listed[0]}


def check_output(path: str | os.PathLike[str]) -> None:
  """Raises an InputError unless `path` can become a file of codes."""
  path = pathlib.Path(paths.text(path, "an --output"))
  if path.suffix not in SUFFIXES:
    raise InputError(
        f"expected an --output that ends in {' or '.join(SUFFIXES)}, got {path}; rename it."
    )
  if not path.parent.is_dir():
    raise InputError(
        f"expected an existing folder for --output, got {path.parent}; make it first."
    )
  if path.is_dir():
    raise InputError(f"expected a file as --output, got the folder {path}; rename it.")


def write(path: str | os.PathLike[str], codes: Mapping[str, Any]) -> None:
  """Writes codes, whole or not at all: as `.npz` (arrays y, z, z_scale) or as `tables`' `.csv`.

  Raises:
    InputError: see `check_output`.
    ImaeError: the file cannot be written; one that was there is untouched.
  """
  check_output(path)
  path = pathlib.Path(paths.text(path, "an --output"))
  with writing(path), files.replacing(path) as temporary:
    if path.suffix == ".npz":
      arrays: dict[str, Any] = dict(codes)
      np.savez(temporary, **arrays)
    else:
      numbers = [str(i) for i in range(len(codes["y"]))]
      temporary.write_text(tables.header(codes, "index") + tables.lines(numbers, codes))


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Turns an OSError of the block into one sentence.

  Raises:
    ImaeError: `path` cannot be written.
  """
  try:
    yield
  except OSError as error:
    raise ImaeError(
        f"expected to write {path}, got: {error.strerror or error}; free some space or give"
        " another --output."
    ) from error


def last_line(error: BaseException) -> str:
  """The last line of an exception's message, where TensorFlow says what happened."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return lines[-1][:300] if lines else type(error).__name__
