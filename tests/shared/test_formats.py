"""The formats of files that outlive a program: another one gets one error that says what to do."""

import json
import shutil

import numpy as np
import pytest
import searches

from imae_tf._shared import formats
from imae_tf.data import loading
from imae_tf.errors import InputError
from imae_tf.export import codes
from imae_tf.export import descriptions
from imae_tf.search import driver
from imae_tf.training import run_folder

# (what the file says, what the message says)
OTHERS = [
    ({"format": 2}, "got the newer 2; install that version of imae_tf, or a newer one."),
    (
        {"format": 2, "versions": {"imae_tf": "7.1.0"}},
        "got the newer 2 of imae_tf 7.1.0; install that version",
    ),
    (
        {"format": 0, "versions": {"imae_tf": "0.0.1"}},
        "got the older 0 of imae_tf 0.0.1; install that version of imae_tf, or make the file",
    ),
    ({}, "got None; restore the file."),
    ({"format": "1"}, "got '1'; restore the file."),
    ({"format": True}, "got True; restore the file."),
    ([], "got None; restore the file."),
]
other_formats = pytest.mark.parametrize(("content", "message"), OTHERS)


@other_formats
def test_another_format_is_refused(content, message):
  with pytest.raises(InputError) as error:
    formats.check("a.json", content, 1)
  text = str(error.value)
  assert text.startswith("expected format 1 in a.json, got ") and message in text


def test_its_own_format_passes():
  formats.check("a.json", {"format": 1}, 1)


def test_differences_are_told_by_name_as_json_has_them():
  old = {"beta": 5.0, "seed": 0, "units": [8, 4], "trials": 3, "gone": "x"}
  new = {"beta": 7.0, "seed": 0, "units": (8, 4), "trials": 4, "new": None}
  expected = ["beta 5.0 -> 7.0", "gone 'x' -> None"]
  assert formats.differences(old, new, ignored=["trials"]) == expected
  assert formats.differences(old, old) == []


@other_formats
def test_of_a_run(tmp_path, content, message):
  (tmp_path / "config.json").write_text(json.dumps(content))
  with pytest.raises(InputError) as error:
    run_folder.load_model(tmp_path)
  assert f"{tmp_path}/config.json" in str(error.value) and message in str(error.value)


@other_formats
def test_of_a_search(tmp_path, content, message):
  path = tmp_path / "search.json"
  path.write_text(json.dumps(content))
  with pytest.raises(InputError) as error:
    driver._start(searches.describe(), tmp_path, 3, loading.load("digits"))
  assert str(path) in str(error.value) and message in str(error.value)


@other_formats
def test_of_a_saved_model(tmp_path, models, content, message):
  shutil.copytree(models[0], tmp_path / "1")
  path = tmp_path / "1" / descriptions.PATH
  path.write_text(json.dumps(content))
  for use in (codes.Encoder, descriptions.read):
    with pytest.raises(InputError) as error:
      use(tmp_path / "1")
    assert str(path) in str(error.value) and message in str(error.value)


def test_a_saved_model_without_a_description_is_read_as_a_server_does(tmp_path, models):
  shutil.copytree(models[0], tmp_path / "1")
  (tmp_path / "1" / descriptions.PATH).unlink()
  images = np.zeros((2, 8, 8, 1), "float32")
  assert codes.Encoder(tmp_path / "1")(images)["y"].shape == (2, 5)
