"""Arrays as data: values, labels, the last fifth, and every kind of bad array."""

import io
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import sklearn.datasets
from mendable import assert_mendable

from imae_tf._shared import memory
from imae_tf.data import arrays
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
    "flat": ({"x": X.reshape(10, 4)}, ["[N, height, width, channels]", "[10, 4]", "reshape"]),
    "int32": ({"x": X.astype(np.int32) + 200}, ["white", "int32", "astype('uint8')"]),
    "mask": ({"x": X.astype(np.uint8) + 1}, ["black", "astype(bool)"]),
    "channels_first": ({"x": np.zeros([10, 3, 8, 8])}, ["[10, 3, 8, 8]", "np.moveaxis(x, 1, -1)"]),
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
  given, parts = BAD_ARRAYS[case]
  np.savez(tmp_path / "bad.npz", **given)
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path / "bad.npz"))
  assert_mendable(error, "bad.npz", *parts)


@pytest.mark.parametrize("case", ["pickled", "empty", "flat", "int32", "nan", "bytes_as_floats"])
def test_bad_npy(tmp_path, case):
  given, parts = BAD_ARRAYS[case]
  np.save(tmp_path / "bad.npy", given["x"])
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


BYTES = np.arange(10 * 4 * 4, dtype=np.uint8).reshape(10, 4, 4, 1)
READ_RIGHT = {
    "uint8": (BYTES, BYTES / 255),
    "uint16": (BYTES.astype("uint16") * 257, BYTES / 255),
    "big-endian uint16": (BYTES.astype(">u2") * 257, BYTES / 255),
    "bool": (BYTES > 80, BYTES > 80),
    "int8": ((BYTES // 2).astype("int8"), BYTES // 2 / 127),
    "float16": ((BYTES / 255).astype("float16"), BYTES / 255),
    "float64": (BYTES / 255, BYTES / 255),
    "a rounding above 1": (BYTES / 159 * (1 + 1e-6), BYTES / 159),
    "Fortran order": (np.asfortranarray(BYTES), BYTES / 255),
}


@pytest.mark.parametrize("save, suffix", [(np.save, "npy"), (lambda p, x: np.savez(p, x=x), "npz")])
@pytest.mark.parametrize("case", READ_RIGHT)
def test_every_type_is_read_right_from_every_file(tmp_path, case, save, suffix):
  x, expected = READ_RIGHT[case]
  save(tmp_path / f"x.{suffix}", x)
  loaded = loading.load(tmp_path / f"x.{suffix}")
  found = np.concatenate([loaded.arrays(split)[0] for split in loaded.splits])
  np.testing.assert_allclose(found, expected, atol=4e-4 if case == "float16" else 2e-6)
  whole = "all" if suffix == "npy" else "train"
  _, batches = loading.input_batches(tmp_path / f"x.{suffix}", "train", 3)
  np.testing.assert_array_equal(np.concatenate(list(batches)), found[: 8 if whole != "all" else 10])


# ---- damaged files ----------------------------------------------------------------------------


def claiming(shape, content=b""):
  """A `.npy` whose header tells of a shape."""
  file = io.BytesIO()
  header = {"descr": "<f4", "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + content


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_a_header_that_claims_too_much_costs_no_memory(tmp_path, suffix):
  file, content = tmp_path / f"x.{suffix}", claiming((10**11, 1, 1, 1), bytes(64))
  if suffix == "npy":
    file.write_bytes(content)
  else:
    with zipfile.ZipFile(file, "w") as archive:
      archive.writestr("x.npy", content)
  tracemalloc.start()
  with pytest.raises(InputError) as error:
    loading.load(str(file))
  assert tracemalloc.get_traced_memory()[1] < 2**22
  tracemalloc.stop()
  assert_mendable(error, file, "400,000,000,000 bytes", "holds 64")


def test_images_that_do_not_fit_into_memory(tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "free", lambda: 1000)
  np.savez_compressed(tmp_path / "x.npz", x=np.zeros([10, 8, 8]))
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path / "x.npz"))
  assert_mendable(error, "7,680 bytes", "1,000 are free", "folder of image files")


def test_images_of_several_sizes_count_together(tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "free", lambda: 1000)
  np.savez(tmp_path / "x.npz", *[np.zeros([8, 8 + i], np.uint8) for i in range(15)])
  with pytest.raises(InputError, match=r"takes 1,800 bytes"):
    loading.load(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float16", "float32", ">f8"])
def test_reading_takes_no_more_memory_than_the_check_counts(tmp_path, monkeypatch, dtype):
  """NumPy tells tracemalloc of its arrays."""
  x = np.ones([64, 64, 64], dtype)
  x = x if x.dtype.kind in "bf" else x * np.array(np.iinfo(dtype).max, dtype)
  np.save(tmp_path / "x.npy", x)
  counted = []
  monkeypatch.setattr(memory, "free", lambda: 2**62)
  monkeypatch.setattr(arrays, "_check_memory", lambda needed, path: counted.append(needed))
  tracemalloc.start()
  found = arrays.npy(str(tmp_path / "x.npy"))
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  np.testing.assert_array_equal(found / np.float32(found.max()), 1)
  assert peak < counted[0] + 2**19


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    "shape, one, many",
    [
        ((9, 8, 3), (1, 9, 8, 3), (9, 8, 3, 1)),
        ((8, 9, 4), (1, 8, 9, 4), (8, 9, 4, 1)),
        ((8, 8, 1), (1, 8, 8, 1), (8, 8, 1, 1)),
    ],
)
def test_three_axes_of_two_meanings_are_not_guessed(tmp_path, suffix, shape, one, many):
  x = np.full(shape, 200, np.uint8)
  save = np.save if suffix == "npy" else lambda file, x: np.savez(file, x=x)
  file = tmp_path / f"x.{suffix}"
  save(file, x)
  for read in (loading.load, lambda path: loading.input_batches(path, "train", 2)):
    with pytest.raises(InputError) as error:
      read(file)
    assert_mendable(error, file, "x[np.newaxis]", f"{shape[0]} grey images of {shape[1]}x")
  mends = re.findall(r"as (x\[.*?\])", str(error.value))
  assert [eval(mend, {"np": np, "x": x}).shape for mend in mends] == [one, many]
  save(file, x[..., np.newaxis])
  assert loading.load(file).image_shape == many[1:]


@pytest.mark.parametrize("shape", [(10, 4, 4), (9, 3, 4), (5, 8, 2), (3, 8, 8), (1, 9, 3)])
def test_three_axes_of_one_meaning_are_grey_images(tmp_path, shape):
  np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
  _, batches = loading.input_batches(tmp_path / "x.npy", "all", 10)
  assert [batch.shape for batch in batches] == [(*shape, 1)]


@pytest.mark.parametrize("seed", range(4))
def test_fuzz_of_the_npz_reader(tmp_path, seed):
  """400 truncated or bit-flipped archives: read, or one sentence that names the file."""
  rng = np.random.default_rng(seed)
  file = tmp_path / "x.npz"
  save = np.savez_compressed if seed % 2 else np.savez
  save(file, x=rng.integers(0, 256, (10, 6, 6), np.uint8), y=np.arange(10))
  whole = file.read_bytes()
  for _ in range(100):
    content = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.3 else whole)
    for place in rng.integers(len(content), size=rng.integers(1, 6) if content else 0):
      content[place] ^= 1 << rng.integers(8)
    file.write_bytes(content)
    try:
      loading.load(str(file))
    except InputError as error:
      assert "x.npz" in str(error) and "\n" not in str(error)
