"""Writes the SavedModel that TF Serving loads: images to (y, z) codes, and back.

`publish` calls `write`. The graph has only TensorFlow's own operations. A server does not check its
requests, so each signature asserts the shape and the range of its inputs: a wrong request gets
INVALID_ARGUMENT and a sentence.
"""

import json
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf
from tensorflow import Tensor

import imae_tf
from imae_tf._shared import pixels
from imae_tf.data.preparation import Preparation
from imae_tf.export import card
from imae_tf.export import decoding
from imae_tf.export import descriptions
from imae_tf.export import graph_checks
from imae_tf.export import typical
from imae_tf.export import warmup

if TYPE_CHECKING:
  from imae_tf.export.align import Alignment
  from imae_tf.models import HybridAutoencoder

DESCRIPTION = descriptions.PATH
Signatures = dict[str, tuple[Callable[..., dict[str, Tensor]], list[tf.TensorSpec]]]

_DECODABLE_CHANNELS = (1, 3, 4)
_ROW_SUM_TOLERANCE = 1e-3  # because JSON clients may round probabilities


def write(
    model: "HybridAutoencoder",
    path: str | os.PathLike[str],
    dataset: str | None = None,
    evaluation: Mapping[str, Any] | None = None,
    alignment: "Alignment | None" = None,
    images: np.ndarray | None = None,
    config: Mapping[str, Any] | None = None,
    category_names: Sequence[str] | None = None,
) -> None:
  """Writes a SavedModel with four signatures; `serving_default` is `encode`.

      encode              x                         -> y, z, z_scale
      decode              y, z                      -> x
      reconstruct         x                         -> x
      encode_image_bytes  image_bytes (PNG or JPEG) -> y, z, z_scale

  x [N, H, W, C] are floats in [0, 1], y [N, K2] probabilities, z [N, K1] means, z_scale
  [N, K1] standard deviations, image_bytes [N] strings; N is free and may be 0. All are
  float32, whatever the model computes in. Images of 2 or of more than 4 channels have no
  file format, hence no `encode_image_bytes`, which lays what is transparent on white and applies
  the orientation that a camera notes. It takes files of any size if config.json tells what was done
  to the images, and does the same to them; else files of the model's own size.

  `assets.extra/` holds imae.json, MODEL_CARD.md, the server's warm-up requests and, if `images` are
  given, typical_images.npz.

  Args:
    model: a `HybridAutoencoder`.
    path: folder to write; it should not exist.
    dataset: name of the data that the model was trained on.
    evaluation: the figures of metrics.json.
    alignment: `align.Alignment` to build into the graph.
    images: float32 [N, H, W, C] in [0, 1]; the most typical of them are kept.
    config: the run's config.json, for what is done to the images and for the card.
    category_names: what people call the model's categories; None for their numbers.
  """
  record = (config or {}).get("images")
  prepared = Preparation.of_record(record) if record else None
  signatures = _signatures(model, alignment, prepared)
  archive = keras.export.ExportArchive()
  for name, (function, inputs) in signatures.items():
    archive.add_endpoint(name, function, input_signature=inputs)
  archive.write_out(str(path), verbose=False)
  description = describe(model, dataset, evaluation, alignment, prepared, category_names)
  file = pathlib.Path(path) / DESCRIPTION
  file.parent.mkdir()
  file.write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")
  warmup.write(
      path,
      ["serving_default", *signatures],
      model.image_shape,
      model.num_categories,
      model.latent_dim,
  )
  if images is not None:
    typical.write(path, served_codes(model, images, alignment)["y"], images)
  card.write(path, description, config, None if images is None else len(images))


def served_codes(
    model: "HybridAutoencoder", images: np.ndarray, alignment: "Alignment | None" = None
) -> dict[str, np.ndarray]:
  """The codes that the SavedModel must give for images: NumPy arrays, aligned."""
  codes = model.encode(images)
  if alignment is not None:
    codes = {name: value.numpy() for name, value in alignment.served(codes).items()}
  return codes


def describe(
    model: "HybridAutoencoder",
    dataset: str | None = None,
    evaluation: Mapping[str, Any] | None = None,
    alignment: "Alignment | None" = None,
    prepared: Preparation | None = None,
    category_names: Sequence[str] | None = None,
) -> dict[str, Any]:
  """The content of imae.json: method, data, K1, K2, images, versions and figures, as a dict.

  Lists of one figure per dimension are in the order that is served.
  """
  if alignment is not None and evaluation is not None:
    evaluation = alignment.figures(evaluation)
  return {
      "format": descriptions.FORMAT_VERSION,
      "method": type(model).__name__.lower(),
      "dataset": dataset,
      "num_categories": model.num_categories,
      "latent_dim": model.latent_dim,
      "image_shape": list(model.image_shape),
      "image_range": [0.0, 1.0],
      "versions": {
          module.__name__: module.__version__ for module in (imae_tf, keras, tf)
      },
      "evaluation": evaluation,
      **({} if prepared is None else {"images": prepared.record()}),
      **_named(category_names, alignment),
      **({} if alignment is None else {"alignment": alignment.record}),
  }


