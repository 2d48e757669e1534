"""Errors whose mend takes steps, such as to move a file.

A function of `STEPS` yields one call or several that are refused, is sent the message of the first,
follows it, and yields a call that passes. Its argument is a `mend_world.World`.
`tests/test_mends.py` runs them.
"""

import dataclasses
import os
import pathlib
import re
import shutil

import keras
import mend_rows as rows
import numpy as np
import PIL.Image
import searches
import tensorflow as tf
from mend_world import CONFIG

from imae_tf._shared import category_names
from imae_tf._shared import files
from imae_tf._shared import formats
from imae_tf._shared import locks
from imae_tf.data import loading
from imae_tf.export import codes
from imae_tf.export import publish
from imae_tf.export import sorting
from imae_tf.export import versions
from imae_tf.export.client import inputs
from imae_tf.export.server import core
from imae_tf.search import driver
from imae_tf.search import trials
from imae_tf.training import distribution
from imae_tf.training import evaluation
from imae_tf.training import run_folder

STEPS = []


def mends(*words):
  """Keeps a function as the steps of the messages with these words, one for each refused call."""
  def keep(steps):
    STEPS.append((words, steps))
    return steps

  return keep


@mends("got one image at a time")
def a_generator_gives_batches(w):
  singles = lambda: ((image, 3) for image in rows.BYTES)
  message = yield lambda: w.model.encode(singles())
  whole = eval(re.search(r"at once as (.*)\.$", message)[1], {"np": np, "x": singles()})
  np.testing.assert_array_equal(whole, rows.BYTES)
  yield lambda: w.model.encode(np.stack(whole[i : i + 16]) for i in (0, 16))


@mends("an empty folder or <whose>")
def another_workdir(w):
  (w.folder / "notes.txt").write_text("mine")
  yield lambda: run_folder.check(w.folder, CONFIG)
  yield lambda: run_folder.check(w.folder / "other", CONFIG)


@mends("a folder, got the file")
def a_folder_for_a_file(w):
  (w.folder / "file").write_text("mine")
  yield lambda: run_folder.check(w.folder / "file", CONFIG)
  yield lambda: run_folder.check(w.folder / "other", CONFIG)


@mends("no one trains in")
def wait_for_another_process(w):
  with locks.locked(w.folder):
    yield lambda: locks.locked(w.folder).__enter__()
  yield lambda: locks.locked(w.folder).__enter__()


@mends("an --output that no other process writes")
def wait_for_another_command(w):
  codes_csv = w.folder / "codes.csv"
  with locks.locked_output(codes_csv):
    yield lambda: locks.locked_output(codes_csv).__enter__()
  yield lambda: locks.locked_output(codes_csv).__enter__()


@mends("got no such file; restore it")
def restore_a_file(w):
  yield lambda: files.read_json(w.folder / "a.json")
  (w.folder / "a.json").write_text("{}")
  yield lambda: files.read_json(w.folder / "a.json")


@mends("expected JSON in")
def restore_config_json(w):
  kept = (w.run() / "config.json").read_text()
  (w.folder / "run/config.json").write_text("{")
  message = yield lambda: run_folder.read_config(w.folder / "run")
  assert "delete" not in message  # which would leave a folder that is nobody's
  (w.folder / "run/config.json").write_text(kept)
  yield lambda: run_folder.read_config(w.folder / "run")


@mends("expected JSON in")
def move_the_checkpoint_of_damaged_sums(w):
  folder = w.folder / "checkpoints"
  folder.mkdir()
  for name in ("epoch-0002.keras", "epoch-0002-step-000001.keras"):
    (folder / name).write_bytes(b"a model")
  (folder / "epoch-0002-step-000001.json").write_text("{")
  read = lambda: run_folder.newest_checkpoint(folder.parent).log_sums()
  message = yield read
  assert "move epoch-0002-step-000001.keras out of the folder" in message
  (folder / "epoch-0002-step-000001.keras").rename(w.folder / "moved.keras")
  yield read


@mends("expected format <version> in <path>, got <written>")
def restore_the_format(w):
  yield lambda: formats.check("a.json", {}, 1)
  yield lambda: formats.check("a.json", {"format": 1}, 1)


