"""Event files: what TensorBoard's own reader finds in them."""

import io

import boards
import numpy as np
import PIL.Image
import pytest

from imae_tf._shared import event_file


def test_scalars_and_pictures_are_read_back(tmp_path):
  file = event_file.EventFile(event_file.new_path(tmp_path / "board"))
  pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
  png = io.BytesIO()
  PIL.Image.fromarray(pixels).save(png, "PNG")
  for step in (1, 2):
    file.scalars({"a/x, nats": step / 3, "b": -step}, step)
  file.picture("p", png.getvalue(), 2)
  # Nothing is closed: a killed process leaves all that it wrote.
  found = boards.read(tmp_path / "board")
  assert [(step, float(v)) for step, v in found["a/x, nats"]] == [
      (1, pytest.approx(1 / 3)), (2, pytest.approx(2 / 3))
  ]
  assert [(step, float(v)) for step, v in found["b"]] == [(1, -1.0), (2, -2.0)]
  ((step, picture),) = found["p"]
  assert step == 2 and picture[:2].tolist() == [b"7", b"5"]
  np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(picture[2]))), pixels)


def test_a_later_file_replaces_the_steps_from_its_first(tmp_path):
  for first, values in ((1, [1.0, 2.0, 3.0]), (3, [30.0, 40.0]), (5, [50.0])):
    file = event_file.EventFile(event_file.new_path(tmp_path), first_step=first)
    for step, value in enumerate(values, first):
      file.scalars({"loss": value}, step)
    file.close()
  assert len(event_file.paths(tmp_path)) == 3
  assert [(step, float(v)) for step, v in boards.read(tmp_path)["loss"]] == [
      (1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)
  ]


def test_files_are_read_in_the_order_in_which_they_were_made(tmp_path):
  made = []
  for _ in range(20):
    made.append(event_file.new_path(tmp_path))
    made[-1].touch()
  assert event_file.paths(tmp_path) == made and len(set(made)) == 20
