"""TFDS names: splits, labels, known factors, and what is wrong with a data set."""

import os
import pathlib
import re

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from mendable import assert_mendable
from stored import coded_images
from stored import codes
from stored import OTHER_IMAGE
from stored import store_celeb_a
from stored import store_tfds
from stored import store_tiny
from stored import TINY_IMAGE

from imae_tf.data import loading
from imae_tf.data import pipelines
from imae_tf.data import reading
from imae_tf.errors import InputError

TFDS_DATA_DIR = os.environ.get("TFDS_DATA_DIR", "")


def test_tfds_keeps_its_splits_and_labels(tiny_tfds):
  loaded = loading.load(tiny_tfds, holdout=5)
  assert loaded.sizes == {"train": 45, "holdout": 5, "test": 7}
  assert loaded.class_names == ("even", "odd")
  x, labels = loaded.arrays("holdout")
  np.testing.assert_array_equal(codes(x), np.arange(45, 50))
  np.testing.assert_array_equal(labels, codes(x) % 2)
  np.testing.assert_array_equal(codes(loaded.arrays("test")[0]), np.arange(50, 57))


@pytest.mark.parametrize(
    "image, file_format, parsed_by_tfds",
    [
        (TINY_IMAGE, None, False), (OTHER_IMAGE, None, True), (TINY_IMAGE, "parquet", True),
        (TINY_IMAGE, "array_record", True),
    ],
)
def test_tfds_files_follow_each_other_and_are_cut_between(
    tfds_root, monkeypatch, image, file_format, parsed_by_tfds
):
  if file_format:
    pytest.importorskip({"parquet": "pyarrow", "array_record": "array_record"}[file_format])
  monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  three = tfds.download.DownloadConfig(num_shards=3)
  name = store_tiny(tfds_root, image, download_config=three, file_format=file_format)
  loaded = loading.load(name, holdout=20)
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
  loaded = loading.load("untested", holdout=2)
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
  loaded = loading.load("half_labelled")
  assert loaded.arrays("train")[1] is not None and loaded.arrays("test")[1] is None


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_celeb_a_is_cropped_and_resized(tfds_root, monkeypatch, memory_limit):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", memory_limit)
  rng = np.random.default_rng(0)
  # Coarse noise, so that the JPEG of the real feature keeps it nearly.
  coarse = rng.integers(0, 256, (5, 14, 12, 3), dtype=np.uint8)
  images = coarse.repeat(16, axis=1)[:, :218].repeat(16, axis=2)[:, :, :178]
  store_celeb_a(tfds_root, train=images[:3], test=images[3:])

  loaded = loading.load("celeb_a")
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
  monkeypatch.setattr(loading, "MEMORY_LIMIT", memory_limit)
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

  loaded = loading.load(name)
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
  x, _ = loading.load("dsprites", image_size=(32, 32)).arrays("train")
  np.testing.assert_array_equal(x, np.ones((4, 32, 32, 1)))


def test_most_data_sets_have_no_known_factors(tiny_tfds):
  for loaded in (loading.load("digits"), loading.load(tiny_tfds)):
    assert loaded.factor_names is None and loaded.factors("train") is None


@pytest.mark.skipif(
    not pathlib.Path(TFDS_DATA_DIR, "mnist").is_dir() or not TFDS_DATA_DIR,
    reason="TFDS_DATA_DIR holds no mnist",
)
def test_real_mnist():
  mnist = loading.load("mnist", holdout=10_000)
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


def test_unknown_name_suggests_close_ones():
  with pytest.raises(InputError) as error:
    loading.load("fashion_mnst")
  assert_mendable(error, "'digits'", ".npz", "folder", "'fashion_mnst'", "did you mean")
  assert "'fashion_mnist'" in str(error.value)
  with pytest.raises(InputError) as error:
    loading.load("digit")
  assert_mendable(error, "did you mean 'digits'")


@pytest.mark.parametrize("name", ["mnist:9.9.9", "mnist/nothing", "two words"])
def test_malformed_tfds_name(name):
  with pytest.raises(InputError) as error:
    loading.load(name)
  assert_mendable(error, name)


def test_tfds_name_without_images():
  with pytest.raises(InputError) as error:
    loading.load("imdb_reviews")
  assert_mendable(error, "image feature", "'imdb_reviews'", "'text'", "'mnist'")


