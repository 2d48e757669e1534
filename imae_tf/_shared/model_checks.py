"""What a model is given, checked: its arguments, `compile`'s, images and batches of them."""

import contextlib
import os
import re
import warnings
from collections.abc import Container
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from imae_tf._shared import pixels
from imae_tf.errors import InputError
from imae_tf.errors import listing

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

_ImageShape = tuple[int, int, int]
_IMAGE_KEYS = ("image", "x", "images")
_OURS = re.compile(r"InputError: (.*)")

# ---- arguments -------------------------------------------------------------------------------


def check_arguments(
    model: "HybridAutoencoder", likelihoods: Container[str], marginals: Container[str]
) -> None:
  """Raises an `InputError` unless a model's arguments are usable and its networks fit together."""
  checks = {
      "num_categories": (is_integer(model.num_categories, 2), "an integer, 2 or more"),
      "latent_dim": (is_integer(model.latent_dim, 1), "an integer, 1 or more"),
      "seed": (is_integer(model.seed, 0), "an integer, 0 or more"),
      "lam": (is_number(model.lam) and model.lam >= 0, "a number, 0 or more"),
      "likelihood": (model.likelihood in likelihoods, "'bernoulli' or 'gaussian'"),
      "marginals": (
          model.marginals in marginals, "'batch', 'leave_one_out' or 'second_batch'"
      ),
      "consistency": (
          is_number(model.consistency) and model.consistency >= 0, "a number, 0 or more"
      ),
  }
  for name in ("vat_radius", "vat_xi"):
    value = getattr(model, name)
    checks[name] = (value == "neighbor" or _is_positive(value), "a number > 0 or 'neighbor'")
  for name in ("temperature", "neighbor_fraction", "transform_size", "max_log_scale"):
    checks[name] = (_is_positive(getattr(model, name)), "a number > 0")
  for name, (valid, expected) in checks.items():
    if not valid:
      raise InputError(f"expected {name} as {expected}, got {getattr(model, name)!r}; correct it.")
  _check_networks(model)


def features_shape(encoder: keras.Model) -> Any:
  """The shape of an encoder's features: [B, F], or of each if there are several."""
  shape = encoder.output_shape
  # Keras lists the shapes of a dict of outputs without its keys.
  return encoder.compute_output_shape(encoder.input_shape) if isinstance(shape, list) else shape


def _check_networks(model: "HybridAutoencoder") -> None:
  for name in ("encoder", "decoder"):
    network = getattr(model, name)
    if not (isinstance(network, keras.Model) and hasattr(network, "input_shape")):
      raise InputError(
          f"expected {name} as a functional or Sequential Keras model with an Input, got"
          f" {type(network).__name__}; wrap it: keras.Model(inputs, network(inputs))."
      )
  shapes = features_shape(model.encoder)
  own = isinstance(shapes, dict) and shapes.keys() == {"y", "z"}
  if any(len(shape) != 2 for shape in (shapes.values() if own else [shapes])):
    raise InputError(
        f"expected features [B, F] of the encoder, got {shapes}; end it with Flatten or a pooling"
        " layer."
    )
  code_size = model.num_categories + model.latent_dim
  if tuple(model.decoder.input_shape[1:]) != (code_size,):
    raise InputError(
        f"expected a decoder of num_categories + latent_dim = {code_size} values, got a network"
        f" of input shape {model.decoder.input_shape}; give the network functions the same"
        " num_categories and latent_dim."
    )
  if model.decoder.output_shape[1:] != model.encoder.input_shape[1:]:
    raise InputError(
        "expected a decoder whose output has the shape of the encoder's input, got"
        f" {model.decoder.output_shape} and {model.encoder.input_shape}; build both for one"
        " image_shape."
    )


def is_number(value: Any) -> bool:
  """Whether a value is a finite number, of Python or of NumPy, and no truth value."""
  number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
  return number and bool(np.isfinite(value))


def _is_positive(value: Any) -> bool:
  return is_number(value) and value > 0


def is_integer(value: Any, minimum: int) -> bool:
  """Whether a value is an integer, of Python or of NumPy, of `minimum` or more."""
  return isinstance(value, (int, np.integer)) and is_number(value) and bool(value >= minimum)


# ---- compile ---------------------------------------------------------------------------------


def check_compiled(model: "HybridAutoencoder") -> None:
  """Raises an `InputError` of a loss or metric in `compile`, or of what replicas cannot have."""
  metrics = model._compile_config and model._compile_config.config.get("metrics")
  if model.distribute_strategy.num_replicas_in_sync > 1:
    _check_compiled_for_replicas(model)
  for name, value in (("loss", model.loss), ("metrics", metrics)):
    if value:
      raise InputError(
          f"expected no {name} in compile, got {value!r}; leave it out: the objective and what"
          " is logged are the model's own."
      )


