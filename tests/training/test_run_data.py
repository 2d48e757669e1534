"""A run on a folder of photos: its split, what was done to the images, labels; then its use."""

import dataclasses
import io
import shutil

import numpy as np
import PIL.Image
import pytest
import small_runs
import tensorflow as tf
from mendable import assert_mendable
from stored import coded_images
from stored import save_folder

from imae_tf._shared import files
from imae_tf.data import loading
from imae_tf.data.reading import Reading
from imae_tf.errors import InputError
from imae_tf.errors import InUseError
from imae_tf.export import codes
from imae_tf.export import descriptions
from imae_tf.export import savedmodel
from imae_tf.training import evaluation
from imae_tf.training import run_data
from imae_tf.training import run_folder
from imae_tf.training import runs

pytestmark = pytest.mark.usefixtures("no_pictures")

N = 200


@pytest.fixture(name="photos", scope="module")
def fixture_photos(tmp_path_factory, digits):
  """Digits as colour photos of many sizes, a folder for each class, one of them damaged."""
  folder = tmp_path_factory.mktemp("photos")
  rng = np.random.default_rng(0)
  for i in range(N):
    grey = np.uint8(digits[0][i, ..., 0] * 255)
    image = PIL.Image.fromarray(grey).resize(rng.integers(12, 40, 2)).convert("RGB")
    place = folder / str(digits[1][i])
    place.mkdir(exist_ok=True)
    kind = "jpg" if i % 2 else "png"
    image.save(place / f"{i:03d}.{kind}")
  (folder / "0" / "broken.png").write_bytes(b"no image")
  return folder


def make_run(dataset, **asked):
  run = small_runs.make_run(dataset, epochs=2)
  return dataclasses.replace(run, holdout=20, reading=Reading(labels="folders", **asked))


@pytest.fixture(name="trained", scope="module")
def fixture_trained(photos, tmp_path_factory):
  """The folder of a run, evaluated."""
  folder = tmp_path_factory.mktemp("trained")
  runs.train(make_run(photos), folder, progress=False)
  evaluation.evaluate(folder, say=lambda text: None)
  return folder


def test_the_folder_of_a_run_tells_what_was_done(photos, trained):
  config = files.read_json(trained / "config.json")
  assert config["images"] == {"size": [16, 16], "fit": "crop", "color": "rgb"}
  assert config["image_shape"] == [16, 16, 3] and config["labels"] == "folders"
  names = loading.load(photos, holdout=20).source.names
  split = files.read_json(trained / "split.json")
  assert split == {"test": list(names["test"]), "holdout": list(names["holdout"])}
  assert len(split["test"]) == 40 and len(split["holdout"]) == 20
  assert {name[0] for name in split["test"]} == set("0123456789")
  lines = (trained / "unreadable.txt").read_text().splitlines()
  assert len(lines) == 1 and lines[0].startswith("0/broken.png: ") and "cannot be read" in lines[0]


def test_every_program_sees_the_split_of_the_run(photos, trained, tmp_path):
  """Files that come after the training move nothing from training to test."""
  config = run_folder.read_config(trained)
  before = run_data.load(trained, config)
  new = photos / "0" / "000a.png"
  PIL.Image.new("RGB", (20, 20)).save(new)
  after = run_data.load(trained, config)
  new.unlink()
  assert "0/000a.png" in after.source.names["train"]
  for split in ("test", "holdout"):
    assert after.source.names[split] == before.source.names[split]
    np.testing.assert_array_equal(after.arrays(split)[0], before.arrays(split)[0])
  np.testing.assert_array_equal(
      before.arrays("train")[0], loading.load(photos, holdout=20).arrays("train")[0]
  )


def test_the_page_says_what_was_done_and_where_labels_come_from(trained):
  metrics = files.read_json(trained / "metrics.json")
  assert metrics["n"] == 40 and metrics["accuracy"] is not None
  page = " ".join((trained / "report.html").read_text().split())
  assert "The images are cropped and resized to 16x16 pixels, in colour." in page
  assert "1 file that cannot be read was skipped." in page
  assert "names of the folders, served this evaluation alone" in page
  assert "No label was used in training" in page


