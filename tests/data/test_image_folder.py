"""Folders of images: order, modes, sizes, and every kind of bad file."""

import os
import re
import tracemalloc
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps
import PIL.PngImagePlugin
import pytest
from mendable import assert_mendable
from stored import by_name
from stored import coded_images
from stored import codes
from stored import save_folder

from imae_tf.data import image_files
from imae_tf.data import image_folder
from imae_tf.data import loading
from imae_tf.errors import InputError


def test_folder_is_recursive_sorted_and_unlabelled(tmp_path):
  images = coded_images(5)
  save_folder(tmp_path / "b", images[:2])
  save_folder(tmp_path / "a" / "deep", images[2:4])
  PIL.Image.fromarray(images[4].squeeze()).save(tmp_path / "z.PNG")
  (tmp_path / "notes.txt").write_text("not an image")
  (tmp_path / ".hidden.png").write_text("not an image")
  loaded = loading.load(str(tmp_path))
  assert loaded.class_names is None
  np.testing.assert_array_equal(codes(by_name(loaded)), [2, 3, 0, 1, 4])


def test_modes_become_grey_or_rgb(tmp_path):
  red = PIL.Image.new("RGB", (3, 2), (255, 0, 0))
  half_red = PIL.Image.new("RGBA", (3, 2), (255, 0, 0, 51))
  for i, image in enumerate([red, half_red, red.convert("P"), red.convert("CMYK"), red]):
    image.save(tmp_path / f"{i}.{'tiff' if image.mode == 'CMYK' else 'png'}")
  x = by_name(loading.load(str(tmp_path)))
  assert x.shape == (5, 2, 3, 3)
  np.testing.assert_allclose(x[[0, 2, 3], 0, 0], [[1, 0, 0]] * 3)
  # 20% red on white.
  np.testing.assert_allclose(x[1, 0, 0], [1, 0.8, 0.8], atol=1e-6)


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_image_size_resizes_a_mixed_folder(tmp_path, monkeypatch, memory_limit):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", memory_limit)
  for i, size in enumerate([(4, 4), (8, 6), (5, 9)]):
    PIL.Image.new("L", size, 51).save(tmp_path / f"{i}.png")
  loaded = loading.load(str(tmp_path), image_size=(6, 7))
  assert loaded.image_shape == (6, 7, 1)
  np.testing.assert_allclose(loaded.arrays("train")[0], np.full([2, 6, 7, 1], 0.2))


def test_folder_without_images(tmp_path):
  (tmp_path / "a.txt").write_text("")
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path))
  assert_mendable(error, ".png", tmp_path, "none")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "bad, parts",
    [
        (PIL.Image.new("I", (5, 4), 257), ["8 or 16 bits", "'I'", "convert"]),
        (PIL.Image.new("F", (5, 4), 0.5), ["8 or 16 bits", "'F'", "convert"]),
        (b"not an image", ["image file", "cannot be read", "replace or remove"]),
        (b"", ["image file", "cannot be read", "replace or remove"]),
    ],
)
def test_bad_image_file(tmp_path, monkeypatch, streamed, bad, parts):
  if streamed:
    monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  save_folder(tmp_path, coded_images(9))
  file = tmp_path / "004.tiff"
  if isinstance(bad, bytes):
    file.write_bytes(bad)
  else:
    bad.save(file)
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path), on_bad_file="fail")
  assert_mendable(error, file, *parts)
  lines = []
  skipped = loading.load(tmp_path, say=lines.append)
  np.testing.assert_array_equal(codes(by_name(skipped)), range(9))
  assert list(skipped.source.unreadable) == ["004.tiff"]
  assert "1 of 10" in lines[-1] and "004.tiff" in lines[-1] and parts[0] in lines[-1]
  follow(str(error.value), file)
  assert loading.load(tmp_path, on_bad_file="fail").image_shape == (4, 5, 1)


def follow(message, file):
  """Does what an error says: runs its expression, or removes the file."""
  steps = r"for example with (?:pixels = (.+?) and )?(.+?)(?:, or remove.*)?\.$"
  expression = re.search(steps, message)
  if not expression:
    file.unlink()
    return
  names = {"np": np, "PIL": PIL, "file": file}
  if expression.group(1):
    names["pixels"] = eval(expression.group(1), names)
  eval(expression.group(2), names)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image_file(tmp_path, suffix):
  noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
  for i, image in enumerate(noise):
    PIL.Image.fromarray(image).save(tmp_path / f"{i}.{suffix}")
  file = tmp_path / f"1.{suffix}"
  file.write_bytes(file.read_bytes()[:-600])
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path), on_bad_file="fail")
  assert_mendable(error, file, "whole image file", "replace or remove")
  skipped = loading.load(str(tmp_path))
  assert len(by_name(skipped)) == 3 and list(skipped.source.unreadable) == [file.name]


