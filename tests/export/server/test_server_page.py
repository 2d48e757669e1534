"""The page at `/`: what it tells about a version, and what a person sees in a browser."""

import asyncio
import base64
import io
import json
import re
import shutil
import time
import types

import browser
import exports
import httpx
import numpy as np
import PIL.Image
import pytest
import real_server
import starlette.applications

from imae_tf.export import savedmodel
from imae_tf.export.server import page

K1, K2 = exports.K1, exports.K2
SHAPES = {"grey": (8, 8, 1), "colour": (64, 64, 3), "wide": (6, 12, 1)}
NATS = [0.25, 0.75, 0.5]  # so that the order of the factors is 1, 2, 0

needs_chromium = pytest.mark.skipif(browser.PATH is None, reason="chromium is not installed")


def pictures(shape):
  """Random images with a dark border."""
  x = np.zeros((40, *shape), "float32")
  inside = x[:, 1:-1, 1:-1]
  inside[:] = np.random.default_rng(0).integers(0, 256, inside.shape).astype("float32") / 255
  return x


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


def write_image(path, pixels):
  PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
  return path


def choose(tab, path):
  """Chooses a file, and waits for its codes."""
  before = tab.run("round")
  tab.choose_file("#file", path)
  tab.wait(f"round > {before}")
  settle(tab)


def transfer(tab, kind, *items):
  """Drops, or pastes, what items (JavaScript on a DataTransfer `data`) put there."""
  event = {
      "drop": "new DragEvent('drop', {dataTransfer: data})",
      "paste": "new ClipboardEvent('paste', {clipboardData: data})",
  }[kind]
  tab.run(f"""(() => {{
      const data = new DataTransfer();
      {"; ".join(items)};
      dispatchEvent({event});
  }})()""")
  settle(tab)


def move(tab, k, *values):
  """Moves the slider of a factor, without waiting."""
  tab.run(f"""(() => {{
      const slider = document.querySelector("#factor-{k} input");
      for (slider.value of {list(values)}) slider.dispatchEvent(new Event("input"));
  }})()""")


def area(tab):
  """(left, top, width, height) of the drawing area."""
  return tab.run("(b => [b.left, b.top, b.width, b.height])($('draw').getBoundingClientRect())")


def error(tab):
  """The text of the error, once there is one."""
  return tab.wait("!$('error').hidden && $('error-text').textContent")


def assert_no_result(tab):
  """That neither pictures nor numbers of any image are shown."""
  assert not re.search(r"\d", tab.run("$('h-category').textContent"))
  for canvas in ("reconstruction", "redrawn"):
    assert not shown(tab, canvas).any()
  numbers = "Array.from(document.querySelectorAll('main .number')).map(e => e.textContent).join('')"
  assert tab.run(numbers) == ""
  assert not tab.run("document.querySelector('#categories :checked')")


