"""The SavedModel that `imae-export` writes, and how it is published.

The server's own loader is the session loader, and a server does not compare the shapes of
requests with the signature: `_SERVE` does both, in a process that has TensorFlow alone.
"""

import io
import json
import os
import pathlib
import pickle
import resource
import subprocess
import sys
import threading

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from imae_tf import IMAE
from imae_tf import networks
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import publish
from imae_tf.export import savedmodel

SHAPE = (8, 8, 1)
K1, K2 = 3, 5
BATCHES = (0, 1, 7, 1000)

# Runs requests (a pickled list of (signature, {input: array})) through both loaders and
# pickles the answers: {loader: [{output: array} or (exception's name, message)]}.
_SERVE = """
import pickle, sys
for name in ("keras", "tf_keras", "tensorflow_probability", "imae_tf"):
  sys.modules[name] = None
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

path, requests, answers = sys.argv[1:]
session = tf.compat.v1.Session(graph=tf.Graph())
with session.graph.as_default():
  signatures = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def
loaded = tf.saved_model.load(path)

def through_session(signature, inputs):
  # Unlike Session.run, and like a server, a callable does not look at the shapes it is fed.
  signature = signatures[signature]
  names = sorted(signature.outputs)
  options = config_pb2.CallableOptions(
      feed=[signature.inputs[name].name for name in inputs],
      fetch=[signature.outputs[name].name for name in names])
  return dict(zip(names, session._make_callable_from_options(options)(*inputs.values())))

def through_function(signature, inputs):
  tensors = {name: tf.constant(value) for name, value in inputs.items()}
  outputs = loaded.signatures[signature](**tensors)
  return {name: value.numpy() for name, value in outputs.items()}

def answer(function, signature, inputs):
  try:
    return function(signature, inputs)
  except Exception as error:
    return type(error).__name__, str(error)

with open(requests, "rb") as file:
  todo = pickle.load(file)
done = {name: [answer(function, *request) for request in todo]
        for name, function in (("session", through_session), ("eager", through_function))}
with open(answers, "wb") as file:
  pickle.dump(done, file)
"""


def make_model(seed=0, image_shape=SHAPE):
  """An IMAE with random weights and batch-norm statistics, and an optimizer's state."""
  encoder, decoder = networks.mlp(
      image_shape, K2, K1, encoder_units=(16,), decoder_units=(16,)
  )
  model = IMAE(encoder, decoder, num_categories=K2, latent_dim=K1)
  rng = np.random.default_rng(seed)
  model.set_weights([rng.uniform(0.2, 1.0, w.shape) - (w.ndim > 1) * 0.6
                     for w in model.get_weights()])
  model.compile(keras.optimizers.Adam(), jit_compile=True)
  model.optimizer.build(model.trainable_variables)
  return model


def images(n, seed=0):
  return np.random.default_rng(seed).random((n, *SHAPE), "float32")


def encoded(pixels, kind="PNG"):
  file = io.BytesIO()
  PIL.Image.fromarray(pixels).save(file, kind)
  return file.getvalue()


def strings(*values):
  return np.array(values, object)


@pytest.fixture(scope="module")
def model():
  return make_model()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
  path = tmp_path_factory.mktemp("export") / "model"
  savedmodel.write(model, path, dataset="digits", evaluation={"accuracy": 0.9})
  return path


