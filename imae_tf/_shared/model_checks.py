"""What a model is given, checked: its arguments, `compile`'s, images and batches of them."""

import warnings
from collections.abc import Container
from typing import Any
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from imae_tf.errors import InputError

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

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
      "vat_radius": (
          model.vat_radius == "neighbor" or _is_positive(model.vat_radius),
          "a number > 0 or 'neighbor'",
      ),
  }
  for name in ("temperature", "neighbor_fraction", "vat_xi", "max_log_scale"):
    checks[name] = (_is_positive(getattr(model, name)), "a number > 0")
  for name, (valid, expected) in checks.items():
    if not valid:
      raise InputError(f"expected {name} as {expected}, got {getattr(model, name)!r}; correct it.")
  _check_networks(model)


def _check_networks(model):
  for name in ("encoder", "decoder"):
    network = getattr(model, name)
    if not (isinstance(network, keras.Model) and hasattr(network, "input_shape")):
      raise InputError(
          f"expected {name} as a functional or Sequential Keras model with an Input, got"
          f" {type(network).__name__}; wrap it: keras.Model(inputs, network(inputs))."
      )
  if len(model.encoder.output_shape) != 2:
    raise InputError(
        f"expected features [B, F] of the encoder, got {model.encoder.output_shape}; end it with"
        " Flatten or a pooling layer."
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


def _is_positive(value):
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


def _check_compiled_for_replicas(model):
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


def check_fit_data(x: Any, batch_size: int | None, image_shape: tuple[int, int, int]) -> None:
  """Raises an `InputError` of unusable images, of none, or of batches of a single one.

  Looks at the whole of an array and at the first batches of a data set; a generator can be read
  only once.
  """
  if isinstance(x, tf.data.Dataset):
    sizes = [_count(batch, image_shape) for batch in x.take(2)]
  elif isinstance(x, keras.utils.PyDataset):
    sizes = [_count(x[i], image_shape) for i in range(min(2, x.num_batches or 0))]
  elif isinstance(x, (np.ndarray, tf.Tensor)):
    sizes = [min(len(images(x, image_shape)), batch_size or len(x))]
  else:
    return
  if not sum(sizes):
    raise InputError("expected images, got an empty array or data set; add images.")
  if all(size == 1 for size in sizes):
    raise InputError(
        "expected batches of 2 images or more, got 1; raise batch_size, 128 to 512 works well:"
        " the marginals are averages over the batch (eq 35)."
    )


def _count(data, image_shape):
  return len(images(images_of(data), image_shape))


def images(x: Any, image_shape: tuple[int, int, int]) -> np.ndarray:
  """x as a float32 array [N, H, W, C], or an `InputError` of its shape, dtype or range."""
  x = x.numpy() if tf.is_tensor(x) else np.asarray(x)
  if x.ndim != 4 or x.shape[1:] != image_shape:
    raise InputError(
        f"expected images of shape {_shape_text(image_shape)}, got"
        f" {list(x.shape)}; add the channel axis, resize, or build the networks for it."
    )
  check_floating(x)
  x = x.astype("float32", copy=False)
  if x.size and not (x.min() >= 0.0 and x.max() <= 1.0):  # false for NaN, too
    raise InputError(
        f"expected pixels in [0, 1], got [{x.min():g}, {x.max():g}]; scale the images and"
        " remove what is not finite."
    )
  return x


def check_batch(x: tf.Tensor, image_shape: tuple[int, int, int]) -> None:
  """Raises an `InputError` of a batch in a graph, whose values are not known yet."""
  check_floating(x)
  if not x.shape.is_compatible_with((None, *image_shape)):
    raise InputError(
        f"expected images of shape {_shape_text(image_shape)}, got batches of shape"
        f" {x.shape}; resize them or build the networks for that shape."
    )


def images_of(data: Any, *rest: Any) -> Any:
  """The images of a batch that may be x, (x, label) or unpacked (x, label)."""
  if not isinstance(data, (tuple, list)):
    return data
  check_no_weights(*data[2:])
  return data[0]


def check_no_weights(*weights: Any) -> None:
  """Raises an `InputError` unless all are None."""
  if any(weight is not None for weight in weights):
    raise InputError("expected no weights of samples or classes, got some; leave them out.")


def check_floating(x: Any) -> None:
  """Raises an `InputError` of images, here or in a graph, that are no floating-point numbers."""
  dtype = getattr(x.dtype, "name", x.dtype)  # a symbolic tensor's is text
  if not dtype.startswith(("float", "bfloat")):
    raise InputError(f"expected floating-point images in [0, 1], got {dtype}; divide uint8 by 255.")


def _shape_text(image_shape):
  return "[N, " + ", ".join(map(str, image_shape)) + "]"
