"""Every mend in an error is followed literally, and the call then passes.

The messages are those of the page of errors (docs/generated.py). A message without a row here, or
in helpers/mend_rows.py, fails `test_every_message_has_a_row`.
"""

import ast
import importlib.util
import pathlib
import re

import keras
import mend_rows as rows
import mend_steps
import mend_world
import numpy as np
import pytest
import tensorflow as tf

import imae_tf
from imae_tf.errors import ImaeError
from imae_tf.export.client import inputs

DOCS = pathlib.Path(__file__).parent.parent / "docs"
pytestmark = pytest.mark.skipif(
    not DOCS.exists(), reason="the messages are collected in a checkout, which this is not"
)
def _messages():
  spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.messages()


@pytest.fixture(scope="module")
def messages():
  """{template of a message: the file that it stands in}."""
  return {text: room for room, texts in _messages().items() for text in texts}


@pytest.fixture(scope="module")
def model():
  keras.utils.set_random_seed(0)
  model = rows.make()
  model.compile(keras.optimizers.SGD(0.0))
  return model


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A folder with images and a finished run of them."""
  folder = tmp_path_factory.mktemp("finished")
  mend_world.train(folder, folder / "run")
  return folder


@pytest.fixture
def world(model, base, finished, tmp_path, monkeypatch):
  monkeypatch.delenv("TF_CONFIG", raising=False)
  monkeypatch.chdir(tmp_path)
  return mend_world.World(model, base, finished, tmp_path, monkeypatch)


def template_of(words, messages):
  found = [template for template in messages if words in template]
  assert len(found) == 1, f"{words!r} stands in {found}"
  return found[0]


def refused(call, words, messages):
  """The message of the error, which is that of the row's template."""
  template = template_of(words, messages)
  with pytest.raises(ImaeError) as error:
    call()
  pattern = re.sub(r"<\w+>", ".*", re.escape(template))
  assert re.fullmatch(pattern, str(error.value), re.DOTALL), f"{error.value}\nis not {template}"
  return str(error.value)


# ---- mends that are a value, and mends that are a line of Python ---------------------------------


@pytest.mark.parametrize("row", rows.VALUES, ids=lambda row: row[0])
def test_a_value_is_corrected(world, messages, row):
  words, use, *values = row
  wrong, right = (value(world) if _is_of_world(value) else value for value in values)
  refused(lambda: use(world, wrong), words, messages)
  use(world, right)


def _is_of_world(value):
  return getattr(value, "__name__", "") == "<lambda>"


def code_in(message):
  """The first expression of x in a message's mend."""
  mend = message[message.rindex("; ") + 2 :].rstrip(".") if "; " in message else message
  for start in [0, *(match.end() for match in re.finditer(r" ", mend))]:
    for end in range(len(mend), start + 1, -1):
      try:
        tree = ast.parse(mend[start:end].strip(), mode="eval")
      except SyntaxError:
        continue
      names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
      is_code = not isinstance(tree.body, (ast.Name, ast.Tuple))
      if is_code and names & {"x", "path", "data"} and names <= {"x", "path", "data", *TOOLS}:
        return mend[start:end].strip()
  raise AssertionError(f"no line of Python in {message}")


TOOLS = {"np": np, "tf": tf, "imae_tf": imae_tf, "bool": bool, "float": float, "list": list}


@pytest.mark.parametrize("row", rows.LINES, ids=lambda row: row[0])
def test_a_line_of_python_is_run_by_encode(world, messages, row):
  words, x = row
  message = refused(lambda: world.model.encode(x), words, messages)
  world.model.encode(eval(code_in(message), {**TOOLS, "x": x}))


@pytest.mark.parametrize("row", rows.PLAIN_LINES, ids=lambda row: row[0])
def test_a_line_of_python_is_run_by_the_client(messages, row):
  words, x = row
  message = refused(lambda: inputs.images(x), words, messages)
  assert inputs.images(eval(code_in(message), {**TOOLS, "x": x})).ndim == 4


@pytest.mark.parametrize("kind", ["path", "data"])
def test_a_path_or_a_data_set_is_read(world, messages, kind):
  given = {"path": world.npz(), "data": world.data()}
  words = "got the path" if kind == "path" else "give those of a split"
  message = refused(lambda: world.model.encode(given[kind]), words, messages)
  assert world.model.encode(eval(code_in(message), {**TOOLS, **given}))["y"].shape == (25, 10)


# ---- mends that are steps ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "steps"), mend_steps.STEPS, ids=lambda value: getattr(value, "__name__", "")
)
def test_steps_are_followed(world, messages, words, steps):
  following = steps(world)
  wrong = next(following)
  calls = wrong if isinstance(wrong, tuple) else (wrong,)
  told = [refused(call, text, messages) for text, call in zip(words, calls, strict=True)]
  following.send(told[0])()