def test_figures_of_a_run_that_is_given_more_epochs_meanwhile_are_not_kept(
    trained, tmp_path, monkeypatch
):
  folder = shutil.copytree(trained, tmp_path / "run")
  config = run_folder.read_config(folder)
  evaluate = evaluation.measuring.evaluate

  def meanwhile(*given, **named):
    run_folder.start(folder, {**config, "epochs": 9})
    return evaluate(*given, **named)

  monkeypatch.setattr(evaluation.measuring, "evaluate", meanwhile)
  with pytest.raises(InUseError) as error:
    evaluation.evaluate(folder, baselines={}, say=lambda text: None)
  assert_mendable(error, "2 epochs", "got 9", folder)
  assert not (folder / "metrics.json").exists() and not (folder / "report.html").exists()


def test_labels_change_nothing_in_training(photos, trained, tmp_path):
  run = make_run(photos)
  run = dataclasses.replace(run, reading=Reading())
  unlabelled = runs.train(run, tmp_path / "run", progress=False)
  labelled, _ = run_folder.load_model(trained)
  for ours, theirs in zip(unlabelled.get_weights(), labelled.get_weights(), strict=True):
    np.testing.assert_array_equal(ours, theirs)
  # They may also come later, with the evaluation.
  assert evaluation.evaluate(tmp_path / "run", say=lambda text: None)["accuracy"] is None
  names = [*run_data.load(tmp_path / "run", run_folder.read_config(tmp_path / "run"))
           .source.names.values()]
  rows = [f"{name},{name[0]}" for part in names for name in part]
  (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
  (tmp_path / "run/names.json").write_text('{"10": "cat"}')
  with pytest.raises(InputError, match="expected categories 0 to 9 in .*names.json, got '10'"):
    evaluation.evaluate(tmp_path / "run", say=lambda text: None)
  (tmp_path / "run/names.json").write_text('{"9": "cat"}')
  metrics = evaluation.evaluate(
      tmp_path / "run", say=lambda text: None, labels=str(tmp_path / "labels.csv")
  )
  before = files.read_json(trained / "metrics.json")
  assert metrics["accuracy"] == pytest.approx(before["accuracy"])
  assert str(tmp_path / "labels.csv") in (tmp_path / "run/report.html").read_text()


def test_a_run_goes_on_and_refuses_other_images(photos, trained, tmp_path):
  config = (trained / "config.json").read_text()
  with pytest.raises(InputError) as error:
    runs.train(make_run(photos, fit="pad"), trained, progress=False)
  assert_mendable(error, "images", "pad", "crop")
  assert (trained / "config.json").read_text() == config
  runs.train(make_run(photos), trained, progress=False)  # is done
  command = run_folder.command(run_folder.read_config(trained))
  assert "--image_size=16x16" in command and "--fit=crop" in command
  assert "--color=rgb" in command and "--labels=folders" in command


def test_a_run_on_a_folder_beyond_memory_is_the_same(photos, trained, tmp_path, monkeypatch):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", 0)
  run = make_run(photos, cache=str(tmp_path / "run" / "cache"))
  mapped = runs.train(run, tmp_path / "run", progress=False)
  held, _ = run_folder.load_model(trained)
  for ours, theirs in zip(mapped.get_weights(), held.get_weights(), strict=True):
    np.testing.assert_array_equal(ours, theirs)
  metrics = evaluation.evaluate(tmp_path / "run", say=lambda text: None)
  assert metrics["accuracy"] == files.read_json(trained / "metrics.json")["accuracy"]


def test_a_killed_cache_leaves_a_folder_that_can_be_trained_in(photos, tmp_path, monkeypatch):
  (tmp_path / "cache" / "abc.partial").mkdir(parents=True)
  run_folder.check_free(tmp_path)
  (tmp_path / "thesis.txt").write_text("mine")
  with pytest.raises(InputError) as error:
    runs.train(make_run(photos), tmp_path, progress=False)
  assert_mendable(error, "thesis.txt")


def test_a_folder_that_moves_is_known_again_and_other_images_are_not(digits, tmp_path):
  folder = save_folder(tmp_path / "images", np.uint8(digits[0][:60] * 255))
  run = small_runs.make_run(folder, epochs=1, batch_size=16)
  runs.train(run, tmp_path / "run", progress=False)
  shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)  # no times
  shutil.rmtree(folder)
  moved = dataclasses.replace(run, dataset=str(tmp_path / "elsewhere"))
  before = run_folder.read_config(tmp_path / "run")
  runs.train(moved, tmp_path / "run", progress=False)
  after = run_folder.read_config(tmp_path / "run")
  assert after == {**before, "dataset": moved.dataset} and after["data"]["n"] == 60
  assert run_data.load(tmp_path / "run", after).size("test") == 12
  first, second = sorted((tmp_path / "elsewhere").iterdir())[:2]
  shutil.copyfile(first, second)
  with pytest.raises(InputError) as error:
    runs.train(moved, tmp_path / "run", progress=False)
  assert_mendable(error, "60 images of the run", moved.dataset, "--dataset")
  assert run_folder.read_config(tmp_path / "run") == after


