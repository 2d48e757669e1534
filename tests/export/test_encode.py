"""`imae-encode`: the SavedModel's codes of files and data sets, without Keras."""

import contextlib
import csv
import json
import shutil
import socket
import subprocess
import sys
import threading

import fake_servers
import keras
import numpy as np
import PIL.Image
import pytest
import real_server
import sklearn.datasets
from exports import assert_same_arrays

from imae_tf import IMAE
from imae_tf import networks
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import codes
from imae_tf.export import savedmodel
from imae_tf.export import tables
from imae_tf.export import versions

K1, K2 = 3, 5
NAMES = ["cat", "1", "a dog", "3", "Ü"]
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), np.uint8)

# Runs imae-encode once per command line, where neither Keras nor the model's code can be
# imported, and prints [exit status, stdout, stderr] of each.
_ENCODES = """
import contextlib, io, json, sys
for name in ("keras", "tf_keras", "tensorflow_probability", "imae_tf.models"):
  sys.modules[name] = None
from absl import flags
from imae_tf._shared import locks
from imae_tf.export import codes, encode
call = codes.Encoder.__call__
results = []
for arguments in json.loads(sys.argv[1]):
  left = [None] * arguments.pop("batches", 1_000)  # those after which it is interrupted
  def stopping(self, images):
    if not left:
      raise KeyboardInterrupt
    left.pop()
    return call(self, images)
  codes.Encoder.__call__ = stopping
  for name in ("output", "sort_into"):
    flags.FLAGS[name].unparse()
  twin = locks.locked_output(arguments["output"])  # the same command, still at work
  twin = twin if arguments.pop("twin", False) else contextlib.nullcontext()
  sys.argv = ["imae-encode", *(f"--{k}={v}" for k, v in arguments.items() if v != "")]
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), twin:
    try:
      encode.cli()
    except SystemExit as status:
      results.append([status.code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


def make_model(seed):
  keras.utils.set_random_seed(seed)
  return IMAE(
      *networks.mlp((8, 8, 1), K2, K1, encoder_units=(16,), decoder_units=(16,)),
      num_categories=K2,
      latent_dim=K1,
  )


@pytest.fixture(scope="module")
def model():
  return make_model(seed=2)


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
  """Versions 9 and 10 of two models; `model` is the newer one."""
  base = tmp_path_factory.mktemp("base")
  savedmodel.write(make_model(seed=1), base / "9")
  savedmodel.write(model, base / "10")
  (base / ".tmp-killed").mkdir()
  return base


@pytest.fixture
def damaged(base, tmp_path):
  """A copy of a version that a test may damage."""
  shutil.copytree(base / "10", tmp_path / "1")
  return tmp_path / "1"


def read_csv(path):
  """(header, file names, codes as in a .npz, categories, confidences)."""
  with open(path, newline="") as file:
    header, *rows = csv.reader(file)
  table = np.array([row[3:] for row in rows], "float32")
  y, z, scale = np.split(table, [K2, K2 + K1], axis=1)
  names, categories, confidences = zip(*(row[:3] for row in rows))
  return header, names, {"y": y, "z": z, "z_scale": scale}, categories, confidences


@pytest.fixture(scope="module")
def runs(model, base, tmp_path_factory):
  """(folder, {what was run: [exit status, stdout, stderr]}) of one process."""
  folder = tmp_path_factory.mktemp("encode")
  np.save(folder / "images.npy", PIXELS)
  np.save(folder / "large.npy", np.zeros((2, 9, 8), np.uint8))
  np.savez(folder / "images.npz", x=PIXELS)
  (folder / "files").mkdir()
  for index, image in enumerate(PIXELS):
    PIL.Image.fromarray(image[..., 0]).save(folder / "files" / f"{index}.png")
  (folder / "half.npy").write_bytes((folder / "images.npy").read_bytes()[:-50])

  savedmodel.write(model, folder / "named" / "1", category_names=NAMES)

  def command(source, output, **flags):
    return {"saved_model": base, "input": source, "output": folder / output,
            "split": "test", "batch_size": 4, **flags}

  commands = {
      "npy": command(folder / "images.npy", "npy.npz"),
      "older": command(folder / "images.npy", "older.npz", saved_model=base / "9"),
      "npz": command(folder / "images.npz", "npz.npz"),
      "train": command(folder / "images.npz", "train.npz", split="train"),
      "files": command(folder / "files", "files.csv"),
      "digits": command("digits", "digits.npz", batch_size=512),
      "array": command("digits", "digits.csv", batch_size=512),
      "shape": command(folder / "large.npy", "shape.npz"),
      "half": command(folder / "half.npy", "half.npz"),
      "split": command("digits", "split.npz", split="validation"),
      "unknown": command("digitz", "unknown.npz"),
      "suffix": command("digits", "codes.txt"),
      "folder": command("digits", "nowhere/codes.npz"),
      "model": command("digits", "model.npz", saved_model=folder / "nowhere"),
      "no version": command("digits", "version.npz", saved_model=folder),
      "no folder": command("digits", "sorted.csv", sort_into="sorted"),
      "full folder": command(folder / "files", "sorted.csv", sort_into=folder),
      "stopped": command(folder / "files", "again.csv", batches=1),
      "twin": command(folder / "files", "again.csv", twin=True),
      "again": command(folder / "files", "again.csv", batches=1),
      "stopped array": command("digits", "digits2.csv", batch_size=100, batches=3),
      "array again": command("digits", "digits2.csv", batch_size=100, batches=1),
      "array at once": command("digits", "digits3.csv", batch_size=100),
      "named": command(
          folder / "files", "named.csv", saved_model=folder / "named", sort_into="by_name"
      ),
      # The last one: what it is given, the process keeps.
      "sorted": {
          **command(folder / "files", "no codes", sort_into="sorted", link=True),
          "by_confidence": True, "output": "",
      },
  }
  done = subprocess.run(
      [sys.executable, "-c", _ENCODES, json.dumps(list(commands.values()), default=str)],
      capture_output=True,
      check=True,
      cwd=folder,
      text=True,
  )
  results = json.loads(done.stdout.splitlines()[-1])
  return folder, dict(zip(commands, results, strict=True))


class TestProgram:

  @pytest.mark.parametrize("name", ["npy", "files", "npz", "train", "older", "digits", "array"])
  def test_runs_without_keras(self, runs, name):
    status, out, err = runs[1][name]
    assert (status, err) == (0, "")
    assert "Wrote the codes of " in out

  def test_array(self, model, runs):
    with np.load(runs[0] / "npy.npz") as written:
      assert {written[name].dtype for name in written} == {np.dtype("float32")}
      assert_same_arrays(written, model.encode(PIXELS.astype("float32") / 255))

  def test_a_version_by_its_own_name(self, runs):
    with np.load(runs[0] / "older.npz") as written:
      expected = make_model(seed=1).encode(PIXELS.astype("float32") / 255)
      assert_same_arrays(written, expected)

  def test_splits_of_an_npz(self, model, runs):
    expected = model.encode(PIXELS.astype("float32") / 255)
    for split, rows in (("train", slice(0, 5)), ("npz", slice(5, 7))):
      with np.load(runs[0] / f"{split}.npz") as written:
        assert_same_arrays(written, {name: value[rows] for name, value in expected.items()})

  def test_folder_of_images_to_csv(self, model, runs):
    header, names, written, categories, confidences = read_csv(runs[0] / "files.csv")
    assert header == [
        "file", "category", "confidence", "y_0", "y_1", "y_2", "y_3", "y_4", "z_0", "z_1", "z_2",
        "z_scale_0", "z_scale_1", "z_scale_2",
    ]
    assert names == tuple(f"{index}.png" for index in range(7))
    expected = model.encode(PIXELS.astype("float32") / 255)
    assert_same_arrays(written, expected)
    assert list(map(int, categories)) == list(np.argmax(expected["y"], axis=1))
    np.testing.assert_allclose(list(map(float, confidences)), expected["y"].max(axis=1), rtol=1e-5)

  def test_files_sorted_beside_no_codes(self, runs):
    status, out, err = runs[1]["sorted"]
    assert err == ""
    assert status == 0 and out.endswith("Sorted 7 files by category into sorted.\n")
    _, names, _, categories, confidences = read_csv(runs[0] / "files.csv")
    certain = sorted(range(7), key=lambda i: -float(confidences[i]))
    expected = set()
    for category in set(categories):
      members = [i for i in certain if categories[i] == category]
      expected |= {f"{category}/{rank}-{names[i]}" for rank, i in enumerate(members, 1)}
    found = {str(p.relative_to(runs[0] / "sorted")): p for p in (runs[0] / "sorted").glob("*/*")}
    assert found.keys() == expected
    for name, path in found.items():
      assert path.is_symlink() and path.resolve() == runs[0] / "files" / name.partition("-")[2]

  def test_data_set(self, model, runs):
    digits = sklearn.datasets.load_digits().images[1437:, ..., None].astype("float32") / 16
    with np.load(runs[0] / "digits.npz") as written:
      assert_same_arrays(written, model.encode(digits))

  def test_categories_have_the_names_that_were_exported(self, runs):
    assert runs[1]["named"][0] == 0
    _, files, _, categories, _ = read_csv(runs[0] / "files.csv")
    _, _, _, names, _ = read_csv(runs[0] / "named.csv")
    assert names == tuple(NAMES[int(category)] for category in categories)
    found = {p.relative_to(runs[0] / "by_name").as_posix() for p in runs[0].glob("by_name/*/*")}
    assert found == {f"{name}/{file}" for name, file in zip(names, files)}

  @pytest.mark.parametrize(
      ("stopped", "again", "count", "tables"),
      [
          ("stopped", "again", 4, ("again.csv", "files.csv")),
          ("stopped array", "array again", 300, ("digits2.csv", "digits3.csv")),
      ],
  )
  def test_the_same_command_goes_on(self, runs, stopped, again, count, tables):
    assert runs[1][stopped][0] == 130
    status, out, _ = runs[1][again]  # of which one batch was allowed
    assert status == 0 and f"Going on after the {count} images that" in out
    one, whole = (runs[0] / name for name in tables)
    assert one.read_bytes() == whole.read_bytes()

  def test_images_without_names_have_their_index(self, runs):
    with open(runs[0] / "digits.csv", newline="") as file:
      header, *rows = csv.reader(file)
    assert header[0] == "index" and [row[0] for row in rows] == list(map(str, range(360)))
    with np.load(runs[0] / "digits.npz") as written:
      values = np.concatenate([written[name] for name in ("y", "z", "z_scale")], axis=1)
    np.testing.assert_array_equal(np.array([row[3:] for row in rows], "float32"), values)

  @pytest.mark.parametrize(
      "name,sentence",
      [
          ("shape", "expected images of shape [8, 8, 1]"),
          ("half", "half.npy, which cannot be read"),
          ("split", "got 'validation'"),
          ("unknown", "got 'digitz'"),
          ("suffix", "expected an --output that ends in .npz or .csv, got"),
          ("folder", "expected an existing folder for --output, got"),
          ("model", "expected a SavedModel, or a base folder of versions, at"),
          ("no version", "expected integer version folders in"),
          ("no folder", "expected a folder of images as --input for --sort_into, got digits"),
          ("twin", "expected an --output that no other process writes, got"),
          ("full folder", "expected a new or empty folder to sort into, got "),
      ],
  )
  def test_errors_are_one_line(self, runs, name, sentence):
    status, out, err = runs[1][name]
    assert (status, out) == (1, "")
    assert err.startswith("imae-encode: error: ") and sentence in err
    assert err.count("\n") == 1

  def test_only_whole_outputs_are_there(self, runs):
    written = {path.name for path in runs[0].iterdir() if not path.name.startswith("images")}
    assert written == {
        "npy.npz", "older.npz", "npz.npz", "train.npz", "files.csv", "digits.npz", "digits.csv",
        "large.npy", "half.npy", "files", "sorted", "named", "named.csv", "by_name",
        "again.csv", "digits2.csv", "digits3.csv",
    }

  def test_help_does_not_wait_for_tensorflow(self, tmp_path):
    script = (  # what a console script is
        "import sys\n"
        "from imae_tf.export.encode import cli\n"
        "try:\n"
        "  cli()\n"
        "finally:\n"
        "  assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    done = subprocess.run(  # absl's --help exits with status 1
        [sys.executable, "-c", script, "--help"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("imae-encode: images to (y, z) codes")
    for flag in ("--saved_model", "--endpoint", "--input", "--output", "--split", "--batch_size"):
      assert flag in done.stdout
    assert "makes colours grey for a model of grey images" in " ".join(done.stdout.split())


class TestEncoder:

  def test_image_shape_and_codes(self, model, base):
    encoder = codes.Encoder(base / "10")
    assert encoder.image_shape == (8, 8, 1)
    images = PIXELS.astype("float32") / 255
    joined = codes.encode_batches(encoder, [images[:4], images[4:]], n=7)
    assert_same_arrays(joined, model.encode(images))

  @pytest.mark.parametrize(
      "file",
      ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"],
  )
  @pytest.mark.parametrize("kept", [None, 0, 100, 0.5, 0.99])
  def test_missing_and_truncated_files(self, damaged, file, kept):
    content = (damaged / file).read_bytes()
    if kept is None:
      (damaged / file).unlink()
    else:
      size = kept if isinstance(kept, int) else int(kept * len(content))
      (damaged / file).write_bytes(content[:size])
    with pytest.raises(InputError, match="expected a whole SavedModel .*; copy or export it"):
      codes.Encoder(damaged)

  @pytest.mark.parametrize("seed", range(3))
  def test_corrupt_weights(self, damaged, seed):
    file = damaged / "variables" / "variables.data-00000-of-00001"
    content = bytearray(file.read_bytes())
    content[np.random.default_rng(seed).integers(4 * 500)] ^= 0x10  # inside the weights
    file.write_bytes(content)
    with pytest.raises(InputError, match="expected a whole SavedModel"):
      codes.Encoder(damaged)

  def test_another_saved_model(self, tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    network.export(tmp_path / "other", verbose=False)
    with pytest.raises(InputError, match="serving_default turns x into y, z and z_scale"):
      codes.Encoder(tmp_path / "other")


class TestVersions:

  def test_the_largest_integer_wins(self, base):
    assert versions.find(base) == base / "10"
    assert versions.find(base / "9") == base / "9"
    assert list(versions.versions(base)) == [9, 10]

  def test_files_and_other_names_are_no_versions(self, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "2").write_text("")
    for name in ("3a", "-4", "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT FIVE}"):
      (tmp_path / name).mkdir()
    assert versions.versions(tmp_path) == {1: tmp_path / "1"}


CODES = {
    "y": np.array([[0.25, 0.75], [1, 0]], "float32"),
    "z": np.array([[1 / 3], [-1e-30]], "float32"),
    "z_scale": np.array([[0.1], [20]], "float32"),
}


class TestWrite:

  def test_csv_gives_float32_back_exactly(self, tmp_path):
    codes.write(tmp_path / "codes.csv", CODES)
    table = np.loadtxt(tmp_path / "codes.csv", delimiter=",", skiprows=1, dtype="float32")
    np.testing.assert_array_equal(table[:, :3], [[0, 1, 0.75], [1, 0, 1]])
    np.testing.assert_array_equal(table[:, 3:], np.concatenate([*CODES.values()], axis=1))

  @pytest.mark.parametrize("suffix", codes.SUFFIXES)
  def test_a_failed_write_leaves_the_older_file(self, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"codes{suffix}"
    path.write_text("older")

    def full(file, *args, **kwargs):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(tables, "lines", full)
    with pytest.raises(ImaeError, match="expected to write .*No space left on device; free"):
      codes.write(path, CODES)
    assert path.read_text() == "older"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

  def test_output_that_is_a_folder(self, tmp_path):
    (tmp_path / "codes.npz").mkdir()
    with pytest.raises(InputError, match="expected a file as --output, got the folder"):
      codes.write(tmp_path / "codes.npz", CODES)


@pytest.fixture(scope="module")
def endpoints(base):
  """The REST and the gRPC address of a server of `base`."""
  with real_server.served(base) as (rest, grpc, _):
    yield {"http": rest, "grpc": grpc}


def encode_there(folder, commands):
  """[[exit status, stdout, stderr]] of imae-encode, without TensorFlow if no data set is asked."""
  blocked = '"tensorflow", ' if all(c["input"] != "digits" for c in commands) else ""
  script = _ENCODES.replace('("keras"', f'({blocked}"keras"')
  done = subprocess.run(
      [sys.executable, "-c", script, json.dumps(commands, default=str)],
      capture_output=True, check=True, cwd=folder, text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def answers(endpoints, tmp_path_factory):
  """As `runs`, by a server."""
  folder = tmp_path_factory.mktemp("endpoint")
  np.save(folder / "images.npy", PIXELS[..., 0])
  np.save(folder / "large.npy", np.zeros((2, 9, 8), np.uint8))
  np.save(folder / "empty.npy", np.zeros((0, 8, 8), np.uint8))
  (folder / "half.npy").write_bytes((folder / "images.npy").read_bytes()[:-50])
  for name in ("files", "bitmaps", "nothing"):
    (folder / name).mkdir()
  (folder / "bitmaps" / "a.bmp").write_bytes(b"BM")
  for index, image in enumerate(PIXELS):
    PIL.Image.fromarray(image[..., 0]).save(folder / "files" / f"{index}.png")

  def command(source, output="never.npz", **flags):
    return {"endpoint": endpoints["http"], "input": source, "output": output,
            "model_name": "imae", "batch_size": 4, **flags}

  commands = {
      "neither": {"input": "images.npy", "output": "never.npz"},
      "http": command("images.npy", "http.npz"),
      "grpc": command("images.npy", "grpc.npz", endpoint=endpoints["grpc"]),
      "files": command("./files", "files.csv"),
      "shape": command("large.npy"),
      "half": command("half.npy"),
      "nowhere": command("nowhere.npy"),
      "empty": command("empty.npy"),
      "bitmaps": command("./bitmaps"),
      "nothing": command("./nothing"),
      "suffix": command("images.npy", "codes.txt"),
      "endpoint": command("images.npy", endpoint="127.0.0.1"),
      "model": command("images.npy", model_name="other"),
      "both": command("images.npy", saved_model="x"),  # last: what it was given, it keeps
  }
  results = encode_there(folder, list(commands.values()))
  return folder, dict(zip(commands, results, strict=True))


class TestEndpoint:

  @pytest.mark.parametrize("protocol", ["http", "grpc"])
  def test_array(self, model, endpoints, answers, protocol):
    folder, results = answers
    assert results[protocol] == [
        0,
        "Wrote the codes of 7 images, encoded by version 10 of imae at"
        f" {endpoints[protocol]}, to {protocol}.npz.\n",
        "",
    ]
    with np.load(folder / f"{protocol}.npz") as written:
      assert_same_arrays(written, model.encode(PIXELS.astype("float32") / 255))

  def test_folder(self, model, answers):
    folder, results = answers
    assert results["files"][::2] == [0, ""]
    _, names, written, _, _ = read_csv(folder / "files.csv")
    assert names == tuple(f"{index}.png" for index in range(7))
    assert_same_arrays(written, model.encode(PIXELS.astype("float32") / 255))

  def test_data_set(self, model, endpoints, tmp_path):
    command = {"endpoint": endpoints["grpc"], "input": "digits", "output": "codes.npz"}
    assert encode_there(tmp_path, [command])[0][::2] == [0, ""]
    digits = sklearn.datasets.load_digits().images[1437:, ..., None].astype("float32") / 16
    with np.load(tmp_path / "codes.npz") as written:
      assert_same_arrays(written, model.encode(digits))

  def test_a_mistyped_endpoint_is_told_soon(self, tmp_path):
    np.save(tmp_path / "images.npy", PIXELS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
      calls = []

      def hang_up():
        with contextlib.suppress(OSError):  # the listener is closed
          while True:
            connection, _ = listener.accept()
            calls.append("a connection")
            connection.close()

      threading.Thread(target=hang_up, daemon=True).start()
      endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
      command = {"endpoint": endpoint, "input": "images.npy", "output": "a.npz"}
      status, _, err = encode_there(tmp_path, [command])[0]
      listener.shutdown(socket.SHUT_RDWR)  # which ends the thread; to close does not
    assert status == 1 and "expected a server that answers at" in err
    assert len(calls) == 3  # not nine, as a Client tries by itself

  @pytest.mark.parametrize("protocol", fake_servers.SERVERS)
  def test_a_server_that_restarts_meanwhile(self, tmp_path, protocol):
    fake = fake_servers.Fake()
    fake.failures.extend([("UNAVAILABLE", "starting")] * 4)
    server = fake_servers.SERVERS[protocol](fake)
    np.save(tmp_path / "images.npy", PIXELS)
    command = {"endpoint": server.endpoint, "input": "images.npy", "output": "codes.npz"}
    assert encode_there(tmp_path, [command])[0][::2] == [0, ""]
    server.stop()
    with np.load(tmp_path / "codes.npz") as written:
      assert_same_arrays(written, fake_servers.codes_of(PIXELS.astype("float32") / 255))

  @pytest.mark.parametrize(
      "name,sentence",
      [
          ("neither", "expected either --saved_model or --endpoint, got neither"),
          ("shape", "expected images x of shape [N, 8, 8, 1]"),
          ("half", "half.npy, which cannot be read"),
          ("nowhere", "expected a file at nowhere.npy, got none"),
          ("empty", "expected images in empty.npy, got none"),
          ("bitmaps", "expected PNG or JPEG files, which a server decodes, in ./bitmaps, got"),
          ("nothing", "expected images in ./nothing, got none"),
          ("suffix", "expected an --output that ends in .npz or .csv"),
          ("endpoint", "expected an endpoint such as http://127.0.0.1:8501 or"),
          ("model", "expected a model that"),
          ("both", "expected either --saved_model or --endpoint, got both"),
      ],
  )
  def test_errors_are_one_line(self, answers, name, sentence):
    status, out, err = answers[1][name]
    assert (status, out) == (1, "")
    assert err.startswith("imae-encode: error: ") and sentence in err
    assert err.count("\n") == 1

  def test_only_whole_outputs_are_there(self, answers):
    assert {path.name for path in answers[0].iterdir()} == {
        "images.npy", "large.npy", "empty.npy", "half.npy", "files", "bitmaps", "nothing",
        "http.npz", "grpc.npz", "files.csv",
    }