def test_tfds_images_of_many_sizes_and_the_mend(tfds_root):
  features = {"image": tfds.features.Image(shape=(None, None, 3))}
  images = [np.full((h, 9, 3), 10 * h, np.uint8) for h in range(5, 15)]
  tfds.dataset_builders.store_as_tfds_dataset(
      name="many", version="1.0.0", features=tfds.features.FeaturesDict(features),
      split_datasets={
          "train": tf.data.Dataset.from_generator(
              lambda: ({"image": image} for image in images),
              output_signature={"image": tf.TensorSpec((None, None, 3), tf.uint8)},
          )
      },
      data_dir=tfds_root, disable_shuffling=True,
  )
  with pytest.raises(InputError) as error:
    loading.load("many")
  assert_mendable(error, "one size", "(None, None, 3)", "'many'")
  size = reading.size_of(re.search(r"--image_size=(\w+)\.$", str(error.value)).group(1))
  loaded = loading.load("many", image_size=size)
  assert loaded.image_shape == (64, 64, 3) and loaded.preparation.size == (64, 64)
  levels = loaded.arrays("train")[0].mean(axis=(1, 2, 3)) * 255
  np.testing.assert_allclose(levels, np.arange(50, 130, 10), atol=1e-3)


def test_tfds_images_of_zeros_and_ones_and_the_mend(tfds_root, tmp_path, monkeypatch):
  masks = np.random.default_rng(0).integers(0, 2, (10, 4, 5, 1), np.uint8)
  features = {"image": tfds.features.Image(shape=(4, 5, 1))}
  store_tfds(tfds_root, "masks", "1.0.0", features, {"train": {"image": masks}})
  with pytest.raises(InputError) as error:
    loading.load("masks")
  assert_mendable(error, "'masks'", "black")
  monkeypatch.chdir(tmp_path)
  tfds.core.add_data_dir(str(tfds_root))  # TFDS_DATA_DIR is read when TFDS is imported
  steps = re.search(r"booleans: (.+?) and (.+?), and give (.+)\.$", str(error.value)).groups()
  names = {"tfds": tfds, "np": np}
  for step in steps[:2]:
    exec(step, names)
  np.testing.assert_array_equal(loading.load(steps[2]).arrays("train")[0], masks[:8])


def test_a_fingerprint_of_tfds_is_of_its_records(tiny_tfds, monkeypatch):
  held = loading.load(tiny_tfds).fingerprint()
  assert loading.load(tiny_tfds, holdout=5).fingerprint() == held
  monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  for holdout in (0, 5):
    assert loading.load(tiny_tfds, holdout=holdout).fingerprint() == held
  assert held["n"] == 57


def test_tfds_without_training_split(tfds_root):
  features = {"image": tfds.features.Image(shape=(4, 5, 1))}
  store_tfds(tfds_root, "test_alone", "1.0.0", features, {"test": {"image": coded_images(3)}})
  with pytest.raises(InputError) as error:
    loading.load("test_alone")
  assert_mendable(error, "'train'", "'test_alone'", "'test'")


def test_tfds_neither_prepared_nor_downloadable(tfds_root, monkeypatch):
  def no_network(self, **kwargs):
    raise ConnectionError("Failed to resolve host\nmore")

  monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", no_network)
  with pytest.raises(InputError) as error:
    loading.load("mnist")
  assert_mendable(error, "'mnist'", tfds_root, "Failed to resolve host", "TFDS_DATA_DIR")


@pytest.mark.parametrize(
    "use", [loading.load, lambda name: list(loading.input_batches(name, "train", 9)[1])]
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


def test_a_fingerprint_of_tfds_knows_what_comes_after_the_first_records(tfds_root, monkeypatch):
  monkeypatch.setattr(pipelines, "_RECORDS_IN_CHECKSUM", 2)
  rng = np.random.default_rng(0)
  prints = []
  for number, change in ((0, False), (1, False), (2, True)):
    images = coded_images(20)
    images[15] = rng.integers(0, 10, images[15].shape) if change else images[15]
    features = {"image": tfds.features.Image(shape=images.shape[1:])}
    store_tfds(tfds_root, f"late_{number}", "1.0.0", features, {"train": {"image": images}})
    prints.append(loading.load(f"late_{number}").fingerprint())
  assert prints[0] == prints[1] != prints[2]
