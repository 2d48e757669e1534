"""Folders as people have them: sizes, the split, labels, bad files, and more than fits memory."""

import collections
import itertools
import os
import shutil

import numpy as np
import PIL.Image
import pytest
from mendable import assert_mendable
from stored import by_name
from stored import coded_images
from stored import codes
from stored import save_folder

from imae_tf.data import decoded_cache
from imae_tf.data import image_files
from imae_tf.data import loading
from imae_tf.data import mapped
from imae_tf.data import pipelines
from imae_tf.data import reading
from imae_tf.data import splits
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError

QUIET = lambda text: None


@pytest.fixture(name="no_memory")
def fixture_no_memory(monkeypatch):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)


# ---- sizes and colours --------------------------------------------------------------------------


def save_sizes(folder, sizes, mode="L"):
  folder.mkdir(exist_ok=True)
  for i, (height, width) in enumerate(sizes):
    PIL.Image.new(mode, (width, height), 40 + i).save(folder / f"{i}.png")
  return folder


@pytest.mark.parametrize("sizes, chosen", [
    ([(100, 80)] * 3, (100, 80)),  # of one size: as they are
    ([(100, 80), (100, 81), (90, 99)], (64, 64)),
    ([(50, 400), (40, 400), (45, 400)], (32, 32)),
    ([(30, 20), (20, 30), (28, 31)], (16, 16)),
    ([(9, 20), (20, 11), (10, 10)], (10, 10)),
    ([(100, 100)] * 5 + [(3000, 3000)], (64, 64)),
])
def test_a_size_is_chosen_from_those_that_occur(tmp_path, sizes, chosen):
  lines = []
  loaded = loading.load(save_sizes(tmp_path, sizes), say=lines.append)
  assert loaded.image_shape == (*chosen, 1) == loaded.preparation.image_shape
  told = [line for line in lines if "--image_size" in line]
  assert len(told) == (len(set(sizes)) > 1)
  if told:
    assert f"{chosen[0]}x{chosen[1]} pixels, grey" in told[0] and "--fit=" in told[0]


def test_large_images_of_one_size_are_made_smaller_beyond_memory(tmp_path, no_memory):
  lines = []
  loaded = loading.load(save_sizes(tmp_path, [(100, 80)] * 3), say=lines.append)
  assert loaded.image_shape == (64, 64, 1) and "of one size, 100x80," in lines[1]


@pytest.mark.parametrize("color, channels", [("auto", 3), ("grey", 1), ("rgb", 3)])
def test_one_colour_image_makes_all_colour_unless_asked(tmp_path, color, channels):
  folder = save_sizes(tmp_path, [(8, 8)] * 4)
  PIL.Image.new("RGB", (8, 8), (255, 0, 0)).save(folder / "9.png")
  loaded = loading.load(folder, color=color)
  assert loaded.image_shape == (8, 8, channels)
  last = by_name(loaded)[-1, 0, 0] * 255
  np.testing.assert_allclose(last, [76] if color == "grey" else [255, 0, 0], atol=1e-4)


@pytest.mark.parametrize("text, size", [("auto", None), ("64", (64, 64)), ("48x64", (48, 64))])
def test_sizes_as_text(text, size):
  assert reading.size_of(text) == size


@pytest.mark.parametrize("bad", ["0", "0x4", "-1", "4x", "x", "", "64 x 64", "1.5", "99999x99999"])
def test_bad_sizes_as_text(bad):
  with pytest.raises(InputError) as error:
    reading.size_of(bad)
  assert_mendable(error, "image_size", repr(bad), "48x64")


@pytest.mark.parametrize("asked", [
    {"image_size": 0}, {"image_size": (4, 0)}, {"image_size": (4, 4, 4)}, {"fit": "cover"},
    {"color": "sepia"}, {"on_bad_file": "ignore"},
])
def test_bad_requests(tmp_path, asked):
  with pytest.raises(InputError) as error:
    loading.load(save_folder(tmp_path, coded_images(6)), **asked)
  assert_mendable(error, next(iter(asked)))


