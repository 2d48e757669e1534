"""Folders of images: order, modes, sizes, and every kind of bad file."""

import numpy as np
import PIL.Image
import pytest
from mendable import assert_mendable
from stored import coded_images
from stored import codes
from stored import save_folder

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
  seen = np.concatenate([codes(loaded.arrays(split)[0]) for split in ("train", "test")])
  np.testing.assert_array_equal(seen, [2, 3, 0, 1, 4])


def test_modes_become_grey_or_rgb(tmp_path):
  red = PIL.Image.new("RGB", (3, 2), (255, 0, 0))
  half_red = PIL.Image.new("RGBA", (3, 2), (255, 0, 0, 51))
  for i, image in enumerate([red, half_red, red.convert("P"), red.convert("CMYK"), red]):
    image.save(tmp_path / f"{i}.{'tiff' if image.mode == 'CMYK' else 'png'}")
  x, _ = loading.load(str(tmp_path)).arrays("train")
  assert x.shape == (4, 2, 3, 3)
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
        (PIL.Image.new("L", (5, 5)), ["one shape", "(4, 5, 1)", "(5, 5, 1)", "resize"]),
        (PIL.Image.new("RGB", (5, 4)), ["one shape", "(4, 5, 1)", "(4, 5, 3)"]),
        (PIL.Image.new("I;16", (5, 4)), ["8 bits", "I;16", "convert"]),
        (b"not an image", ["image file", "cannot be read", "replace or remove"]),
        (b"", ["image file", "cannot be read", "replace or remove"]),
    ],
)
def test_bad_image_file(tmp_path, monkeypatch, streamed, bad, parts):
  if streamed:
    monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  file = save_folder(tmp_path, coded_images(9)) / "004.png"
  if isinstance(bad, bytes):
    file.write_bytes(bad)
  else:
    bad.save(file)
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path))
  assert_mendable(error, file, *parts)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image_file(tmp_path, suffix):
  noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
  for i, image in enumerate(noise):
    PIL.Image.fromarray(image).save(tmp_path / f"{i}.{suffix}")
  file = tmp_path / f"1.{suffix}"
  file.write_bytes(file.read_bytes()[:-600])
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path))
  assert_mendable(error, file, "whole image file", "replace or remove")


def test_damaged_image_in_a_streamed_folder_is_an_input_error(tmp_path, monkeypatch):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
  file = save_folder(tmp_path, noise) / "002.png"
  file.write_bytes(file.read_bytes()[:-600])
  _, batches = loading.input_batches(str(tmp_path), "test", 2)
  with pytest.raises(InputError) as error:
    list(batches)
  assert_mendable(error, file, "replace or remove")
