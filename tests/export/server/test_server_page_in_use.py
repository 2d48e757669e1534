"""The page at `/` in a browser: what it does with images, choices, and a server that fails."""

import base64
import io
import shutil

import exports
import httpx
import numpy as np
import PIL.Image
import pytest
import real_server
from served_page import as_shown
from served_page import DEAD
from served_page import HELD
from served_page import SHAPES
from served_page import write_image

from imae_tf.export import savedmodel

K1, K2 = exports.K1, exports.K2


def one_hot(category):
  return np.eye(K2, dtype="float32")[[category]]


def seen(page):
  """What the model of 8x8 pixels sees, float32 [8, 8, 1]."""
  return page.pixels("seen")[..., :1] / np.float32(255)


class TestImages:

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_starts_with_a_typical_image(self, opened, page_urls, page_models, name):
    page = opened(name)
    typical = httpx.get(f"{page_urls[name]}/page/model").json()["typical"]
    first = next(source for sources in typical for source in sources)
    content = base64.b64decode(first.partition(",")[2])
    image = np.asarray(PIL.Image.open(io.BytesIO(content))).reshape(SHAPES[name]) / np.float32(255)
    self._assert_result(page, page_models[name], image)
    hosts = {url.split("/")[2] for url in page.browser.urls if not url.startswith("data:")}
    assert hosts == {page_urls[name].split("/")[2]}

  def test_starts_without_typical_images(self, opened, page_models):
    page = opened("wide")
    expected = page_models["wide"].decode(one_hot(0), np.zeros([1, K1], "float32"))[0]
    page.assert_shows("redrawn", expected)
    assert not page.sees("#typical-box")

  @pytest.mark.parametrize("name", SHAPES)
  def test_a_file_of_the_models_size(self, opened, page_models, tmp_path, name):
    pixels = np.random.default_rng(5).integers(0, 256, SHAPES[name], np.uint8)
    page = opened(name)
    page.choose(write_image(tmp_path / "image.png", pixels))
    self._assert_result(page, page_models[name], pixels / np.float32(255))
    assert page.text("note") == ""

  def test_an_svg_file(self, opened, tmp_path):
    (tmp_path / "image.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64">'
        '<rect width="64" height="64" fill="#00ff00"/></svg>'
    )
    page = opened("colour")
    page.choose(tmp_path / "image.svg")
    page.assert_shows("seen", np.broadcast_to([0.0, 1.0, 0.0], [64, 64, 3]))

  @pytest.mark.parametrize("readable", [True, False])
  def test_the_newest_file_wins(self, opened, page_models, tmp_path, readable):
    page = opened("grey")
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
    page.browser.choose_file("#file", tmp_path / "old.png")
    page.wait("!!goOn")
    image = np.random.default_rng(3).integers(0, 256, (8, 8, 1), np.uint8)
    before = page.text("h-category"), page.asked()
    page.browser.choose_file("#file", write_image(tmp_path / "new.png", image))
    page.wait(f"document.getElementById('h-category').textContent !== '{before[0]}'")
    page.run("goOn()")
    page.settle()
    assert page.asked() == before[1] + 2
    self._assert_result(page, page_models["grey"], image / np.float32(255))
    assert not page.sees("#error") and page.text("note") == ""

  def test_drawing(self, opened, page_models):
    page = opened("grey")
    page.click("#clear")
    page.drag([(0.55, 0.1 + 0.05 * step) for step in range(17)])
    drawn = page.pixels("seen")[..., 0]
    paper = drawn[0, 0]
    assert abs(int(drawn[4, 4]) - int(paper)) > 200 and (drawn[:, 0] == paper).all()
    # The model has seen more than the 256 shades of a screen.
    page.assert_codes(page_models["grey"], seen(page), atol=0.02)
    page.click("#invert")
    page.settle()
    np.testing.assert_allclose(page.pixels("seen")[..., 0], 255 - drawn, atol=1)

  def test_drawing_in_colour(self, opened):
    page = opened("colour")
    page.click("#clear")
    page.run("document.getElementById('pen').value = '#ff0000'")
    page.drag([(0.5, 0.3 + 0.05 * step) for step in range(9)])
    assert page.pixels("seen")[32, 32].tolist() == [255, 0, 0]

  def test_only_the_first_finger_draws(self, opened):
    page = opened("grey")
    page.click("#clear")
    touch, at = page.browser.touch, page.place
    page.browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    touch("touchStart", [at(0.2, 0.2)])
    touch("touchStart", [at(0.2, 0.2), at(0.8, 0.8)])
    for step in range(5):
      touch("touchMove", [at(0.2, 0.2 + 0.1 * step), at(0.8, 0.8 - 0.1 * step)])
    touch("touchEnd")
    page.browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    page.settle()
    drawn = page.pixels("seen")[..., 0]
    assert drawn[:, 1].max() == 255 and not drawn[:, 4:].any()

  def test_another_button_does_not_draw(self, opened):
    page = opened("grey")
    page.click("#clear")
    page.drag([(0.1 * k, 0.5) for k in range(1, 9)], button="right")
    assert not page.pixels("seen").any()

  def _assert_result(self, page, model, image):
    page.assert_codes(model, image)
    page.assert_shows("seen", image)
    page.assert_shows("reconstruction", model.reconstruct(image[None])[0])
    page.assert_own()


