"""Servers of three models, and their page in a browser."""

import browser
import exports
import pytest
import real_server
import served_page
from served_page import NATS
from served_page import SHAPES

from imae_tf.export import savedmodel


@pytest.fixture(scope="session")
def page_models():
  return {name: exports.make_model(image_shape=shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="session")
def page_bases(page_models, tmp_path_factory):
  """Base folders of one version each; that of "wide" has no figures and no typical images."""
  folder = tmp_path_factory.mktemp("bases")
  for name, model in page_models.items():
    known = {} if name == "wide" else {
        "evaluation": {"mi_z_per_dimension": {"naive": NATS, "leave_one_out": NATS}},
        "images": served_page.pictures(name), "dataset": name,
    }
    savedmodel.write(model, folder / name / "1", **known)
  return {name: folder / name for name in SHAPES}


@pytest.fixture(scope="module")
def page_urls(page_bases):
  with (
      real_server.served(page_bases["grey"]) as grey,
      real_server.served(page_bases["colour"]) as colour,
      real_server.served(page_bases["wide"]) as wide,
  ):
    yield {"grey": grey[0], "colour": colour[0], "wide": wide[0]}


@pytest.fixture(scope="module")
def page():
  """A `ServedPage` that shows nothing yet; without a browser the test is skipped."""
  if browser.PATH is None:
    pytest.skip("chromium is not installed")
  with browser.Browser() as started:
    yield served_page.ServedPage(started)


@pytest.fixture
def opened(page, page_urls):
  """A function that opens the page of a model; that nothing is logged is asserted."""

  def open_page(name, **kwargs):
    page.open(page_urls[name], **kwargs)
    return page

  yield open_page
  assert page.browser.log == []
