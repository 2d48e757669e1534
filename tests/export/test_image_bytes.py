"""PNG and JPEG files as a SavedModel reads them: `encode_image_bytes` against arrays of pixels."""

import io
import pathlib
import struct
import zlib

import exports
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from imae_tf.data import loading
from imae_tf.export import savedmodel


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A function: (a model for images of a shape, its SavedModel as loaded), made once."""
  made = {}

  def get(*image_shape):
    if image_shape not in made:
      model = exports.make_model(image_shape=image_shape)
      path = tmp_path_factory.mktemp("saved") / "model"
      savedmodel.write(model, path)
      made[image_shape] = model, tf.saved_model.load(str(path))
    return made[image_shape]

  return get


def served(loaded, contents):
  """The codes of files, by a SavedModel."""
  codes = loaded.signatures["encode_image_bytes"](image_bytes=tf.constant(list(contents)))
  return {name: value.numpy() for name, value in codes.items()}


def test_colour_images(saved):
  model, loaded = saved(8, 8, 3)
  pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
  codes = served(loaded, map(exports.encoded, pixels))
  exports.assert_same_arrays(codes, model.encode(pixels.astype("float32") / 255))


@pytest.mark.parametrize("mode,channels", [("RGBA", 3), ("LA", 1), ("PA", 3)])
def test_transparency_is_laid_on_white_as_in_a_folder(saved, tmp_path, mode, channels):
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
  model, loaded = saved(8, 8, channels)
  codes = served(loaded, map(pathlib.Path.read_bytes, paths))
  one_level = {name: model.encode(np.clip(expected + 1 / 255, 0, 1))[name] for name in codes}
  for name, value in model.encode(expected).items():
    bound = np.abs(one_level[name] - value).max() + 1e-5  # a rounding of 8 bits
    np.testing.assert_allclose(codes[name], value, rtol=0, atol=bound)


def test_images_of_four_channels(saved):
  model, loaded = saved(8, 8, 4)
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
  jpeg = exports.encoded(pixels[..., :3], "JPEG")
  opaque = np.full((8, 8, 4), 255, np.uint8)
  opaque[..., :3] = PIL.Image.open(io.BytesIO(jpeg))
  codes = served(loaded, [exports.encoded(pixels), jpeg])
  x = np.stack([pixels, opaque]).astype("float32") / 255
  exports.assert_same_arrays(codes, model.encode(x))


def test_two_channels_have_no_image_files(saved):
  _, loaded = saved(4, 4, 2)
  assert set(loaded.signatures) == {"serving_default", "encode", "decode", "reconstruct"}


def tagged(pixels, kind, orientation, order):
  """A file whose EXIF notes an orientation, in either order of bytes."""
  image = PIL.Image.fromarray(pixels)
  exif = PIL.Image.Exif()
  exif.endian = order
  exif[0x0112] = orientation
  exif[0x010F] = "a maker"
  file = io.BytesIO()
  image.save(file, kind, exif=exif.tobytes(), **({"quality": 95} if kind == "JPEG" else {}))
  return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_orientation_of_a_camera_is_applied_as_in_a_folder(saved, tmp_path, kind):
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (2, 4), np.uint8).repeat(8, axis=0).repeat(8, axis=1)  # [16, 32]
  (tmp_path / "images").mkdir()
  contents, expected = [], []
  for orientation in range(1, 9):
    stored = coarse if orientation < 5 else coarse.T
    for order in "<>":
      contents.append(tagged(np.ascontiguousarray(stored), kind, orientation, order))
      (tmp_path / "images" / f"{len(contents):02d}.{kind.lower()}").write_bytes(contents[-1])
      image = PIL.Image.open(io.BytesIO(contents[-1]))
      expected.append(np.asarray(PIL.ImageOps.exif_transpose(image)))
  x = np.stack(expected)[..., np.newaxis].astype("float32") / 255
  assert x.shape == (16, 16, 32, 1) and len({image.tobytes() for image in x}) == 4
  _, batches = loading.input_batches(tmp_path / "images", "all", 16)
  np.testing.assert_allclose(next(iter(batches)), x, atol=1e-6)
  model, loaded = saved(16, 32, 1)
  codes = served(loaded, contents)
  exports.assert_same_arrays(codes, model.encode(x))


def test_a_damaged_tag_turns_nothing(saved):
  """Bits flipped in the EXIF block: the codes of the image as stored, or turned, never an error."""
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (8, 8), np.uint8)
  whole = tagged(pixels, "PNG", 6, "<")
  start = whole.index(b"eXIf") + 4
  (length,) = struct.unpack(">I", whole[start - 8 : start - 4])
  contents = []
  for _ in range(60):
    content = bytearray(whole)
    for place in rng.integers(start, start + length, size=3):
      content[place] ^= 1 << rng.integers(8)
    check = zlib.crc32(content[start - 4 : start + length])
    content[start + length : start + length + 4] = struct.pack(">I", check)
    contents.append(bytes(content))
  model, loaded = saved(8, 8, 1)
  codes = served(loaded, contents)
  turns = [np.rot90(p, k) for p in (pixels, pixels.T) for k in range(4)]
  allowed = model.encode(np.stack(turns)[..., np.newaxis])["z"]
  distance = np.abs(codes["z"][:, np.newaxis] - allowed).max(axis=2).min(axis=1)
  assert distance.max() < 1e-4


def test_a_rounding_above_one_is_clipped(saved):
  model, loaded = saved(8, 8, 1)
  encode = loaded.signatures["encode"]
  x = np.round(exports.images(3))
  for codes in (encode(x=tf.constant(x * 1.0005)), encode(x=tf.constant(x - 0.0005))):
    exports.assert_same_arrays(
        {name: value.numpy() for name, value in codes.items()}, model.encode(x), 0.05
    )
  exact = encode(x=tf.constant(np.where(x == 1, np.float32(1.0005), x)))
  exports.assert_same_arrays({k: v.numpy() for k, v in exact.items()}, model.encode(x))
