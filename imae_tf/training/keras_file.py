"""Reads a `.keras` file, and says what is wrong: damaged, of no Keras, or not known to this Keras.

Such a file is a zip, which holds a checksum of each of its parts. If all are right, the file is
what was once saved, so "damaged" is said of a wrong checksum alone. A whole file that cannot be
loaded comes from other versions, or needs code that is not there.
"""

import errno
import importlib.metadata
import json
import os
import pathlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from typing import NoReturn
from typing import TYPE_CHECKING

from imae_tf._shared import files
from imae_tf.errors import first_line
from imae_tf.errors import InputError

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

# What zipfile and zlib raise for a damaged zip; RuntimeError: a flag says that it has a password.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, NotImplementedError,
    OverflowError, RuntimeError, ValueError,
)
# What Keras raises for a whole file; OSError is h5py's.
_UNKNOWN = (
    TypeError, ValueError, LookupError, AttributeError, ImportError, NotImplementedError,
    RuntimeError, OSError,
)
_MOST_JSON = 2**26  # bytes
_MOST_EXPANSION = 100  # that Keras takes, too
_CHUNK = 2**20
_TELLS_VERSIONS = ("keras", "imae_tf")
_BACKEND_OF = {"TorchModuleWrapper": "torch"}  # layers of Keras that TensorFlow cannot compute
_UNKNOWN_NAME = re.compile(
    r"Could not (?:locate|deserialize) (?:(class|function) )?'(?:[\w.]*\.)?([\w>]+)'"
)


def load(path: str | pathlib.Path) -> "HybridAutoencoder":
  """`keras.models.load_model`, which raises one clear `InputError`.

  Args:
    path: path of a `.keras` file.

  Raises:
    InputError: the file is damaged, or is no Keras file of a model of imae_tf; or it needs a class,
      an option, a library or a backend that is not known here.
  """
  import keras

  from imae_tf import methods  # noqa: F401  registers the classes
  from imae_tf import models

  path = pathlib.Path(path)
  config, saved_by = _contents(path)
  try:
    model = keras.models.load_model(path)
  except _UNKNOWN as error:
    if getattr(error, "errno", None):
      raise  # of the disk or its permissions
    _raise_unknown(path, error, config, {**_versions_of_run(path), **saved_by})
  if not isinstance(model, models.HybridAutoencoder):
    raise InputError(
        f"expected a model of imae_tf in {path}, got a {type(model).__name__}; give the file that"
        " imae-train or model.save of such a model wrote."
    )
  return model


# ---- damaged files ----------------------------------------------------------------------------


def _contents(path: pathlib.Path) -> tuple[Any, dict[str, str]]:
  """(config.json, {"keras": version}) of a whole file; reads it in small parts.

  Raises:
    InputError: it is damaged, or something else.
  """
  try:
    with open(path, "rb") as file:
      size = os.fstat(file.fileno()).st_size
      with zipfile.ZipFile(file) as archive:
        _check_whole(archive, size)
        texts = [_text(archive, name) for name in ("config.json", "metadata.json")]
  except (*_DAMAGED, OSError) as error:
    if getattr(error, "errno", errno.EINVAL) != errno.EINVAL:
      raise  # of the disk or its permissions; EINVAL is of a place before the file's start
    raise InputError(
        f"expected a whole Keras file, got a damaged {path} ({first_line(error)}); delete it, and"
        " the same imae-train command goes on from the newest whole checkpoint."
    ) from error
  try:
    config, metadata = map(json.loads, texts)
    return config, {"keras": str(metadata["keras_version"])}
  except (ValueError, TypeError, LookupError, RecursionError) as error:
    raise InputError(
        f"expected a zip that Keras wrote, got another one in {path} ({first_line(error)}); give"
        " the file that imae-train or model.save wrote."
    ) from error


def _check_whole(archive: zipfile.ZipFile, size: int) -> None:
  """Reads every part, which compares its checksum."""
  for part in archive.infolist():
    if part.file_size > _MOST_EXPANSION * size:
      raise ValueError(f"{part.filename} is too long")
    with archive.open(part) as content:
      while content.read(_CHUNK):
        pass