def _check_compiled_for_replicas(model: "HybridAutoencoder") -> None:
  for name, value, usable in (
      ("jit_compile", model.jit_compile, False),
      ("steps_per_execution", model.steps_per_execution, 1),
  ):
    if value != usable:
      raise InputError(
          f"expected {name}={usable} in compile under"
          f" {type(model.distribute_strategy).__name__}, got {value}; give {usable}: TensorFlow"
          " cannot combine the two."
      )
  for layer in model._flatten_layers():
    if getattr(layer, "synchronized", True) is False:
      warnings.warn(
          f"{layer.name} normalises each replica's images apart, so that results depend on"
          " the number of replicas; build it with BatchNormalization(synchronized=True).",
          stacklevel=3,
      )


# ---- images ----------------------------------------------------------------------------------


def images(
    x: Any, image_shape: _ImageShape, brightness: pixels.Brightness | None = None
) -> np.ndarray:
  """x as a float32 array [N, H, W, C] in [0, 1].

  Args:
    x: An array, or what NumPy makes one of, such as a list of images; (x, label); or a dict that
      holds it.
    image_shape: (H, W, C).
    brightness: As of `pixels.floats`.

  Raises:
    InputError: Another shape or type, or values that `pixels.floats` refuses.
  """
  x = pixels.array(named_images(x, image_shape))
  pixels.check_shape(x.shape, image_shape)
  return pixels.floats(x, brightness=brightness)


def named_images(x: Any, image_shape: _ImageShape) -> Any:
  """The images of (x, label) or of a dict; whatever else is no list of images is named."""
  if isinstance(x, (str, os.PathLike)):
    raise InputError(
        f"expected images, got the path {os.fspath(x)!r}; read them first:"
        " imae_tf.data.load(path).arrays('train')[0]."
    )
  if hasattr(x, "train_batches"):
    raise InputError(
        f"expected images, got an {type(x).__name__}; give those of a split:"
        " data.arrays('train')[0]."
    )
  if isinstance(x, Mapping):
    return images_of(x)
  if isinstance(x, list) and len(x) > 1 and all(np.ndim(part) == 4 for part in x):
    raise InputError(
        f"expected one array of images, got a list of {len(x)} batches; give np.concatenate(x)."
    )
  if isinstance(x, (tuple, list)) and len(x) in (1, 2, 3) and _is_batch(x, image_shape):
    return images_of(x)
  return x


def _is_batch(x: Sequence[Any], image_shape: _ImageShape) -> bool:
  """Whether up to three things are (x, label), rather than images one by one."""
  if isinstance(x[0], Mapping):
    return True
  shape = getattr(x[0], "shape", None)
  if shape is None or tuple(shape) == image_shape:
    return False
  return len(shape) == 4 or all(len(getattr(part, "shape", ())) <= 1 for part in x[1:])


def images_of(data: Any, *rest: Any) -> Any:
  """The images of a batch that may be x, (x, label), unpacked (x, label), or a dict with x.

  Raises:
    InputError: Weights of samples; or a dict in which it is not clear what the images are.
  """
  if isinstance(data, (tuple, list)):
    check_no_weights(*data[2:])
    data = data[0]
  if not isinstance(data, Mapping):
    return data
  keys = [key for key in _IMAGE_KEYS if key in data] or (list(data) if len(data) == 1 else [])
  if not keys:
    raise InputError(
        f"expected images under the name 'image' or 'x', got a dict of {listing(data)}; rename"
        " them, or give them alone."
    )
  return data[keys[0]]


def check_no_weights(*weights: Any) -> None:
  """Raises an `InputError` unless all are None."""
  if any(weight is not None for weight in weights):
    raise InputError("expected no weights of samples or classes, got some; leave them out.")


def batch(data: Any, image_shape: _ImageShape) -> tf.Tensor:
  """The images of a batch in a step, float32 [B, H, W, C]; values are checked
  before, by `streams`.

  Raises:
    InputError: Another shape or type.
  """
  x = images_of(data)
  pixels.check_shape(x.shape, image_shape)
  return tf.cast(tf.ensure_shape(pixels.scaled(x), (None, *image_shape)), tf.float32)


@contextlib.contextmanager
def told() -> Iterator[None]:
  """Makes TensorFlow's error of what a pipeline raised the `InputError` that it was."""
  try:
    yield
  except tf.errors.OpError as error:
    found = _OURS.search(error.message)
    if not found:
      raise
    raise InputError(found.group(1)) from error
