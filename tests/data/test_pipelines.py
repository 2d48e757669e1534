"""Pipelines: order, exact resume, the shares of replicas, splits and batch sizes."""

import numpy as np
import pytest
import tensorflow as tf
from mendable import assert_mendable
from stored import coded_images
from stored import codes
from stored import OTHER_IMAGE
from stored import save_folder
from stored import store_tiny
from stored import TINY_IMAGE

from imae_tf.data import loading
from imae_tf.data import mapped
from imae_tf.data import pipelines
from imae_tf.data import tfds_images
from imae_tf.errors import InputError


@pytest.fixture(
    name="coded",
    params=[
        "npz", "folder", "streamed folder", "mapped folder", "tfds", "streamed tfds",
        "streamed other tfds",
    ],
)
def fixture_coded(request, tmp_path, monkeypatch):
  """Numbered images from each kind of source, and the numbers of each split in their order."""
  rows = {"train": np.arange(49), "test": np.arange(49, 62)}  # 62 * 4 // 5 = 49.
  if "streamed" in request.param or "mapped" in request.param:
    monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
    # Several windows per epoch, the last one smaller.
    monkeypatch.setattr(tfds_images, "_SHUFFLE_WINDOW", 20)
  if "tfds" in request.param:
    root = request.getfixturevalue("tfds_root")
    loaded = loading.load(store_tiny(root, OTHER_IMAGE if "other" in request.param else TINY_IMAGE))
    rows = {"train": np.arange(50), "test": np.arange(50, 57)}
  elif "folder" in request.param:
    cache = tmp_path / "cache" if "mapped" in request.param else None
    folder = save_folder(tmp_path / "images", coded_images(62))
    loaded = loading.load(str(folder), cache=cache)
    rows = {
        split: np.array([int(name[:3]) for name in names])
        for split, names in loaded.source.names.items()
    }
  else:
    np.savez(tmp_path / "images.npz", x=coded_images(62))
    loaded = loading.load(str(tmp_path / "images.npz"))
  kinds = {"streamed": pipelines.StreamedData, "mapped": mapped.MappedData}
  assert isinstance(loaded, kinds.get(request.param.split()[0], pipelines.ArrayData))
  return loaded, rows


def take(loaded, count, batch_size, **kwargs):
  stream = loaded.train_batches(batch_size, **kwargs)
  return [batch.numpy() for batch in stream.take(count)]


