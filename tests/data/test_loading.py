"""Data by name or path: which source is meant, held-out images, images to encode."""

import subprocess
import sys

import numpy as np
import pytest
from mendable import assert_mendable
from stored import coded_images
from stored import codes
from stored import save_folder

from imae_tf.data import loading
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