# ---- arrays of several sizes --------------------------------------------------------------------


def test_a_npz_of_images_of_several_sizes(tmp_path):
  rng = np.random.default_rng(0)
  images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(40, 50), (33, 20)] * 6]
  np.savez(tmp_path / "x.npz", *images, y=np.arange(12) % 3)
  lines = []
  loaded = loading.load(tmp_path / "x.npz", say=lines.append)
  assert loaded.image_shape == (16, 16, 3) and "2 sizes" in lines[0]
  x, labels = (np.concatenate(p) for p in zip(*[loaded.arrays(s) for s in ("train", "test")]))
  np.testing.assert_array_equal(labels, np.arange(12) % 3)  # 12 arrays: arr_10 comes after arr_9
  for image, done in zip(images, x):
    np.testing.assert_allclose(loaded.preparation.of_array(image) / 255, done, atol=1e-6)


def test_a_npz_of_one_size_is_resized_if_asked(tmp_path):
  images = np.random.default_rng(0).integers(0, 256, (9, 40, 30), np.uint8)
  np.savez(tmp_path / "x.npz", x=images)
  assert loading.load(tmp_path / "x.npz").preparation is None
  loaded = loading.load(tmp_path / "x.npz", image_size=16, fit="stretch", color="rgb", say=QUIET)
  assert loaded.image_shape == (16, 16, 3)
  pillow = PIL.Image.fromarray(images[0]).resize((16, 16), PIL.Image.Resampling.BILINEAR)
  difference = loaded.arrays("train")[0][0, ..., 0] * 255 - np.asarray(pillow)
  assert np.abs(difference).max() <= 1.001


# ---- the split ----------------------------------------------------------------------------------


def save_classes(folder, per_class=30, classes="abc"):
  for place, name in enumerate(classes):
    save_folder(folder / name, coded_images(per_class * (place + 1))[-per_class:])
  return folder


