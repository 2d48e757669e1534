"""A missing library names its extra, and the extras are those of setup.py."""

import importlib.metadata
import pathlib
import re
import runpy
import sys

import pytest
import setuptools

from imae_tf._shared import extras
from imae_tf.errors import MissingExtraError

SETUP = pathlib.Path(__file__).parent.parent.parent / "setup.py"
TOLD = "expected matplotlib to draw figures, got none; run pip install 'imae_tf[report]'."


@pytest.fixture
def without_matplotlib(monkeypatch):
  for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_a_missing_library_is_told_with_the_command_that_brings_it(without_matplotlib):
  with pytest.raises(MissingExtraError) as error:
    with extras.needed("report", "draw figures"):
      from matplotlib.figure import Figure  # noqa: F401
  assert str(error.value) == TOLD


def test_it_is_told_before_anything_is_imported(without_matplotlib):
  assert extras.missing("report") == "matplotlib"
  with pytest.raises(MissingExtraError) as error:
    extras.check("report", "draw figures")
  assert str(error.value) == TOLD


def test_it_can_be_caught_as_any_failed_import(without_matplotlib):
  with pytest.raises(ImportError):
    extras.check("report", "draw figures")


@pytest.mark.parametrize("extra", extras.LIBRARIES)
def test_nothing_is_told_where_all_is_installed(extra):
  assert extras.missing(extra) is None
  extras.check(extra, "pass the tests")
  with extras.needed(extra, "pass the tests"):
    pass


def test_what_the_extra_would_not_mend_stays_as_it_is(monkeypatch):
  monkeypatch.setitem(sys.modules, "wave", None)
  with pytest.raises(ModuleNotFoundError, match="wave") as error:
    with extras.needed("report", "draw figures"):
      import wave  # noqa: F401
  assert not isinstance(error.value, MissingExtraError)
  with pytest.raises(ImportError, match="cannot import name 'no_such_name'"):
    with extras.needed("report", "draw figures"):
      from matplotlib import no_such_name  # noqa: F401


# ---- setup.py ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packaging():
  """The arguments that setup.py gives to setuptools."""
  if not SETUP.exists():
    pytest.skip("setup.py lies in a checkout, which this is not")
  given = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path(str(SETUP))
  return given


def names(requirements):
  """Names of distributions, as PEP 503 writes them."""
  found = (re.match(r"[\w.-]+", requirement).group() for requirement in requirements)
  return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


@pytest.mark.parametrize("extra", extras.LIBRARIES)
def test_an_extra_brings_its_libraries(packaging, extra):
  bringing = importlib.metadata.packages_distributions()
  required = names(packaging["extras_require"][extra])
  for library in extras.LIBRARIES[extra]:
    assert names(bringing[library.partition(".")[0]]) & required, library


def test_the_core_has_nothing_of_an_extra(packaging):
  core = names(packaging["install_requires"])
  for extra in extras.LIBRARIES:
    assert not core & names(packaging["extras_require"][extra])


def test_all_and_test_have_all_extras(packaging):
  for whole in ("all", "test"):
    for extra in extras.LIBRARIES:
      wanted = set(packaging["extras_require"][extra])
      assert wanted <= set(packaging["extras_require"][whole]), (whole, extra)
