"""Files as people have them: each kind, alone and all in a folder, against Pillow's own pixels."""

import io
import os

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from imae_tf.data import image_files
from imae_tf.data import loading
from imae_tf.data.preparation import Preparation
from imae_tf.errors import InputError

RNG = np.random.default_rng(0)
# Smooth, so that a JPEG keeps them, of a size that no other kind has.
COLOURS = PIL.Image.fromarray(RNG.integers(0, 256, (5, 6, 3), np.uint8)).resize((36, 30))
GREY = PIL.Image.fromarray(RNG.integers(0, 256, (7, 9), np.uint8)).resize((45, 35))
DEEP = RNG.integers(0, 2**16, (11, 13), np.uint16)
DEEP_RGB = RNG.integers(0, 2**16, (11, 13, 3), np.uint16)
OTHER = COLOURS.transpose(PIL.Image.Transpose.ROTATE_180)


def saved(image, file, **options):
  image.save(file, **options)
  return image


def turned(image, file):
  exif = PIL.Image.Exif()
  exif[0x0112] = 6
  image.save(file, exif=exif)
  with PIL.Image.open(file) as stored:
    return PIL.ImageOps.exif_transpose(stored)


def on_white(image):
  white = PIL.Image.new("RGBA", image.size, "white")
  return PIL.Image.alpha_composite(white, image.convert("RGBA"))


def with_alpha(image, mode):
  image = image.convert(mode)
  image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
  return image


def linked(image, file):
  target = file.parent.parent / "elsewhere" / "target.png"
  target.parent.mkdir(exist_ok=True)
  image.save(target)
  file.symlink_to(target)
  return image


def animated(file, **options):
  COLOURS.save(file, save_all=True, append_images=[OTHER, OTHER], **options)
  with PIL.Image.open(file) as image:
    image.seek(0)
    return image.convert("RGB")


def raw(content, file, pixels):
  file.write_bytes(content)
  return PIL.Image.fromarray(pixels)


def upper_bytes(pixels):
  """What decoders keep of 16 bits: Pillow of colours, libpng of everything."""
  return (pixels >> 8).astype(np.uint8)


# {name of the file: what writes it and gives the image that Pillow makes of it}
KINDS = {
    "grey.png": lambda f: saved(GREY, f),
    "colour.png": lambda f: saved(COLOURS, f),
    "small.png": lambda f: saved(COLOURS.resize((3, 2)), f),
    "large.jpg": lambda f: saved(COLOURS.resize((300, 200)), f) and PIL.Image.open(f),
    "bits.png": lambda f: saved(GREY.convert("1"), f),
    "palette.png": lambda f: saved(COLOURS.quantize(16), f),
    "palette.bmp": lambda f: saved(COLOURS.quantize(16), f),
    "alpha.png": lambda f: on_white(saved(with_alpha(COLOURS, "RGB"), f)),
    "grey alpha.png": lambda f: on_white(saved(with_alpha(GREY, "L"), f)).convert("L"),
    "palette alpha.png": lambda f: (
        saved(COLOURS.quantize(16), f, transparency=3) and on_white(PIL.Image.open(f))
    ),
    "alpha.webp": lambda f: on_white(saved(with_alpha(COLOURS, "RGB"), f, lossless=True,
                                           exact=True)),
    "deep.png": lambda f: saved(PIL.Image.fromarray(DEEP), f) and PIL.Image.fromarray(
        upper_bytes(DEEP)),
    "deep.tiff": lambda f: saved(PIL.Image.fromarray(DEEP), f) and PIL.Image.fromarray(
        upper_bytes(DEEP)),
    "deep.pgm": lambda f: raw(
        b"P5 13 11 65535\n" + DEEP.astype(">u2").tobytes(), f, upper_bytes(DEEP)),
    "deep colour.png": lambda f: raw(
        tf.io.encode_png(DEEP_RGB).numpy(), f, upper_bytes(DEEP_RGB)),
    "cmyk.jpg": lambda f: saved(COLOURS.convert("CMYK"), f) and PIL.Image.open(f),
    "cmyk.tif": lambda f: saved(COLOURS.convert("CMYK"), f),
    "turned.jpg": lambda f: turned(COLOURS, f),
    "turned.png": lambda f: turned(COLOURS, f),
    "turned grey.jpeg": lambda f: turned(GREY, f),
    "animated.gif": lambda f: animated(f),
    "animated.webp": lambda f: animated(f, lossless=True),
    "animated.png": lambda f: animated(f),
    "pages.tiff": lambda f: animated(f),
    "two.mpo.jpg": lambda f: animated(f, format="MPO"),
    "UPPER.PNG": lambda f: saved(COLOURS, f),
    "Photo.JPEG": lambda f: saved(COLOURS, f, format="JPEG") and PIL.Image.open(f),
    "link.png": lambda f: linked(COLOURS, f),
    "nested/deeper/x.png": lambda f: saved(COLOURS, f),
    "größe 猫 🐈.png": lambda f: saved(COLOURS, f),
    os.fsdecode(b"latin-\xe9.png"): lambda f: saved(COLOURS, f),
}
GREY_KINDS = {"grey.png", "bits.png", "grey alpha.png", "deep.png", "deep.tiff", "deep.pgm",
              "turned grey.jpeg"}