def contrast(one, other):
  """The contrast of two colours `rgb(r, g, b)` by WCAG 2."""

  def luminance(colour):
    value = np.array([int(v) for v in re.findall(r"\d+", colour)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]

  dark, light = sorted([luminance(one), luminance(other)])
  return (light + 0.05) / (dark + 0.05)


# What a server may do in place of an answer.
DEAD = "fetch = () => Promise.reject(new TypeError('dead'))"
HELD = """(() => {
    const gate = new Promise(go => { free = go; });
    fetch = async (...call) => { await gate; return real(...call); };
})()"""


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

  @pytest.mark.parametrize("damage", ["imae.json", "half", "nan", "other"])
  def test_without_a_description(self, bases, tmp_path, damage):
    get = self._version(bases, tmp_path)
    description = tmp_path / "1" / "assets.extra" / "imae.json"
    if damage == "imae.json":
      description.unlink()
    else:
      nan = description.read_text().replace("0.75", "NaN")
      content = {"half": '{"method": ', "nan": nan, "other": "[]"}[damage]
      description.write_text(content)
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
    choose(page, write_image(tmp_path / "image.png", pixels))
    self._assert_codes(page, models[name], pixels / np.float32(255))
    assert page.run("document.getElementById('note').textContent") == ""

  def test_a_larger_colour_file(self, tab, models, tmp_path):
    large = np.random.default_rng(6).integers(0, 256, (40, 80, 3), np.uint8)
    page = tab("grey")
    choose(page, write_image(tmp_path / "image.png", large))
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

  @pytest.mark.parametrize(
      ["name", "ground"], [("grey", "black"), ("colour", "black"), ("wide", "white")]
  )
  def test_transparency_is_laid_on_the_usual_background(self, tab, tmp_path, name, ground):
    h, w, c = SHAPES[name]
    pixels = np.full([h, w, 4], 127, np.uint8)
    pixels[..., 3] = 0
    pixels[2:4, 2:4, 3] = 255
    page = tab(name)
    choose(page, write_image(tmp_path / "image.png", pixels))
    expected = np.full([h, w, c], float(ground == "white"))
    expected[2:4, 2:4] = 127 / 255
    assert_shows(page, "seen", expected)
    note = page.run("$('note').textContent")
    assert note == f"The image was filled with {ground} where it was transparent."

  def test_a_transparent_drawing_is_not_lost(self, tab, tmp_path):
    pixels = np.zeros([8, 8, 4], np.uint8)
    pixels[3:5, 3:5, 3] = 255
    page = tab("grey")
    choose(page, write_image(tmp_path / "black.png", pixels))
    assert_shows(page, "seen", 1 - pixels[..., 3:] / 255)
    assert page.run("$('note').textContent") == (
        "The image was filled with white where it was transparent. Typical images have a dark"
        " background: Invert?"
    )

  @pytest.mark.parametrize("size", [(333, 777), (801, 799), (5, 3), (9, 64)])
  def test_an_opaque_file_is_not_called_transparent(self, tab, tmp_path, size):
    PIL.Image.new("RGB", size, (40, 90, 60)).save(tmp_path / "image.jpg")
    page = tab("colour")
    choose(page, tmp_path / "image.jpg")
    assert "transparent" not in page.run("$('note').textContent")

  def test_another_background_is_noted(self, tab, tmp_path):
    page = tab("grey")
    pixels = np.full([8, 8, 1], 255, np.uint8)
    pixels[3:5, 3:5] = 0
    choose(page, write_image(tmp_path / "light.png", pixels))
    note = "$('note').textContent"
    assert page.run(note) == "Typical images have a dark background: Invert?"
    choose(page, write_image(tmp_path / "dark.png", 255 - pixels))
    assert page.run(note) == ""

  def test_an_svg_file(self, tab, tmp_path):
    (tmp_path / "image.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64">'
        '<rect width="64" height="64" fill="#00ff00"/></svg>'
    )
    page = tab("colour")
    choose(page, tmp_path / "image.svg")
    assert_shows(page, "seen", np.broadcast_to([0.0, 1.0, 0.0], [64, 64, 3]))

  @pytest.mark.parametrize("readable", [True, False])
  def test_the_newest_file_wins(self, tab, models, tmp_path, readable):
    page = tab("grey")
    page.run("""(() => {
        const original = createImageBitmap;
        createImageBitmap = async file => {
          createImageBitmap = original;
          await new Promise(go => { goOn = go; });
          return original(file);
        };
    })()""")
    if readable:
      write_image(tmp_path / "old.png", np.zeros([16, 16, 1], np.uint8))
    else:
      (tmp_path / "old.png").write_text("no image")
    page.choose_file("#file", tmp_path / "old.png")
    page.wait("!!goOn")
    image = np.random.default_rng(3).integers(0, 256, (8, 8, 1), np.uint8)
    before = page.run("round")
    page.choose_file("#file", write_image(tmp_path / "new.png", image))
    page.wait(f"round > {before}")
    page.run("goOn()")
    settle(page)
    self._assert_codes(page, models["grey"], image / np.float32(255))
    assert page.run("$('error').hidden && $('note').textContent") == ""

  @pytest.mark.parametrize("kind", ["drop", "paste"])
  def test_what_is_no_file(self, tab, kind):
    page = tab("grey")
    transfer(page, kind, "data.setData('text/uri-list', 'https://example.org/cat.png')")
    assert error(page) == (
        "Expected an image file, got text or a link; save the image as a file and choose it."
    )
    page.run("$('dismiss').click()")
    assert page.run("$('error').hidden")

  def test_several_files(self, tab):
    page = tab("grey")
    picture = "Uint8Array.from(atob(model.typical.flat()[0].split(',')[1]), c => c.charCodeAt(0))"
    transfer(page, "drop", f"data.items.add(new File([{picture}], 'a.png'))",
             "data.items.add(new File(['b'], 'b.txt'))")
    page.wait("$('note').textContent")
    settle(page)
    assert page.run("$('note').textContent") == "Only the first of 2 files was taken."

  def test_a_file_that_is_no_image(self, tab, tmp_path):
    page = tab("grey")
    (tmp_path / "notes.txt").write_text("no image")
    page.choose_file("#file", tmp_path / "notes.txt")
    assert error(page) == (
        "Expected an image such as a PNG or JPEG, got notes.txt; choose another file."
    )
    assert page.run("$('retry').hidden")
    before = page.run("round")
    choose(page, write_image(tmp_path / "image.png", np.zeros([8, 8, 1], np.uint8)))
    assert page.run("round") == before + 1 and page.run("$('error').hidden")

  def test_a_file_that_is_cut_short(self, tab, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = write_image(tmp_path / "whole.jpg", pixels).read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[:len(whole) // 2])
    page = tab("colour")
    page.choose_file("#file", tmp_path / "half.jpg")
    assert "half.jpg" in error(page)

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_sliders_and_categories_redraw(self, tab, models, name):
    page = tab(name)
    codes = page.run("codes")
    move(page, 2, 1.5)
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
    left, top, width, height = area(page)
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
    box = area(page)
    settle(page)
    page.drag([(box[0] + 0.5 * box[2], box[1] + (0.3 + 0.05 * i) * box[2]) for i in range(9)])
    settle(page)
    assert shown(page, "seen")[32, 32].tolist() == [255, 0, 0]

  def test_only_the_first_finger_draws(self, tab):
    page = tab("grey")
    page.run("$('clear').click()")
    left, top, width, height = area(page)

    def at(x, y):
      return left + x * width, top + y * height

    page.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    page.touch("touchStart", [at(0.2, 0.2)])
    page.touch("touchStart", [at(0.2, 0.2), at(0.8, 0.8)])
    for step in range(5):
      page.touch("touchMove", [at(0.2, 0.2 + 0.1 * step), at(0.8, 0.8 - 0.1 * step)])
    page.touch("touchEnd")
    page.call("Emulation.setTouchEmulationEnabled", enabled=False)
    settle(page)
    seen = shown(page, "seen")[..., 0]
    assert seen[:, 1].max() == 255 and not seen[:, 4:].any()

  def test_another_button_does_not_draw(self, tab):
    page = tab("grey")
    page.run("$('clear').click()")
    left, top, width, height = area(page)
    page.drag([(left + 0.1 * k * width, top + 0.5 * height) for k in range(1, 9)], button="right")
    settle(page)
    assert not shown(page, "seen").any()

  def test_clear_leaves_no_category(self, tab, models):
    page = tab("grey")
    move(page, 1, 1.5)
    page.run("$('clear').click()")
    settle(page)
    assert_no_result(page)
    assert page.run("$('reset').disabled && $('invert').disabled")
    move(page, 2, -1)
    settle(page)
    category = page.run("choice.category")
    z = np.array([[0, 0, -1]], "float32")
    expected = models["grey"].decode(np.eye(K2, dtype="float32")[[category]], z)[0]
    assert_shows(page, "redrawn", expected)
    page.run("document.querySelector('#typical button').click()")
    page.wait("codes")
    settle(page)
    assert page.run("$('h-category').textContent").startswith("Category ")

  def test_an_action_is_announced_once(self, tab):
    page = tab("grey")
    assert page.run("document.querySelectorAll('[role=status]').length") == 1
    assert page.run("$('h-category').matches('h2:not([role])')")
    page.run("""said = [], new MutationObserver(() => said.push($('status').textContent)).observe(
        $('status'), {childList: true})""")
    page.run("$('clear').click()")
    left, top, width, height = area(page)
    before = page.run("round")
    for kind in ("mousePressed", "mouseMoved", "mouseReleased"):
      for step in range(25 if kind == "mouseMoved" else 1):
        x, y = left + (0.2 + 0.02 * step) * width, top + 0.5 * height
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left",
                  buttons=1, clickCount=1)
        time.sleep(0.02)
    settle(page)
    assert page.run("round") > before + 1
    assert page.run("said") == ["Cleared.", page.run("$('h-category').textContent") + ". "]

  def test_numbers(self, tab):
    page = tab("grey")
    assert page.run("[0, 0.004, 0.126, 0.994, 0.996, 0.9996, 1].map(percent)") == [
        "0%", "<1%", "13%", "99%", ">99%", "100%", "100%"
    ]
    assert page.run("[-0.003, -0.006, 0, 1.5].map(signed)") == ["0.00", "−0.01", "0.00", "1.50"]

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
    assert page.run("choice.z[1]") == pytest.approx(before + 0.05, abs=0.026)
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
    page.run("$('factor-0').scrollIntoView({block: 'end'})")
    box = page.run("(b => [b.top, b.bottom])($('redrawn').getBoundingClientRect())")
    assert 0 <= box[0] and box[1] < 250

  def test_the_focus_is_not_under_the_pictures_on_a_phone(self, tab):
    page = tab("grey", width=400, height=500)
    page.run("$('reset').focus()")
    while page.run("document.activeElement.id") != "file":
      page.press("Tab", number=9, shift=True)
      top, bottom, name = page.run("""(() => {
          const focus = document.activeElement, box = focus.getBoundingClientRect();
          const over = document.querySelector(".pictures").getBoundingClientRect();
          return [box.top, over.top > 0 ? 0 : over.bottom, focus.outerHTML];
      })()""")
      assert top >= bottom, name

  def test_the_pictures_leave_room_on_a_low_window(self, tab):
    page = tab("grey", width=844, height=390)
    page.run("$('factor-0').scrollIntoView({block: 'end'})")
    assert page.run("document.querySelector('.pictures').getBoundingClientRect().bottom") < 0

  def test_the_captions_are_on_one_line(self, tab):
    page = tab("grey")
    heights = page.run("""Array.from(document.querySelectorAll("figcaption")).map(
        caption => caption.offsetHeight)""")
    assert len(set(heights)) == 1

  def test_the_way_back_is_in_sight(self, tab):
    assert tab("grey").run("$('reset').getBoundingClientRect().bottom") < 200

  @pytest.mark.parametrize("dark", [False, True])
  def test_borders_are_seen(self, tab, dark):
    page = tab("grey", dark=dark)
    card, *edges = page.run("""[
        getComputedStyle(document.querySelector("section")).backgroundColor,
        ...["clear", "draw", "reset"].map(id => getComputedStyle($(id)).borderTopColor),
    ]""")
    assert all(contrast(card, edge) >= 3 for edge in edges)

  def test_forced_colours(self, tab):
    page = tab("grey", forced_colours=True)
    card, *parts = page.run("""[
        getComputedStyle(document.body).backgroundColor,
        ...[".bar i", ".scale i", ".scale b"].map(
            name => getComputedStyle(document.querySelector(name)).backgroundColor),
    ]""")
    assert all(contrast(card, part) >= 3 for part in parts)
    assert page.run("getComputedStyle(document.querySelector('.scale')).borderTopStyle") == "solid"

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
    assert error(chromium) == (
        "Expected an answer from the server, got none; start imae-serve again."
    )

  def test_what_the_server_refuses_is_shown(self, bases, chromium):
    with real_server.served(bases["grey"]) as (url, _, _):
      chromium.open(url + "/")
      chromium.wait("codes")
      chromium.run("choice.z[0] = 'much', attempt(redraw)")
      assert error(chromium).startswith("The server answered 400: ")
      chromium.run("$('reset').click()")
      chromium.wait("$('error').hidden")

  @pytest.mark.parametrize(["fault", "way"], [
      *((DEAD, way) for way in ("reset", "retry", "slider", "category")),
      *((f"fetch = async () => new Response('{{}}', {{status: {status}}})", "reset")
        for status in (413, 429, 504)),
  ])
  def test_a_failed_encode_leaves_no_result(self, tab, models, fault, way):
    page = tab("grey")
    model, image = models["grey"], 1 - self._pixels(page)
    page.run("real = fetch")
    page.run(fault)
    page.run("$('invert').click()")
    error(page)
    settle(page)
    assert_shows(page, "seen", image)
    assert_no_result(page)
    page.run("fetch = real")
    if way == "slider":
      move(page, 2, 1.5)
    else:
      button = "#category-3 input" if way == "category" else f"#{way}"
      page.run(f"document.querySelector('{button}').click()")
    page.wait("codes")
    settle(page)
    assert page.run("$('error').hidden")
    codes = model.encode(image[None])
    np.testing.assert_allclose(page.run("codes.z"), codes["z"][0], atol=1e-5)
    assert_shows(page, "reconstruction", model.reconstruct(image[None])[0])
    y, z = codes["y"], codes["z"].copy()
    if way == "slider":
      z[0, 2] = 1.5
    if way == "category":
      y = np.eye(K2, dtype="float32")[3:4]
    assert_shows(page, "redrawn", model.decode(y, z)[0])

  def test_a_slow_encode_dims_the_old_result(self, tab):
    page = tab("grey")
    before = page.run("codes.z")
    dims = """Array.from(document.querySelectorAll(".result")).map(
        part => Number(getComputedStyle(part).opacity))"""
    sign = "$('waiting').getClientRects().length > 0"
    page.run("real = fetch")
    page.run(HELD)
    at_once = page.run(f"$('invert').click(), [{dims}, {sign}]")
    assert at_once == [[1] * 6, False]  # no flicker where it is quick
    page.wait(f"Math.max(...{dims}) < 0.5")
    assert page.run(sign)
    move(page, 2, 1.5)  # is for the image that is there, so it waits
    page.run("fetch = real, free()")
    settle(page)
    assert page.run(dims) == [1] * 6 and not page.run(sign)
    own = page.run("codes.z")
    assert own != before and page.run("choice.z") == [*own[:2], 1.5]

  def test_cleared_while_a_slider_waits(self, tab):
    page = tab("grey")
    page.run("real = fetch")
    page.run(HELD)
    move(page, 2, 1.5)
    move(page, 2, 1.0)
    page.run("$('clear').click(), fetch = real, free()")
    settle(page)
    assert page.run("$('error').hidden && codes === null")

  def test_an_older_answer_is_dropped(self, tab, models):
    page = tab("grey")
    page.run("real = fetch")
    page.run(HELD)
    page.run("$('invert').click()")
    page.run("fetch = real, $('invert').click()")
    page.wait("pixels === owner")
    page.run("free()")
    settle(page)
    z = models["grey"].encode(self._pixels(page)[None])["z"][0]
    np.testing.assert_allclose(page.run("codes.z"), z, atol=1e-5)

  def test_a_slow_redraw_does_not_outlive_its_image(self, tab):
    page = tab("grey")
    page.run("real = fetch")
    page.run(HELD)
    move(page, 2, 2.5, 1.5)  # the second is to be asked for after the first
    page.run("go = free")
    page.run(HELD)
    page.run("$('invert').click(), go()")
    page.wait("redrawing === null")  # nor is it asked for beside a newer image
    page.run("free()")
    settle(page)
    np.testing.assert_array_equal(shown(page, "redrawn"), shown(page, "reconstruction"))

  def test_the_error_stays_while_a_slider_moves(self, tab):
    page = tab("grey")
    page.run("real = fetch")
    page.run(DEAD)
    move(page, 2, 1)
    error(page)
    assert not shown(page, "redrawn").any()
    page.run("""flips = 0, new MutationObserver(() => flips++).observe(
        $("error"), {attributes: true})""")
    move(page, 2, 1.1, 1.2, 1.3)
    settle(page)
    assert page.run("flips") == 0
    page.run("fetch = real")
    move(page, 2, 1.5)
    settle(page)
    assert page.run("$('error').hidden")

  def test_a_new_version_takes_over(self, bases, models, tmp_path, chromium):
    shutil.copytree(bases["grey"] / "1", tmp_path / "1")
    with real_server.served(tmp_path) as (url, _, server):
      chromium.open(url + "/")
      chromium.wait("codes")
      image = self._pixels(chromium)
      other = exports.make_model(seed=3)
      savedmodel.write(other, tmp_path / "2")
      server.refresh()
      chromium.run("document.querySelector('#category-2 input').click()")
      chromium.wait("model.version === 2 && codes")
      assert chromium.run("$('note').textContent") == (
          "The model was replaced: this is version 2."
      )
      assert "version 2" in chromium.run("$('about').textContent")
      codes = other.encode(image[None])
      np.testing.assert_allclose(chromium.run("codes.z"), codes["z"][0], atol=1e-5)
      np.testing.assert_allclose(shown(chromium, "seen"), as_shown(image), atol=1)
      large = shown(chromium, "draw").reshape(8, 40, 8, 40, 3)[:, 20, :, 20]
      np.testing.assert_allclose(large, as_shown(image), atol=1)

  def test_no_description(self, bases, tmp_path, chromium):
    shutil.copytree(bases["grey"] / "1", tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "imae.json").unlink()
    with real_server.served(tmp_path) as (url, _, _):
      chromium.open(url + "/")
      text = error(chromium)
      assert "expected assets.extra/imae.json in the served version" in text
      assert chromium.run("$('main').hidden")

  def _pixels(self, page):
    return np.array(page.run("Array.from(pixels)"), "float32").reshape(8, 8, 1)