def test_damaged_image_in_a_streamed_folder_is_an_input_error(tmp_path, monkeypatch):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
  file = save_folder(tmp_path, noise) / "002.png"
  file.write_bytes(file.read_bytes()[:-600])
  _, batches = loading.input_batches(str(tmp_path), "test", 2)
  with pytest.raises(InputError) as error:
    list(batches)
  assert_mendable(error, file, "replace or remove")


# ---- orientation, text, brightness --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_the_orientation_of_a_camera_is_applied(tmp_path, kind):
  """Each of the eight ways to store one picture, against Pillow's own transposition."""
  coarse = np.random.default_rng(0).integers(0, 256, (2, 4), np.uint8).repeat(8, 0).repeat(8, 1)
  expected = []
  for orientation in range(1, 9):
    image = PIL.Image.fromarray(np.ascontiguousarray(coarse if orientation < 5 else coarse.T))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"{orientation}.{kind}"
    image.convert("RGB").save(file, exif=exif)
    expected.append(np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(file)).convert("RGB")))
  data = loading.load(tmp_path)
  x = by_name(data)
  np.testing.assert_array_equal(np.rint(x * 255), np.stack(expected))
  assert x.shape == (8, 16, 32, 3) and np.abs(x[0] - x[2]).max() > 0.1


def test_a_damaged_exif_block_turns_nothing(tmp_path):
  image = PIL.Image.new("RGB", (5, 4), (9, 9, 9))
  for i in range(3):
    image.save(tmp_path / f"{i}.jpg", exif=b"Exif\0\0" + b"MM\0*" + bytes([255] * 20))
  assert loading.load(tmp_path).image_shape == (4, 5, 3)


@pytest.mark.parametrize("after", [False, True], ids=["before the pixels", "after them"])
def test_a_png_with_megabytes_of_compressed_text_is_read(tmp_path, after):
  save_folder(tmp_path, coded_images(5))
  text = PIL.PngImagePlugin.PngInfo()
  text.add_text("workflow", "x" * 3_000_000, zip=True)
  image = PIL.Image.new("L", (5, 4), 2)
  image.save(tmp_path / "002.png", pnginfo=text)
  if after:
    content = (tmp_path / "002.png").read_bytes()
    start = content.index(b"zTXt") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    end_chunk = content[-12:]
    (tmp_path / "002.png").write_bytes(
        content[:start] + content[end:-12] + content[start:end] + end_chunk
    )
  data = loading.load(tmp_path)
  np.testing.assert_array_equal(codes(by_name(data)), [0, 1, 2, 3, 4])


def bomb(kind):
  """A file of some bytes that claims a gigabyte of pixels."""
  if kind == "pgm":
    return b"P5 40000 40000 255\n" + bytes(100)
  size = (40000).to_bytes(4, "big") * 2
  parts = [(b"IHDR", size + bytes([8, 0, 0, 0, 0])), (b"IDAT", zlib.compress(bytes(10**6)))]
  chunk = lambda k, v: len(v).to_bytes(4, "big") + k + v + zlib.crc32(k + v).to_bytes(4, "big")
  return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")])


@pytest.mark.parametrize("kind", ["png", "pgm"])
def test_decompression_bombs_stay_refused(tmp_path, kind):
  file = save_folder(tmp_path, coded_images(5)) / f"002x.{kind}"
  file.write_bytes(bomb(kind))
  tracemalloc.start()
  with pytest.raises(InputError) as error:
    loading.load(tmp_path, on_bad_file="fail")
  assert tracemalloc.get_traced_memory()[1] < 2**24
  tracemalloc.stop()
  assert_mendable(error, file, "replace or remove")


@pytest.mark.parametrize(
    "header", [b"P5 5 x 255\n", b"P5 5", b"P5 -5 4 255\n", b"P5 5 4 0\n", b"P5"]
)
def test_a_damaged_header(tmp_path, header):
  file = save_folder(tmp_path, coded_images(5)) / "002.pgm"
  file.write_bytes(header + bytes(20))
  with pytest.raises(InputError) as error:
    loading.load(tmp_path, on_bad_file="fail")
  assert_mendable(error, file, "replace or remove")


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_masks_of_zeros_and_ones_are_said(tmp_path, monkeypatch, memory_limit):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", memory_limit)
  masks = np.random.default_rng(0).integers(0, 2, (6, 4, 5), np.uint8)
  folder = save_folder(tmp_path, masks)
  with pytest.raises(InputError) as error:
    loading.load(folder)
  assert_mendable(error, folder, "black")
  for file in folder.iterdir():
    follow(str(error.value), file)
  np.testing.assert_array_equal(by_name(loading.load(folder))[..., 0], masks)