def test_file_order_with_the_remainder_kept(coded):
  loaded, rows = coded
  train = len(rows["train"])
  batches = list(loaded.batches("train", 8).as_numpy_iterator())
  assert [len(batch) for batch in batches] == [8] * (train // 8) + [train % 8]
  assert all(batch.dtype == np.float32 for batch in batches)
  np.testing.assert_array_equal(codes(np.concatenate(batches)), rows["train"])
  np.testing.assert_array_equal(codes(loaded.arrays("train")[0]), rows["train"])
  np.testing.assert_array_equal(codes(loaded.arrays("test", limit=3)[0]), rows["test"][:3])
  assert len(loaded.arrays("test", limit=1000)[0]) == loaded.size("test")
  assert loaded.arrays("test", limit=0)[0].shape == (0, 4, 5, 1)


def test_training_batches_hold_images_alone(coded):
  loaded, _ = coded
  spec = loaded.train_batches(8, seed=0).element_spec
  assert spec.dtype == tf.float32 and spec.shape[1:] == (4, 5, 1)


def test_an_epoch_shows_an_image_once_and_drops_the_remainder(coded):
  loaded, rows = coded
  steps = loaded.steps_per_epoch(8)
  assert steps == 6
  seen = codes(np.concatenate(take(loaded, 2 * steps, 8, seed=0)))
  first, second = seen[:48], seen[48:]
  for epoch in (first, second):
    assert len(set(epoch)) == 48 and set(epoch) <= set(rows["train"])
  assert list(first) != sorted(first)
  assert list(first) != list(second)
  other_seed = codes(np.concatenate(take(loaded, steps, 8, seed=1)))
  assert list(first) != list(other_seed)


def test_a_resumed_stream_equals_the_unbroken_one(coded):
  loaded, _ = coded
  steps = loaded.steps_per_epoch(8)
  tf.random.set_seed(1)
  unbroken = take(loaded, 5 * steps, 8, seed=3)
  tf.random.set_seed(2)  # Must not matter.
  resumed = take(loaded, 2 * steps, 8, seed=3, initial_epoch=3)
  np.testing.assert_array_equal(np.stack(resumed), np.stack(unbroken[3 * steps :]))


@pytest.mark.parametrize("start", [0, 10])
def test_shares_make_up_the_batches_from_any_step(coded, start):
  loaded, _ = coded
  assert loaded.steps_per_epoch(8) == 6
  unbroken = take(loaded, start + 8, 8, seed=3)[start:]  # Over the end of an epoch.
  begin = {"seed": 3, "initial_epoch": start // 6, "initial_step": start % 6}
  np.testing.assert_array_equal(take(loaded, 8, 8, **begin), unbroken)
  # Two processes, the second one with two replicas.
  first = take(loaded, 8, 8, shares=[slice(0, 3)], **begin)
  second = take(loaded, 16, 8, shares=[slice(3, 6), slice(6, 8)], **begin)
  assert {len(share) for share in first} == {3}
  assert [len(share) for share in second] == [3, 2] * 8
  shares = zip(first, second[::2], second[1::2], strict=True)
  np.testing.assert_array_equal([np.concatenate(parts) for parts in shares], unbroken)


def test_a_far_epoch_costs_no_skipping():
  digits = loading.load("digits")
  far = take(digits, 2, 16, seed=0, initial_epoch=10**12)
  again = take(digits, 2, 16, seed=0, initial_epoch=10**12)
  np.testing.assert_array_equal(far, again)


def test_in_memory_shuffle_is_uniform_over_positions():
  digits = loading.load("digits")
  x, _ = digits.arrays("train")
  index = {image.tobytes(): i for i, image in enumerate(x)}
  assert len(index) == len(x)
  epoch = take(digits, digits.steps_per_epoch(1437), 1437, seed=0)[0]
  order = np.array([index[image.tobytes()] for image in epoch])
  assert sorted(order) == list(range(1437))
  # Under a uniform permutation the rank correlation has the standard deviation 1/sqrt(n).
  assert abs(np.corrcoef(order, np.arange(1437))[0, 1]) < 4 / np.sqrt(1437)


def test_streamed_shuffle_moves_an_image_within_its_window(tiny_tfds, monkeypatch):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  monkeypatch.setattr(tfds_images, "_SHUFFLE_WINDOW", 20)
  epoch = codes(take(loading.load(tiny_tfds), 1, 50, seed=0)[0])
  assert set(epoch[:20]) == set(range(20)) and set(epoch[40:]) == set(range(40, 50))
  # The windows are not shuffled alike.
  assert list(epoch[:20]) != list(epoch[20:40] - 20)


def test_unknown_split():
  digits = loading.load("digits")
  for use in (digits.size, digits.arrays, lambda split: digits.batches(split, 4)):
    with pytest.raises(InputError) as error:
      use("holdout")
    assert_mendable(error, "train, test", "'holdout'")


@pytest.mark.parametrize("batch_size", [-1, 0, 1, 1438])
def test_bad_training_batch_size(batch_size):
  digits = loading.load("digits")
  for use in (digits.steps_per_epoch, lambda size: digits.train_batches(size, seed=0)):
    with pytest.raises(InputError) as error:
      use(batch_size)
    assert_mendable(error, "from 2 to the 1437", batch_size)


def test_bad_evaluation_batch_size():
  with pytest.raises(InputError) as error:
    loading.load("digits").batches("test", 0)
  assert_mendable(error, "batch_size of 1 or more", 0)
  with pytest.raises(InputError) as error:
    loading.input_batches("digits", "test", 0)
  assert_mendable(error, "batch_size of 1 or more", 0)
