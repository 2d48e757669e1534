"""The page at `/`: what it tells about a version, in words and to the eye."""

import asyncio
import base64
import io
import json
import re
import shutil
import time
import types

import exports
import httpx
import numpy as np
import PIL.Image
import pytest
import served_page
import starlette.applications
from served_page import NATS
from served_page import SHAPES
from served_page import write_image

from imae_tf.export.server import page as page_room

K1, K2 = exports.K1, exports.K2


def contrast(one, other):
  """The contrast of two colours `rgb(r, g, b)` by WCAG 2."""

  def luminance(colour):
    value = np.array([int(v) for v in re.findall(r"\d+", colour)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]

  dark, light = sorted([luminance(one), luminance(other)])
  return (light + 0.05) / (dark + 0.05)


class TestModel:

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_description(self, page_urls, name):
    described = httpx.get(f"{page_urls[name]}/page/model").json()
    typical = described.pop("typical")
    assert described == {
        "name": "imae", "version": 1, "method": "imae", "dataset": name, "num_categories": K2,
        "latent_dim": K1, "image_shape": list(SHAPES[name]), "mi_z_per_dimension": NATS,
        "category_names": None,
    }
    assert len(typical) == K2

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_typical_images_are_of_their_category(self, page_urls, page_models, name):
    typical = httpx.get(f"{page_urls[name]}/page/model").json()["typical"]
    x = served_page.pictures(name)
    y = page_models[name].encode(x)["y"]
    for category, sources in enumerate(typical):
      members = np.flatnonzero(y.argmax(axis=1) == category)
      expected = members[np.argsort(-y[members, category], kind="stable")][:8]
      assert len(sources) == len(expected)
      for source, index in zip(sources, expected):
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        image = np.asarray(PIL.Image.open(io.BytesIO(content))).reshape(SHAPES[name])
        np.testing.assert_array_equal(image, np.rint(x[index] * 255))

  def test_without_figures_and_images(self, page_urls):
    described = httpx.get(f"{page_urls['wide']}/page/model").json()
    assert described["mi_z_per_dimension"] is None and described["typical"] is None

  @pytest.mark.parametrize("damage", ["imae.json", "half", "nan", "other"])
  def test_without_a_description(self, page_bases, tmp_path, damage):
    get = self._version(page_bases, tmp_path)
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

  def test_damaged_typical_images_are_left_out(self, page_bases, tmp_path):
    get = self._version(page_bases, tmp_path)
    (tmp_path / "1" / "assets.extra" / "typical_images.npz").write_bytes(b"PK\x03\x04 half")
    assert get().json()["typical"] is None

  def test_images_that_no_browser_shows(self, page_bases, tmp_path):
    get = self._version(page_bases, tmp_path)
    description = tmp_path / "1" / "assets.extra" / "imae.json"
    content = json.loads(description.read_text())
    description.write_text(json.dumps({**content, "image_shape": [8, 8, 2]}))
    assert get().json()["typical"] is None

  def _version(self, page_bases, folder):
    """A function that asks for the description of a copy, which a test may damage."""
    shutil.copytree(page_bases["grey"] / "1", folder / "1")
    server = types.SimpleNamespace(
        model_name="imae", metadata=lambda: (1, {}), path=lambda _: folder / "1"
    )
    app = starlette.applications.Starlette(routes=page_room.routes(server))

    def get():
      async def request():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
          return await client.get("/page/model")

      return asyncio.run(request())

    return get


class TestHtml:

  def test_nothing_from_elsewhere(self, page_urls):
    reply = httpx.get(page_urls["grey"] + "/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    for elsewhere in ("http:", "https:", "//cdn", "@import", "src=\"/", "url("):
      assert elsewhere not in reply.text


class TestWords:

  def test_a_larger_colour_file(self, opened, page_models, tmp_path):
    large = np.random.default_rng(6).integers(0, 256, (40, 80, 3), np.uint8)
    page = opened("grey")
    page.choose(write_image(tmp_path / "image.png", large))
    assert page.text("note") == (
        "The image was resized from 80 × 40 to 8 × 8 pixels, cut to the middle, turned from"
        " colour to grey."
    )
    grey = large[:, 20:60] @ np.array([0.299, 0.587, 0.114]) / 255
    expected = grey.reshape(8, 5, 8, 5).mean(axis=(1, 3))[..., None].astype("float32")
    page.assert_shows("seen", expected)
    page.assert_codes(page_models["grey"], expected, atol=1e-3)

  @pytest.mark.parametrize(
      ["name", "ground"], [("grey", "black"), ("colour", "black"), ("wide", "white")]
  )
  def test_transparency_is_laid_on_the_usual_background(self, opened, tmp_path, name, ground):
    h, w, c = SHAPES[name]
    pixels = np.full([h, w, 4], 127, np.uint8)
    pixels[..., 3] = 0
    pixels[2:4, 2:4, 3] = 255
    page = opened(name)
    page.choose(write_image(tmp_path / "image.png", pixels))
    expected = np.full([h, w, c], float(ground == "white"))
    expected[2:4, 2:4] = 127 / 255
    page.assert_shows("seen", expected)
    assert page.text("note") == f"The image was filled with {ground} where it was transparent."

  def test_a_transparent_drawing_is_not_lost(self, opened, tmp_path):
    pixels = np.zeros([8, 8, 4], np.uint8)
    pixels[3:5, 3:5, 3] = 255
    page = opened("grey")
    page.choose(write_image(tmp_path / "black.png", pixels))
    page.assert_shows("seen", 1 - pixels[..., 3:] / 255)
    assert page.text("note") == (
        "The image was filled with white where it was transparent. Typical images have a dark"
        " background: Invert?"
    )

  @pytest.mark.parametrize("size", [(333, 777), (801, 799), (5, 3), (9, 64)])
  def test_an_opaque_file_is_not_called_transparent(self, opened, tmp_path, size):
    PIL.Image.new("RGB", size, (40, 90, 60)).save(tmp_path / "image.jpg")
    page = opened("colour")
    page.choose(tmp_path / "image.jpg")
    assert "transparent" not in page.text("note")

  def test_another_background_is_noted(self, opened, tmp_path):
    page = opened("grey")
    pixels = np.full([8, 8, 1], 255, np.uint8)
    pixels[3:5, 3:5] = 0
    page.choose(write_image(tmp_path / "light.png", pixels))
    assert page.text("note") == "Typical images have a dark background: Invert?"
    page.choose(write_image(tmp_path / "dark.png", 255 - pixels))
    assert page.text("note") == ""

  @pytest.mark.parametrize("kind", ["drop", "paste"])
  def test_what_is_no_file(self, opened, kind):
    page = opened("grey")
    page.transfer(kind, "data.setData('text/uri-list', 'https://example.org/cat.png')")
    assert page.error() == (
        "Expected an image file, got text or a link; save the image as a file and choose it."
    )
    page.click("#dismiss")
    assert not page.sees("#error")

  def test_several_files(self, opened):
    page = opened("grey")
    source = "document.querySelector('#typical img').src.split(',')[1]"
    picture = f"Uint8Array.from(atob({source}), c => c.charCodeAt(0))"
    page.transfer("drop", f"data.items.add(new File([{picture}], 'a.png'))",
                  "data.items.add(new File(['b'], 'b.txt'))")
    assert page.text("note") == "Only the first of 2 files was taken."

  def test_a_file_that_is_no_image(self, opened, tmp_path):
    page = opened("grey")
    (tmp_path / "notes.txt").write_text("no image")
    page.choose(tmp_path / "notes.txt")
    assert page.error() == (
        "Expected an image such as a PNG or JPEG, got notes.txt; choose another file."
    )
    assert not page.sees("#retry")
    before = page.asked()
    page.choose(write_image(tmp_path / "image.png", np.zeros([8, 8, 1], np.uint8)))
    assert page.asked() == before + 2  # encode, reconstruct: once
    assert not page.sees("#error")

  def test_a_file_that_is_cut_short(self, opened, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = write_image(tmp_path / "whole.jpg", pixels).read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[:len(whole) // 2])
    page = opened("colour")
    page.choose(tmp_path / "half.jpg")
    assert "half.jpg" in page.error()

  def test_factors_are_ranked(self, opened):
    page = opened("grey")
    order = "Array.from(document.querySelectorAll('.factor')).map(row => row.id)"
    assert page.run(order) == ["factor-1", "factor-2", "factor-0"]
    assert "0.75 nats" in page.text("factor-1")
    assert opened("wide").run(order) == ["factor-0", "factor-1", "factor-2"]

  @pytest.mark.parametrize(["y", "percents"], [
      ([0, 0.004, 0.126, 0.994, 0.996], ["0%", "<1%", "13%", "99%", ">99%"]),
      ([0, 0, 0, 1, 0.9996], ["0%", "0%", "0%", "100%", "100%"]),
  ])
  def test_numbers(self, opened, y, percents):
    page = opened("grey")
    codes = json.dumps({"outputs": {"y": [y], "z": [[-0.003, -0.006, 1.5]], "z_scale": [[1] * 3]}})
    page.answers(f"""async (path, call) => JSON.parse(call.body).signature_name === "encode"
        ? new Response('{codes}') : real(path, call)""")
    page.click("#invert")
    page.settle()
    assert page.texts(".category .number") == percents
    assert page.chosen() == ("own", ["0.00", "−0.01", "1.50"])

  def test_an_action_is_announced_once(self, opened):
    page = opened("grey")
    assert page.run("document.querySelectorAll('[role=status]').length") == 1
    assert page.run("document.getElementById('h-category').matches('h2:not([role])')")
    page.run("""(status => { said = []; new MutationObserver(() => said.push(status.textContent))
        .observe(status, {childList: true}) })(document.getElementById("status"))""")
    page.click("#clear")
    before = page.asked()
    for kind in ("mousePressed", "mouseMoved", "mouseReleased"):
      for step in range(25 if kind == "mouseMoved" else 1):
        x, y = page.place(0.2 + 0.02 * step, 0.5)
        page.browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left",
                          buttons=1, clickCount=1)
        time.sleep(0.02)
    page.settle()
    assert page.asked() > before + 2
    assert page.run("said") == ["Cleared.", page.text("h-category") + ". "]


class TestLooks:

  @pytest.mark.parametrize("width", [320, 400, 800, 1100])
  @pytest.mark.parametrize("name", SHAPES)
  def test_fits_any_width(self, opened, name, width):
    page = opened(name, width=width)
    assert page.run("document.documentElement.scrollWidth") <= width

  def test_the_pictures_stay_in_sight_on_a_phone(self, opened):
    page = opened("grey", width=400, height=700)
    page.run("document.getElementById('factor-0').scrollIntoView({block: 'end'})")
    _, top, _, height = page.box("#redrawn")
    assert top >= 0 and top + height < 250

  def test_the_focus_is_not_under_the_pictures_on_a_phone(self, opened):
    page = opened("grey", width=400, height=500)
    page.run("document.getElementById('reset').focus()")
    while page.run("document.activeElement.id") != "file":
      page.browser.press("Tab", number=9, shift=True)
      top, bottom, name = page.run("""(() => {
          const focus = document.activeElement, box = focus.getBoundingClientRect();
          const over = document.querySelector(".pictures").getBoundingClientRect();
          return [box.top, over.top > 0 ? 0 : over.bottom, focus.outerHTML];
      })()""")
      assert top >= bottom, name

  def test_the_pictures_leave_room_on_a_low_window(self, opened):
    page = opened("grey", width=844, height=390)
    page.run("document.getElementById('factor-0').scrollIntoView({block: 'end'})")
    _, top, _, height = page.box(".pictures")
    assert top + height < 0

  def test_the_captions_are_on_one_line(self, opened):
    heights = opened("grey").run("""Array.from(document.querySelectorAll("figcaption")).map(
        caption => caption.offsetHeight)""")
    assert len(set(heights)) == 1

  def test_the_way_back_is_in_sight(self, opened):
    _, top, _, height = opened("grey").box("#reset")
    assert top + height < 200

  @pytest.mark.parametrize("dark", [False, True])
  def test_borders_are_seen(self, opened, dark):
    page = opened("grey", dark=dark)
    card = page.style("section", "backgroundColor")[0]
    edges = page.style("#clear, #draw, #reset", "borderTopColor")
    assert len(edges) == 3 and all(contrast(card, edge) >= 3 for edge in edges)

  def test_forced_colours(self, opened):
    page = opened("grey", forced_colours=True)
    (ground,) = page.style("body", "backgroundColor")
    parts = page.style(".bar i, .scale i, .scale b", "backgroundColor")
    assert all(contrast(ground, part) >= 3 for part in parts)
    assert set(page.style(".scale", "borderTopStyle")) == {"solid"}

  def test_dark(self, opened):
    assert opened("grey").style("body", "backgroundColor") == ["rgb(246, 246, 244)"]
    assert opened("grey", dark=True).style("body", "backgroundColor") == ["rgb(21, 23, 26)"]