# ---- runs of earlier versions -------------------------------------------------------------------


def test_an_earlier_run_is_evaluated_and_goes_on_as_it_was_trained(digits, tmp_path):
  folder = save_folder(tmp_path / "images", np.uint8(digits[0][:60] * 255))
  run = small_runs.make_run(folder, epochs=1, batch_size=16)
  in_order = dataclasses.replace(run, reading=Reading(split="in_order"))
  runs.train(in_order, tmp_path / "run", progress=False)
  config = files.read_json(tmp_path / "run" / "config.json")
  assert not {"images", "split", "labels", "cache"} & config.keys()
  data = run_data.load(tmp_path / "run", config)
  assert list(data.source.names["test"]) == [f"{i:03d}.png" for i in range(48, 60)]
  longer = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, epochs=2))
  runs.train(longer, tmp_path / "run", progress=False)
  assert len(run_folder.read_history(tmp_path / "run")) == 2
  assert not (tmp_path / "run" / "split.json").exists()


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_equal_images(tmp_path, kind):
  images = np.repeat(coded_images(8)[7:], 30, axis=0)
  path = save_folder(tmp_path / "images", images)
  if kind == "npz":
    path = tmp_path / "images.npz"
    np.savez(path, x=images)
  with pytest.raises(InputError) as error:
    runs.train(small_runs.make_run(path, batch_size=8), tmp_path / "run", progress=False)
  assert_mendable(error, "differ", "24 equal", path)
  assert not (tmp_path / "run" / "config.json").exists()


def test_a_size_that_the_network_cannot_take(photos, tmp_path):
  run = make_run(photos, image_size=(24, 24))
  run = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, network="conv"))
  with pytest.raises(InputError) as error:
    runs.train(run, tmp_path / "run", progress=False)
  assert_mendable(error, "multiples of 16", "24x24", "--image_size")
  assert not (tmp_path / "run" / "config.json").exists()


# ---- the SavedModel of such a run ---------------------------------------------------------------


@pytest.fixture(name="published", scope="module")
def fixture_published(trained, tmp_path_factory):
  path = tmp_path_factory.mktemp("published") / "1"
  model, config = run_folder.load_model(trained)
  savedmodel.write(model, path, dataset=config["dataset"], config=config)
  return path


def test_a_savedmodel_takes_files_of_any_size(photos, published):
  """Its codes of bytes are those of the folder's reader, whose pixels are the same to the bit."""
  record = descriptions.read(published)["images"]
  prepared = run_data.Reading.of_preparation(record).prepared({(9, 9, 3): 1}, 2**30)
  _, batches = loading.input_files(photos, 64, prepared=prepared, say=lambda text: None)
  encoder = codes.Encoder(published)
  loaded = tf.saved_model.load(str(published))
  compared = 0
  for names, images in batches:
    expected = encoder(images)
    contents = [(photos / name).read_bytes() for name in names]
    served = loaded.signatures["encode_image_bytes"](image_bytes=tf.constant(contents))
    for key, value in expected.items():
      np.testing.assert_allclose(served[key], value, rtol=0, atol=1e-5)
    compared += len(names)
  assert compared == N


def test_a_savedmodel_refuses_what_claims_too_many_pixels(published):
  """Before anything is decoded: the file is a header of 40,000 x 40,000 pixels and no more."""
  loaded = tf.saved_model.load(str(published))
  file = io.BytesIO()
  PIL.Image.new("L", (1, 1)).save(file, "PNG")
  content = bytearray(file.getvalue())
  content[16:24] = (40000).to_bytes(4, "big") * 2
  with pytest.raises(tf.errors.InvalidArgumentError, match="67,108,864 pixels, got .40000 40000"):
    loaded.signatures["encode_image_bytes"](image_bytes=tf.constant([bytes(content)]))


def test_the_card_says_what_is_done(published):
  card = (published / "assets.extra" / "MODEL_CARD.md").read_text()
  assert "16x16 pixels, rgb, fit by crop" in card