PIXELS = np.random.default_rng(3).integers(0, 256, (4, 8, 8), np.uint8)
_X = images(2)
_NAN = np.where(np.arange(8)[:, None] == 3, np.nan, _X).astype("float32")
_Y, _Z = np.eye(K2, dtype="float32")[:2], np.zeros((2, K1), "float32")
# (signature, inputs, what the sentence says)
BAD = [
    ("encode", {"x": _X * 2}, "expected pixels in [0, 1], got [0."),
    ("encode", {"x": _X - 0.5}, "divide bytes by 255"),
    ("encode", {"x": _NAN}, "expected pixels in [0, 1], got [nan, nan]"),
    ("serving_default", {"x": _NAN}, "remove what is not finite"),
    ("reconstruct", {"x": _NAN}, "expected pixels in [0, 1]"),
    ("encode", {"x": _X.reshape(2, 4, 16, 1)}, "shape [N, 8, 8, 1], got [2 4 16 1]; resize"),
    ("encode", {"x": _X.reshape(1, 8, 8, 2)}, "shape [N, 8, 8, 1], got [1 8 8 2]"),
    ("reconstruct", {"x": _X[0]}, "shape [N, 8, 8, 1], got [8 8 1]; resize them or add"),
    ("encode", {"x": _X.reshape(2, 64)}, "shape [N, 8, 8, 1], got [2 64]"),
    ("encode", {"x": np.float32(0.5)}, "shape [N, 8, 8, 1], got []"),
    ("decode", {"y": _Y, "z": _Z[:1]}, "as many rows of y as of z, got 2 and 1"),
    ("decode", {"y": _Y * 2, "z": _Z}, "probabilities that sum to 1, or one-hot"),
    ("decode", {"y": _Y - 0.2, "z": _Z}, "probabilities that sum to 1, or one-hot"),
    ("decode", {"y": _Y * np.nan, "z": _Z}, "probabilities that sum to 1, or one-hot"),
    ("decode", {"y": _Y, "z": _Z + np.inf}, "z to be finite"),
    ("decode", {"y": _Y[:, 1:], "z": _Z}, "probabilities y of shape [N, 5], got [2 4]"),
    ("decode", {"y": _Y, "z": _Z[0]}, "codes z of shape [N, 3], got [3]"),
    ("encode_image_bytes", {"image_bytes": strings(b"no image")}, "One of JPEG"),
    ("encode_image_bytes", {"image_bytes": strings(encoded(PIXELS[0])[:60])}, "Invalid PNG"),
    (
        "encode_image_bytes",
        {"image_bytes": strings(encoded(PIXELS[0]), encoded(PIXELS[0, :7]))},
        "expected images of shape [8, 8, 1] (height, width, channels), got [7 8 1]; resize",
    ),
    (
        "encode_image_bytes",
        {"image_bytes": strings([encoded(PIXELS[0])])},
        "image_bytes of shape [N], got [1 1]",
    ),
]


@pytest.fixture(scope="module")
def answers(path, tmp_path_factory):
  """Answers of both loaders to good and bad requests: {loader: {"good", "bad"}}."""
  folder = tmp_path_factory.mktemp("serve")
  codes = {"y": np.full((2, K2), 1 / K2, "float32"), "z": np.ones((2, K1), "float32")}
  good = [
      *(("serving_default", {"x": images(n)}) for n in BATCHES),
      *(("encode", {"x": images(n)}) for n in BATCHES),
      *(("reconstruct", {"x": images(n)}) for n in BATCHES),
      ("decode", codes),
      ("decode", {name: value[:0] for name, value in codes.items()}),
      ("encode_image_bytes", {"image_bytes": strings(*map(encoded, PIXELS))}),
      ("encode_image_bytes", {"image_bytes": strings()}),
      ("encode_image_bytes", {"image_bytes": strings(encoded(PIXELS[0], "JPEG"))}),
  ]
  requests = [*good, *((signature, inputs) for signature, inputs, _ in BAD)]
  (folder / "requests").write_bytes(pickle.dumps(requests))
  subprocess.run(
      [sys.executable, "-c", _SERVE, path, folder / "requests", folder / "answers"],
      check=True,
      capture_output=True,
      cwd=folder,
  )
  done = pickle.loads((folder / "answers").read_bytes())
  return {
      loader: {"good": values[: len(good)], "bad": values[len(good) :]}
      for loader, values in done.items()
  }


@pytest.fixture(params=["session", "eager"])
def served(request, answers):
  return answers[request.param]


def assert_codes_equal(actual, expected, tolerance=1e-5):
  assert set(actual) == set(expected) == {"y", "z", "z_scale"}
  for name, value in expected.items():
    assert actual[name].dtype == np.float32
    np.testing.assert_allclose(actual[name], value, rtol=0, atol=tolerance)


