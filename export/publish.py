"""Publishes a model as the next integer version of a base folder that TF Serving watches.

`imae-export` calls `publish` and `rollback`. A server polls the base folder and loads the largest
integer in it, so an integer folder must be whole from the moment it exists. Therefore a version is
written and checked in a hidden folder beside the others, and then renamed. If an exporter is
killed, only such a hidden folder (`.tmp-*`) is left. Servers ignore it, and the next export on the
same machine removes it.
"""

import contextlib
import filecmp
import functools
import os
import pathlib
import platform
import shutil
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from imae_tf._shared import locks
from imae_tf.errors import first_line
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.errors import InUseError
from imae_tf.export import codes
from imae_tf.export import savedmodel
from imae_tf.export import versions
from imae_tf.export import warmup

if TYPE_CHECKING:
  from imae_tf.export.align import Alignment
  from imae_tf.models import HybridAutoencoder

Run = Callable[[str, Mapping[str, Any]], dict[str, Any]]  # a signature's name and its inputs

_CHECKED_IMAGES = 8
_LOCK_S = 10.0  # exporters hold it for milliseconds; a longer holder is one that called us
_TOLERANCE = 1e-5
# A graph in half precision rounds at other places than its layers called one by one. So do matrix
# products on a GPU, which may use half precision whatever their type.
_HALF_PRECISION_TOLERANCE = 2e-2


def publish(
    model: "HybridAutoencoder",
    base: str | os.PathLike[str],
    keep: int | None = None,
    alignment: "Alignment | None" = None,
    **about: Any,
) -> pathlib.Path:
  """Writes, checks and publishes a SavedModel; nothing is published if any of it fails.

  Several exporters may publish into one base folder at the same time: each gets an integer
  of its own. A version is never overwritten. Only `keep` removes versions, after the new one is in
  place.

  Args:
    model: a `HybridAutoencoder`.
    base: folder of the versions; made if it is not there.
    keep: how many versions to keep, the new one included; None for all.
    alignment: `align.Alignment` to build into the graph.
    **about: other arguments of `savedmodel.write`: dataset, evaluation, images, config,
      category_names.

  Returns:
    The path of the new version, `base/<integer>`.

  Raises:
    InputError: `keep` is less than 1.
    ImaeError: the base folder is unwritable or full, or the written SavedModel does not
      give the codes of `model.encode` or fails at a warm-up request.
  """
  def write(path: pathlib.Path) -> None:
    savedmodel.write(model, path, alignment=alignment, **about)
    check(model, path, alignment)

  return _publish(write, base, keep)


def rollback(
    base: str | os.PathLike[str], number: int, keep: int | None = None
) -> pathlib.Path:
  """Publishes an old version again, as the next integer, because a server takes the largest.

  The old version is copied, so that it can be removed later. The copy is loaded and compared.

  Args:
    base: folder of the versions.
    number: the version to publish again.
    keep: as in `publish`.

  Returns:
    The path of the new version, `base/<integer>`.

  Raises:
    InputError: there is no such version, it is damaged, or `keep` is less than 1.
    ImaeError: the base folder is unwritable or full.
  """
  old = versions.get(base, number)
  image_shape = codes.Encoder(old).image_shape
  images = _some_images(image_shape)

  def write(path: pathlib.Path) -> None:
    shutil.copytree(old, path)
    _check_copy(path, old)
    # The codes need not agree to the bit: a GPU may choose another algorithm in another session.
    _check_codes(path, _serve(old, images), images, _HALF_PRECISION_TOLERANCE)

  return _publish(write, base, keep)


def _check_copy(path: pathlib.Path, old: pathlib.Path) -> None:
  for file in (file for file in old.rglob("*") if file.is_file()):
    if not filecmp.cmp(file, path / file.relative_to(old), shallow=False):
      raise ImaeError(
          f"expected an exact copy of {file}, got another; nothing was published. Try again."
      )