def test_a_folder_sorted_by_class_has_every_class_in_each_split(tmp_path):
  loaded = loading.load(save_classes(tmp_path), holdout=15, labels="folders")
  assert loaded.class_names == ("a", "b", "c")
  assert loaded.sizes == {"train": 57, "holdout": 15, "test": 18}
  for split, names in loaded.source.names.items():
    x, labels = loaded.arrays(split)
    assert set(labels) == {0, 1, 2}
    np.testing.assert_array_equal(codes(x) // 30, labels)
    assert [name[0] for name in names] == ["abc"[label] for label in labels]
  names = list(itertools.chain(*loaded.source.names.values()))
  assert len(set(names)) == 90
  # The first images of a split stand for it: whoever takes some of them sees every class.
  assert set(loaded.arrays("train", limit=12)[1]) == {0, 1, 2}


def test_the_split_does_not_depend_on_content_place_or_colour(tmp_path):
  first = loading.load(save_classes(tmp_path / "a")).source.names
  shutil.copytree(tmp_path / "a", tmp_path / "b" / "deeper")
  save_folder(tmp_path / "b" / "deeper" / "c", np.full((30, 9, 9, 1), 200, np.uint8))
  second = loading.load(tmp_path / "b" / "deeper", color="rgb", image_size=8).source.names
  assert first == second


def test_a_stored_split_stays_as_files_come_and_go(tmp_path):
  folder = save_folder(tmp_path, coded_images(20))
  names = loading.load(folder, holdout=3).source.names
  stored = splits.Stored(names["test"], names["holdout"])
  again = reading.Reading(split=stored)
  assert loading.opened(folder, again).source.names == names  # train in the same order, too
  PIL.Image.new("L", (5, 4), 77).save(folder / "000a.png")
  (folder / names["train"][0]).unlink()
  moved = loading.opened(folder, again).source.names
  assert moved["test"] == names["test"] and moved["holdout"] == names["holdout"]
  assert set(moved["train"]) == {*names["train"][1:], "000a.png"}
  (folder / names["test"][1]).unlink()
  with pytest.raises(InputError) as error:
    loading.opened(folder, again)
  assert_mendable(error, names["test"][1], "put them back")


def test_the_rule_of_earlier_versions(tmp_path):
  folder = save_folder(tmp_path, coded_images(10))
  loaded = loading.opened(folder, reading.Reading(split="in_order"), holdout=2)
  assert [codes(loaded.arrays(s)[0]).tolist() for s in loaded.splits] == [
      [0, 1, 2, 3, 4, 5], [6, 7], [8, 9]
  ]


# ---- labels -------------------------------------------------------------------------------------


def write_labels(path, rows, head="file,label"):
  path.write_text("\n".join([head, *rows]), encoding="utf-8-sig")
  return path


@pytest.mark.parametrize("kind", ["memory", "stream", "map"])
def test_labels_of_a_csv(tmp_path, monkeypatch, kind):
  if kind != "memory":
    monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  folder = save_folder(tmp_path / "images", coded_images(10))
  rows = [f'{i:03d}.png,"kind {i % 3}"' for i in reversed(range(10))]
  table = write_labels(tmp_path / "labels.csv", rows)
  cache = tmp_path / "cache" if kind == "map" else None
  loaded = loading.load(folder, labels=table, cache=cache)
  assert loaded.class_names == ("kind 0", "kind 1", "kind 2")
  assert loaded.source.labels == str(table)
  for split in loaded.splits:
    x, labels = loaded.arrays(split)
    np.testing.assert_array_equal(labels, codes(x) % 3)


@pytest.mark.parametrize("rows, head, parts", [
    (["x.png,1", "000.png,1", "001.png,2"], "file,label", ["1 of other files", "'x.png'"]),
    (["000.png,1"], "file,label", ["every image", "5 of 6", "'001.png'"]),
    (["000.png,1"], "name,class", ["file,label", "name,class"]),
    ([], "", ["file,label", "nothing"]),
])
def test_a_csv_that_does_not_fit(tmp_path, rows, head, parts):
  folder = save_folder(tmp_path / "images", coded_images(6))
  table = write_labels(tmp_path / "labels.csv", rows, head)
  with pytest.raises(InputError) as error:
    loading.load(folder, labels=table)
  assert_mendable(error, table, *parts)


def test_labels_that_there_are_none_of(tmp_path):
  folder = save_folder(tmp_path, coded_images(6))
  for given, data, parts in [
      ("folders", folder, ["subfolder", "000.png"]),
      (tmp_path / "none.csv", folder, ["cannot be read", "none.csv"]),
      ("folders", "digits", ["folder of images alone", "digits"]),
  ]:
    with pytest.raises(InputError) as error:
      loading.load(data, labels=given)
    assert_mendable(error, *parts)


def test_a_csv_may_label_a_file_that_cannot_be_read(tmp_path):
  folder = save_folder(tmp_path / "images", coded_images(6))
  (folder / "003.png").write_bytes(b"no image")
  table = write_labels(tmp_path / "labels.csv", [f"{i:03d}.png,{i % 2}" for i in range(6)])
  assert sum(loading.load(folder, labels=table).sizes.values()) == 5


# ---- bad folders --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "stream", "map"])
def test_a_folder_of_which_nothing_can_be_read(tmp_path, monkeypatch, kind):
  if kind != "memory":
    monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  for i in range(3):
    (tmp_path / f"{i}.png").write_bytes(b"no image")
  with pytest.raises(InputError) as error:
    loading.load(tmp_path, cache=tmp_path / "cache" if kind == "map" else None)
  assert_mendable(error, tmp_path, "3 files", "0.png", "cannot be read")


def test_one_image(tmp_path):
  with pytest.raises(InputError) as error:
    loading.load(save_folder(tmp_path, coded_images(1)))
  assert_mendable(error, "2 training images", "add images")


# ---- folders larger than memory -----------------------------------------------------------------


def save_mixed(folder, n=30):
  rng = np.random.default_rng(0)
  folder.mkdir()
  for i in range(n):
    size = rng.integers(10, 40, 2)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(folder / f"{i:03d}.png")
  return folder


def test_memory_stream_and_map_give_the_same_images(tmp_path, monkeypatch):
  folder = save_mixed(tmp_path / "images")
  content = (folder / "011.png").read_bytes()
  (folder / "011.png").write_bytes(content[: len(content) // 2])  # its header is whole
  held = loading.load(folder, say=QUIET)
  monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  onto_disk = loading.load(folder, cache=tmp_path / "cache", say=QUIET)
  assert isinstance(held, pipelines.ArrayData) and isinstance(onto_disk, mapped.MappedData)
  assert held.source == onto_disk.source and list(held.source.unreadable) == ["011.png"]
  assert held.fingerprint() == onto_disk.fingerprint()
  assert held.preparation == onto_disk.preparation
  (folder / "011.png").unlink()
  streamed = loading.load(folder, say=QUIET)
  assert isinstance(streamed, pipelines.StreamedData)
  assert streamed.source.names == held.source.names
  for split in held.splits:
    for other in (onto_disk, streamed):
      np.testing.assert_array_equal(other.arrays(split)[0], held.arrays(split)[0])
  for one, other in zip(held.train_batches(8, seed=3).take(7), onto_disk.train_batches(8, seed=3)):
    np.testing.assert_array_equal(one, other)


def counting(monkeypatch):
  """Counts what is asked of each file."""
  asked = collections.Counter()
  for name in ("header", "read"):
    real = getattr(image_files, name)

    def counted(path, real=real, name=name):
      asked[name] += 1
      return real(path)

    monkeypatch.setattr(image_files, name, counted)
  return asked


def test_headers_and_pixels_are_read_once(tmp_path, monkeypatch, no_memory):
  folder, asked = save_mixed(tmp_path / "images"), counting(monkeypatch)
  first = loading.load(folder, cache=tmp_path / "cache", say=QUIET)
  assert asked == {"header": 30, "read": 30}
  second = loading.load(folder, cache=tmp_path / "cache", holdout=4, say=QUIET)
  second.arrays("train")
  assert asked == {"header": 30, "read": 30}
  np.testing.assert_array_equal(first.arrays("test")[0], second.arrays("test")[0])
  loading.load(folder, cache=tmp_path / "cache", fit="pad", say=QUIET)
  assert asked == {"header": 60, "read": 60}
  os.utime(folder / "000.png", ns=(1, 1))
  loading.load(folder, cache=tmp_path / "cache", say=QUIET)
  assert asked == {"header": 90, "read": 90}


def test_a_killed_cache_goes_on(tmp_path, monkeypatch, no_memory):
  folder, asked = save_mixed(tmp_path / "images"), counting(monkeypatch)
  whole = loading.load(folder, cache=tmp_path / "whole", say=QUIET)
  monkeypatch.setattr(decoded_cache, "_ROWS_AT_ONCE", 8)
  asked.clear()
  real = decoded_cache._chunks

  def dying(*args):
    for place, chunk in enumerate(real(*args)):
      if place == 2:
        raise KeyboardInterrupt
      yield chunk

  monkeypatch.setattr(decoded_cache, "_chunks", dying)
  with pytest.raises(KeyboardInterrupt):
    loading.load(folder, cache=tmp_path / "cache", say=QUIET)
  (partial,) = (tmp_path / "cache").glob("*.partial")
  with (partial / "images.npy").open("ab") as file:  # a write that was not noted
    file.write(b"half a row")
  monkeypatch.setattr(decoded_cache, "_chunks", real)
  asked.clear()
  loaded = loading.load(folder, cache=tmp_path / "cache", say=QUIET)
  assert asked["read"] == 30 - 16
  np.testing.assert_array_equal(loaded.images, whole.images)
  assert not list((tmp_path / "cache").glob("*.partial"))


def test_a_damaged_cache_is_made_again(tmp_path, no_memory):
  folder = save_mixed(tmp_path / "images")
  whole = loading.load(folder, cache=tmp_path / "cache", say=QUIET)
  expected = np.array(whole.images)
  (file,) = (tmp_path / "cache").glob("*/images.npy")
  file.write_bytes(file.read_bytes()[:200])
  again = loading.load(folder, cache=tmp_path / "cache", say=QUIET)
  np.testing.assert_array_equal(again.images, expected)


def test_a_cache_that_cannot_be_written(tmp_path, no_memory):
  folder = save_mixed(tmp_path / "images")
  (tmp_path / "file").write_text("")
  with pytest.raises(ImaeError) as error:
    loading.load(folder, cache=tmp_path / "file" / "cache", say=QUIET)
  assert_mendable(error, "--cache=none", tmp_path / "file")


# ---- files that vanish or change ----------------------------------------------------------------


@pytest.mark.parametrize("what", ["vanishes", "changes"])
def test_a_file_that_vanishes_or_changes_while_it_is_streamed_is_named(tmp_path, no_memory, what):
  folder = save_folder(tmp_path, coded_images(10))
  loaded = loading.load(folder, say=QUIET)
  file = folder / loaded.source.names["train"][4]
  if what == "vanishes":
    file.unlink()
  else:
    PIL.Image.new("L", (5, 4), 250).save(file)
    os.utime(file, ns=(1, 1))
  with pytest.raises(Exception, match="InputError: expected ") as error:
    list(loaded.train_batches(8, seed=0).take(1))
  assert str(file) in str(error.value)


def test_a_file_that_vanishes_while_the_folder_is_read_is_listed(tmp_path, monkeypatch):
  folder = save_folder(tmp_path, coded_images(10))
  real = image_files.header

  def header(path):
    if path.name == "006.png":
      (folder / "004.png").unlink(missing_ok=True)
    return real(path)

  monkeypatch.setattr(image_files, "header", header)
  monkeypatch.setattr(os, "cpu_count", lambda: 1)
  loaded = loading.load(folder, say=QUIET)
  assert list(loaded.source.unreadable) == ["004.png"]
  assert codes(by_name(loaded)).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


# ---- images to encode ---------------------------------------------------------------------------


def test_files_to_encode_are_streamed_with_their_names(tmp_path):
  folder = save_mixed(tmp_path / "images")
  (folder / "005.png").write_bytes(b"no image")
  loaded = loading.load(folder, say=QUIET)
  lines = []
  n, batches = loading.input_files(folder, 7, say=lines.append, prepared=loaded.preparation)
  names, images = zip(*batches)
  assert n == 30 and [len(part) for part in names] == [7, 7, 7, 7, 1]
  names = list(itertools.chain(*names))
  assert names == sorted(set(os.listdir(folder)) - {"005.png"})
  np.testing.assert_array_equal(np.concatenate(images), by_name(loaded))
  assert "1 of 30" in lines[-1] and "005.png" in lines[-1]
  _, batches = loading.input_batches(folder, "test", 7, prepared=loaded.preparation)
  with pytest.raises(InputError) as error:  # whose rows would no longer be the files'
    list(batches)
  assert_mendable(error, "005.png")


def test_nothing_is_decoded_before_it_is_taken(tmp_path, monkeypatch):
  folder, asked = save_mixed(tmp_path / "images"), counting(monkeypatch)
  prepared = reading.Reading(image_size=(8, 8)).prepared({(8, 8, 3): 1}, 0)
  _, batches = loading.input_files(folder, 4, say=QUIET, prepared=prepared)
  assert not asked
  next(batches)
  assert asked["header"] == 0 and asked["read"] >= 4


def test_arrays_to_encode_are_prepared(tmp_path):
  x = np.random.default_rng(0).integers(0, 256, (5, 30, 20, 3), np.uint8)
  np.save(tmp_path / "x.npy", x)
  prepared = reading.Reading(image_size=(8, 8)).prepared({(30, 20, 3): 5}, 0)
  _, batches = loading.input_batches(tmp_path / "x.npy", "all", 3, prepared=prepared)
  expected = [prepared.of_array(image) for image in x]
  np.testing.assert_array_equal(np.rint(np.concatenate(list(batches)) * 255), expected)
