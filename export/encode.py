"""imae-encode: images to (y, z) codes with a published SavedModel, or with a server of it.

The images are a .npy file or a folder of images, both taken whole, or one split of a .npz
file or a data set. The codes go to a .npz file (arrays y, z, z_scale) or to a .csv file.
"""

import os
import pathlib
import tokenize
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from imae_tf._shared import paths
from imae_tf._shared import program
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.export import codes
from imae_tf.export import descriptions
from imae_tf.export import versions

if TYPE_CHECKING:
  from imae_tf.data.preparation import Preparation

_SERVED_SUFFIXES = (".jpeg", ".jpg", ".png")

_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "Model that encodes: the --base folder of imae-export, of which the newest version is taken, or"
    " the folder of one version. Required unless --endpoint is given.",
)
_ENDPOINT = flags.DEFINE_string(
    "endpoint",
    None,
    "In place of --saved_model: a server, http://HOST:8501 or grpc://HOST:8500. It decodes the"
    " files of a folder, which must be PNG or JPEG, and makes colours grey for a model of grey"
    " images; --saved_model refuses such files. Default: none, --saved_model encodes here.",
)
_MODEL_NAME = flags.DEFINE_string(
    "model_name", "imae", "Name that the server of --endpoint has for the model."
)
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "Images to encode: FILE.npy, FILE.npz, a folder, digits, or a TensorFlow Datasets name such as"
    " mnist. Required.",
    required=True,
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "File that the codes are written to: FILE.npz or FILE.csv. Required.",
    required=True
)
_SPLIT = flags.DEFINE_string(
    "split", "test", "Split that is encoded of a .npz file or a data set: test or train."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 512, "Number of images that are encoded at once; the codes do not depend on it.",
    lower_bound=1,
)


def main() -> None:
  codes.check_output(_OUTPUT.value)
  endpoint = _ENDPOINT.value
  if (_SAVED_MODEL.value is None) == (endpoint is None):
    given = "neither" if endpoint is None else "both"
    raise InputError(f"expected either --saved_model or --endpoint, got {given}; give one.")
  n, name = _encode_here() if endpoint is None else _encode_there(endpoint)
  print(f"Wrote the codes of {n} images, encoded by {name}, to {_OUTPUT.value}.")


def _encode_here() -> tuple[int, pathlib.Path]:
  """(number of images, the SavedModel's name) once the codes are written."""
  path = versions.find(str(_SAVED_MODEL.value))
  # Imported here: --help and a mistyped path should not wait for TensorFlow.
  program.import_tensorflow()
  encoder = codes.Encoder(path)
  n, batches = _batches(_prepared(path))
  codes.write(_OUTPUT.value, codes.encode_batches(encoder, batches, n))
  return n, path


def _prepared(path: pathlib.Path) -> "Preparation | None":
  """What the SavedModel does to images of any size; None if they must be of its own."""
  from imae_tf.data.preparation import Preparation

  try:
    record = descriptions.read(path).get("images")
  except (OSError, ValueError):
    return None
  return Preparation.of_record(record) if record else None


def _encode_there(endpoint: str) -> tuple[int, str]:
  """The same by a server; TensorFlow is imported only for data sets."""
  from imae_tf.export import client as clients

  source = paths.text(_INPUT.value, "--input")
  where = endpoint, _MODEL_NAME.value
  with clients.Client(*where, retries=2) as client:  # a mistyped one is told at once
    version = client.served_version()
  encode: Callable[[Any], dict[str, np.ndarray]]
  with clients.Client(*where, version) as client:  # all batches by one version
    encode = client.encode
    if source.lower().endswith(".npy"):
      n, batches = _array_batches(source)
    elif "/" in source and os.path.isdir(source):
      encode, (n, batches) = client.encode_files, _file_batches(source)
    else:  # a bare name may be that of a data set
      program.import_tensorflow()
      n, batches = _batches()
    codes.write(_OUTPUT.value, codes.encode_batches(encode, batches, n))
  return n, f"version {version} of {_MODEL_NAME.value} at {endpoint}"


def _batches(prepared: "Preparation | None" = None) -> tuple[int, Iterable[np.ndarray]]:
  from imae_tf.data import loading

  return loading.input_batches(
      _INPUT.value, _SPLIT.value, _BATCH_SIZE.value, prepared=prepared
  )


def _array_batches(path: str) -> tuple[int, Iterable[Any]]:
  """(n, batches [B, H, W, C]) of a .npy file, which is read as it goes."""
  try:
    images = np.load(path, mmap_mode="r", allow_pickle=False)
  except FileNotFoundError:
    raise InputError(f"expected a file at {path}, got none; correct the path.") from None
  except (ValueError, OSError, EOFError, OverflowError, tokenize.TokenError) as error:
    if isinstance(error, PermissionError):
      raise
    raise InputError(
        f"expected a whole NumPy file of a plain array, got {path}, which cannot be read"
        f" ({first_line(error)}); write it again with np.save, without pickled objects."
    ) from error
  if not isinstance(images, np.ndarray):
    raise InputError(
        f"expected an array in {path}, got the archive of np.savez; rename it to end in .npz."
    )
  if images.ndim < 3:
    raise InputError(
        f"expected images [N, H, W] or [N, H, W, C] in {path}, got the shape {list(images.shape)};"
        " reshape them."
    )
  if images.ndim == 3:
    images = images[..., np.newaxis]
  return len(images), _parts(images, path)


def _file_batches(folder: str) -> tuple[int, Iterable[Any]]:
  """(n, batches of paths) of the PNG and JPEG files of a folder, sorted by their paths."""
  found = paths.image_files(folder)
  others = [path for path in found.images if path.suffix.lower() not in _SERVED_SUFFIXES]
  if others:
    raise InputError(
        f"expected PNG or JPEG files, which a server decodes, in {folder}, got {others[0]};"
        " convert or remove it."
    )
  if found.images:
    print(found.line(folder))
  return len(found.images), _parts(found.images, folder)


def _parts(images: np.ndarray | list[pathlib.Path], name: str) -> Iterable[Any]:
  if not len(images):
    raise InputError(f"expected images in {name}, got none; add images.")
  size = _BATCH_SIZE.value
  return (images[start : start + size] for start in range(0, len(images), size))


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