def _named(names: Sequence[str] | None, alignment: "Alignment | None") -> dict[str, list[str]]:
  """The names in the order that is served; a category without one has the number served."""
  if names is None:
    return {}
  order = range(len(names)) if alignment is None else alignment.categories
  served = [str(i) if names[k] == str(k) else names[k] for i, k in enumerate(order)]
  return {"category_names": served}


def _signatures(
    model: "HybridAutoencoder",
    alignment: "Alignment | None",
    prepared: Preparation | None = None,
) -> Signatures:
  """{name: (function, input specs)}; the first is also `serving_default`."""
  shape = model.image_shape
  spec_x = tf.TensorSpec((None, *shape), tf.float32, name="x")
  spec_y = tf.TensorSpec((None, model.num_categories), tf.float32, name="y")
  spec_z = tf.TensorSpec((None, model.latent_dim), tf.float32, name="z")
  spec_bytes = tf.TensorSpec((None,), tf.string, name="image_bytes")

  def codes_of(x: Tensor) -> dict[str, Tensor]:
    codes = model(x)
    return codes if alignment is None else alignment.served(codes)

  def encode(x: Tensor) -> dict[str, Tensor]:
    return codes_of(_checked_images(x, shape))

  def decode(y: Tensor, z: Tensor) -> dict[str, Tensor]:
    y, z = _checked_codes(y, z, spec_y.shape[1], spec_z.shape[1])
    return _images(model, *((y, z) if alignment is None else alignment.of_model(y, z)))

  def reconstruct(x: Tensor) -> dict[str, Tensor]:
    codes = model(_checked_images(x, shape))
    return _images(model, codes["y"], codes["z"])

  def encode_image_bytes(image_bytes: Tensor) -> dict[str, Tensor]:
    return codes_of(decoding.images(image_bytes, shape, prepared))

  signatures: Signatures = {
      "encode": (encode, [spec_x]),
      "decode": (decode, [spec_y, spec_z]),
      "reconstruct": (reconstruct, [spec_x]),
  }
  if shape[-1] in _DECODABLE_CHANNELS:
    signatures["encode_image_bytes"] = (encode_image_bytes, [spec_bytes])
  return signatures


def _images(model: "HybridAutoencoder", y: Tensor, z: Tensor) -> dict[str, Tensor]:
  logits = model.decoder(tf.concat([y, z], axis=1), training=False)
  return {"x": tf.sigmoid(tf.cast(logits, tf.float32))}


def _checked_images(x: tf.Tensor, image_shape: tuple[int, int, int]) -> tf.Tensor:
  channels = image_shape[2]
  colour = "make them grey" if channels == 1 else f"give them {channels} channels"
  mend = f"resize them, add the channel axis or put it last, or {colour}"
  x = graph_checks.shaped(x, image_shape, "images x", mend)
  low, high = tf.reduce_min(x), tf.reduce_max(x)
  bound = pixels.TOLERANCE
  in_range = tf.reduce_all((x >= -bound) & (x <= 1.0 + bound))  # false for NaN, too
  message = tf.strings.format(
      "expected pixels in [0, 1], got [{}, {}]; divide bytes by 255 and remove what is not"
      " finite.",
      (low, high),
  )
  return tf.clip_by_value(graph_checks.asserted(x, in_range, message), 0.0, 1.0)


def _checked_codes(
    y: Tensor, z: Tensor, num_categories: int, latent_dim: int
) -> tuple[Tensor, Tensor]:
  mend = "send the y and z of encode"
  y = graph_checks.shaped(y, (num_categories,), "probabilities y", mend)
  z = graph_checks.shaped(z, (latent_dim,), "codes z", mend)
  rows = tf.shape(y)[0], tf.shape(z)[0]
  message = tf.strings.format(
      f"expected as many rows of y as of z, got {{}} and {{}}; {mend}.", rows
  )
  y = graph_checks.asserted(y, tf.equal(*rows), message)
  is_simplex = tf.reduce_all((y >= 0.0) & (y <= 1.0)) & tf.reduce_all(
      tf.abs(tf.reduce_sum(y, axis=1) - 1.0) <= _ROW_SUM_TOLERANCE
  )
  message = (
      f"expected each row of y as probabilities that sum to 1, or one-hot, got others; {mend}."
  )
  y = graph_checks.asserted(y, is_simplex, message)
  message = f"expected z as finite numbers, got NaN or infinity; {mend}."
  z = graph_checks.asserted(z, tf.reduce_all(tf.math.is_finite(z)), message)
  return y, z