# ---- mends that no test can follow ------------------------------------------------------------

TF_SERVING = "the words are TF Serving's; test_rest and test_rpc send the right requests, too"
PROGRAMS = "a flag of a program, whose right value the tests of the programs give"
NOT_FOLLOWED = {
    "several shapes, which `_one_shape` tells apart; see test_pixels": [
        "images of one shape<value>, got a",
    ],
    "an installation, or another version of a package": [
        "Keras with the backend tensorflow", "pip install 'imae_tf[<extra>]'", "got the newer",
        "got the older", "that TensorFlow <value> can load",
    ],
    "another process, host or server must act": [
        "to join the workers", "another worker of this job", "the chief on this worker",
        "TF_CONFIG for the strategy multi_worker", "saved progress just now", "SIGTERM in epoch",
        "SIGTERM in start",
        "SIGTERM after epoch", "at least one image for each of", "under <value>, got <value>; give",
    ],
    "the state of a disk, of memory or of permissions": [
        "to read and write files", "a folder that can be read", "images that fit into memory",
        "expected to write <path>", "an exact copy of", "to write and load a SavedModel",
        "bytes of decoded images in", "to remove the oldest", "a folder to write to as --base",
    ],
    "TFDS, whose own tests are in data/test_tfds_images": [
        "in the TFDS data set <name>, got none above", "with an image feature", "expected uint8",
        "a known number of channels", "images of one size", "a split 'train' in",
        "of which TFDS says", "prepared in <data_path>", "readable records of",
    ],
    "weights that are damaged: train again": [
        "finite terms", "a z_scale > 0", "finite codes, got NaN or infinity in", "finite codes to",
        "finite figures", "expected finite outputs of", "the warm-up request of",
        "from the written SavedModel",
    ],
    "a start among others, in training/test_starts": ["its loss was", "have collapsed: after"],
    "a file that changes while it is read": [
        "readable images in", "which was encoded before", "as it was when it was listed",
        "which was listed before",
    ],
    "the right call stands in data/test_folder_reading and its neighbours": [
        "images of one type in", "(32 bits); convert it", "in <path>; make it smaller",
        "images that can be read in", "each image in a subfolder", "labels of the images' files",
        "a label of every image", "--labels as folders or a CSV", "a first line with the columns",
        "of 1 or 3 channels to resize", "test and held-out images of the run",
        "images that differ",
    ],
    "a search of several trials, in search/test_driver": [
        "expected finite weights",
        "a completed trial, got <value> failed", "a completed trial, got none",
        "trials that train", "the search that <workdir> holds",
    ],
    PROGRAMS: [
        "--recipe=tuned or paper, for only",
        "expected flags alone", "--seeds as integers", "imae-<name> failed", "expected weights of",
        "either --saved_model", "got the archive of np.savez; rename", "[N, H, W] or [N, H, W, C]",
        "PNG or JPEG files, which", "expected images in <name>, got none", "a number, got nan",
        "a file at <path>, got none", "of a plain array", "--workdir, or --rollback",
        "a free address", "--output or --sort_into", "a folder of images as --input",
    ],
    "the right call stands in export/test_align": [
        "images to align with", "a version for images of shape", "a version with <name>",
    ],
    "an answer of a server, in export/client": [
        "an open client", "as many rows of y as of z, got <value> and <value>; send",
        "rows of each output from", "<name>: <error>", "a loaded version of", "proxies and",
    ],
    TF_SERVING: [
        "at most <value> rows in", "Unrecognized servable", "Could not find <what>",
        "an answer within",
    ],
    "a part of another message": ["expected <value>, got <text>"],
}
ROOMS_NOT_FOLLOWED = {
    "export/client/failures.py": "an answer of a server, in export/client",
    "export/decoding.py": "an assertion of the graph; export/test_image_bytes sends what is right",
    "export/graph_checks.py": "the same",
    "export/savedmodel.py": "an assertion of the graph; exporters' tests send what is right",
    "export/server/batching.py": TF_SERVING,
    "export/server/json_tensors.py": TF_SERVING,
    "export/server/page.py": "the page of a SavedModel that is not ours",
    "export/server/rest.py": TF_SERVING,
    "export/server/rpc.py": TF_SERVING,
    "export/server/version.py": TF_SERVING,
}


def test_every_message_has_a_row(messages):
  words = [row[0] for row in (*rows.VALUES, *rows.LINES, *rows.PLAIN_LINES)]
  words += ["got the path", "give those of a split"]
  words += [text for texts, _ in mend_steps.STEPS for text in texts]
  words += [text for texts in NOT_FOLLOWED.values() for text in texts]
  told = {template_of(text, messages) for text in words}
  silent = {
      template: room
      for template, room in messages.items()
      if template not in told and room not in ROOMS_NOT_FOLLOWED and template.strip() != "expected"
  }
  assert not silent, silent