@mends("the configuration of the run in")
def repeat_the_first_command(w):
  yield lambda: run_folder.check(w.run(), {**CONFIG, "seed": 1})
  run_folder.check(w.folder / "run", CONFIG)
  yield lambda: run_folder.check(w.folder / "other", {**CONFIG, "seed": 1})


@mends("images of <whose>, got others")
def name_the_place_of_the_images(w):
  ours, others = ({"n": 9, "checksum": checksum} for checksum in ("ab", "cd"))
  here = {**CONFIG, "dataset": "/here"}
  message = yield lambda: run_folder.check(w.run(dataset="/here", data=ours),
                                           {**here, "data": others})
  assert "name with --dataset where they are" in message
  run_folder.check(w.folder / "run", {**here, "data": ours})
  run_folder.check(w.folder / "other", {**here, "data": others})
  yield lambda: run_folder.check(w.folder / "run", {**CONFIG, "dataset": "/there", "data": ours})


@mends("until they are evaluated")
def evaluate_when_the_epochs_are_trained(w):
  held = lambda config: evaluation._still_the_same(w.folder / "run", config).__enter__()
  before = run_folder.read_config(w.run())
  run_folder.start(w.folder / "run", {**CONFIG, "epochs": 6})
  yield lambda: held(before)
  yield lambda: held(run_folder.read_config(w.folder / "run"))


@mends("until the search ends")
def put_back_the_images_of_a_search(w):
  path, described = pathlib.Path(w.npz()), searches.describe()
  run = dataclasses.replace(described.run, dataset=str(path))
  trainer = trials.Trainer(dataclasses.replace(described, run=run), w.data(), w.folder)
  path.rename(w.folder / "away.npz")
  yield trainer._check_images
  (w.folder / "away.npz").rename(path)
  yield trainer._check_images


@mends("one row of numbers")
def restore_the_history(w):
  history = w.run() / "history.csv"
  history.write_text("epoch,loss\n1,x\n")
  yield lambda: run_folder.read_history(w.folder / "run")
  history.write_text("epoch,loss\n1,2.5\n")
  yield lambda: run_folder.read_history(w.folder / "run")


@mends("got the search")
def give_the_best_run(w):
  w.run().rename(w.folder / "best")
  (w.folder / "search.json").write_text("{}")
  message = yield lambda: run_folder.read_config(w.folder)
  yield lambda: run_folder.read_config(re.search("give (.*), which", message).group(1))


@mends("got the comparison")
def give_a_run_of_the_comparison(w):
  (w.folder / "runs/digits/imae").mkdir(parents=True)
  w.run().rename(w.folder / "runs/digits/imae/seed-0")
  message = yield lambda: run_folder.read_config(w.folder)
  yield lambda: run_folder.read_config(re.search("as (.*)[.]", message).group(1))


@mends("a run in <workdir>, got no")
def correct_the_path_of_a_run(w):
  yield lambda: run_folder.read_config(w.folder / "nowhere")
  yield lambda: run_folder.read_config(w.run())


@mends("expected <value> in <path>, got none; restore")
def restore_an_entry(w):
  path = w.run() / "config.json"
  kept = path.read_text()
  path.write_text('{"format": 1}')
  yield lambda: run_folder.read_config(w.folder / "run")
  path.write_text(kept)
  yield lambda: run_folder.read_config(w.folder / "run")


@mends("a finished run in")
def run_imae_train_again(w):
  (w.trained() / "model.keras").unlink()
  yield lambda: run_folder.load_model(w.folder / "trained")
  w.train()
  yield lambda: run_folder.load_model(w.folder / "trained")


