"""imae-export as a program: killed at random moments, aligned with another training."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import time

import numpy as np
import programs
import pytest
import scipy.optimize
import sklearn.datasets

from imae_tf.export import codes
from imae_tf.export import savedmodel
from imae_tf.export import versions


def test_images():
  """The digits that imae-train tests on: the last 360 of 1,797."""
  images = sklearn.datasets.load_digits().images[-360:] / 16
  return images.astype("float32")[..., np.newaxis]


test_images.__test__ = False


# ---- killed exporters -----------------------------------------------------------------------


def watch(base, stop, results):
  """Loads each integer folder of `base` as soon as it is there, until told to stop.

  Sends {version: (contents at first sight, the codes' checksum or an error)}.
  """
  import tensorflow as tf

  seen = {}
  x = test_images()[:8]
  while True:
    last_look = stop.is_set()
    for number, path in versions.numbered(base).items():
      if number in seen:
        continue
      at_first_sight = programs.contents(path)
      try:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
          loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
          signature = loaded.signature_def["serving_default"]
          y = session.run(signature.outputs["y"].name, {signature.inputs["x"].name: x})
        seen[number] = (at_first_sight, y)
      except Exception as error:  # whatever it is, the version is broken
        seen[number] = (at_first_sight, repr(error))
    if last_look:
      break
  results.put(seen)


@contextlib.contextmanager
def watched(base):
  """Runs `watch` beside the block; yields a function that ends it and gives what it saw."""
  context = multiprocessing.get_context("forkserver")
  stop, results = context.Event(), context.Queue()
  watcher = context.Process(target=watch, args=(base, stop, results))
  watcher.start()

  def end():
    stop.set()
    return results.get(timeout=120)

  try:
    yield end
  finally:
    stop.set()
    watcher.join(60)
    watcher.kill()


def kill_when(due, program):
  """SIGKILL once `due()`; the exit status, 0 if it was faster."""
  with contextlib.suppress(AssertionError, ProcessLookupError):  # it may have ended
    program.signal_when(signal.SIGKILL, due)
  return program.wait().status


def hidden(base):
  """What an exporter is writing, or a dead one has left."""
  return {name for name in os.listdir(base) if name.startswith(".tmp-")}


@pytest.mark.parametrize(
    "how,kills",
    [
        ("rollback", 4),  # fifty take minutes
        pytest.param("rollback", 50, marks=pytest.mark.slow),
        pytest.param("workdir", 50, marks=pytest.mark.slow),
    ],
)
def test_a_watcher_never_sees_a_broken_version_of_a_killed_exporter(
    finished, tmp_path, how, kills
):
  base = tmp_path / "base"
  assert programs.run("export", tmp_path, workdir=finished.workdir, base=base).status == 0
  flags = {"base": base, how: 1 if how == "rollback" else finished.workdir}
  started = time.monotonic()
  assert programs.run("export", tmp_path, **flags).status == 0
  duration = time.monotonic() - started

  rng = np.random.default_rng(0)
  statuses, leftovers = [], 0
  with watched(base) as end:
    for seconds in rng.uniform(0, duration, kills - 1):
      deadline = time.monotonic() + seconds
      program = programs.Program("export", tmp_path, **flags)
      statuses.append(kill_when(lambda: time.monotonic() >= deadline, program))
      leftovers += bool(hidden(base))
    # Random moments can all miss the writing: the last one is within it.
    before = hidden(base)
    program = programs.Program("export", tmp_path, **flags)
    statuses.append(kill_when(lambda: hidden(base) - before, program))
    leftovers += bool(hidden(base))
    result = programs.run("export", tmp_path, **flags)
    assert result.status == 0, result.stderr
    seen = end()
  print(f"{statuses.count(-9)} of {kills} killed, {leftovers} left a hidden folder, "
        f"{len(seen)} versions")
  assert statuses.count(-9) >= kills / 2 and set(statuses) <= {0, -9}
  assert statuses[-1] == -9 and leftovers > 0
  # The last export removed what the dead had left, and its version is the largest.
  public = [name for name in os.listdir(base) if name != ".lock"]
  assert sorted(public, key=int) == [str(n) for n in range(1, len(seen) + 1)]
  assert f"Published {base / str(len(seen))}," in result.stdout
  for number, (contents, y) in seen.items():
    assert not isinstance(y, str), f"version {number}: {y}"
    np.testing.assert_allclose(y, seen[1][1], atol=1e-6)
    assert contents == programs.contents(base / str(number))  # nothing came later


# ---- aligned retraining ---------------------------------------------------------------------


def best_agreement(theirs, ours):
  """The largest share of equal categories over all permutations, by SciPy's solver."""
  k2 = theirs.shape[1]
  counts = np.histogram2d(
      theirs.argmax(axis=1), ours.argmax(axis=1), bins=k2, range=[[-0.5, k2 - 0.5]] * 2
  )[0]
  rows, columns = scipy.optimize.linear_sum_assignment(-counts)
  return counts[rows, columns].sum() / len(theirs)


# Two whole trainings take minutes.
@pytest.fixture(params=["short", pytest.param("whole", marks=pytest.mark.slow)])
def trainings(request, finished, tmp_path):
  """Two runs of digits that differ in the seed: (first, second, are they whole)."""
  whole = request.param == "whole"
  runs = [tmp_path / "run0" if whole else finished.workdir, tmp_path / "run1"]
  length = {} if whole else {"epochs": 2, "restarts": 1}
  for seed, run in enumerate(runs):
    if not (run / "metrics.json").exists():
      train = ("train", {"dataset": "digits", "seed": seed, **length})
      for program, flags in (train, *([("evaluate", {})] if whole else [])):
        # A whole training takes longer than `wait` waits.
        started = programs.Program(program, tmp_path, workdir=run, **flags)
        started._process.join(1800)
        assert started.wait().status == 0
  return *runs, whole


def test_a_second_training_aligned_to_the_first(trainings, tmp_path):
  first, second, whole = trainings
  base = tmp_path / "base"
  assert programs.run("export", tmp_path, workdir=first, base=base).status == 0
  assert programs.run("export", tmp_path, workdir=second, base=base).status == 0
  result = programs.run("export", tmp_path, workdir=second, base=base, align_to=1)
  assert result.status == 0, result.stderr

  x = test_images()
  theirs, ours, aligned = (codes.Encoder(base / number)(x) for number in "123")
  same = np.mean(theirs["y"].argmax(axis=1) == aligned["y"].argmax(axis=1))
  best = best_agreement(theirs["y"], ours["y"])
  assert best_agreement(theirs["y"], aligned["y"]) == best  # a permutation of the same
  record = json.loads((base / "3" / savedmodel.DESCRIPTION).read_text())["alignment"]
  found = record["agreement"]["test"]
  assert (found["n"], found["aligned"], found["best"]) == (360, same, best)
  print(result.stdout.splitlines()[0])
  printed = re.search(r"agree on (\S+) of 360 test images .* of them: (\d\.\d+)", result.stdout)
  assert printed.groups() == (f"{same:.3f}", f"{best:.3f}")
  # On the images that decided, no permutation is better; on others one may be, by a little.
  decided = record["agreement"]["train"]
  assert (decided["n"], decided["aligned"]) == (1437, decided["best"])
  assert decided["aligned"] > 2 * decided["before"]
  if whole:
    assert same == best and best > 0.8
  # The dimensions correlate with those of the same place, all with the same sign.
  table = np.corrcoef(theirs["z"], aligned["z"], rowvar=False)[:10, 10:]
  assert np.mean(np.diag(table)) > 0.9 * np.mean(record["correlation_per_dimension"])
