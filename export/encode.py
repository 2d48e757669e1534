"""imae-encode: images to (y, z) codes with a published SavedModel, or with a server of it.

The images are a .npy file or a folder of images, both taken whole, or one split of a .npz
file or a data set. The codes go to a .npz file (arrays y, z, z_scale) or to a .csv file (file,
category, confidence, y_0, ..., z_0, ..., z_scale_0, ...), which grows as it goes: after a kill the
same command goes on. --sort_into puts the files of a folder into a folder for each category.
"""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import tokenize
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from imae_tf._shared import locks
from imae_tf._shared import paths
from imae_tf._shared import program
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.export import codes
from imae_tf.export import descriptions
from imae_tf.export import sorting
from imae_tf.export import tables
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
    "output", None, "File that the codes are written to: FILE.npz or FILE.csv. Required unless"
    " --sort_into is given."
)
_SORT_INTO = flags.DEFINE_string(
    "sort_into", None, "New or empty folder that gets a copy of each file of a folder of images, in"
    " a folder for its category. Default: none."
)
_LINK = flags.DEFINE_bool("link", False, "Make symbolic links in --sort_into in place of copies.")
_BY_CONFIDENCE = flags.DEFINE_bool(
    "by_confidence", False, "Begin the names in --sort_into with the file's rank in its category,"
    " so that the most certain come first."
)
_SPLIT = flags.DEFINE_string(
    "split", "test", "Split that is encoded of a .npz file or a data set: test or train."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 512, "Number of images that are encoded at once; the codes do not depend on it.",
    lower_bound=1,
)
flags.register_multi_flags_validator(
    ["link", "by_confidence", "sort_into"],
    lambda given: given["sort_into"] is not None or not (given["link"] or given["by_confidence"]),
    message="--link and --by_confidence name files of --sort_into: give it, or leave them out.",
)

_Batches = Iterable[tuple[list[str] | None, Any]]
# From (number of images that are done, the last one's name) to (number in all, the other batches).
_Opened = Callable[[int, str | None], tuple[int, _Batches]]


def main() -> None:
  _check_targets()
  endpoint = _ENDPOINT.value
  if (_SAVED_MODEL.value is None) == (endpoint is None):
    given = "neither" if endpoint is None else "both"
    raise InputError(f"expected either --saved_model or --endpoint, got {given}; give one.")
  with _alone():
    n, name = _encode_here() if endpoint is None else _encode_there(endpoint)
  if _OUTPUT.value is not None:
    print(f"Wrote the codes of {n} images, encoded by {name}, to {_OUTPUT.value}.")
  if _SORT_INTO.value is not None:
    print(f"Sorted {n} files by category into {_SORT_INTO.value}.")


def _check_targets() -> None:
  """Checks what is to be written before anything is encoded."""
  if _OUTPUT.value is not None:
    codes.check_output(_OUTPUT.value)
  elif _SORT_INTO.value is None:
    raise InputError("expected --output or --sort_into, got neither; give one.")
  if _SORT_INTO.value is not None:
    if not os.path.isdir(paths.text(_INPUT.value, "--input")):
      raise _no_folder()
    sorting.check_target(_SORT_INTO.value, _INPUT.value)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
  """Keeps a second command from adding its lines to the same table."""
  if _OUTPUT.value is None:
    yield
    return
  path = pathlib.Path(paths.text(_OUTPUT.value))
  with contextlib.ExitStack() as held:
    with codes.writing(path):
      held.enter_context(locks.locked_output(path))
    yield


def _no_folder() -> InputError:
  return InputError(
      f"expected a folder of images as --input for --sort_into, got {_INPUT.value}; give a folder,"
      " such as ./images."
  )


def _encode_here() -> tuple[int, pathlib.Path]:
  """(number of images, the SavedModel's name) once all is written."""
  path = versions.find(str(_SAVED_MODEL.value))
  # Imported here: --help and a mistyped path should not wait for TensorFlow.
  program.import_tensorflow()
  encoder = codes.Encoder(path)
  description = _description(path)
  prepared = _prepared(description)
  files = [path / "saved_model.pb", *sorted((path / "variables").iterdir())]
  model = [(str(file.resolve()), *_facts(file)) for file in files]

  def opened(done: int, last: str | None) -> tuple[int, _Batches]:
    return _batches(done, last, prepared)

  return _written(encoder, opened, model, description.get("category_names")), path


