"""Data sources: values, order, exact resume, and every kind of bad input."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow as tf
import tensorflow_datasets as tfds
from stored import store_celeb_a
from stored import store_tfds

from imae_tf import data
from imae_tf.errors import InputError

TFDS_DATA_DIR = os.environ.get("TFDS_DATA_DIR", "")


def coded_images(n, height=4, width=5, channels=1):
  """Images [N, H, W, C] of which every pixel is the image's number."""
  codes = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
  return np.broadcast_to(codes, (n, height, width, channels)).copy()


def codes(x):
  """The numbers of coded images, from their float pixels."""
  return np.rint(np.asarray(x)[:, 0, 0, 0] * 255).astype(int)


def save_folder(folder, images):
  folder.mkdir(parents=True, exist_ok=True)
  for i, image in enumerate(images):
    PIL.Image.fromarray(image.squeeze()).save(folder / f"{i:03d}.png")
  return folder


def assert_mendable(error, *parts):
  """The message says what was expected, what came and how to mend it."""
  message = str(error.value)
  assert message.startswith("expected ") and "got" in message and ";" in message, message
  assert "\n" not in message
  for part in parts:
    assert str(part) in message, message


@pytest.fixture(name="tfds_root")
def fixture_tfds_root(tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  return tmp_path


TINY_IMAGE = tfds.features.Image(shape=(4, 5, 1))
# Of a type that TFDS itself has to parse.
OTHER_IMAGE = tfds.features.LabeledImage(labels=256, shape=(4, 5, 1))


def store_tiny(root, image=TINY_IMAGE, **options):
  """A labelled TFDS data set of coded images: 50 to train, 7 to test."""
  features = {"image": image, "label": tfds.features.ClassLabel(names=["even", "odd"])}
  images = coded_images(57)
  splits = {
      "train": {"image": images[:50], "label": np.arange(50) % 2},
      "test": {"image": images[50:], "label": np.arange(50, 57) % 2},
  }
  store_tfds(root, "tiny", "1.0.0", features, splits, **options)
  return "tiny"


@pytest.fixture(name="tiny_tfds")
def fixture_tiny_tfds(tfds_root):
  return store_tiny(tfds_root)


@pytest.fixture(
    name="coded",
    params=["npz", "folder", "streamed folder", "tfds", "streamed tfds", "streamed other tfds"],
)
def fixture_coded(request, tmp_path, monkeypatch):
  """50 training images, numbered 0 to 49 in file order, from each kind of source."""
  if "streamed" in request.param:
    monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
    # Several windows per epoch, the last one smaller.
    monkeypatch.setattr(data, "_SHUFFLE_WINDOW", 20)
  if "tfds" in request.param:
    root = request.getfixturevalue("tfds_root")
    loaded = data.load(store_tiny(root, OTHER_IMAGE if "other" in request.param else TINY_IMAGE))
  elif "folder" in request.param:
    loaded = data.load(str(save_folder(tmp_path / "images", coded_images(62))))
  else:
    np.savez(tmp_path / "images.npz", x=coded_images(62))
    loaded = data.load(str(tmp_path / "images.npz"))
  expected = data.StreamedData if "streamed" in request.param else data.ArrayData
  assert isinstance(loaded, expected)
  # 62 * 4 // 5 = 49.
  return loaded, 50 if "tfds" in request.param else 49


def take(loaded, count, batch_size, **kwargs):
  stream = loaded.train_batches(batch_size, **kwargs)
  return [batch.numpy() for batch in stream.take(count)]


# --- values and splits ---------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn():
  reference = sklearn.datasets.load_digits()
  digits = data.load("digits")
  assert digits.splits == ("train", "test")
  assert digits.image_shape == (8, 8, 1)
  assert digits.class_names == tuple("0123456789")
  assert (digits.size("train"), digits.size("test")) == (1437, 360)
  train, train_labels = digits.arrays("train")
  test, test_labels = digits.arrays("test")
  assert train.dtype == np.float32 and train_labels.dtype == np.int64
  images = np.concatenate([train, test])[..., 0]
  np.testing.assert_array_equal(images, (reference.images / 16).astype(np.float32))
  np.testing.assert_array_equal(np.concatenate([train_labels, test_labels]), reference.target)


def test_holdout_is_the_end_of_the_training_split():
  whole, digits = data.load("digits"), data.load("digits", holdout=200)
  assert digits.sizes == {"train": 1237, "holdout": 200, "test": 360}
  x, labels = whole.arrays("train")
  np.testing.assert_array_equal(digits.arrays("train")[0], x[:1237])
  np.testing.assert_array_equal(digits.arrays("holdout")[0], x[1237:])
  np.testing.assert_array_equal(digits.arrays("holdout")[1], labels[1237:])
  np.testing.assert_array_equal(digits.arrays("test")[0], whole.arrays("test")[0])


@pytest.mark.parametrize("n, train", [(3, 2), (5, 4), (9, 7), (10, 8), (1797, 1437)])
def test_last_fifth_is_the_test_split(tmp_path, n, train):
  x = np.linspace(0, 1, n * 4).reshape(n, 2, 2)
  np.savez(tmp_path / "a.npz", x=x)
  loaded = data.load(str(tmp_path / "a.npz"))
  assert loaded.sizes == {"train": train, "test": n - train}
  np.testing.assert_array_equal(loaded.arrays("test")[0][..., 0], x[train:].astype(np.float32))


def test_every_byte_is_scaled_exactly(tmp_path):
  x = np.arange(256 * 3, dtype=np.int64).reshape(-1, 1, 1, 1) % 256
  np.savez(tmp_path / "bytes.npz", x=x.astype(np.uint8))
  loaded = data.load(str(tmp_path / "bytes.npz"))
  expected = x.astype(np.float32) / np.float32(255)
  train = loaded.size("train")
  np.testing.assert_array_equal(loaded.arrays("train")[0], expected[:train])
  batches = list(loaded.batches("train", 100).as_numpy_iterator())
  np.testing.assert_array_equal(np.concatenate(batches), expected[:train])


def test_labels_of_a_npz_index_their_class_names(tmp_path):
  y = np.array([7, 3, 3, 9, 7, 9, 3, 7, 9, 3], np.int16)
  np.savez(tmp_path / "a.npz", x=np.zeros([10, 2, 2, 3]), y=y)
  loaded = data.load(str(tmp_path / "a.npz"))
  assert loaded.image_shape == (2, 2, 3)
  labels = np.concatenate([loaded.arrays(split)[1] for split in loaded.splits])
  assert labels.dtype == np.int64
  np.testing.assert_array_equal(np.array(loaded.class_names, int)[labels], y)


def test_without_labels_there_are_none(tmp_path):
  np.savez(tmp_path / "a.npz", x=np.zeros([10, 2, 2]))
  loaded = data.load(str(tmp_path / "a.npz"))
  assert loaded.class_names is None and loaded.arrays("train")[1] is None


# --- order and resume ----------------------------------------------------------------------


def test_file_order_with_the_remainder_kept(coded):
  loaded, train = coded
  batches = list(loaded.batches("train", 8).as_numpy_iterator())
  assert [len(batch) for batch in batches] == [8] * (train // 8) + [train % 8]
  assert all(batch.dtype == np.float32 for batch in batches)
  np.testing.assert_array_equal(codes(np.concatenate(batches)), np.arange(train))
  np.testing.assert_array_equal(codes(loaded.arrays("train")[0]), np.arange(train))
  np.testing.assert_array_equal(codes(loaded.arrays("test", limit=3)[0]), train + np.arange(3))
  assert len(loaded.arrays("test", limit=1000)[0]) == loaded.size("test")
  assert loaded.arrays("test", limit=0)[0].shape == (0, 4, 5, 1)


def test_training_batches_hold_images_alone(coded):
  loaded, _ = coded
  spec = loaded.train_batches(8, seed=0).element_spec
  assert spec.dtype == tf.float32 and spec.shape[1:] == (4, 5, 1)


def test_an_epoch_shows_an_image_once_and_drops_the_remainder(coded):
  loaded, train = coded
  steps = loaded.steps_per_epoch(8)
  assert steps == 6
  seen = codes(np.concatenate(take(loaded, 2 * steps, 8, seed=0)))
  first, second = seen[:48], seen[48:]
  for epoch in (first, second):
    assert len(set(epoch)) == 48 and set(epoch) <= set(range(train))
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
  digits = data.load("digits")
  far = take(digits, 2, 16, seed=0, initial_epoch=10**12)
  again = take(digits, 2, 16, seed=0, initial_epoch=10**12)
  np.testing.assert_array_equal(far, again)


def test_in_memory_shuffle_is_uniform_over_positions():
  digits = data.load("digits")
  x, _ = digits.arrays("train")
  index = {image.tobytes(): i for i, image in enumerate(x)}
  assert len(index) == len(x)
  epoch = take(digits, digits.steps_per_epoch(1437), 1437, seed=0)[0]
  order = np.array([index[image.tobytes()] for image in epoch])
  assert sorted(order) == list(range(1437))
  # Under a uniform permutation the rank correlation has the standard deviation 1/sqrt(n).
  assert abs(np.corrcoef(order, np.arange(1437))[0, 1]) < 4 / np.sqrt(1437)


def test_streamed_shuffle_moves_an_image_within_its_window(tiny_tfds, monkeypatch):
  monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
  monkeypatch.setattr(data, "_SHUFFLE_WINDOW", 20)
  epoch = codes(take(data.load(tiny_tfds), 1, 50, seed=0)[0])
  assert set(epoch[:20]) == set(range(20)) and set(epoch[40:]) == set(range(40, 50))
  # The windows are not shuffled alike.
  assert list(epoch[:20]) != list(epoch[20:40] - 20)


# --- TFDS ----------------------------------------------------------------------------------


def test_tfds_keeps_its_splits_and_labels(tiny_tfds):
  loaded = data.load(tiny_tfds, holdout=5)
  assert loaded.sizes == {"train": 45, "holdout": 5, "test": 7}
  assert loaded.class_names == ("even", "odd")
  x, labels = loaded.arrays("holdout")
  np.testing.assert_array_equal(codes(x), np.arange(45, 50))
  np.testing.assert_array_equal(labels, codes(x) % 2)
  np.testing.assert_array_equal(codes(loaded.arrays("test")[0]), np.arange(50, 57))


@pytest.mark.parametrize(
    "image, file_format, parsed_by_tfds",
    [(TINY_IMAGE, None, False), (OTHER_IMAGE, None, True), (TINY_IMAGE, "parquet", True)],
)
def test_tfds_files_follow_each_other_and_are_cut_between(
    tfds_root, monkeypatch, image, file_format, parsed_by_tfds
):
  if file_format == "parquet":
    pytest.importorskip("pyarrow")
  monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
  three = tfds.download.DownloadConfig(num_shards=3)
  name = store_tiny(tfds_root, image, download_config=three, file_format=file_format)
  loaded = data.load(name, holdout=20)
  assert len(list(tfds_root.glob("tiny/1.0.0/*train*"))) == 3
  assert isinstance(loaded.records["train"].element_spec, dict) == parsed_by_tfds
  for split, expected in {"train": range(30), "holdout": range(30, 50)}.items():
    x, labels = loaded.arrays(split)
    np.testing.assert_array_equal(codes(x), expected)
    np.testing.assert_array_equal(labels, codes(x) % 2)


def test_tfds_without_test_split_gives_its_last_fifth(tfds_root):
  splits = {"train": {"picture": coded_images(11)}, "other": {"picture": coded_images(4)}}
  features = {"picture": tfds.features.Image(shape=(4, 5, 1))}
  store_tfds(tfds_root, "untested", "1.0.0", features, splits)
  loaded = data.load("untested", holdout=2)
  assert loaded.sizes == {"train": 6, "holdout": 2, "test": 3}
  assert loaded.class_names is None
  np.testing.assert_array_equal(codes(loaded.arrays("test")[0]), [8, 9, 10])


def test_unlabelled_split_has_no_labels(tfds_root):
  features = {
      "image": tfds.features.Image(shape=(4, 5, 1)),
      "label": tfds.features.ClassLabel(num_classes=2),
  }
  splits = {
      "train": {"image": coded_images(4), "label": np.zeros(4, np.int64)},
      "test": {"image": coded_images(2), "label": np.full(2, -1)},
  }
  store_tfds(tfds_root, "half_labelled", "1.0.0", features, splits)
  loaded = data.load("half_labelled")
  assert loaded.arrays("train")[1] is not None and loaded.arrays("test")[1] is None


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_celeb_a_is_cropped_and_resized(tfds_root, monkeypatch, memory_limit):
  monkeypatch.setattr(data, "MEMORY_LIMIT", memory_limit)
  rng = np.random.default_rng(0)
  # Coarse noise, so that the JPEG of the real feature keeps it nearly.
  coarse = rng.integers(0, 256, (5, 14, 12, 3), dtype=np.uint8)
  images = coarse.repeat(16, axis=1)[:, :218].repeat(16, axis=2)[:, :, :178]
  store_celeb_a(tfds_root, train=images[:3], test=images[3:])

  loaded = data.load("celeb_a")
  assert loaded.image_shape == (64, 64, 3) and loaded.class_names is None
  stored = [
      example["image"]
      for example in tfds.load("celeb_a", split="test", data_dir=str(tfds_root)).as_numpy_iterator()
  ]
  reference = [
      PIL.Image.fromarray(image).crop((15, 35, 163, 183)).resize((64, 64), PIL.Image.BILINEAR)
      for image in stored
  ]
  x, _ = loaded.arrays("test")
  np.testing.assert_allclose(x * 255, np.stack(reference), atol=1.01)


@pytest.mark.parametrize("memory_limit", [0, 2**30])
@pytest.mark.parametrize("name", ["dsprites", "shapes3d"])
def test_known_factors_of_tfds(tfds_root, monkeypatch, name, memory_limit):
  """Stored as TFDS does, in its hashed order; dsprites' pixels are 0 and 1."""
  monkeypatch.setattr(data, "MEMORY_LIMIT", memory_limit)
  builder = tfds.builder(name, data_dir=str(tfds_root))
  features = dict(builder.info.features)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 2, (20, *features["image"].shape), dtype=np.uint8)
  examples = {"image": images if name == "dsprites" else images * 200}
  for key, feature in features.items():
    if key.startswith("label_"):
      examples[key] = rng.integers(feature.num_classes, size=20)
    elif key.startswith("value_"):
      examples[key] = np.zeros(20, np.float32)
  store_tfds(tfds_root, name, str(builder.version), features, {"train": examples})

  loaded = data.load(name)
  assert loaded.sizes == {"train": 16, "test": 4}
  x, labels = loaded.arrays("test")
  np.testing.assert_allclose(x, images[16:] if name == "dsprites" else images[16:] * (200 / 255))
  np.testing.assert_array_equal(labels, examples["label_shape"][16:])
  factors = loaded.factors("train", limit=10)
  assert "shape" in loaded.factor_names and "orientation" in loaded.factor_names
  for column, factor in zip(factors.T, loaded.factor_names, strict=True):
    np.testing.assert_array_equal(column, examples[f"label_{factor}"][:10])


def test_resized_dsprites_stay_white(tfds_root):
  builder = tfds.builder("dsprites", data_dir=str(tfds_root))
  features = dict(builder.info.features)
  zeros = {key: np.zeros(5, f.np_dtype) for key, f in features.items() if key != "image"}
  examples = {"image": np.ones((5, 64, 64, 1), np.uint8), **zeros}
  store_tfds(tfds_root, "dsprites", str(builder.version), features, {"train": examples})
  x, _ = data.load("dsprites", image_size=(32, 32)).arrays("train")
  np.testing.assert_array_equal(x, np.ones((4, 32, 32, 1)))


def test_most_data_sets_have_no_known_factors(tiny_tfds):
  for loaded in (data.load("digits"), data.load(tiny_tfds)):
    assert loaded.factor_names is None and loaded.factors("train") is None


@pytest.mark.skipif(
    not pathlib.Path(TFDS_DATA_DIR, "mnist").is_dir() or not TFDS_DATA_DIR,
    reason="TFDS_DATA_DIR holds no mnist",
)
def test_real_mnist():
  mnist = data.load("mnist", holdout=10_000)
  assert mnist.sizes == {"train": 50_000, "holdout": 10_000, "test": 10_000}
  assert mnist.image_shape == (28, 28, 1)
  assert mnist.class_names == tuple("0123456789")
  x, labels = mnist.arrays("test")
  # Class counts and mean pixel of the published test set.
  counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
  np.testing.assert_array_equal(np.bincount(labels), counts)
  assert x.mean() == pytest.approx(0.13251, abs=1e-5)
  reference = tfds.load("mnist", split="train[50000:50100]", data_dir=TFDS_DATA_DIR)
  images = np.stack([example["image"] for example in reference.as_numpy_iterator()])
  np.testing.assert_allclose(mnist.arrays("holdout", limit=100)[0], images / 255, atol=1e-7)


# --- folders -------------------------------------------------------------------------------


def test_folder_is_recursive_sorted_and_unlabelled(tmp_path):
  images = coded_images(5)
  save_folder(tmp_path / "b", images[:2])
  save_folder(tmp_path / "a" / "deep", images[2:4])
  PIL.Image.fromarray(images[4].squeeze()).save(tmp_path / "z.PNG")
  (tmp_path / "notes.txt").write_text("not an image")
  (tmp_path / ".hidden.png").write_text("not an image")
  loaded = data.load(str(tmp_path))
  assert loaded.class_names is None
  seen = np.concatenate([codes(loaded.arrays(split)[0]) for split in ("train", "test")])
  np.testing.assert_array_equal(seen, [2, 3, 0, 1, 4])


def test_modes_become_grey_or_rgb(tmp_path):
  red = PIL.Image.new("RGB", (3, 2), (255, 0, 0))
  half_red = PIL.Image.new("RGBA", (3, 2), (255, 0, 0, 51))
  for i, image in enumerate([red, half_red, red.convert("P"), red.convert("CMYK"), red]):
    image.save(tmp_path / f"{i}.{'tiff' if image.mode == 'CMYK' else 'png'}")
  x, _ = data.load(str(tmp_path)).arrays("train")
  assert x.shape == (4, 2, 3, 3)
  np.testing.assert_allclose(x[[0, 2, 3], 0, 0], [[1, 0, 0]] * 3)
  # 20% red on white.
  np.testing.assert_allclose(x[1, 0, 0], [1, 0.8, 0.8], atol=1e-6)


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_image_size_resizes_a_mixed_folder(tmp_path, monkeypatch, memory_limit):
  monkeypatch.setattr(data, "MEMORY_LIMIT", memory_limit)
  for i, size in enumerate([(4, 4), (8, 6), (5, 9)]):
    PIL.Image.new("L", size, 51).save(tmp_path / f"{i}.png")
  loaded = data.load(str(tmp_path), image_size=(6, 7))
  assert loaded.image_shape == (6, 7, 1)
  np.testing.assert_allclose(loaded.arrays("train")[0], np.full([2, 6, 7, 1], 0.2))


# --- input_batches -------------------------------------------------------------------------


def test_input_batches_of_a_npy(tmp_path):
  x = np.random.default_rng(0).uniform(size=(7, 3, 4))
  np.save(tmp_path / "x.npy", x)
  n, batches = data.input_batches(str(tmp_path / "x.npy"), "test", 3)
  batches = list(batches)
  assert n == 7 and [len(batch) for batch in batches] == [3, 3, 1]
  np.testing.assert_array_equal(np.concatenate(batches)[..., 0], x.astype(np.float32))


def test_input_batches_take_a_folder_whole(tmp_path):
  n, batches = data.input_batches(str(save_folder(tmp_path, coded_images(1))), "test", 3)
  assert n == 1 and codes(next(iter(batches))) == [0]


@pytest.mark.parametrize("split, expected", [("train", range(50)), ("test", range(50, 57))])
def test_input_batches_of_a_tfds_split(tiny_tfds, split, expected):
  n, batches = data.input_batches(tiny_tfds, split, 8)
  assert n == len(expected)
  np.testing.assert_array_equal(codes(np.concatenate(list(batches))), expected)


def test_input_batches_of_digits_without_keras_or_tfds():
  program = (
      "import sys\n"
      "sys.modules['keras'] = None\n"
      "from imae_tf import data\n"
      "n, batches = data.input_batches('digits', 'test', 100)\n"
      "assert n == 360 == sum(len(batch) for batch in batches)\n"
      "assert 'tensorflow_datasets' not in sys.modules\n"
  )
  subprocess.run([sys.executable, "-c", program], check=True)


def test_damaged_image_in_a_streamed_folder_is_an_input_error(tmp_path, monkeypatch):
  monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
  noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
  file = save_folder(tmp_path, noise) / "002.png"
  file.write_bytes(file.read_bytes()[:-600])
  _, batches = data.input_batches(str(tmp_path), "test", 2)
  with pytest.raises(InputError) as error:
    list(batches)
  assert_mendable(error, file, "replace or remove")


# --- bad input -----------------------------------------------------------------------------


def test_unknown_name_suggests_close_ones():
  with pytest.raises(InputError) as error:
    data.load("fashion_mnst")
  assert_mendable(error, "'digits'", ".npz", "folder", "'fashion_mnst'", "did you mean")
  assert "'fashion_mnist'" in str(error.value)
  with pytest.raises(InputError) as error:
    data.load("digit")
  assert_mendable(error, "did you mean 'digits'")


@pytest.mark.parametrize("name", ["mnist:9.9.9", "mnist/nothing", "two words"])
def test_malformed_tfds_name(name):
  with pytest.raises(InputError) as error:
    data.load(name)
  assert_mendable(error, name)


def test_tfds_name_without_images():
  with pytest.raises(InputError) as error:
    data.load("imdb_reviews")
  assert_mendable(error, "image feature", "'imdb_reviews'", "'text'", "'mnist'")


def test_tfds_images_of_many_sizes(tfds_root):
  with pytest.raises(InputError) as error:
    data.load("cats_vs_dogs")
  assert_mendable(error, "one size", "(None, None, 3)", "image_size")


def test_tfds_without_training_split(tfds_root):
  features = {"image": tfds.features.Image(shape=(4, 5, 1))}
  store_tfds(tfds_root, "test_alone", "1.0.0", features, {"test": {"image": coded_images(3)}})
  with pytest.raises(InputError) as error:
    data.load("test_alone")
  assert_mendable(error, "'train'", "'test_alone'", "'test'")


def test_tfds_neither_prepared_nor_downloadable(tfds_root, monkeypatch):
  def no_network(self, **kwargs):
    raise ConnectionError("Failed to resolve host\nmore")

  monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
  with pytest.raises(InputError) as error:
    data.load("mnist")
  assert_mendable(error, "'mnist'", tfds_root, "Failed to resolve host", "TFDS_DATA_DIR")


@pytest.mark.parametrize(
    "use", [data.load, lambda name: list(data.input_batches(name, "train", 9)[1])]
)
@pytest.mark.parametrize("kept", ["all but 40 bytes", "all but a record"])
def test_damaged_tfds_records(tiny_tfds, tfds_root, kept, use):
  (file,) = tfds_root.glob("tiny/1.0.0/*train*")
  if kept == "all but 40 bytes":
    file.write_bytes(file.read_bytes()[:-40])
  else:
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(file)) as output:
      for record in records[:-1]:
        output.write(record)
  with pytest.raises(InputError) as error:
    use(tiny_tfds)
  assert_mendable(error, "readable", "'tiny'")


