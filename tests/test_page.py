"""The page at `/`: what it tells about a version, and what a person sees in a browser."""

import asyncio
import base64
import io
import json
import shutil
import types

import browser
import exports
import httpx
import numpy as np
import PIL.Image
import pytest
import real_server
import starlette.applications

from imae_tf.export import page
from imae_tf.export import savedmodel

K1, K2 = exports.K1, exports.K2
SHAPES = {"grey": (8, 8, 1), "colour": (64, 64, 3), "wide": (6, 12, 1)}
NATS = [0.25, 0.75, 0.5]  # so that the order of the factors is 1, 2, 0

needs_chromium = pytest.mark.skipif(browser.PATH is None, reason="chromium is not installed")


def pictures(shape):
  return np.random.default_rng(0).integers(0, 256, (40, *shape)).astype("float32") / 255


@pytest.fixture(scope="module")
def models():
  return {name: exports.make_model(image_shape=shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def bases(models, tmp_path_factory):
  """Base folders of one version each; that of "wide" has no figures and no typical images."""
  folder = tmp_path_factory.mktemp("bases")
  for name, model in models.items():
    known = {} if name == "wide" else {
        "evaluation": {"mi_z_per_dimension": {"naive": NATS, "leave_one_out": NATS}},
        "images": pictures(SHAPES[name]), "dataset": name,
    }
    savedmodel.write(model, folder / name / "1", **known)
  return {name: folder / name for name in SHAPES}


@pytest.fixture(scope="module")
def urls(bases):
  with (
      real_server.served(bases["grey"]) as grey,
      real_server.served(bases["colour"]) as colour,
      real_server.served(bases["wide"]) as wide,
  ):
    yield {"grey": grey[0], "colour": colour[0], "wide": wide[0]}


@pytest.fixture(scope="module")
def chromium():
  with browser.Browser() as started:
    yield started


@pytest.fixture
def tab(chromium, urls):
  """A function that opens the page of a model and waits until it is ready."""

  def open_page(name, **kwargs):
    chromium.open(urls[name] + "/", **kwargs)
    chromium.wait("!document.getElementById('main').hidden && choice")
    settle(chromium)
    return chromium

  yield open_page
  assert chromium.log == []


def shown(tab, canvas):
  """The pixels of a canvas, uint8 [H, W, 3]."""
  data = tab.run(f"""(() => {{
      const canvas = document.getElementById("{canvas}");
      const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return [canvas.height, canvas.width, Array.from(image.data)];
  }})()""")
  return np.array(data[2], np.uint8).reshape(data[0], data[1], 4)[..., :3]


def as_shown(image):
  """A float image [H, W, C] as `shown` gives it."""
  return np.broadcast_to(np.rint(image * 255), (*image.shape[:2], 3))


def assert_shows(tab, canvas, image):
  difference = np.abs(shown(tab, canvas).astype(int) - as_shown(image))
  assert difference.max() <= 1  # a rounding


def write_png(path, pixels):
  PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
  return path


def choose(tab, path):
  """Chooses a file, and waits for its codes."""
  before = tab.run("round")
  tab.choose_file("#file", path)
  tab.wait(f"round > {before}")
  settle(tab)


def settle(tab):
  """Waits until everything that was asked of the server is shown."""
  tab.wait("attempts === 0 && timer === null")


class TestModel:

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_description(self, urls, name):
    described = httpx.get(f"{urls[name]}/page/model").json()
    typical = described.pop("typical")
    assert described == {
        "name": "imae", "version": 1, "method": "imae", "dataset": name, "num_categories": K2,
        "latent_dim": K1, "image_shape": list(SHAPES[name]), "mi_z_per_dimension": NATS,
    }
    assert len(typical) == K2

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_typical_images_are_of_their_category(self, urls, models, name):
    typical = httpx.get(f"{urls[name]}/page/model").json()["typical"]
    x = pictures(SHAPES[name])
    y = models[name].encode(x)["y"]
    for category, sources in enumerate(typical):
      members = np.flatnonzero(y.argmax(axis=1) == category)
      expected = members[np.argsort(-y[members, category], kind="stable")][:8]
      assert len(sources) == len(expected)
      for source, index in zip(sources, expected):
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        image = np.asarray(PIL.Image.open(io.BytesIO(content))).reshape(SHAPES[name])
        np.testing.assert_array_equal(image, np.rint(x[index] * 255))

  def test_without_figures_and_images(self, urls):
    described = httpx.get(f"{urls['wide']}/page/model").json()
    assert described["mi_z_per_dimension"] is None and described["typical"] is None

  @pytest.mark.parametrize("damage", ["imae.json", "half", "other"])
  def test_without_a_description(self, bases, tmp_path, damage):
    get = self._version(bases, tmp_path)
    description = tmp_path / "1" / "assets.extra" / "imae.json"
    if damage == "imae.json":
      description.unlink()
    else:
      description.write_text({"half": '{"method": ', "other": "[]"}[damage])
    reply = get()
    assert reply.status_code == 404
    error = reply.json()["error"]
    if damage == "other":
      assert error.startswith("expected format 1 in ")
    else:
      assert error.startswith("expected assets.extra/imae.json in the served")

  def test_damaged_typical_images_are_left_out(self, bases, tmp_path):
    get = self._version(bases, tmp_path)
    (tmp_path / "1" / "assets.extra" / "typical_images.npz").write_bytes(b"PK\x03\x04 half")
    assert get().json()["typical"] is None

  def test_images_that_no_browser_shows(self, bases, tmp_path):
    get = self._version(bases, tmp_path)
    description = tmp_path / "1" / "assets.extra" / "imae.json"
    content = json.loads(description.read_text())
    description.write_text(json.dumps({**content, "image_shape": [8, 8, 2]}))
    assert get().json()["typical"] is None

  def _version(self, bases, folder):
    """A function that asks for the description of a copy, which a test may damage."""
    shutil.copytree(bases["grey"] / "1", folder / "1")
    server = types.SimpleNamespace(
        model_name="imae", metadata=lambda: (1, {}), path=lambda _: folder / "1"
    )
    app = starlette.applications.Starlette(routes=page.routes(server))

    def get():
      async def request():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
          return await client.get("/page/model")

      return asyncio.run(request())

    return get


class TestHtml:

  def test_nothing_from_elsewhere(self, urls):
    reply = httpx.get(urls["grey"] + "/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    for elsewhere in ("http:", "https:", "//cdn", "@import", "src=\"/", "url("):
      assert elsewhere not in reply.text


@needs_chromium
class TestPage:

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_starts_with_a_typical_image(self, tab, urls, models, name):
    page = tab(name)
    typical = httpx.get(f"{urls[name]}/page/model").json()["typical"]
    first = next(source for sources in typical for source in sources)
    content = base64.b64decode(first.partition(",")[2])
    image = np.asarray(PIL.Image.open(io.BytesIO(content))).reshape(SHAPES[name]) / np.float32(255)
    self._assert_codes(page, models[name], image)
    assert {url.split("/")[2] for url in page.urls if not url.startswith("data:")} == {
        urls[name].split("/")[2]
    }

  def test_starts_without_typical_images(self, tab, models):
    page = tab("wide")
    settle(page)
    y, z = np.eye(K2, dtype="float32")[:1], np.zeros([1, K1], "float32")
    assert_shows(page, "redrawn", models["wide"].decode(y, z)[0])
    assert page.run("document.getElementById('typical-box').hidden")

  @pytest.mark.parametrize("name", SHAPES)
  def test_a_file_of_the_models_size(self, tab, models, tmp_path, name):
    pixels = np.random.default_rng(5).integers(0, 256, SHAPES[name], np.uint8)
    page = tab(name)
    choose(page, write_png(tmp_path / "image.png", pixels))
    self._assert_codes(page, models[name], pixels / np.float32(255))
    assert page.run("document.getElementById('note').textContent") == ""

  def test_a_larger_colour_file(self, tab, models, tmp_path):
    large = np.random.default_rng(6).integers(0, 256, (40, 80, 3), np.uint8)
    page = tab("grey")
    choose(page, write_png(tmp_path / "image.png", large))
    note = page.run("document.getElementById('note').textContent")
    assert note == (
        "The image was resized from 80 × 40 to 8 × 8 pixels, cut to the middle, turned from"
        " colour to grey."
    )
    grey = large[:, 20:60] @ np.array([0.299, 0.587, 0.114]) / 255
    expected = grey.reshape(8, 5, 8, 5).mean(axis=(1, 3))[..., None].astype("float32")
    assert_shows(page, "seen", expected)
    np.testing.assert_allclose(
        page.run("codes.z"), models["grey"].encode(expected[None])["z"][0], atol=1e-3
    )

  def test_transparency_is_laid_on_white(self, tab, tmp_path):
    page = tab("colour")
    PIL.Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "image.png")
    choose(page, tmp_path / "image.png")
    assert_shows(page, "seen", np.ones([64, 64, 3]))

  def test_a_file_that_is_no_image(self, tab, tmp_path):
    page = tab("grey")
    (tmp_path / "notes.txt").write_text("no image")
    page.choose_file("#file", tmp_path / "notes.txt")
    assert page.wait("document.querySelector('#error:not([hidden])').textContent") == (
        "expected an image such as a PNG or JPEG, got notes.txt; choose another file."
    )
    before = page.run("round")
    choose(page, write_png(tmp_path / "image.png", np.zeros([8, 8, 1], np.uint8)))
    assert page.run("round") == before + 1 and page.run("$('error').hidden")

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_sliders_and_categories_redraw(self, tab, models, name):
    page = tab(name)
    codes = page.run("codes")
    page.run("""(() => {
        const slider = document.querySelector("#factor-2 input");
        slider.value = 1.5;
        slider.dispatchEvent(new Event("input"));
    })()""")
    settle(page)
    z = np.array([codes["z"]], "float32")
    z[0, 2] = 1.5
    y = np.array([codes["y"]], "float32")
    assert_shows(page, "redrawn", models[name].decode(y, z)[0])
    page.run("document.querySelector('#category-3 input').click()")
    settle(page)
    assert_shows(page, "redrawn", models[name].decode(np.eye(K2, dtype="float32")[3:4], z)[0])
    assert "category 3" in page.run("$('h-typical').textContent")
    page.run("$('reset').click()")
    settle(page)
    np.testing.assert_array_equal(shown(page, "redrawn"), shown(page, "reconstruction"))

  def test_factors_are_ranked(self, tab):
    page = tab("grey")
    order = "Array.from(document.querySelectorAll('.factor')).map(row => row.id)"
    assert page.run(order) == ["factor-1", "factor-2", "factor-0"]
    assert "0.75 nats" in page.run("$('factor-1').textContent")
    assert tab("wide").run(order) == ["factor-0", "factor-1", "factor-2"]

  def test_drawing(self, tab, models):
    page = tab("grey")
    page.run("$('clear').click()")
    settle(page)
    box = page.run("(b => [b.left, b.top, b.width, b.height])($('draw').getBoundingClientRect())")
    left, top, width, height = box
    x = left + 0.55 * width
    page.drag([(x, top + (0.1 + 0.05 * step) * height) for step in range(17)])
    settle(page)
    seen = shown(page, "seen")[..., 0]
    paper = seen[0, 0]
    assert abs(int(seen[4, 4]) - int(paper)) > 200 and (seen[:, 0] == paper).all()
    z = models["grey"].encode(seen[None, ..., None].astype("float32") / 255)["z"]
    np.testing.assert_allclose(page.run("codes.z"), z[0], atol=0.02)
    page.run("$('invert').click()")
    settle(page)
    np.testing.assert_allclose(shown(page, "seen")[..., 0], 255 - seen, atol=1)

  def test_drawing_in_colour(self, tab):
    page = tab("colour")
    page.run("$('clear').click(), $('pen').value = '#ff0000'")
    box = page.run("(b => [b.left, b.top, b.width])($('draw').getBoundingClientRect())")
    settle(page)
    page.drag([(box[0] + 0.5 * box[2], box[1] + (0.3 + 0.05 * i) * box[2]) for i in range(9)])
    settle(page)
    assert shown(page, "seen")[32, 32].tolist() == [255, 0, 0]

  def test_keyboard_alone(self, tab):
    page = tab("grey")
    settle(page)
    reached = []
    for _ in range(40):
      page.press("Tab", number=9)
      reached.append(page.run("""(e => e.closest("[id]") && (e.id || e.closest("[id]").id))(
          document.activeElement)"""))
    for name in ("file", "clear", "invert", "category-own", "typical", "factor-1", "reset"):
      assert name in reached, reached
    page.run("document.querySelector('#factor-1 input').focus()")
    before = page.run("choice.z[1]")
    page.press("ArrowRight", number=39)
    settle(page)
    assert page.run("choice.z[1]") == pytest.approx(before + 0.01, abs=0.006)
    page.run("document.querySelectorAll('#typical button')[1].focus()")
    before = page.run("codes.z")
    page.press("Enter", number=13)
    page.wait(f"codes.z[0] !== {before[0]}")
    assert page.run("!!document.activeElement.closest('#typical')")

  @pytest.mark.parametrize("width", [320, 400, 800, 1100])
  @pytest.mark.parametrize("name", SHAPES)
  def test_fits_any_width(self, tab, name, width):
    page = tab(name, width=width)
    assert page.run("document.documentElement.scrollWidth") <= width

  def test_the_pictures_stay_in_sight_on_a_phone(self, tab):
    page = tab("grey", width=400, height=700)
    page.run("$('reset').scrollIntoView({block: 'end'})")
    box = page.run("(b => [b.top, b.bottom])($('redrawn').getBoundingClientRect())")
    assert 0 <= box[0] and box[1] < 250

  def test_dark(self, tab):
    colour = "getComputedStyle(document.body).backgroundColor"
    light = tab("grey").run(colour)
    dark = tab("grey", dark=True).run(colour)
    assert light == "rgb(246, 246, 244)" and dark == "rgb(21, 23, 26)"

  def _assert_codes(self, page, model, image):
    """That the page shows an image and its codes."""
    expected = {name: value[0] for name, value in model.encode(image[None]).items()}
    codes = page.run("codes")
    for name, value in expected.items():
      np.testing.assert_allclose(codes[name], value, atol=1e-5)
    best = expected["y"].argmax()
    assert page.run("$('h-category').textContent").startswith(f"Category {best}, ")
    assert_shows(page, "seen", image)
    assert_shows(page, "reconstruction", model.reconstruct(image[None])[0])
    np.testing.assert_array_equal(shown(page, "redrawn"), shown(page, "reconstruction"))


@needs_chromium
class TestErrors:

  def test_the_server_goes_away(self, bases, chromium):
    with real_server.served(bases["grey"]) as (url, _, _):
      chromium.open(url + "/")
      chromium.wait("codes")
    chromium.run("document.querySelector('#category-2 input').click()")
    assert chromium.wait("document.querySelector('#error:not([hidden])').textContent") == (
        "expected an answer from the server, got none; start imae-serve again."
    )

  def test_what_the_server_refuses_is_shown(self, bases, chromium):
    with real_server.served(bases["grey"]) as (url, _, _):
      chromium.open(url + "/")
      chromium.wait("codes")
      chromium.run("choice.z[0] = 'much', attempt(redraw)")
      text = chromium.wait("document.querySelector('#error:not([hidden])').textContent")
      assert text.startswith("The server answered 400: ")
      chromium.run("$('reset').click()")
      chromium.wait("$('error').hidden")

  def test_a_new_version_takes_over(self, bases, models, tmp_path, chromium):
    shutil.copytree(bases["grey"] / "1", tmp_path / "1")
    with real_server.served(tmp_path) as (url, _, server):
      chromium.open(url + "/")
      chromium.wait("codes")
      pixels = chromium.run("Array.from(pixels)")
      other = exports.make_model(seed=3)
      savedmodel.write(other, tmp_path / "2")
      server.refresh()
      chromium.run("document.querySelector('#category-2 input').click()")
      chromium.wait("model.version === 2 && codes")
      assert chromium.run("$('note').textContent") == (
          "The model was replaced: this is version 2."
      )
      assert "version 2" in chromium.run("$('about').textContent")
      image = np.array(pixels, "float32").reshape(1, 8, 8, 1)
      np.testing.assert_allclose(chromium.run("codes.z"), other.encode(image)["z"][0], atol=1e-5)

  def test_no_description(self, bases, tmp_path, chromium):
    shutil.copytree(bases["grey"] / "1", tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "imae.json").unlink()
    with real_server.served(tmp_path) as (url, _, _):
      chromium.open(url + "/")
      text = chromium.wait("document.querySelector('#error:not([hidden])').textContent")
      assert "expected assets.extra/imae.json in the served version" in text
      assert chromium.run("$('main').hidden")