def _written(
    encode: Callable[[Any], dict[str, np.ndarray]],
    opened: _Opened,
    model: Any,
    category_names: list[str] | None = None,
) -> int:
  """Encodes and writes all that is asked for; returns the number of images.

  Args:
    encode: From a batch to codes.
    opened: Opens the images.
    model: What tells the model from others.
    category_names: As of `tables.answers`.
  """
  output = None if _OUTPUT.value is None else pathlib.Path(paths.text(_OUTPUT.value))
  part = None
  answers: list[tables.Answer] = []
  if output is not None and output.suffix == ".csv":
    part = tables.Part(output, _key([model, category_names]), _BATCH_SIZE.value, category_names)
    answers = part.answers
  if answers:
    print(f"Going on after the {len(answers)} images that {output} had before.")
  n, batches = opened(len(answers), answers[-1].file if answers else None)
  kept, count = [], len(answers)
  for names, found in codes.encoded(encode, batches, n, len(answers)):
    count += len(found["y"])
    if part is not None:
      with codes.writing(part.path):
        part.add(names, found)
      continue
    if output is not None:
      kept.append(found)
    if _SORT_INTO.value is not None and names is not None:
      answers += tables.answers(names, found["y"], category_names)
  if _SORT_INTO.value is not None:
    sorting.sort(
        answers, _INPUT.value, _SORT_INTO.value, _LINK.value, _BY_CONFIDENCE.value
    )
  if part is not None:
    part.finish()
  elif output is not None:
    codes.write(output, codes.joined(kept))
  return count


def _key(model: Any) -> str:
  """A few letters that tell these images, this model and these batches from others."""
  source = paths.text(_INPUT.value, "--input")
  images: Any = source
  if os.path.isdir(source):
    images = [(str(path), *_facts(path)) for path in paths.image_files(source).images]
  elif os.path.isfile(source):
    images = (os.path.realpath(source), *_facts(pathlib.Path(source)))
  known = json.dumps([model, images, _SPLIT.value, _BATCH_SIZE.value])
  return hashlib.blake2b(known.encode(), digest_size=4).hexdigest()


def _facts(path: pathlib.Path) -> tuple[int, int]:
  found = path.stat()
  return found.st_size, found.st_mtime_ns


def _description(path: pathlib.Path) -> dict[str, Any]:
  """The imae.json of a SavedModel; {} where there is none."""
  try:
    return descriptions.read(path)
  except (OSError, ValueError):
    return {}


def _prepared(description: dict[str, Any]) -> "Preparation | None":
  """What the SavedModel does to images of any size; None if they must be of its own."""
  from imae_tf.data.preparation import Preparation

  record = description.get("images")
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
      opened: _Opened = lambda *done: _array_batches(source, *done)
    elif "/" in source and os.path.isdir(source):
      encode, opened = client.encode_files, lambda *done: _file_batches(source, *done)
    else:  # a bare name may be that of a data set
      program.import_tensorflow()
      opened = _batches
    n = _written(encode, opened, [endpoint, _MODEL_NAME.value, version])
  return n, f"version {version} of {_MODEL_NAME.value} at {endpoint}"


def _batches(
    done: int, last: str | None, prepared: "Preparation | None" = None
) -> tuple[int, _Batches]:
  from imae_tf.data import loading

  source, size = _INPUT.value, _BATCH_SIZE.value
  if loading.is_folder(source):
    # A .npz has no names, so a file that is passed over would shift its rows.
    on_bad_file = "fail" if (_OUTPUT.value or "").endswith(".npz") else "skip"
    return loading.input_files(
        source, size, prepared=prepared, on_bad_file=on_bad_file, after=last
    )
  if _SORT_INTO.value is not None:  # a name of a data set, though there is such a folder, too
    raise _no_folder()
  n, batches = loading.input_batches(source, _SPLIT.value, size, prepared=prepared)
  return n, ((None, batch) for batch in itertools.islice(batches, done // size, None))


def _array_batches(path: str, done: int, last: str | None) -> tuple[int, _Batches]:
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
  return len(images), ((None, part) for part in _parts(images, path, done))


def _file_batches(folder: str, done: int, last: str | None) -> tuple[int, _Batches]:
  """(n, batches of names and paths) of the PNG and JPEG files of a folder, sorted by path."""
  found = paths.image_files(folder)
  others = [path for path in found.images if path.suffix.lower() not in _SERVED_SUFFIXES]
  if others:
    raise InputError(
        f"expected PNG or JPEG files, which a server decodes, in {folder}, got {others[0]};"
        " convert or remove it."
    )
  if found.images:
    print(found.line(folder))
  root = paths.text(folder)
  parts = _parts(found.images, folder, done)
  return len(found.images), (([os.path.relpath(f, root) for f in part], part) for part in parts)


def _parts(images: np.ndarray | list[pathlib.Path], name: str, done: int) -> Iterable[Any]:
  if not len(images):
    raise InputError(f"expected images in {name}, got none; add images.")
  size = _BATCH_SIZE.value
  return (images[start : start + size] for start in range(done, len(images), size))


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