@pytest.fixture(name="odd", scope="module")
def fixture_odd(tmp_path_factory):
  """A folder of all kinds, and {name: the image that Pillow makes of it, upright, L or RGB}."""
  folder = tmp_path_factory.mktemp("odd") / "images"
  expected = {}
  for name, write in KINDS.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image = write(folder / name)
    expected[name] = np.asarray(image.convert("L" if name in GREY_KINDS else "RGB"))
  return folder, expected


@pytest.mark.parametrize("name", KINDS)
def test_a_file_alone_is_what_pillow_makes_of_it(odd, name):
  folder, expected = odd
  image = image_files.read(folder / name)
  assert image.shape == image_files.header(folder / name).shape
  expected = expected[name].reshape(*expected[name].shape[:2], -1)
  np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("color", ["auto", "grey"])
@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_the_folder_whole(odd, monkeypatch, fit, color, memory_limit):
  folder, expected = odd
  monkeypatch.setattr(loading, "MEMORY_LIMIT", memory_limit)
  loaded = loading.load(folder, image_size=(24, 32), fit=fit, color=color)
  assert not loaded.source.unreadable and sum(loaded.sizes.values()) == len(KINDS)
  for split in loaded.splits:
    x, _ = loaded.arrays(split)
    for name, image in zip(loaded.source.names[split], x, strict=True):
      mode = "L" if color == "grey" else "RGB"
      pillow = PIL.Image.fromarray(expected[name]).convert(mode)
      difference = np.rint(image * 255).squeeze() - np.asarray(fitted(pillow, fit), float)
      assert np.abs(difference).max() <= 2, name  # Pillow rounds each axis, and pads by itself


def fitted(image, fit):
  """Pillow's own way to 32x24 pixels."""
  size, way = (32, 24), PIL.Image.Resampling.BILINEAR
  if fit == "stretch":
    return image.resize(size, way)
  if fit == "pad":
    scale = min(32 / image.width, 24 / image.height)
    small = image.resize((max(1, int(image.width * scale + 0.5)),
                          max(1, int(image.height * scale + 0.5))), way)
    left, top = (32 - small.width) // 2, (24 - small.height) // 2
    around = [(top, 24 - small.height - top), (left, 32 - small.width - left)]
    pixels = np.asarray(small)
    return np.pad(pixels, [*around, (0, 0)][: pixels.ndim], mode="edge")
  rows = min(image.height, int(image.width * 24 / 32 + 0.5))
  columns = min(image.width, int(image.height * 32 / 24 + 0.5))
  left, top = (image.width - columns) // 2, (image.height - rows) // 2
  return image.crop((left, top, left + columns, top + rows)).resize(size, way)


@pytest.mark.parametrize("name", [n for n in KINDS if n.lower().endswith((".png", "jpg", "jpeg"))])
def test_a_served_graph_sees_the_same_pixels(odd, name):
  """PNG and JPEG bytes of any kind and size, decoded by TensorFlow, against the folder's reader."""
  from imae_tf.export import decoding

  folder, _ = odd
  content = (folder / name).read_bytes()
  for color in ("grey", "rgb"):
    done = Preparation((24, 32), "crop", color)
    served = decoding.images(tf.constant([content]), done.image_shape, done)[0]
    expected = done.of_array(image_files.read(folder / name)) / np.float32(255)
    np.testing.assert_array_equal(served, expected)


@pytest.mark.parametrize("quality, subsampling", [(95, 0), (75, 2), (75, 1), (20, 2)])
def test_both_decoders_give_the_same_jpeg(quality, subsampling):
  """Where chroma is stored coarser than luma, too: here Pillow and TensorFlow agree to the bit."""
  file = io.BytesIO()
  COLOURS.resize((151, 121), PIL.Image.Resampling.BICUBIC).save(
      file, "JPEG", quality=quality, subsampling=subsampling
  )
  decoded = tf.io.decode_jpeg(file.getvalue(), channels=3, dct_method="INTEGER_ACCURATE")
  np.testing.assert_array_equal(decoded, np.asarray(PIL.Image.open(file)))


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_names_that_are_no_utf_8_can_be_told(tmp_path, monkeypatch, memory_limit):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", memory_limit)
  folder = tmp_path / os.fsdecode(b"\xe9")
  for i in range(6):
    (folder / os.fsdecode(b"class \xff")).mkdir(parents=True, exist_ok=True)
    saved(COLOURS, folder / os.fsdecode(b"class \xff") / f"{i}.png")
  bad, other = (folder / os.fsdecode(name) for name in (b"a\xe8.png", b"a\xe8.txt"))
  bad.write_bytes(b"no image")
  other.write_text("notes")
  lines = []
  loaded = loading.load(folder, say=lines.append)
  told = "\n".join(lines)
  assert told.encode() and r"the first a\xe8.txt" in told and r"the first a\xe8.png" in told
  assert list(loaded.source.unreadable) == [bad.name]  # as the system knows it
  bad.unlink()
  labelled = loading.load(folder, labels="folders", say=lines.append)
  assert labelled.class_names == (r"class \xff",)
  if not memory_limit:
    gone = folder / labelled.source.names["test"][0]
    gone.unlink()
    with pytest.raises((InputError, tf.errors.OpError), match=r"class \\xff") as error:
      labelled.arrays("test")
    assert str(error.value).encode()