def check(
    model: "HybridAutoencoder",
    path: str | os.PathLike[str],
    alignment: "Alignment | None" = None,
) -> None:
  """Loads a SavedModel as a server does, compares its codes with the model's, warms it up.

  Raises:
    ImaeError: the codes differ by more than 1e-5 (2e-2 in half precision or on a GPU), or a warm-up
      request fails, so that a server would not load the version.
  """
  images = _some_images(model.image_shape)
  expected = savedmodel.served_codes(model, images, alignment)
  _check_codes(path, expected, images, _tolerance(model))


def _publish(
    write: Callable[[pathlib.Path], None], base: str | os.PathLike[str], keep: int | None
) -> pathlib.Path:
  """Publishes the SavedModel that `write(path)` writes and checks."""
  if keep is not None and keep < 1:
    raise InputError(f"expected a keep of 1 version or more, got {keep}; leave it out to keep all.")
  base = versions.base_folder(base)
  versions.check_no_version(base)
  with _staging(base) as staging:
    try:
      write(staging / "model")
      _flush(staging / "model")
      with _alone(base):
        number = _rename_to_next(staging / "model", base)
      with contextlib.suppress(OSError):  # the version is published even if this fails
        _sync(base)
    except (OSError, tf.errors.OpError) as error:
      raise ImaeError(
          f"expected to write and load a SavedModel in {base}, got: {_reason(error)};"
          " nothing was published. Free some space or give another --base."
      ) from error
  if keep is not None:
    try:
      with _alone(base):
        _prune(base, number, keep)
    except OSError as error:
      raise ImaeError(
          f"expected to remove the oldest versions in {base}, got: {error.strerror}; version"
          f" {number} is published. Remove them by hand, or change their permissions."
      ) from error
  return base / str(number)


def _reason(error: Exception) -> str:
  if isinstance(error, shutil.Error):  # of copytree: [(source, target, reason), ...]
    return error.args[0][0][2]
  return codes.last_line(error)


def _some_images(image_shape: Sequence[int]) -> np.ndarray:
  return np.random.default_rng(0).random((_CHECKED_IMAGES, *image_shape), "float32")


def _check_codes(
    path: str | os.PathLike[str],
    expected: Mapping[str, np.ndarray],
    images: np.ndarray,
    tolerance: float,
) -> None:
  requests = warmup.read(path)
  with _session(path) as run:
    served = run("serving_default", {"x": images})
    for name, value in expected.items():
      if not np.allclose(served[name], value, rtol=tolerance, atol=tolerance):
        raise ImaeError(
            f"expected the {name} of model.encode from the written SavedModel, got a difference"
            f" of {np.max(np.abs(served[name] - value)):g}; nothing was published. Layers of"
            " your own must compute the same in a graph, with training=False."
        )
    for signature, inputs in requests:
      _check_warmup(run, signature, inputs)


def _check_warmup(run: Run, signature: str, inputs: Mapping[str, np.ndarray]) -> None:
  try:
    outputs = run(signature, inputs)
  except tf.errors.InvalidArgumentError as error:
    raise ImaeError(
        f"expected the warm-up request of {signature} to succeed, got: {first_line(error)};"
        " nothing was published. A server would not load the version."
    ) from error
  rows = {len(value) for value in [*inputs.values(), *outputs.values()]}
  if len(rows) > 1 or not all(np.all(np.isfinite(value)) for value in outputs.values()):
    raise ImaeError(
        f"expected finite outputs of {signature}, a row for each row of the warm-up request,"
        " got others; nothing was published. The weights or your own layers are not finite."
    )


def _serve(path: pathlib.Path, images: np.ndarray) -> dict[str, np.ndarray]:
  """The codes of `serving_default` through the session loader."""
  with _session(path) as run:
    return run("serving_default", {"x": images})


