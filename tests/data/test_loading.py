"""Data by name or path: which source is meant, held-out images, images to encode."""

import doctest
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from mendable import assert_mendable
from stored import coded_images
from stored import codes
from stored import save_folder

from imae_tf.data import loading
from imae_tf.data import pipelines
from imae_tf.data import shapes
from imae_tf.data import splits
from imae_tf.errors import InputError


def test_holdout_is_the_end_of_the_training_split():
  whole, digits = loading.load("digits"), loading.load("digits", holdout=200)
  assert digits.sizes == {"train": 1237, "holdout": 200, "test": 360}
  x, labels = whole.arrays("train")
  np.testing.assert_array_equal(digits.arrays("train")[0], x[:1237])
  np.testing.assert_array_equal(digits.arrays("holdout")[0], x[1237:])
  np.testing.assert_array_equal(digits.arrays("holdout")[1], labels[1237:])
  np.testing.assert_array_equal(digits.arrays("test")[0], whole.arrays("test")[0])


@pytest.mark.parametrize("holdout", [-1, 1436, 5000])
def test_bad_holdout(holdout):
  with pytest.raises(InputError) as error:
    loading.load("digits", holdout=holdout)
  assert_mendable(error, "holdout")


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
    loading.load(name)
  assert_mendable(error, name, mend)


def test_file_of_another_kind(tmp_path):
  (tmp_path / "x.csv").write_text("1,2")
  with pytest.raises(InputError) as error:
    loading.load(str(tmp_path / "x.csv"))
  assert_mendable(error, "x.csv", "another kind of file")


@pytest.mark.parametrize("use", [
    loading.load, loading.canonical, lambda name: loading.input_batches(name, "test", 2),
])
@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_no_folder(tmp_path, monkeypatch, use, name):
  save_folder(tmp_path, coded_images(6))
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError) as error:
    use(name)
  assert_mendable(error, "an empty text", "unset variable")


def test_paths_are_texts_or_pathlib_and_begin_at_home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path)
  save_folder(tmp_path / "mnist", coded_images(6))  # as a path it is none of TFDS's names
  np.savez(tmp_path / "a.npz", x=coded_images(6))
  for name in ("~/mnist", pathlib.Path("~/mnist"), pathlib.Path("mnist"), "./mnist", "~/a.npz",
               pathlib.Path("a.npz")):
    loaded = loading.load(name)
    assert loaded.sizes == {"train": 4, "test": 2}, name
    assert pathlib.Path(loading.canonical(name)).is_absolute()
    assert loading.input_batches(name, "train", 2)[0] in (4, 6)


def test_a_link_to_a_blob_without_suffix(tmp_path):
  """As stores of large files lay them out; the programs read what Python reads."""
  np.savez(tmp_path / "blob.npz", x=coded_images(6))
  (tmp_path / "blob.npz").rename(tmp_path / "0123abcd")
  (tmp_path / "x.npz").symlink_to("0123abcd")
  name = loading.canonical(tmp_path / "x.npz")
  assert name.endswith("x.npz")
  assert loading.load(name).sizes == {"train": 4, "test": 2}


def test_fingerprints_tell_arrays_apart(tmp_path):
  x = coded_images(10)
  for name, images in {"a": x, "b": x, "c": x[::-1], "d": x.reshape(10, 5, 4, 1)}.items():
    np.savez(tmp_path / f"{name}.npz", x=images, y=np.arange(10) % 3)
  a, b, c, d = (loading.load(tmp_path / f"{name}.npz").fingerprint() for name in "abcd")
  assert a == b == loading.load(tmp_path / "a.npz", holdout=3).fingerprint()
  assert a["n"] == 10 and len({f["checksum"] for f in (a, c, d)}) == 3
  assert json.loads(json.dumps(a)) == a


@pytest.mark.parametrize("module", [loading, pipelines, splits, shapes])
def test_the_examples_run(module):
  done = doctest.testmod(module)
  assert done.attempted and not done.failed


def test_image_size_is_refused_for_arrays():
  with pytest.raises(InputError) as error:
    loading.load("digits", image_size=(4, 4))
  assert_mendable(error, "image_size", "'digits'", "leave it out")


def test_input_batches_of_a_npy(tmp_path):
  x = np.random.default_rng(0).uniform(size=(7, 3, 4))
  np.save(tmp_path / "x.npy", x)
  n, batches = loading.input_batches(str(tmp_path / "x.npy"), "test", 3)
  batches = list(batches)
  assert n == 7 and [len(batch) for batch in batches] == [3, 3, 1]
  np.testing.assert_array_equal(np.concatenate(batches)[..., 0], x.astype(np.float32))


def test_input_batches_take_a_folder_whole(tmp_path):
  n, batches = loading.input_batches(str(save_folder(tmp_path, coded_images(1))), "test", 3)
  assert n == 1 and codes(next(iter(batches))) == [0]


@pytest.mark.parametrize("split, expected", [("train", range(50)), ("test", range(50, 57))])
def test_input_batches_of_a_tfds_split(tiny_tfds, split, expected):
  n, batches = loading.input_batches(tiny_tfds, split, 8)
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