def _text(archive: zipfile.ZipFile, name: str) -> str:
  if name not in archive.namelist():
    return ""
  if archive.getinfo(name).file_size > _MOST_JSON:
    raise ValueError(f"{name} is too long")
  return archive.read(name).decode(errors="replace")


# ---- whole files that this Keras does not know -------------------------------------------------


def _raise_unknown(
    path: pathlib.Path, error: Exception, config: Any, saved_by: dict[str, str]
) -> NoReturn:
  import keras
  import tensorflow as tf

  needs, mend = _needs(error, list(_objects(config)), saved_by)
  versions = ", ".join(f"{name} {version}" for name, version in saved_by.items())
  raise InputError(
      f"expected a model that Keras {keras.__version__} on TensorFlow {tf.__version__} can build,"
      f" got {path}, saved by {versions}, which needs {needs}; {mend}."
  ) from error


def _needs(
    error: Exception, objects: list[dict[str, Any]], saved_by: dict[str, str]
) -> tuple[str, str]:
  """(what a file needs, how to have it)."""
  text = str(error)
  words = first_line(text.rpartition("Exception encountered: ")[2]).rstrip(".")
  foreign = next((o["class_name"] for o in objects if o["class_name"] in _BACKEND_OF), None)
  unknown = _UNKNOWN_NAME.search(text)
  if foreign:
    return (
        f"the backend {_BACKEND_OF[foreign]} for its layer {foreign}",
        "build the networks of layers that TensorFlow computes, and train again",
    )
  if unknown:
    kind, name = unknown.groups()
    module = _module_of(name, objects)
    needed = f"the {kind or 'class'} {name}" + (f" of {module}" if module else "")
    if _is_ours_or_keras(module):
      return needed, _other_versions(module, saved_by)
    return needed, "import the module that registers it first, in Python"
  if isinstance(error, ImportError) and error.name:
    return f"the library {error.name}", f"install {error.name}"
  if "enable_unsafe_deserialization" in text:
    return (
        f"a Python lambda ({words})",
        "if you trust the file, call keras.config.enable_unsafe_deserialization() first",
    )
  needed = f"an option or a state that is not known here ({words})"
  named = (o["class_name"] for o in objects if o["class_name"] in re.findall(r"\w+", words))
  module = _module_of(next(named, ""), objects)
  if module and not _is_ours_or_keras(module):
    return needed, f"restore the code of {module} that it was saved with"
  return needed, _other_versions(module, saved_by)


def _other_versions(module: str, saved_by: dict[str, str]) -> str:
  """The mend if a module of Keras or of imae_tf, "" if unknown, is of another version."""
  if module.startswith("imae_tf") and "imae_tf" not in saved_by:
    return "install the version of imae_tf that it was saved with"
  others = [
      f"{name}=={version}" for name, version in saved_by.items()
      if version != importlib.metadata.version(name)
  ]
  if others:
    return f"run pip install {' '.join(others)}, with which it was saved"
  return "restore the file as it was saved, or train again in another --workdir"


def _module_of(name: str, objects: list[dict[str, Any]]) -> str:
  """The module, or else the package, that registers a class or a function; "" if unknown."""
  for found in objects:
    if name and name in (found["class_name"], found["config"]):
      package = str(found.get("registered_name") or "").rpartition(">")[0]
      return str(found.get("module") or package)
  return ""


def _is_ours_or_keras(module: str) -> bool:
  return module.partition(".")[0] in ("keras", "imae_tf")


def _objects(config: Any) -> Iterator[dict[str, Any]]:
  """Everything in a configuration that names a class or a function."""
  waiting = [config]
  while waiting:
    item = waiting.pop()
    if isinstance(item, dict):
      if isinstance(item.get("class_name"), str):
        yield {"config": None, **item}
      waiting.extend(item.values())
    elif isinstance(item, list):
      waiting.extend(item)


def _versions_of_run(path: pathlib.Path) -> dict[str, str]:
  """The versions in the config.json of the run that a file belongs to; {} if there is none."""
  for folder in path.absolute().parents[:4]:  # of a checkpoint of a short start, the fourth
    if (folder / "config.json").is_file():
      try:
        versions = files.read_json(folder / "config.json")["versions"]
        return {name: str(versions[name]) for name in _TELLS_VERSIONS if name in versions}
      except (InputError, LookupError, TypeError):
        return {}
  return {}
