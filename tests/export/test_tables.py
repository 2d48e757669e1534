"""The CSV of codes: what a kill leaves is gone on with, and the table is the unbroken one."""

import csv

import numpy as np
import pytest

from imae_tf.export import tables

NAMES = ["a.png", 'b, "c".png', "d\ne.png", "f/\udce9.png", "ü.png", "g.png", "h.png"]
K2, K1, B = 3, 2, 2


def codes_of(rows):
  y = np.random.default_rng(1).dirichlet(np.ones(K2), len(NAMES)).astype("float32")
  z = np.random.default_rng(2).normal(size=(len(NAMES), K1)).astype("float32")
  return {"y": y[rows], "z": z[rows], "z_scale": np.exp(z)[rows]}


def write(path, key="k", stop=None, names=NAMES):
  """Writes the batches that are left, up to `stop`; returns how many images were there."""
  part = tables.Part(path, key, B)
  done = part.rows
  for start in range(done, len(NAMES), B):
    if start == stop:
      return done
    rows = slice(start, start + B)
    part.add(None if names is None else names[rows], codes_of(rows))
  part.finish()
  return done


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The bytes of an unbroken table."""
  path = tmp_path_factory.mktemp("whole") / "codes.csv"
  write(path)
  assert [p.name for p in path.parent.iterdir()] == ["codes.csv"]
  return path.read_bytes()


def test_a_spreadsheet_reads_it(whole):
  text = whole.decode("utf-8", "surrogateescape").splitlines(keepends=True)
  header, *rows = csv.reader(text)
  assert header == ["file", "category", "confidence", "y_0", "y_1", "y_2", "z_0", "z_1",
                    "z_scale_0", "z_scale_1"]
  codes = codes_of(slice(None))
  assert [row[0] for row in rows] == NAMES
  assert [int(row[1]) for row in rows] == codes["y"].argmax(axis=1).tolist()
  values = np.array([row[2:] for row in rows], "float32")
  np.testing.assert_array_equal(values[:, 0], codes["y"].max(axis=1))
  np.testing.assert_array_equal(values[:, 1:], np.concatenate([*codes.values()], axis=1))


def test_wherever_it_was_cut_it_becomes_the_same(whole, tmp_path):
  path = tmp_path / "codes.csv"
  counts = set()
  for size in range(len(whole)):
    (tmp_path / "codes.csv.k.part").write_bytes(whole[:size])
    counts.add(write(path))
    assert path.read_bytes() == whole, size
  assert counts == {0, 2, 4, 6}


def test_the_answers_of_before_are_kept(tmp_path):
  path = tmp_path / "codes.csv"
  write(path, stop=4)
  expected = tables.answers(NAMES[:4], codes_of(slice(4))["y"])
  found = tables.Part(path, "k", B).answers
  assert [answer[:2] for answer in found] == [answer[:2] for answer in expected]
  np.testing.assert_allclose([a.confidence for a in found], [a.confidence for a in expected])


def test_parts_of_other_images_are_left_until_the_table_is_whole(tmp_path):
  path = tmp_path / "codes[1].csv"
  write(path, key="other", stop=4)
  assert write(path) == 0
  assert [p.name for p in tmp_path.iterdir()] == ["codes[1].csv"]


def test_names_of_categories(tmp_path):
  part = tables.Part(tmp_path / "codes.csv", "k", B, ["cat", "dog", "no, one"])
  part.add(None, codes_of(slice(None)))
  part.finish()
  with open(tmp_path / "codes.csv", newline="") as file:
    rows = list(csv.DictReader(file))
  names = np.array(["cat", "dog", "no, one"])[codes_of(slice(None))["y"].argmax(axis=1)]
  assert [row["category"] for row in rows] == names.tolist()
  assert [row["index"] for row in rows] == list(map(str, range(len(NAMES))))