@contextlib.contextmanager
def _session(path: str | os.PathLike[str]) -> Iterator[Run]:
  """A SavedModel in the session loader, TF Serving's: a function (signature, inputs)."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(path)).signature_def

    def run(name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
      signature = signatures[name]
      outputs = {name: tensor.name for name, tensor in signature.outputs.items()}
      fed = {signature.inputs[name].name: value for name, value in inputs.items()}
      return session.run(outputs, fed)

    yield run


def _tolerance(model: "HybridAutoencoder") -> float:
  full = all(layer.compute_dtype == "float32" for layer in model.encoder.layers)
  on_gpu = bool(tf.config.list_logical_devices("GPU"))
  return _TOLERANCE if full and not on_gpu else _HALF_PRECISION_TOLERANCE


@contextlib.contextmanager
def _staging(base: pathlib.Path) -> Iterator[pathlib.Path]:
  """A hidden folder in `base`, which is removed at the end with everything still in it.

  The process that uses the folder holds a lock on it, which ends with the process. So a folder that
  another process can lock is no longer in use.
  """
  with contextlib.ExitStack() as held:
    try:
      base.mkdir(parents=True, exist_ok=True)
      _remove_leftovers(base)
      path = _locked_folder(base, held)
    except OSError as error:
      raise ImaeError(
          f"expected a folder to write to as --base, got {base} ({error.strerror}); nothing was"
          " published. Give another --base or change its permissions."
      ) from error
    held.callback(shutil.rmtree, path, ignore_errors=True)
    yield path


def _locked_folder(base: pathlib.Path, held: contextlib.ExitStack) -> pathlib.Path:
  """A new hidden folder, whose lock is then in `held`."""
  while True:
    path = pathlib.Path(tempfile.mkdtemp(prefix=_prefix(), dir=base))
    with contextlib.suppress(OSError):  # without locks in the file system, nobody will remove it
      try:
        held.enter_context(locks.locked(path))
      except InUseError:  # another exporter took it for a leftover
        continue
    if path.exists():
      return path


def _remove_leftovers(base: pathlib.Path) -> None:
  """Removes the hidden folders of exporters that were killed on this machine."""
  for path in base.glob(f"{_prefix()}*"):
    # OSError: on a file system without locks.
    with contextlib.suppress(InUseError, OSError), locks.locked(path):
      shutil.rmtree(path, ignore_errors=True)


@functools.cache
def _prefix() -> str:
  """The prefix of this machine's hidden folders since it started; it sees only its own locks."""
  try:
    machine = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
  except OSError:  # not Linux
    machine = platform.node()
  return f".tmp-{machine}-"


def _flush(path: pathlib.Path) -> None:
  """Waits until files and folders are on the disk, so that a power cut cannot undo them."""
  for folder, _, files in os.walk(path):
    for name in [*files, "."]:
      _sync(os.path.join(folder, name))


def _sync(path: str | os.PathLike[str]) -> None:
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def _alone(base: pathlib.Path) -> Iterator[None]:
  """Keeps other exporters from adding or removing versions, if the file system has locks."""
  with contextlib.ExitStack() as held:
    with contextlib.suppress(InUseError, OSError):
      held.enter_context(locks.locked(base, wait_s=_LOCK_S))
    yield


def _rename_to_next(path: pathlib.Path, base: pathlib.Path) -> int:
  """Renames a finished folder to the next free integer, also while other exporters do so."""
  number = max(versions.numbered(base), default=0) + 1
  while True:
    try:
      os.rename(path, base / str(number))  # fails on a folder that is not empty
      return number
    except OSError:
      if not os.path.lexists(base / str(number)):
        raise
      number += 1


def _prune(base: pathlib.Path, number: int, keep: int) -> None:
  """Keeps `keep` versions up to `number`, and those that other exporters published since."""
  older = [path for n, path in versions.versions(base).items() if n < number]
  for path in older[: max(0, len(older) + 1 - keep)]:
    # The folder is hidden first, so that a server never sees half of a version.
    hidden = base / f"{_prefix()}{path.name}-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):  # another exporter was faster
      os.rename(path, hidden)
    if hidden.is_symlink():
      hidden.unlink()
    shutil.rmtree(hidden, ignore_errors=True)
