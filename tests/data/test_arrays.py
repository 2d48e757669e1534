"""Arrays as data: values, labels, the last fifth, and every kind of bad array."""

import numpy as np
import pytest
import sklearn.datasets
from mendable import assert_mendable

from imae_tf.data import loading
from imae_tf.errors import InputError


def test_digits_are_those_of_scikit_learn():
  reference = sklearn.datasets.load_digits()
  digits = loading.load("digits")
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


@pytest.mark.parametrize("n, train", [(3, 2), (5, 4), (9, 7), (10, 8), (1797, 1437)])
def test_last_fifth_is_the_test_split(tmp_path, n, train):
  x = np.linspace(0, 1, n * 4).reshape(n, 2, 2)
  np.savez(tmp_path / "a.npz", x=x)
  loaded = loading.load(str(tmp_path / "a.npz"))
  assert loaded.sizes == {"train": train, "test": n - train}
  np.testing.assert_array_equal(loaded.arrays("test")[0][..., 0], x[train:].astype(np.float32))


def test_every_byte_is_scaled_exactly(tmp_path):
  x = np.arange(256 * 3, dtype=np.int64).reshape(-1, 1, 1, 1) % 256
  np.savez(tmp_path / "bytes.npz", x=x.astype(np.uint8))
  loaded = loading.load(str(tmp_path / "bytes.npz"))
  expected = x.astype(np.float32) / np.float32(255)
  train = loaded.size("train")
  np.testing.assert_array_equal(loaded.arrays("train")[0], expected[:train])
  batches = list(loaded.batches("train", 100).as_numpy_iterator())
  np.testing.assert_array_equal(np.concatenate(batches), expected[:train])


def test_labels_of_a_npz_index_their_class_names(tmp_path):
  y = np.array([7, 3, 3, 9, 7, 9, 3, 7, 9, 3], np.int16)
  np.savez(tmp_path / "a.npz", x=np.zeros([10, 2, 2, 3]), y=y)
  loaded = loading.load(str(tmp_path / "a.npz"))
  assert loaded.image_shape == (2, 2, 3)
  labels = np.concatenate([loaded.arrays(split)[1] for split in loaded.splits])
  assert labels.dtype == np.int64
  np.testing.assert_array_equal(np.array(loaded.class_names, int)[labels], y)


def test_without_labels_there_are_none(tmp_path):
  np.savez(tmp_path / "a.npz", x=np.zeros([10, 2, 2]))
  loaded = loading.load(str(tmp_path / "a.npz"))
  assert loaded.class_names is None and loaded.arrays("train")[1] is None


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
    loading.load(str(tmp_path / "bad.npz"))
  assert_mendable(error, "bad.npz", *parts)


@pytest.mark.parametrize("case", ["pickled", "empty", "flat", "int32", "nan", "bytes_as_floats"])
def test_bad_npy(tmp_path, case):
  arrays, parts = BAD_ARRAYS[case]
  np.save(tmp_path / "bad.npy", arrays["x"])
  with pytest.raises(InputError) as error:
    loading.input_batches(str(tmp_path / "bad.npy"), "test", 2)
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
    loading.load(str(file))
  assert_mendable(error, "cut.npz", "np.savez")


def test_damaged_bytes_within_a_npz(tmp_path):
  file = tmp_path / "flipped.npz"
  np.savez_compressed(file, x=np.random.default_rng(0).uniform(size=(10, 8, 8)))
  content = bytearray(file.read_bytes())
  content[1000:1040] = bytes(40)
  file.write_bytes(content)
  with pytest.raises(InputError) as error:
    loading.load(str(file))
  assert_mendable(error, "flipped.npz")


def test_npy_under_the_name_of_a_npz(tmp_path):
  np.save(tmp_path / "x.npy", X)
  (tmp_path / "x.npy").rename(tmp_path / "x.npz")
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path / "x.npz"))
  assert_mendable(error, "'x'", "single array", "np.savez")