# ---- what is told, what is kept -----------------------------------------------------------------


def test_one_line_tells_what_was_found(tmp_path):
  save_folder(tmp_path, coded_images(6))
  save_folder(tmp_path / ".ipynb_checkpoints", coded_images(2))
  lines = []
  loading.load(tmp_path, say=lines.append)
  assert lines == [f"6 images in {tmp_path}; 1 passed over, the first .ipynb_checkpoints."]


@pytest.mark.parametrize("n", [3, 4, 5])
def test_too_few_to_evaluate_are_said_at_once(tmp_path, n):
  save_folder(tmp_path, coded_images(n))
  lines = []
  loading.load(tmp_path, say=lines.append)
  assert len(lines) == 2 and "can be trained, but not evaluated" in lines[1]


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_a_fingerprint_moves_with_the_images(tmp_path, monkeypatch, memory_limit):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", memory_limit)
  prints = []
  for place, turn in (("a", 1), ("b", 1), ("c", -1)):
    folder = save_folder(tmp_path / place, np.ascontiguousarray(coded_images(9)[::turn]))
    prints += [loading.load(folder, holdout=h).fingerprint() for h in (0, 2)]
  assert prints[0]["n"] == 9 and prints[:4] == [prints[0]] * 4
  assert prints[4] == prints[5] != prints[0]


def test_a_large_folder_is_fingerprinted_by_some_of_its_files(tmp_path, monkeypatch):
  files = sorted(save_folder(tmp_path, coded_images(9)).iterdir())
  monkeypatch.setattr(image_folder, "_MOST_BYTES", 0)
  monkeypatch.setattr(image_folder, "_FILES_READ", 3)
  before = loading.load(tmp_path).fingerprint()
  content = files[3].read_bytes()
  PIL.Image.new("L", (5, 4), 77).save(files[3])
  assert loading.load(tmp_path).fingerprint() != before
  files[3].write_bytes(content)
  os.utime(files[3], (1, 1))
  assert loading.load(tmp_path).fingerprint() == before
  files[4].rename(tmp_path / "004-renamed.png")
  assert loading.load(tmp_path).fingerprint() != before


# ---- fuzz ---------------------------------------------------------------------------------------

FORMATS = ("bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp", "mpo.jpg")


def written(folder, kind):
  """Whole files of a format, in some of its variants."""
  rng = np.random.default_rng(0)
  colours = PIL.Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8))
  variants = {
      "gif": [("P", {}), ("P", {"transparency": 3})],
      "png": [(mode, {"exif": b"MM\0*" + bytes(20)}) for mode in ("RGB", "P", "1", "LA")],
      "pgm": [("L", {})],
      "tif": [("RGB", {"compression": "tiff_lzw"}), ("CMYK", {})],
      "tiff": [("1", {"compression": "group4"}), ("RGB", {"compression": "jpeg"})],
      "mpo.jpg": [("RGB", {"format": "MPO", "save_all": True, "append_images": [colours]})],
  }.get(kind, [("RGB", {})])
  for i, (mode, options) in enumerate(variants):
    path = folder / f"whole{i}.{kind}"
    colours.convert(mode).save(path, **options)
    yield path.read_bytes()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FORMATS)
def test_fuzz_of_the_folder_reader(tmp_path, kind):
  """200 files of each format, truncated and bit-flipped: read, or one sentence that names it."""
  rng = np.random.default_rng(zlib.crc32(kind.encode()))
  wholes = list(written(tmp_path, kind))
  file = tmp_path / f"x.{kind}"
  read = 0
  for i in range(200):
    whole = wholes[i % len(wholes)]
    content = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.3 else whole)
    reach = len(content) if rng.random() < 0.5 else min(len(content), 64)  # mostly headers
    for place in rng.integers(reach, size=rng.integers(1, 5)) if reach else ():
      content[place] ^= 1 << rng.integers(8)
    file.write_bytes(content)
    try:
      shape = image_files.header(file).shape
      pixels = image_files.read(file)
    except InputError as error:
      assert str(file) in str(error) and "\n" not in str(error)
    else:
      read += 1
      assert pixels.dtype == np.uint8 and pixels.ndim == 3 and len(shape) == 3
  assert read or kind in ("webp",)
