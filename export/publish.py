"""Publishes a model as the next integer version of a base folder that TF Serving watches.

A server polls the base folder and loads the largest integer in it, so an integer folder
must be whole from the moment it exists. Versions are therefore written and checked in a
hidden folder beside them, and renamed. What a killed exporter leaves is such a hidden
folder (`.tmp-*`), which servers ignore and anyone may delete.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import codes
from imae_tf.export import savedmodel
from imae_tf.export import versions

_CHECKED_IMAGES = 8
_TOLERANCE = 1e-5
# Graphs of half precision are rounded elsewhere than their layers called one by one.
_HALF_PRECISION_TOLERANCE = 2e-2


def publish(model, base, keep=None, dataset=None, evaluation=None):
  """Writes, checks and publishes a SavedModel; nothing is published if any of it fails.

  Several exporters may publish into one base folder at the same time: each gets an integer
  of its own. A version is never overwritten, and one is removed only by `keep`, after
  the new one is in place.

  Args:
    model: a `HybridAutoencoder`.
    base: folder of the versions; made if it is not there.
    keep: how many versions to leave, the new one included; None for all.
    dataset: see `savedmodel.write`.
    evaluation: see `savedmodel.write`.

  Returns:
    The path of the new version, `base/<integer>`.

  Raises:
    InputError: `keep` is less than 1.
    ImaeError: the base folder is unwritable or full, or the written SavedModel does not
      give the codes of `model.encode`.
  """
  if keep is not None and keep < 1:
    raise InputError(f"keep expects 1 version or more, got {keep}; leave it out to keep all.")
  base = pathlib.Path(base).expanduser()
  with _staging(base) as staging:
    try:
      savedmodel.write(model, staging / "model", dataset, evaluation)
      check(model, staging / "model")
      number = _rename_to_next(staging / "model", base)
    except (OSError, tf.errors.OpError) as error:
      raise ImaeError(
          f"expected to write and load a SavedModel in {base}, got: {codes.last_line(error)};"
          " nothing was published. Free some space or give another --base."
      ) from error
  if keep is not None:
    _prune(base, number, keep)
  return base / str(number)


def check(model, path):
  """Loads a SavedModel as a server does and compares its codes with `model.encode`.

  Raises:
    ImaeError: they differ by more than 1e-5 (2e-2 in half precision).
  """
  rng = np.random.default_rng(0)
  images = rng.random((_CHECKED_IMAGES, *model.image_shape), "float32")
  expected = model.encode(images)
  served = _serve(path, images)
  tolerance = _tolerance(model)
  for name, value in expected.items():
    if not np.allclose(served[name], value, rtol=tolerance, atol=tolerance):
      raise ImaeError(
          f"expected the {name} of model.encode from the written SavedModel, got a difference"
          f" of {np.max(np.abs(served[name] - value)):g}; nothing was published. Layers of"
          " your own must compute the same in a graph, with training=False."
      )


def _serve(path, images):
  """The codes of `serving_default` through the session loader, TF Serving's."""
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
    signature = loaded.signature_def["serving_default"]
    outputs = {name: tensor.name for name, tensor in signature.outputs.items()}
    return session.run(outputs, {signature.inputs["x"].name: images})


def _tolerance(model):
  full = all(layer.compute_dtype == "float32" for layer in model.encoder.layers)
  return _TOLERANCE if full else _HALF_PRECISION_TOLERANCE


@contextlib.contextmanager
def _staging(base):
  """A hidden folder in `base`, removed in the end with what is still in it."""
  try:
    base.mkdir(parents=True, exist_ok=True)
    path = pathlib.Path(tempfile.mkdtemp(prefix=".tmp-", dir=base))
  except OSError as error:
    raise ImaeError(
        f"expected a folder to write to as --base, got {base} ({error.strerror}); nothing was"
        " published. Give another --base or change its permissions."
    ) from error
  try:
    yield path
  finally:
    shutil.rmtree(path, ignore_errors=True)


def _rename_to_next(path, base):
  """Renames a finished folder to the next free integer, whoever else is doing so."""
  number = max(versions.numbered(base), default=0) + 1
  while True:
    try:
      os.rename(path, base / str(number))  # fails on a folder that is not empty
      return number
    except OSError:
      if not os.path.lexists(base / str(number)):
        raise
      number += 1


def _prune(base, number, keep):
  """Leaves `keep` versions up to `number`, and those that others published since."""
  older = [path for n, path in versions.versions(base).items() if n < number]
  for path in older[: max(0, len(older) + 1 - keep)]:
    # Out of a server's sight first, so that it never sees half of a version.
    hidden = base / f".tmp-{path.name}-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):  # another exporter was faster
      os.rename(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)