@mends("got a damaged <path>")
def delete_a_damaged_checkpoint(w):
  path = w.trained() / "checkpoints/epoch-0002.keras"
  os.truncate(path, path.stat().st_size // 2)
  yield lambda: w.train()
  path.unlink()
  yield lambda: w.train()


@mends("a checkpoint of this run")
def move_a_foreign_checkpoint(w):
  path = w.trained() / "checkpoints/epoch-0002.keras"
  w.model.save(path)
  yield lambda: w.train()
  path.rename(w.folder / "elsewhere.keras")
  yield lambda: w.train()


@mends("a model of imae_tf in", "a zip that Keras wrote")
def give_the_file_of_a_model(w):
  keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(w.folder / "other.keras")
  w.npz("zip.keras.npz")
  (w.folder / "zip.keras.npz").rename(w.folder / "zip.keras")
  w.model.save(w.folder / "ours.keras")
  yield (
      lambda: run_folder.load_keras(w.folder / "other.keras"),
      lambda: run_folder.load_keras(w.folder / "zip.keras"),
  )
  yield lambda: run_folder.load_keras(w.folder / "ours.keras")


@mends("which needs <needs>")
def import_the_module_that_registers_a_class(w):
  class Mine(keras.layers.Dense):
    pass

  register = keras.saving.register_keras_serializable("test_mends")
  network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), register(Mine)(4)])
  rows.make(encoder=network).save(w.folder / "model.keras")
  keras.saving.get_custom_objects().pop("test_mends>Mine")
  message = yield lambda: run_folder.load_keras(w.folder / "model.keras")
  assert "import the module that registers it first" in message
  register(Mine)
  yield lambda: run_folder.load_keras(w.folder / "model.keras")


# Images


def saved(words, wrong, right, name="images.npz"):
  """A file that is written again: with other arrays, or as bytes."""
  def steps(w):
    def write(content):
      path = pathlib.Path(w.npz(name, **(content if isinstance(content, dict) else {})))
      if isinstance(content, bytes):
        path.write_bytes(content)

    write(wrong)
    yield lambda: loading.load(w.folder / name)
    write(right)
    yield lambda: loading.load(w.folder / name)

  mends(words)(steps)


HUGE = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999,)}"
X = {"x": rows.BYTES}
saved("under the name 'x' in", {"images": rows.BYTES}, X)
saved("images in <name>, got the empty shape", {"x": rows.BYTES[:0]}, X)
saved("integer labels 'y'", {**X, "y": np.zeros((32, 2))}, X)
saved("a whole NumPy file of plain arrays", b"PK half a file", X)
saved("its header tells", HUGE.ljust(127) + b"\n", X)


@mends("an array in <path>, got the archive of np.savez with")
def rename_an_archive(w):
  pathlib.Path(w.npz()).rename(w.folder / "x.npy")
  yield lambda: loading.input_batches(w.folder / "x.npy", "test", 8)
  (w.folder / "x.npy").rename(w.folder / "x.npz")
  yield lambda: loading.input_batches(w.folder / "x.npz", "test", 8)


@mends("a file at <path>, got <kind>", "a .npz, a .npy or a folder of images at")
def correct_the_path_of_images(w):
  yield lambda: loading.load("./nowhere.npz"), lambda: loading.load("./nowhere")
  yield lambda: loading.load(w.npz())


def pillow(message, folder):
  """Runs a message's line of Pillow on each file of a folder."""
  for file in folder.iterdir():
    code = re.search(r"example with (?:pixels = (.*?) and )?(PIL\..*?save\(file\))", message)
    given = {"PIL": PIL, "np": np, "file": file}
    given["pixels"] = eval(code.group(1), given) if code.group(1) else None
    eval(code.group(2), given)


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


