"""A `.keras` file that cannot be read: damaged, of no Keras, or what it needs that is not here."""

import json
import random
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest
from mendable import assert_mendable

import imae_tf
from imae_tf.errors import InputError
from imae_tf.training import keras_file


def _model():
  keras.utils.set_random_seed(0)
  encoder, decoder = imae_tf.networks.mlp((8, 8, 1), encoder_units=(8,), decoder_units=(8,))
  model = imae_tf.IMAE(encoder, decoder)
  model.compile(keras.optimizers.Adam(1e-3))
  return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """(path of a whole file, the model)."""
  path = tmp_path_factory.mktemp("saved") / "model.keras"
  model = _model()
  model.save(path)
  return path, model


def rewritten(path, target, change=lambda config: None, version="99.1.0", without=()):
  """A whole zip, with checksums, of another configuration or Keras version."""
  target.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
    for name in set(old.namelist()) - set(without):
      content = old.read(name)
      if name == "config.json":
        config = json.loads(content)
        change(config)
        content = json.dumps(config).encode()
      if name == "metadata.json":
        content = json.dumps({"keras_version": version or keras.__version__}).encode()
      new.writestr(name, content)
  return target


def layer(config, number=2):
  return config["config"]["encoder"]["config"]["layers"][number]


def of(**entries):
  """A change of a Dense layer of the encoder."""
  return lambda config: layer(config).update(entries)


def dense(**entries):
  return lambda config: layer(config)["config"].update(entries)


LAMBDA = {"class_name": "__lambda__", "config": {"value": "x", "defaults": None, "closure": None}}
NEEDS = {
    "a class of Keras": (of(class_name="HyperDense"), "the class HyperDense of keras.layers;",
                         "run pip install keras==99.1.0, with"),
    "an optimizer": (lambda c: c["compile_config"]["optimizer"].update(class_name="Sophia"),
                     "the class Sophia of keras.optimizers;", "keras==99.1.0"),
    "an option of Keras": (dense(lora_beta=1), "{'lora_beta': 1}", "keras==99.1.0"),
    "an activation": (dense(activation="hyper"), "identifier: hyper", "keras==99.1.0"),
    "a class of the user's": (
        of(class_name="Mine", module="my_layers", registered_name="mine>Mine"),
        "the class Mine of my_layers;", "import the module that registers it first"),
    "a class of ours": (
        lambda c: c.update(class_name="New", registered_name="imae_tf>New"),
        "the class New of imae_tf.methods;", "install the version of imae_tf"),
    "an option of ours": (lambda c: c["config"].update(sparsity=1), "{'sparsity': 1}",
                          "install the version of imae_tf"),
    "a backend": (of(class_name="TorchModuleWrapper", config={"name": "a", "module": "x"}),
                  "the backend torch for its layer TorchModuleWrapper", "layers that TensorFlow"),
    "a lambda": (of(class_name="Lambda", config={"name": "a", "function": LAMBDA}),
                 "a Python lambda", "keras.config.enable_unsafe_deserialization() first"),
    "weights of another shape": (dense(units=9), "(None, 9)", "keras==99.1.0"),
}


@pytest.mark.parametrize("what", NEEDS)
def test_a_whole_file_says_what_it_needs(saved, tmp_path, what):
  change, needed, mend = NEEDS[what]
  path = rewritten(saved[0], tmp_path / "model.keras", change)
  with pytest.raises(InputError) as error:
    keras_file.load(path)
  assert_mendable(error, path, needed, mend, "saved by keras 99.1.0", keras.__version__)
  assert "damaged" not in str(error.value) and "delete" not in str(error.value)
  assert path.exists()


def test_the_versions_of_the_run_are_told_if_its_config_has_them(saved, tmp_path):
  versions = {"imae_tf": "77.0", "keras": "98.0", "numpy": "1.0"}
  (tmp_path / "config.json").write_text(json.dumps({"versions": versions}))
  path = tmp_path / "restarts/start-1/checkpoints/epoch-0001.keras"
  rewritten(saved[0], path, lambda c: c["config"].update(sparsity=1))
  with pytest.raises(InputError) as error:
    keras_file.load(path)
  # What the file itself says of Keras counts for more.
  assert_mendable(error, "saved by keras 99.1.0, imae_tf 77.0, which needs")
  assert "run pip install keras==99.1.0 imae_tf==77.0, with which" in str(error.value)


