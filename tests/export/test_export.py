"""The SavedModel that `imae-export` writes, and the program.

The server's own loader is the session loader, and a server does not compare the shapes of
requests with the signature: `_SERVE` does both, in a process that has TensorFlow alone.
"""

import contextlib
import io
import json
import pathlib
import pickle
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import programs
import pytest
import tensorflow as tf
from exports import encoded
from exports import images
from exports import K1
from exports import K2
from exports import make_model
from exports import names
from exports import SHAPE
from exports import strings
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from imae_tf.export import publish
from imae_tf.export import savedmodel
from imae_tf.export import typical

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
    ("reconstruct", {"x": _X[0]}, "shape [N, 8, 8, 1], got [8 8 1]; resize them, add the channel"),
    ("encode", {"x": _X.reshape(2, 64)}, "shape [N, 8, 8, 1], got [2 64]"),
    ("encode", {"x": np.float32(0.5)}, "shape [N, 8, 8, 1], got []"),
    ("decode", {"y": _Y, "z": _Z[:1]}, "as many rows of y as of z, got 2 and 1"),
    ("decode", {"y": _Y * 2, "z": _Z}, "probabilities that sum to 1, or one-hot"),
    ("decode", {"y": _Y - 0.2, "z": _Z}, "probabilities that sum to 1, or one-hot"),
    ("decode", {"y": _Y * np.nan, "z": _Z}, "probabilities that sum to 1, or one-hot"),
    ("decode", {"y": _Y, "z": _Z + np.inf}, "z as finite numbers"),
    ("decode", {"y": _Y[:, 1:], "z": _Z}, "probabilities y of shape [N, 5], got [2 4]"),
    ("decode", {"y": _Y, "z": _Z[0]}, "codes z of shape [N, 3], got [3]"),
    ("encode_image_bytes", {"image_bytes": strings(b"no image")}, "bytes of a PNG or JPEG file"),
    ("encode_image_bytes", {"image_bytes": strings(b"")}, "bytes of a PNG or JPEG file"),
    (
        "encode_image_bytes",
        {"image_bytes": strings(encoded(PIXELS[0], "GIF"))},
        "bytes of a PNG or JPEG file",
    ),
    ("encode_image_bytes", {"image_bytes": strings(encoded(PIXELS[0])[:60])}, "Invalid PNG"),
    (
        "encode_image_bytes",
        {"image_bytes": strings(encoded(PIXELS[0]), encoded(PIXELS[0, :7]))},
        "expected images of [8, 8] (height, width) pixels, got [7 8]; resize",
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


def meta_graph(path):
  """The MetaGraphDef of a SavedModel."""
  content = (path / "saved_model.pb").read_bytes()
  return saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]


@pytest.fixture(scope="module")
def graph(path):
  return meta_graph(path)


def _export_compiled(path):
  """Exports a model that XLA has compiled."""
  model = make_model()
  model.compile(keras.optimizers.Adam(), jit_compile=True)
  assert model.jit_compile
  model.evaluate(images(32), batch_size=32, verbose=0)
  savedmodel.write(model, path)


def all_nodes(graph):
  """The nodes of a MetaGraphDef and of its functions."""
  yield from graph.graph_def.node
  for function in graph.graph_def.library.function:
    yield from function.node_def


class TestContents:

  def test_each_weight_is_stored_once_and_no_optimizer_state(self, model, path):
    stored = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    shapes = stored.get_variable_to_shape_map()
    del shapes["_CHECKPOINTABLE_OBJECT_GRAPH"]
    expected = sorted(tuple(w.shape) for w in model.weights)
    assert sorted(map(tuple, shapes.values())) == expected
    size = sum(file.stat().st_size for file in (path / "variables").glob("*.data-*"))
    assert size < 4 * model.count_params() + 4096  # the rest is the object graph

  def test_no_weight_is_among_the_constants_of_the_graph(self, graph):
    sizes = [tf.make_ndarray(node.attr["value"].tensor).nbytes
             for node in all_nodes(graph) if node.op == "Const"]
    assert max(sizes) < 400  # the sentences of the errors

  def test_every_operation_is_tensorflows_own(self, graph):
    for node in all_nodes(graph):
      assert op_def_registry.get(node.op), node.op
      assert "Random" not in node.op and "PyFunc" not in node.op

  def test_no_attribute_asks_for_xla(self, tmp_path):
    # In a process of its own: the tests' determinism keeps Keras from compiling.
    programs.call(_export_compiled, [(tmp_path / "model",)], at_once=1)
    graph = meta_graph(tmp_path / "model")
    attributes = {name for node in all_nodes(graph) for name in node.attr}
    attributes |= {name for f in graph.graph_def.library.function for name in f.attr}
    assert not [name for name in attributes if "xla" in name.lower() or "compile" in name.lower()]

  def test_signatures_read_variables_and_change_nothing(self, graph):
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    outputs = {tensor.name.split(":")[0] for signature in graph.signature_def.values()
               for tensor in signature.outputs.values()}
    nodes = {node.name: node for node in graph.graph_def.node}
    todo = [nodes[name] for name in outputs]
    stateful, seen = set(), set()
    while todo:
      node = todo.pop()
      if op_def_registry.get(node.op).is_stateful:
        stateful.add(node.op)
      for attribute in node.attr.values():
        for name in {attribute.func.name} - seen - {""}:
          seen.add(name)
          todo += functions[name].node_def
    assert len(seen) >= 5
    assert stateful <= {"Assert", "ReadVariableOp", "StatefulPartitionedCall", "While", "NoOp"}

  def test_neither_keras_nor_tfp_is_needed_or_named(self, path, graph):
    content = (path / "saved_model.pb").read_bytes().lower()
    assert b"keras" not in content and b"tfp" not in content and b"probability" not in content
    assert not (path / "keras_metadata.pb").exists()
    kinds = {node.user_object.identifier for node in graph.object_graph_def.nodes}
    assert kinds <= {"", "_generic_user_object", "trackable_list_wrapper", "signature_map"}

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

  def test_typical_images_are_the_surest_of_each_category(self, tmp_path):
    x = images(50)
    x = np.rint(x * 255).astype("float32") / 255
    y = np.random.default_rng(1).dirichlet([0.3] * K2, 50).astype("float32")
    y[y.argmax(axis=1) == 4] = np.eye(K2)[0]  # category 4 has no image
    y[3] = [0.1, 0.1, 0.6, 0.1, 0.1]
    typical.write(tmp_path, y, x)
    with np.load(tmp_path / typical.IMAGES) as file:
      found, counts = file["images"], file["counts"]
    assert found.dtype == np.uint8 and found.shape == (K2, 8, *SHAPE)
    assert counts[4] == 0 and not found[4].any()
    for category in range(4):
      members = [i for i in range(50) if y[i].argmax() == category]
      best = sorted(members, key=lambda i: -y[i, category])[:8]
      assert counts[category] == len(best)
      np.testing.assert_array_equal(found[category, : len(best)], np.rint(x[best] * 255))
      assert not found[category, len(best) :].any()

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