class TestChoices:

  @pytest.mark.parametrize("name", ["grey", "colour"])
  def test_sliders_and_categories_redraw(self, opened, page_models, name):
    page, model = opened(name), page_models[name]
    codes = page.codes()
    page.move(2, 1.5)
    page.settle()
    z = codes["z"][None].astype("float32")
    z[0, 2] = 1.5
    page.assert_shows("redrawn", model.decode(codes["y"][None].astype("float32"), z)[0])
    page.click("#category-3 input")
    page.settle()
    page.assert_shows("redrawn", model.decode(one_hot(3), z)[0])
    assert "category 3" in page.text("h-typical")
    page.click("#reset")
    page.settle()
    page.assert_own()

  def test_clear_leaves_no_category(self, opened, page_models):
    page = opened("grey")
    page.move(1, 1.5)
    page.click("#clear")
    page.settle()
    page.assert_no_result()
    assert page.run("document.querySelectorAll('#reset:disabled, #invert:disabled').length") == 2
    page.move(2, -1)
    page.settle()
    category, factors = page.chosen()
    assert factors == ["0.00", "0.00", "−1.00"]
    z = np.array([[0, 0, -1]], "float32")
    page.assert_shows("redrawn", page_models["grey"].decode(one_hot(int(category)), z)[0])
    page.click("#typical button")
    page.settle()
    page.assert_codes(page_models["grey"], seen(page))

  def test_keyboard_alone(self, opened):
    page = opened("grey")
    reached = []
    for _ in range(40):
      page.browser.press("Tab", number=9)
      reached.append(page.run("""(e => e.closest("[id]") && (e.id || e.closest("[id]").id))(
          document.activeElement)"""))
    for name in ("file", "clear", "invert", "category-own", "typical", "factor-1", "reset"):
      assert name in reached, reached
    page.run("document.querySelector('#factor-1 input').focus()")
    before = float(page.chosen()[1][1].replace("−", "-"))
    page.browser.press("ArrowRight", number=39)
    page.settle()
    after = float(page.chosen()[1][1].replace("−", "-"))
    assert after == pytest.approx(before + 0.05, abs=0.031)
    page.run("document.querySelectorAll('#typical button')[1].focus()")
    before = page.asked()
    page.browser.press("Enter", number=13)
    page.settle()
    assert page.asked() == before + 2
    assert page.run("!!document.activeElement.closest('#typical')")