def test_no_version_is_the_mend_of_a_file_of_the_same_versions(saved, tmp_path):
  path = rewritten(saved[0], tmp_path / "model.keras", of(class_name="Hyper"), version=None)
  with pytest.raises(InputError, match="restore the file as it was saved"):
    keras_file.load(path)


def test_a_file_of_another_version_that_is_known_loads(saved, tmp_path):
  path = rewritten(saved[0], tmp_path / "model.keras")
  for ours, theirs in zip(
      saved[1].get_weights(), keras_file.load(path).get_weights(), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("without", ["config.json", "metadata.json", "model.weights.h5"])
def test_another_zip_is_not_to_be_deleted(saved, tmp_path, without):
  path = rewritten(saved[0], tmp_path / "model.keras", without=[without])
  with pytest.raises(InputError) as error:
    keras_file.load(path)
  assert_mendable(error, path)
  assert "delete" not in str(error.value)


def test_a_model_of_another_kind_is_named(tmp_path):
  keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "model.keras")
  with pytest.raises(InputError, match="expected a model of imae_tf in .*, got a Sequential;"):
    keras_file.load(tmp_path / "model.keras")


# ---- damaged files ----------------------------------------------------------------------------


def damaged(content, rng):
  """A file that was cut, or has other bits: anywhere, or where the zip describes its parts."""
  content = bytearray(content)
  kind = rng.choice(["cut", "flip", "zeros", "header", "header"])
  place = rng.randrange(len(content))
  if kind == "cut":
    return content[:place]
  if kind == "zeros":
    content[place : place + 512] = bytes(len(content[place : place + 512]))
  elif kind == "flip":
    for _ in range(rng.choice([1, 20])):
      content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  else:
    headers = [i for i in range(len(content)) if content[i : i + 2] == b"PK"]
    for _ in range(rng.choice([1, 3])):
      content[min(rng.choice(headers) + rng.randrange(46), len(content) - 1)] = rng.randrange(256)
  return content


def test_200_damaged_files_are_one_sentence_or_load(saved, tmp_path, monkeypatch):
  """A bit of a date does no harm; anything else ends in the one sentence, in little memory."""
  whole, path, rng = saved[0].read_bytes(), tmp_path / "model.keras", random.Random(0)
  counts = {"loads": 0, "delete": 0, "other": 0}
  load, passed = keras.models.load_model, []
  monkeypatch.setattr(keras.models, "load_model", lambda path: passed.append(path) or saved[1])
  for _ in range(200):
    path.write_bytes(damaged(whole, rng))
    tracemalloc.start()
    try:
      keras_file.load(path)
      counts["loads"] += 1
      path.rename(tmp_path / f"{counts['loads']}.keras")
    except InputError as error:
      counts["delete" if "damaged" in str(error) else "other"] += 1
      assert ("delete it" in str(error)) == ("damaged" in str(error))
      assert "\n" not in str(error) and str(path) in str(error)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
  assert counts["delete"] > 140 and counts["loads"] > 5 and counts["other"] < 5, counts
  for number in range(1, 6):  # Keras reads each in a tenth of a second
    loaded = load(tmp_path / f"{number}.keras")
    for ours, theirs in zip(saved[1].get_weights(), loaded.get_weights(), strict=True):
      np.testing.assert_array_equal(ours, theirs)


def test_a_part_that_claims_to_be_long_is_not_unpacked(tmp_path):
  path = tmp_path / "model.keras"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name in ("config.json", "metadata.json"):
      archive.writestr(name, bytes(2**25))
  tracemalloc.start()
  with pytest.raises(InputError, match="config.json is too long"):
    keras_file.load(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 2**20
