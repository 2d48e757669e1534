"""Runs that several tests look at, made once."""

import types

import numpy as np
import programs
import pytest


@pytest.fixture(scope="session")
def settings():
  """Flags of a run of two starts, of which one goes on for four epochs."""
  return {"dataset": "digits", "epochs": 6, "restarts": 2, "restart_epochs": 2, "seed": 3}


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory, settings):
  """The folder of a run with two starts that nothing interrupted."""
  folder = tmp_path_factory.mktemp("unbroken")
  result = programs.run("train", folder, workdir=folder / "run", **settings)
  assert result.status == 0, result.stderr
  return folder / "run"


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
  """A trained and evaluated run of one start: `workdir`, `flags`, `evaluate` (its result)."""
  folder = tmp_path_factory.mktemp("finished")
  flags = {"dataset": "digits", "epochs": 2, "restarts": 1, "workdir": folder / "run"}
  result = programs.run("train", folder, **flags)
  assert result.status == 0, result.stderr
  evaluate = programs.run("evaluate", folder, workdir="run", cwd=folder)
  assert evaluate.status == 0, evaluate.stderr
  return types.SimpleNamespace(workdir=folder / "run", flags=flags, evaluate=evaluate)


@pytest.fixture
def npz(tmp_path):
  """A function that saves arrays as a .npz and returns its path."""

  def save(**arrays):
    path = tmp_path / "images.npz"
    np.savez(path, **arrays)
    return path

  return save