class TestErrors:

  def test_the_server_goes_away(self, page_bases, page):
    with real_server.served(page_bases["grey"]) as (url, _, _):
      page.open(url)
    page.click("#category-2 input")
    assert page.error() == (
        "Expected an answer from the server, got none; start imae-serve again."
    )

  def test_what_the_server_refuses_is_shown(self, page_bases, page):
    with real_server.served(page_bases["grey"]) as (url, _, _):
      page.open(url)
      page.answers("(path, call) => real(path, {...call, body: '{}'})")
      page.move(0, 1)
      assert page.error().startswith("The server answered 400: ")
      page.answers()
      page.click("#reset")
      page.settle()
      assert not page.sees("#error")

  @pytest.mark.parametrize(["fault", "way"], [
      *((DEAD, way) for way in ("reset", "retry", "slider", "category")),
      *((f"async () => new Response('{{}}', {{status: {status}}})", "reset")
        for status in (413, 429, 504)),
  ])
  def test_a_failed_encode_leaves_no_result(self, opened, page_models, fault, way):
    page = opened("grey")
    model, image = page_models["grey"], 1 - seen(page)
    page.answers(fault)
    page.click("#invert")
    page.error()
    page.settle()
    page.assert_shows("seen", image)
    page.assert_no_result()
    page.answers()
    if way == "slider":
      page.move(2, 1.5)
    else:
      page.click("#category-3 input" if way == "category" else f"#{way}")
    page.settle()
    assert not page.sees("#error")
    page.assert_codes(model, image)
    page.assert_shows("reconstruction", model.reconstruct(image[None])[0])
    codes = model.encode(image[None])
    y, z = codes["y"], codes["z"].copy()
    if way == "slider":
      z[0, 2] = 1.5
    if way == "category":
      y = one_hot(3)
    page.assert_shows("redrawn", model.decode(y, z)[0])

  def test_a_slow_encode_dims_the_old_result(self, opened):
    page = opened("grey")
    before = page.codes()["z"]
    dims = """Array.from(document.querySelectorAll(".result")).map(
        part => Number(getComputedStyle(part).opacity))"""
    sign = "document.getElementById('waiting').getClientRects().length > 0"
    page.answers(HELD)
    at_once = page.run(f"document.getElementById('invert').click(), [{dims}, {sign}]")
    assert at_once == [[1] * 6, False]  # no flicker where it is quick
    page.wait(f"Math.max(...{dims}) < 0.5")
    assert page.run(sign)
    page.move(2, 1.5)  # is for the image that is there, so it waits
    page.answers()
    page.let_go()
    page.settle()
    assert page.run(dims) == [1] * 6 and not page.run(sign)
    own = page.codes()["z"]
    assert np.abs(own - before).max() > 1e-3
    chosen = [float(text.replace("−", "-")) for text in page.chosen()[1]]
    assert chosen == pytest.approx([*own[:2], 1.5], abs=0.0051)

  def test_cleared_while_a_slider_waits(self, opened):
    page = opened("grey")
    page.answers(HELD)
    page.move(2, 1.5)
    page.move(2, 1.0)
    page.click("#clear")
    page.answers()
    page.let_go()
    page.settle()
    assert not page.sees("#error")
    page.assert_no_result()

  def test_an_older_answer_is_dropped(self, opened, page_models):
    page = opened("grey")
    page.answers(HELD)
    page.click("#invert")
    page.answers()
    page.click("#invert")
    page.wait("!document.querySelector('.stale')")
    page.let_go()
    page.settle()
    page.assert_codes(page_models["grey"], seen(page))

  def test_a_slow_redraw_does_not_outlive_its_image(self, opened):
    page = opened("grey")
    page.answers(HELD)
    page.move(2, 2.5, 1.5)  # the second is to be asked for after the first
    page.run("go = free")
    page.answers(HELD)
    page.click("#invert")
    page.run("go()")
    page.wait_for_answers(1)  # nor is it asked for beside a newer image
    page.let_go()
    page.settle()
    page.assert_own()

  def test_the_error_stays_while_a_slider_moves(self, opened):
    page = opened("grey")
    page.answers(DEAD)
    page.move(2, 1)
    page.error()
    assert not page.pixels("redrawn").any()
    page.run("""flips = 0, new MutationObserver(() => flips++).observe(
        document.getElementById("error"), {attributes: true})""")
    page.move(2, 1.1, 1.2, 1.3)
    page.settle()
    assert page.run("flips") == 0
    page.answers()
    page.move(2, 1.5)
    page.settle()
    assert not page.sees("#error")

  def test_a_new_version_takes_over(self, page_bases, tmp_path, page):
    shutil.copytree(page_bases["grey"] / "1", tmp_path / "1")
    with real_server.served(tmp_path) as (url, _, server):
      page.open(url)
      image = seen(page)
      other = exports.make_model(seed=3)
      names = ["0", "<b>cats</b>", *"234"]
      savedmodel.write(other, tmp_path / "2", category_names=names)
      server.refresh()
      page.click("#category-2 input")
      page.wait("document.getElementById('note').textContent")
      page.settle()
      assert page.text("note") == "The model was replaced: this is version 2."
      assert "version 2" in page.text("about")
      page.assert_codes(other, image)
      assert page.text("category-1").startswith("1: <b>cats</b>")
      assert not page.text("category-2").startswith("2:")
      np.testing.assert_allclose(page.pixels("seen"), as_shown(image), atol=1)
      large = page.pixels("draw").reshape(8, 40, 8, 40, 3)[:, 20, :, 20]
      np.testing.assert_allclose(large, as_shown(image), atol=1)

  def test_no_description(self, page_bases, tmp_path, page):
    shutil.copytree(page_bases["grey"] / "1", tmp_path / "1")
    (tmp_path / "1" / "assets.extra" / "imae.json").unlink()
    with real_server.served(tmp_path) as (url, _, _):
      page.browser.open(url + "/")
      assert "expected assets.extra/imae.json in the served version" in page.error()
      assert not page.sees("main")