class TestSignatures:

  def test_codes_equal_the_model_in_a_process_with_tensorflow_alone(self, model, served):
    for index, n in enumerate(BATCHES * 2):
      expected = model.encode(images(n))
      assert expected["z"].shape == (n, K1)
      assert_codes_equal(served["good"][index], expected)

  def test_reconstruct_and_decode_equal_the_model(self, model, served):
    for answer, n in zip(served["good"][8:12], BATCHES, strict=True):
      np.testing.assert_allclose(answer["x"], model.reconstruct(images(n)), atol=1e-5)
    decoded, empty = (answer["x"] for answer in served["good"][12:14])
    expected = model.decode(np.full((2, K2), 1 / K2), np.ones((2, K1)))
    np.testing.assert_allclose(decoded, expected, atol=1e-5)
    assert empty.shape == (0, *SHAPE)

  def test_image_bytes_equal_arrays(self, model, served):
    png, empty, jpeg = served["good"][14:]
    assert_codes_equal(png, model.encode(PIXELS[..., None].astype("float32") / 255))
    assert empty["y"].shape == (0, K2) and empty["z_scale"].shape == (0, K1)
    # Decoders of JPEG may round differently by a level or two.
    file = io.BytesIO(encoded(PIXELS[0], "JPEG"))
    pixels = np.asarray(PIL.Image.open(file), "float32")[None, ..., None] / 255
    assert_codes_equal(jpeg, model.encode(pixels), tolerance=0.02)

  @pytest.mark.parametrize("index", range(len(BAD)))
  def test_a_bad_request_is_an_invalid_argument_with_a_sentence(self, served, index):
    kind, message = served["bad"][index]
    assert kind == "InvalidArgumentError"
    assert BAD[index][2] in message

  def test_names_shapes_and_dtypes(self, path):
    x, y, z = ([None, *SHAPE], tf.float32), ([None, K2], tf.float32), ([None, K1], tf.float32)
    codes = {"y": y, "z": z, "z_scale": z}
    expected = {
        "serving_default": ({"x": x}, codes),
        "encode": ({"x": x}, codes),
        "decode": ({"y": y, "z": z}, {"x": x}),
        "reconstruct": ({"x": x}, {"x": x}),
        "encode_image_bytes": ({"image_bytes": ([None], tf.string)}, codes),
    }

    def specs(tensors):
      return {name: (spec.shape.as_list(), spec.dtype) for name, spec in tensors.items()}

    loaded = tf.saved_model.load(str(path))  # kept: its functions hold no variables alive
    actual = {
        name: (specs(f.structured_input_signature[1]), specs(f.structured_outputs))
        for name, f in loaded.signatures.items()
    }
    assert actual == expected

  def test_colour_images(self, tmp_path):
    model = make_model(image_shape=(8, 8, 3))
    savedmodel.write(model, tmp_path / "rgb")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    loaded = tf.saved_model.load(str(tmp_path / "rgb"))
    codes = loaded.signatures["encode_image_bytes"](
        image_bytes=tf.constant([encoded(image) for image in pixels])
    )
    codes = {name: value.numpy() for name, value in codes.items()}
    assert_codes_equal(codes, model.encode(pixels.astype("float32") / 255))

  def test_two_channels_have_no_image_files(self, tmp_path):
    savedmodel.write(make_model(image_shape=(4, 4, 2)), tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    assert set(loaded.signatures) == {"serving_default", "encode", "decode", "reconstruct"}


class TestContents:

  def test_each_weight_is_stored_once_and_no_optimizer_state(self, model, path):
    stored = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    shapes = stored.get_variable_to_shape_map()
    del shapes["_CHECKPOINTABLE_OBJECT_GRAPH"]
    expected = sorted(tuple(w.shape) for w in model.weights)
    assert sorted(map(tuple, shapes.values())) == expected
    size = sum(file.stat().st_size for file in (path / "variables").glob("*.data-*"))
    assert size < 4 * model.count_params() + 4096  # the rest is the object graph

  def test_graph_has_neither_xla_nor_randomness(self, path):
    from tensorflow.core.protobuf import saved_model_pb2

    content = (path / "saved_model.pb").read_bytes()
    assert b"_XlaMustCompile" not in content
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    assert not [node.op for node in nodes if "Random" in node.op or "PyFunc" in node.op]

  def test_imae_json(self, path):
    description = json.loads((path / savedmodel.DESCRIPTION).read_text())
    versions = description.pop("versions")
    assert description == {
        "format": 1,
        "method": "imae",
        "dataset": "digits",
        "num_categories": K2,
        "latent_dim": K1,
        "image_shape": [8, 8, 1],
        "image_range": [0.0, 1.0],
        "evaluation": {"accuracy": 0.9},
    }
    assert versions["tensorflow"] == tf.__version__ and versions["keras"] == keras.__version__

  def test_mixed_bfloat16_answers_in_float32(self, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
      model = make_model()
    finally:
      keras.config.set_dtype_policy("float32")
    version = publish.publish(model, tmp_path)
    loaded = tf.saved_model.load(str(version))
    codes = loaded.signatures["encode"](x=tf.constant(images(7)))
    assert_codes_equal(
        {name: value.numpy() for name, value in codes.items()},
        model.encode(images(7)),
        tolerance=2e-2,
    )
    assert loaded.signatures["reconstruct"](x=tf.constant(images(7)))["x"].dtype == tf.float32


def names(base):
  """Everything in a base folder, hidden names included."""
  return sorted(os.listdir(base))


@pytest.fixture
def stub_write(monkeypatch):
  """Publishing of a small file in place of a SavedModel, unchecked."""
  def write(model, path, *unused):
    path.mkdir()
    (path / "saved_model.pb").write_text(str(model))

  monkeypatch.setattr(savedmodel, "write", write)
  monkeypatch.setattr(publish, "check", lambda model, path: None)


class TestPublish:

  def test_versions_are_readable_by_others_and_counted_up(self, model, tmp_path):
    assert publish.publish(model, tmp_path / "new" / "base").name == "1"
    version = publish.publish(model, tmp_path / "new" / "base")
    assert version == tmp_path / "new" / "base" / "2"
    assert names(version.parent) == ["1", "2"]
    assert tf.saved_model.contains_saved_model(str(version))
    umask = os.umask(0)
    os.umask(umask)
    assert version.stat().st_mode & 0o777 == 0o777 & ~umask

  def test_the_check_finds_another_models_codes(self, model, path):
    publish.check(model, path)
    with pytest.raises(ImaeError, match="expected the [yz].* of model.encode .* difference of"):
      publish.check(make_model(seed=1), path)

  def test_a_failing_check_leaves_nothing(self, model, tmp_path, monkeypatch):
    other = make_model(seed=1)
    write = savedmodel.write
    monkeypatch.setattr(savedmodel, "write", lambda model, *args: write(other, *args))
    with pytest.raises(ImaeError, match="nothing was published"):
      publish.publish(model, tmp_path)
    assert names(tmp_path) == []

  @pytest.mark.parametrize("limit", [1_000, 60_000])
  def test_a_full_disk_leaves_nothing(self, model, tmp_path, limit):
    # Python ignores SIGXFSZ, so that a write beyond the limit fails as on a full disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
      with pytest.raises(ImaeError, match="expected to write .* nothing was published. Free"):
        publish.publish(model, tmp_path)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []
    assert publish.publish(model, tmp_path).name == "1"

  def test_an_unusable_base(self, model, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ImaeError, match="expected a folder to write to as --base, got .*file"):
      publish.publish(model, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"

  @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
  def test_an_unwritable_base(self, model, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ImaeError, match="Permission denied.*change its permissions"):
      publish.publish(model, tmp_path)

  def test_whatever_an_integer_names_is_left_alone(self, stub_write, tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "007").write_text("a file")
    (tmp_path / "latest").mkdir()
    (tmp_path / ".tmp-killed" / "model").mkdir(parents=True)
    assert publish.publish("a", tmp_path).name == "8"
    assert names(tmp_path) == [".tmp-killed", "007", "3", "8", "latest"]

  def test_a_version_taken_meanwhile_is_not_overwritten(self, stub_write, tmp_path, monkeypatch):
    publish.publish("first", tmp_path)
    publish.publish("second", tmp_path)
    monkeypatch.setattr(publish.versions, "numbered", lambda base: {})
    assert publish.publish("third", tmp_path).name == "3"
    contents = [(tmp_path / n / "saved_model.pb").read_text() for n in "123"]
    assert contents == ["first", "second", "third"]

  def test_many_exporters_at_once_get_a_version_each(self, stub_write, tmp_path):
    start = threading.Barrier(16)
    published = {}

    def run(index):
      start.wait()
      published[index] = publish.publish(f"model {index}", tmp_path)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(16)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert names(tmp_path) == sorted(map(str, range(1, 17)))
    for index, version in published.items():
      assert (version / "saved_model.pb").read_text() == f"model {index}"

  @pytest.mark.parametrize(
      "keep,left",
      [(None, "1 2 3 4 5"), (9, "1 2 3 4 5"), (4, "2 3 4 5"), (2, "4 5"), (1, "5")],
  )
  def test_keep_prunes_older_versions_alone(self, stub_write, tmp_path, keep, left):
    for _ in range(4):
      publish.publish("old", tmp_path)
    (tmp_path / "notes").mkdir()
    publish.publish("new", tmp_path, keep=keep)
    assert names(tmp_path) == [*left.split(), "notes"]

  def test_a_failed_export_prunes_nothing(self, stub_write, tmp_path, monkeypatch):
    publish.publish("old", tmp_path)

    def fail(model, path):
      raise ImaeError("no")

    monkeypatch.setattr(publish, "check", fail)
    with pytest.raises(ImaeError, match="no"):
      publish.publish("new", tmp_path, keep=1)
    assert names(tmp_path) == ["1"]

  def test_keep_must_leave_the_new_version(self, tmp_path):
    with pytest.raises(InputError, match="keep expects 1 version or more, got 0"):
      publish.publish(None, tmp_path, keep=0)


# Runs imae-export once per command line and prints [exit status, stdout, stderr] of each.
_EXPORTS = """
import contextlib, io, json, sys
from imae_tf.export import export
assert not {"tensorflow", "keras"} & set(sys.modules)
results = []
for arguments in json.loads(sys.argv[1]):
  sys.argv = ["imae-export", *arguments]
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      export.cli()
    except SystemExit as status:
      results.append([status.code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results(model, tmp_path_factory):
  """Two programs at once into one base folder; the second goes on with errors."""
  folder = tmp_path_factory.mktemp("program")
  run, broken, half = folder / "run", folder / "broken", folder / "half"
  for workdir in (run, broken, half):
    workdir.mkdir()
    config = {
        "format": 1, "dataset": "digits", "method": "imae", "recipe": "tuned", "epochs": 1,
        "seed": 0, "holdout": 0, "num_categories": 5,
    }
    (workdir / "config.json").write_text(json.dumps(config))
  model.save(run / "model.keras")
  (run / "metrics.json").write_text('{"accuracy": 0.5}')
  (broken / "model.keras").write_bytes((run / "model.keras").read_bytes()[:5000])
  base = f"--base={folder / 'base'}"
  good = [f"--workdir={run}", base]
  bad = [
      [f"--workdir={folder / 'missing'}", base],
      [f"--workdir={half}", base],
      [f"--workdir={broken}", base],
      [f"--workdir={run}", f"--base={run / 'model.keras'}"],
  ]
  commands = ([good], [good, *bad])
  processes = [
      subprocess.Popen(
          [sys.executable, "-c", _EXPORTS, json.dumps(command)],
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
          cwd=folder,
          text=True,
      )
      for command in commands
  ]
  outputs = [process.communicate() for process in processes]
  assert [process.returncode for process in processes] == [0, 0], outputs
  return folder, [json.loads(out.splitlines()[-1]) for out, _ in outputs]


class TestProgram:

  def test_two_programs_publish_two_versions(self, results):
    folder, (first, second) = results
    assert first[0][0] == second[0][0] == 0
    assert names(folder / "base") == ["1", "2"]
    published = {pathlib.Path(run[0][1].split()[1].rstrip(",")) for run in (first, second)}
    assert published == {folder / "base" / "1", folder / "base" / "2"}

  def test_what_it_prints_and_records(self, results):
    folder, (first, _) = results
    status, out, err = first[0]
    assert "encode: x [N, 8, 8, 1] -> y [N, 5], z [N, 3], z_scale [N, 3]" in out
    assert "decode: y [N, 5], z [N, 3] -> x [N, 8, 8, 1]" in out
    assert f"--model_base_path={folder / 'base'} " in out
    assert (status, err) == (0, "")
    description = json.loads((folder / "base" / "1" / savedmodel.DESCRIPTION).read_text())
    assert description["dataset"] == "digits"
    assert description["evaluation"] == {"accuracy": 0.5}

  @pytest.mark.parametrize(
      "index,sentence",
      [
          (1, "expected a run in"),
          (2, "expected a finished run in"),
          (3, "expected a whole Keras file"),
          (4, "expected a folder to write to as --base"),
      ],
  )
  def test_errors_are_one_line(self, results, index, sentence):
    status, out, err = results[1][1][index]
    assert (status, out) == (1, "")
    assert err.startswith(f"imae-export: error: {sentence}")
    assert err.count("\n") == 1
