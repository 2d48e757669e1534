"""Shared fixtures: real digits, tiny models, and where the real MNIST lies."""

import os
import pathlib
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Several processes share the cores: threads of small matrix products would wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
import sklearn.datasets

# ---- pytest -m quick ---------------------------------------------------------------------------

_CORE = ("data", "metrics", "networks", "recipes")
_CORE_FILES = tuple(
    f"test_{name}.py"
    for name in (
        "docstrings", "errors", "estimators", "models", "objective", "posterior", "vat",
    )
)
_LONG = (  # half of the core's time
    "test_blocks_and_their_gradients_equal_the_whole",
    "test_every_row_is_trained_and_loaded",
    "test_real_mnist",
    "test_rows_are_traced_and_exported",
    "test_shares_make_up_the_batches_from_any_step",
    "test_xla_gives_the_same_terms",
)


def _is_core(path):
  room, *inner = path.relative_to(pathlib.Path(__file__).parent).parts
  return room in _CORE if inner else room in _CORE_FILES


def pytest_ignore_collect(collection_path, config):
  """`-m quick` does not even import the tests of the other rooms."""
  if config.option.markexpr == "quick" and collection_path.name.startswith("test_"):
    return not _is_core(collection_path) or None  # None: other reasons may count


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Marks the core's tests as quick, unless they are long or start a process."""
  for item in items:
    code = getattr(getattr(item, "function", None), "__code__", None)
    starts_process = code is not None and "subprocess" in code.co_names
    long = item.originalname in _LONG or item.get_closest_marker("slow")
    if _is_core(item.path) and not starts_process and not long:
      item.add_marker("quick")


# ---- data and models ---------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def op_determinism():
  """As in the programs: threads that sum in another order would blur equal runs."""
  import tensorflow as tf

  tf.config.experimental.enable_op_determinism()


@pytest.fixture(scope="session")
def digits():
  """(x float32 [1797, 8, 8, 1] in [0, 1], labels [1797])."""
  bunch = sklearn.datasets.load_digits()
  return (bunch.images / 16).astype("float32")[..., None], bunch.target


@pytest.fixture
def tiny_model():
  """A function that makes a small model on 8x8 images from its method and arguments."""
  import configurations
  import keras

  import imae_tf

  def make(method="imae", **kwargs):
    keras.utils.set_random_seed(0)
    encoder, decoder = configurations.networks_of(kwargs)
    return imae_tf.methods.METHODS[method](encoder, decoder, **kwargs)

  return make


@pytest.fixture
def rng():
  return np.random.default_rng(0)


# ---- stored data sets --------------------------------------------------------------------------


@pytest.fixture
def tfds_root(tmp_path, monkeypatch):
  """A folder in which TFDS looks for its data sets."""
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  return tmp_path


@pytest.fixture
def tiny_tfds(tfds_root):
  """The name of a small TFDS data set; see `stored.store_tiny`."""
  import stored

  return stored.store_tiny(tfds_root)


# ---- served models ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def models(tmp_path_factory):
  """Two SavedModels of different weights."""
  import exports

  from imae_tf.export import savedmodel

  folder = tmp_path_factory.mktemp("models")
  for seed in (0, 1):
    savedmodel.write(exports.make_model(seed), folder / str(seed), dataset="digits")
  return [folder / "0", folder / "1"]


@pytest.fixture(scope="module")
def base(models, tmp_path_factory):
  """A base folder whose version 1 is the first of `models`."""
  base = tmp_path_factory.mktemp("served") / "base"
  base.mkdir()
  shutil.copytree(models[0], base / "1")
  return base


@pytest.fixture(scope="module")
def server(base):
  """The core of a server on `base`; it looks for versions only when told."""
  from imae_tf.export.server import core

  server = core.Server(base, poll_s=0)
  yield server
  server.close(0)


@pytest.fixture(scope="module")
def reference(base):
  """See `exports.reference`; of version 1."""
  import exports

  return exports.reference(base / "1")
