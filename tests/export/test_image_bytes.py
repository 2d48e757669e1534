"""PNG and JPEG files as a SavedModel reads them: `encode_image_bytes` against arrays of pixels."""

import pathlib

import exports
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from imae_tf.data import loading
from imae_tf.export import savedmodel


def served(model, path, contents):
  """The codes of files, by the SavedModel of a model."""
  savedmodel.write(model, path / "model")
  loaded = tf.saved_model.load(str(path / "model"))
  codes = loaded.signatures["encode_image_bytes"](image_bytes=tf.constant(list(contents)))
  return {name: value.numpy() for name, value in codes.items()}


def test_colour_images(tmp_path):
  model = exports.make_model(image_shape=(8, 8, 3))
  pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
  codes = served(model, tmp_path, map(exports.encoded, pixels))
  exports.assert_same_arrays(codes, model.encode(pixels.astype("float32") / 255))


@pytest.mark.parametrize("mode,channels", [("RGBA", 3), ("LA", 1), ("PA", 3)])
def test_transparency_is_laid_on_white_as_in_a_folder(tmp_path, mode, channels):
  rng = np.random.default_rng(0)
  (tmp_path / "images").mkdir()
  for i in range(3):
    image = PIL.Image.fromarray(rng.integers(0, 256, (8, 8, 4), np.uint8), "RGBA")
    if mode == "PA":
      image = image.convert("RGB").quantize(16)
      image.info["transparency"] = 3
    else:
      image = image.convert(mode)
    image.save(tmp_path / "images" / f"{i}.png", **image.info)
  paths = sorted((tmp_path / "images").iterdir())
  _, batches = loading.input_batches(str(tmp_path / "images"), "train", 3)
  expected = next(iter(batches))
  model = exports.make_model(image_shape=(8, 8, channels))
  codes = served(model, tmp_path / "model", map(pathlib.Path.read_bytes, paths))
  one_level = {name: model.encode(np.clip(expected + 1 / 255, 0, 1))[name] for name in codes}
  for name, value in model.encode(expected).items():
    bound = np.abs(one_level[name] - value).max() + 1e-5  # a rounding of 8 bits
    np.testing.assert_allclose(codes[name], value, rtol=0, atol=bound)


def test_images_of_four_channels(tmp_path):
  model = exports.make_model(image_shape=(8, 8, 4))
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
  jpeg = exports.encoded(pixels[..., :3], "JPEG")
  opaque = np.full((8, 8, 4), 255, np.uint8)
  opaque[..., :3] = tf.io.decode_jpeg(jpeg)
  codes = served(model, tmp_path, [exports.encoded(pixels), jpeg])
  x = np.stack([pixels, opaque]).astype("float32") / 255
  exports.assert_same_arrays(codes, model.encode(x))


def test_two_channels_have_no_image_files(tmp_path):
  savedmodel.write(exports.make_model(image_shape=(4, 4, 2)), tmp_path / "model")
  loaded = tf.saved_model.load(str(tmp_path / "model"))
  assert set(loaded.signatures) == {"serving_default", "encode", "decode", "reconstruct"}