@mends("make each file brighter")
def make_files_brighter(w):
  folder = w.images(*[GREY // 128] * 5)
  message = yield lambda: loading.load(folder)
  pillow(message, folder)
  yield lambda: loading.load(folder)


@mends("expected <expected>, got <path>, which cannot be read")
def remove_a_damaged_image(w):
  path = w.images() / "2.png"
  path.write_bytes(b"\x89PNG half")
  strict = lambda: loading.load(path.parent, on_bad_file="fail")
  yield strict
  path.unlink()
  yield strict


@mends("expected image files")
def name_a_folder_of_images(w):
  (w.folder / "empty").mkdir()
  yield lambda: loading.load(w.folder / "empty")
  yield lambda: loading.load(w.images())


# Processes and exports


def tf_config(words, text):
  def steps(w):
    w.patch.setenv("TF_CONFIG", text)
    message = yield lambda: distribution.open_job()
    assert "give --strategy=none" in message
    distribution.open_job("mirrored")
    yield lambda: distribution.open_job("none")

  mends(words)(steps)


tf_config("chief and worker tasks in", '{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}}')
tf_config("expected TF_CONFIG like", "{cluster")


@mends("expected no <value>, got <value>; unset them")
def unset_what_keras_tuner_reads(w):
  w.patch.setenv("KERASTUNER_TUNER_ID", "chief")
  yield lambda: driver._check_environment()
  w.patch.delenv("KERASTUNER_TUNER_ID")
  yield lambda: driver._check_environment()


@mends("an existing folder for --output")
def make_the_folder_first(w):
  yield lambda: codes.check_output(w.folder / "new/a.npz")
  (w.folder / "new").mkdir()
  yield lambda: codes.check_output(w.folder / "new/a.npz")


@mends("a file as --output")
def rename_the_output(w):
  (w.folder / "a.npz").mkdir()
  yield lambda: codes.check_output(w.folder / "a.npz")
  yield lambda: codes.check_output(w.folder / "b.npz")


@mends("expected names.json or names.csv")
def remove_one_of_the_files_of_names(w):
  (w.folder / "names.json").write_text("{}")
  (w.folder / "names.csv").write_text("category,name\n")
  yield lambda: category_names.of_run(w.folder, 3)
  (w.folder / "names.csv").unlink()
  yield lambda: category_names.of_run(w.folder, 3)


@mends("a new or empty folder to sort into")
def give_another_folder_to_sort_into(w):
  images = w.images()
  yield lambda: sorting.check_target(images / "sorted", images)
  yield lambda: sorting.check_target(w.folder / "sorted", images)


@mends("an image file at <name>")
def correct_the_path_of_a_file(w):
  send = lambda path: inputs.content(inputs.files([path])[0])
  yield lambda: send(w.folder / "no.png")
  yield lambda: send(w.images() / "0.png")


@mends("each file as a path")
def send_arrays_with_encode(w):
  yield lambda: inputs.files([rows.BYTES])
  yield lambda: inputs.images(rows.BYTES)


@mends("at <path>, got no folder; correct the path", "expected integer version folders")
def copy_a_version(w):
  (w.folder / "base").mkdir()
  yield lambda: versions.find(w.folder / "nowhere"), lambda: versions.find(w.folder / "base")
  (w.folder / "base").rmdir()
  yield lambda: versions.find(w.copy())


@mends("as the base, got <path>, which is a SavedModel")
def publish_above_a_version(w):
  message = yield lambda: publish._publish(w.no_write, w.copy() / "1", None)
  parent = re.search("above it, (.*)[.]", message).group(1)
  yield lambda: publish._publish(w.no_write, parent, None)


@mends("a whole SavedModel in <path>, got a damaged")
def copy_a_damaged_version_again(w):
  os.truncate(w.copy() / "1/saved_model.pb", 100)
  yield lambda: codes.Encoder(w.folder / "base/1")
  shutil.copy(w.base / "1/saved_model.pb", w.folder / "base/1")
  yield lambda: codes.Encoder(w.folder / "base/1")


@mends("a SavedModel whose serving_default")
def name_a_folder_of_imae_export(w):
  tf.saved_model.save(tf.Module(), str(w.folder / "other"))
  yield lambda: codes.Encoder(w.folder / "other")
  yield lambda: codes.Encoder(w.base / "1")


SERVED = "a version in <value> that can be loaded"


def serve(base):
  core.Server(base, poll_s=0).close(0)


@mends(SERVED)
def serve_the_folder_above_a_version(w):
  message = yield lambda: serve(w.base / "1")
  yield lambda: serve(re.search("above it, (.*)[.]", message).group(1))


@mends(SERVED)
def move_a_model_without_a_number(w):
  (w.copy() / "1").rename(w.folder / "model")
  message = yield lambda: serve(w.folder / "model")
  target = re.search("move it to (.*), a folder", message).group(1)
  (w.folder / "model").rename(w.folder / "moved")
  shutil.move(w.folder / "moved", pathlib.Path(target))
  yield lambda: serve(w.folder / "model")


@mends(SERVED)
def copy_a_version_to_be_served(w):
  message = yield lambda: serve(w.folder / "base")
  assert "copy a version there, whole, in a folder named by an integer" in message
  yield lambda: serve(w.copy())


@mends(SERVED)
def copy_a_damaged_version_to_be_served(w):
  (w.copy() / "1/saved_model.pb").write_bytes(b"half")
  message = yield lambda: serve(w.folder / "base")
  assert "copy it again, whole" in message
  shutil.copy(w.base / "1/saved_model.pb", w.folder / "base/1")
  yield lambda: serve(w.folder / "base")