@pytest.mark.parametrize(
    "name, mend",
    [
        ("missing.npz", "correct the path"),
        ("./missing", "correct the path"),
        ("/no/where", "nothing"),
    ],
)
def test_missing_file_or_folder(name, mend):
  with pytest.raises(InputError) as error:
    data.load(name)
  assert_mendable(error, name, mend)


def test_file_of_another_kind(tmp_path):
  (tmp_path / "x.csv").write_text("1,2")
  with pytest.raises(InputError) as error:
    data.load(str(tmp_path / "x.csv"))
  assert_mendable(error, "x.csv", "another kind of file")


X = np.zeros([10, 2, 2, 1], np.float32)
BAD_ARRAYS = {
    "no_x": ({"images": X}, ["'x'", "'images'", "np.savez"]),
    "pickled": ({"x": np.array([{}, []], object)}, ["plain arrays", "pickled"]),
    "pickled_labels": ({"x": X, "y": np.array([{}] * 10)}, ["plain arrays", "pickled"]),
    "empty": ({"x": X[:0]}, ["(0, 2, 2, 1)", "add images"]),
    "no_pixels": ({"x": np.zeros([10, 0, 2])}, ["(10, 0, 2, 1)"]),
    "flat": ({"x": X.reshape(10, 4)}, ["[N, H, W, C]", "(10, 4)", "reshape"]),
    "int32": ({"x": X.astype(np.int32)}, ["uint8", "int32", "astype"]),
    "bool": ({"x": X.astype(bool)}, ["uint8", "bool", "astype"]),
    "complex": ({"x": X.astype(complex)}, ["uint8", "complex128"]),
    "nan": ({"x": np.where(np.arange(10) == 3, np.nan, X.T).T}, ["finite", "NaN"]),
    "infinite": ({"x": X + np.inf}, ["finite", "infinity"]),
    "negative": ({"x": X - 0.5}, ["[0, 1]", "-0.5", "rescale"]),
    "bytes_as_floats": ({"x": X + 255}, ["[0, 1]", "255", "/ 255"]),
    "label_shape": ({"x": X, "y": np.zeros([10, 1], int)}, ["(10,)", "(10, 1)"]),
    "label_count": ({"x": X, "y": np.zeros(9, int)}, ["(10,)", "(9,)"]),
    "label_dtype": ({"x": X, "y": np.zeros(10)}, ["integer", "float64"]),
    "two_images": ({"x": X[:2]}, ["2 training images", "1 and 1", "add images"]),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_npz(tmp_path, case):
  arrays, parts = BAD_ARRAYS[case]
  np.savez(tmp_path / "bad.npz", **arrays)
  with pytest.raises(InputError) as error:
    data.load(str(tmp_path / "bad.npz"))
  assert_mendable(error, "bad.npz", *parts)


@pytest.mark.parametrize("case", ["pickled", "empty", "flat", "int32", "nan", "bytes_as_floats"])
def test_bad_npy(tmp_path, case):
  arrays, parts = BAD_ARRAYS[case]
  np.save(tmp_path / "bad.npy", arrays["x"])
  with pytest.raises(InputError) as error:
    data.input_batches(str(tmp_path / "bad.npy"), "test", 2)
  assert_mendable(error, "bad.npy", *parts)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_npz(tmp_path, compressed, kept):
  file = tmp_path / "cut.npz"
  save = np.savez_compressed if compressed else np.savez
  save(file, x=np.random.default_rng(0).uniform(size=(10, 8, 8)))
  content = file.read_bytes()
  file.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
  with pytest.raises(InputError) as error:
    data.load(str(file))
  assert_mendable(error, "cut.npz", "np.savez")


def test_damaged_bytes_within_a_npz(tmp_path):
  file = tmp_path / "flipped.npz"
  np.savez_compressed(file, x=np.random.default_rng(0).uniform(size=(10, 8, 8)))
  content = bytearray(file.read_bytes())
  content[1000:1040] = bytes(40)
  file.write_bytes(content)
  with pytest.raises(InputError) as error:
    data.load(str(file))
  assert_mendable(error, "flipped.npz")


def test_npy_under_the_name_of_a_npz(tmp_path):
  np.save(tmp_path / "x.npy", X)
  (tmp_path / "x.npy").rename(tmp_path / "x.npz")
  with pytest.raises(InputError) as error:
    data.load(str(tmp_path / "x.npz"))
  assert_mendable(error, "'x'", "single array", "np.savez")


def test_folder_without_images(tmp_path):
  (tmp_path / "a.txt").write_text("")
  with pytest.raises(InputError) as error:
    data.load(str(tmp_path))
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
    monkeypatch.setattr(data, "MEMORY_LIMIT", 0)
  file = save_folder(tmp_path, coded_images(9)) / "004.png"
  if isinstance(bad, bytes):
    file.write_bytes(bad)
  else:
    bad.save(file)
  with pytest.raises(InputError) as error:
    data.load(str(tmp_path))
  assert_mendable(error, file, *parts)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image_file(tmp_path, suffix):
  noise = np.random.default_rng(0).integers(0, 256, (4, 40, 40), dtype=np.uint8)
  for i, image in enumerate(noise):
    PIL.Image.fromarray(image).save(tmp_path / f"{i}.{suffix}")
  file = tmp_path / f"1.{suffix}"
  file.write_bytes(file.read_bytes()[:-600])
  with pytest.raises(InputError) as error:
    data.load(str(tmp_path))
  assert_mendable(error, file, "whole image file", "replace or remove")


def test_unknown_split():
  digits = data.load("digits")
  for use in (digits.size, digits.arrays, lambda split: digits.batches(split, 4)):
    with pytest.raises(InputError) as error:
      use("holdout")
    assert_mendable(error, "train, test", "'holdout'")


@pytest.mark.parametrize("holdout", [-1, 1436, 5000])
def test_bad_holdout(holdout):
  with pytest.raises(InputError) as error:
    data.load("digits", holdout=holdout)
  assert_mendable(error, "holdout")


@pytest.mark.parametrize("batch_size", [-1, 0, 1, 1438])
def test_bad_training_batch_size(batch_size):
  digits = data.load("digits")
  for use in (digits.steps_per_epoch, lambda size: digits.train_batches(size, seed=0)):
    with pytest.raises(InputError) as error:
      use(batch_size)
    assert_mendable(error, "from 2 to the 1437", batch_size)


def test_bad_evaluation_batch_size():
  with pytest.raises(InputError) as error:
    data.load("digits").batches("test", 0)
  assert_mendable(error, "batch_size of 1 or more", 0)
  with pytest.raises(InputError) as error:
    data.input_batches("digits", "test", 0)
  assert_mendable(error, "batch_size of 1 or more", 0)


def test_image_size_is_refused_for_arrays():
  with pytest.raises(InputError) as error:
    data.load("digits", image_size=(4, 4))
  assert_mendable(error, "image_size", "'digits'", "leave it out")
