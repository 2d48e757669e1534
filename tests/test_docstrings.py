"""The examples in docstrings give what they say."""

import doctest
import importlib
import importlib.util
import pathlib

import pytest


def modules():
  """The names of the modules that have an example."""
  found = set()
  for room in ("imae_tf", "imae_tf.trainers", "imae_tf.export"):
    folder = pathlib.Path(importlib.util.find_spec(room).submodule_search_locations[0])
    for file in folder.rglob("*.py"):
      if ">>> " in file.read_text():
        parts = file.relative_to(folder).with_suffix("").parts
        found.add(".".join([room, *(part for part in parts if part != "__init__")]))
  return sorted(found)


MODULES = modules()


def test_the_mathematics_has_examples():
  assert {"imae_tf.objective", "imae_tf.estimators", "imae_tf.vat"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
  try:
    module = importlib.import_module(name)
  except ImportError as error:
    if (error.name or "").startswith("imae_tf"):
      raise
    pytest.skip(f"no {error.name}")
  done = doctest.testmod(module)  # prints what is wrong
  assert done.attempted and not done.failed
