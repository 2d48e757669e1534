"""Serves the page at `/` of imae-serve, which shows people an image, its category and its factors.

`rest.app` includes these routes. The page is one HTML file, which loads nothing from elsewhere. It
asks the REST API for codes and images, and `/page/model` for a description of the version.
"""

import base64
import functools
import io
import pathlib
import zipfile
from typing import Any

import numpy as np
import PIL.Image
from starlette import requests
from starlette import responses
from starlette import routing

from imae_tf.errors import InputError
from imae_tf.export import descriptions
from imae_tf.export import typical
from imae_tf.export.server import core
from imae_tf.export.server.batching import ServingError

_HTML = pathlib.Path(__file__).with_name("page.html")
_MODES = (1, 3, 4)  # channels of the images that a PNG, and a browser, can show
_HEADERS = {
    # The page loads nothing from elsewhere; a model's files only add text and pictures.
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'; img-src data: blob:; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # a new version may be another model
}


def routes(server: core.Server) -> list[routing.Route]:
  """The routes `/` and `/page/model` on a `core.Server`."""

  def page(request: requests.Request) -> responses.Response:
    return responses.HTMLResponse(_HTML.read_text(encoding="utf-8"), headers=_HEADERS)

  def model(request: requests.Request) -> responses.Response:
    try:
      number, _ = server.metadata()
      described = {"name": server.model_name, **_described(server.path(number), number)}
      return responses.JSONResponse(described, headers=_HEADERS)  # raises a ValueError for NaN
    except ServingError as error:
      return _error(503, error.message)
    except InputError as error:
      return _error(404, str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
      return _error(404, f"expected {descriptions.PATH} in the served version, got {error!r};"
                    " serve a version that imae-export wrote.")

  return [routing.Route("/", page), routing.Route("/page/model", model)]


@functools.lru_cache(maxsize=2)
def _described(path: pathlib.Path, number: int) -> dict[str, Any]:
  """The description of a version that the page needs, ready for JSON."""
  description = descriptions.read(path)
  shape = description["image_shape"]
  per_dimension = (description.get("evaluation") or {}).get("mi_z_per_dimension") or {}
  return {
      "version": number,
      **{key: description[key] for key in (
          "method", "dataset", "num_categories", "latent_dim", "image_shape"
      )},
      "category_names": description.get("category_names"),
      "mi_z_per_dimension": per_dimension.get("naive"),
      "typical": _typical(path / typical.IMAGES) if shape[-1] in _MODES else None,
  }


def _typical(path: pathlib.Path) -> list[list[str]] | None:
  """Typical images as data URIs, [[string] for each category]; None without the file."""
  try:
    with path.open("rb") as content, np.load(content) as file:
      images, counts = file["images"], file["counts"]
  except (OSError, KeyError, ValueError, zipfile.BadZipFile):
    return None  # the page works without them
  return [
      [_data_uri(image) for image in some[:count]] for some, count in zip(images, counts)
  ]


def _data_uri(image: np.ndarray) -> str:
  """A PNG of a uint8 image [H, W, C]."""
  file = io.BytesIO()
  PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
  return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _error(status: int, message: str) -> responses.Response:
  return responses.JSONResponse({"error": message}, status_code=status, headers=_HEADERS)