def _exports(commands):
  """Runs imae-export once per command line; [exit status, stdout, stderr] of each."""
  from absl import flags

  from imae_tf.export import export

  sys.modules["tensorflow_serving"] = None  # the extra is not needed
  results = []
  for arguments in commands:
    for name in flags.FLAGS:
      flags.FLAGS[name].unparse()  # what the last command line gave
    sys.argv = ["imae-export", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      try:
        export.cli()
      except SystemExit as status:
        results.append([status.code, out.getvalue(), err.getvalue()])
  return results


@pytest.fixture(scope="module")
def results(model, tmp_path_factory):
  """Two programs at once into one base folder; the second goes on with errors."""
  folder = tmp_path_factory.mktemp("program")
  run, broken, half, moved = (folder / name for name in ("run", "broken", "half", "moved"))
  for workdir in (run, broken, half, moved):
    workdir.mkdir()
    config = {
        "format": 1, "dataset": "digits", "method": "imae", "recipe": "tuned", "epochs": 1,
        "seed": 0, "holdout": 0, "num_categories": 5,
    }
    (workdir / "config.json").write_text(json.dumps(config))
  model.save(run / "model.keras")
  (run / "metrics.json").write_text('{"accuracy": 0.5}')
  shutil.copy(run / "model.keras", moved)
  gone = {**config, "dataset": str(folder / "gone.npz")}
  (moved / "config.json").write_text(json.dumps(gone))
  (broken / "model.keras").write_bytes((run / "model.keras").read_bytes()[:5000])
  base = f"--base={folder / 'base'}"
  good = [f"--workdir={run}", base]
  bad = [
      [f"--workdir={folder / 'missing'}", base],
      [f"--workdir={half}", base],
      [f"--workdir={broken}", base],
      [f"--workdir={run}", f"--base={run / 'model.keras'}"],
  ]
  own = f"--base={folder / 'own'}"  # a folder of the second program alone
  later = [
      [f"--workdir={moved}", own],
      [own, "--rollback=1", "--keep=1"],
      [own, "--rollback=1"],
      [f"--workdir={run}", own, "--align_to=1"],
  ]
  commands = [([good],), ([good, *bad, *later],)]
  return folder, programs.call(_exports, commands, at_once=2)


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

  def test_what_lies_beside_the_graph_without_the_serving_extra(self, results):
    folder, _ = results
    extra = folder / "base" / "1" / "assets.extra"
    assert {path.name for path in extra.iterdir()} == {
        "imae.json", "MODEL_CARD.md", "tf_serving_warmup_requests", "typical_images.npz",
    }
    assert "| 0.500 |" in (extra / "MODEL_CARD.md").read_text()
    with np.load(extra / "typical_images.npz") as file:
      assert file["images"].shape == (K2, 8, *SHAPE)

  def test_without_its_data_a_model_is_published_and_the_lack_is_said(self, results):
    status, out, err = results[1][1][5]
    folder = results[0]
    assert (status, err) == (0, "")
    assert out.startswith("Without typical_images.npz: ") and "gone.npz" in out.splitlines()[0]
    assert f"Published {folder / 'own' / '1'}, " in out

  def test_rollback_publishes_again_and_prunes(self, results):
    folder = results[0]
    status, out, err = results[1][1][6]
    assert (status, err) == (0, "")
    again = f"Published {folder / 'own' / '2'}, a copy of version 1 that gives the same codes."
    assert out == again + "\n"
    assert names(folder / "own") == ["2"]
    assert not (folder / "own" / "2" / "assets.extra" / "typical_images.npz").exists()

  @pytest.mark.parametrize("index", [7, 8])
  def test_a_version_that_was_pruned_cannot_be_named(self, results, index):
    status, out, err = results[1][1][index]
    assert (status, out) == (1, "")
    assert re.fullmatch(r"imae-export: error: expected version 1 in \S+/own, got 2; .*\n", err)

  @pytest.mark.parametrize("flags,sentence", [
      ([], "expected --workdir, or --rollback in its place; give one of them."),
      (["--workdir=W", "--rollback=1"], "expected --workdir, or --rollback in its place"),
      (["--rollback=1", "--align_to=1"], "--align_to needs a model: give it with --workdir"),
  ])
  def test_flags_that_do_not_go_together(self, flags, sentence):
    script = pathlib.Path(sys.executable).with_name("imae-export")
    result = subprocess.run(
        [script, "--base=B", *flags], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1 and sentence in result.stderr

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
