"""The page of imae-serve as a person has it: what is to be seen, and what can be done there."""

import re
import time

import numpy as np
import PIL.Image

SHAPES = {"grey": (8, 8, 1), "colour": (64, 64, 3), "wide": (6, 12, 1)}  # of models
NATS = [0.25, 0.75, 0.5]  # of their factors, so that the order is 1, 2, 0

# In place of the server's answers.
DEAD = "() => Promise.reject(new TypeError('dead'))"
HELD = """(() => {
    const gate = new Promise(go => { free = go; });
    return async (...call) => {
      await gate;
      const reply = await real(...call);
      answered++;
      return reply;
    };
})()"""


class ServedPage:
  """The page in a `browser.Browser`.

  Args:
    browser: whose only tab it is.
  """

  def __init__(self, browser):
    self.browser, self.run, self.wait = browser, browser.run, browser.wait

  def open(self, url, **kwargs):
    """Opens it, and waits until it shows the image that it starts with."""
    self.browser.open(url + "/", **kwargs)
    self.wait("document.querySelector('main').getClientRects().length")
    self.run("real = fetch, answered = 0")
    self.settle()

  def settle(self):
    """Waits until everything that was asked of the server is shown."""
    self.wait("document.querySelector('main').ariaBusy === 'false'")

  # --- what is to be seen -------------------------------------------------------------------

  def text(self, name):
    """Of the element of that id."""
    return self.run(f"document.getElementById('{name}').textContent")

  def sees(self, selector):
    return self.run(f"document.querySelector('{selector}').getClientRects().length > 0")

  def texts(self, selector):
    return self.run(
        f"Array.from(document.querySelectorAll('{selector}'), part => part.textContent)"
    )

  def style(self, selector, name):
    """A property of each element, as it is computed."""
    return self.run(f"""Array.from(
        document.querySelectorAll('{selector}'), part => getComputedStyle(part).{name})""")

  def box(self, selector):
    """(left, top, width, height) in the window."""
    return self.run(f"""(b => [b.left, b.top, b.width, b.height])(
        document.querySelector('{selector}').getBoundingClientRect())""")

  def pixels(self, canvas):
    """Of a canvas, uint8 [H, W, 3]."""
    height, width, values = self.run(f"""(() => {{
        const canvas = document.getElementById("{canvas}");
        const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.height, canvas.width, Array.from(image.data)];
    }})()""")
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]

  def codes(self):
    """What the bars say: "y" [K2], "z" [K1], "ends" [K1, 2] of z ± z_scale, "range" of the axes."""
    y, factors = self.run("""(() => {
        const width = bar => parseFloat(bar.style.width), left = bar => parseFloat(bar.style.left);
        const factor = k => document.getElementById(`factor-${k}`);
        const rows = Array.from(document.querySelectorAll(".factor"), (_, k) => factor(k));
        return [
            Array.from(document.querySelectorAll(".category .bar i"), bar => width(bar) / 100),
            rows.map(row => [Number(row.querySelector("input").max),
                ...["i", "b"].flatMap(name => [row.querySelector(name)].flatMap(
                    bar => [left(bar), left(bar) + width(bar)]))]),
        ];
    })()""")
    factors = np.array(factors)
    place = (factors[:, 1:] - 50) / 50 * factors[:, :1]
    own = np.where(np.abs(place[:, 0]) > np.abs(place[:, 1]), place[:, 0], place[:, 1])
    return {"y": np.array(y), "z": own, "ends": place[:, 2:], "range": factors[0, 0]}

  def chosen(self):
    """(category or "own" or None, [text of each factor]) that is redrawn."""
    radio = self.run("document.querySelector('#categories :checked')?.value ?? null")
    count = self.run("document.querySelectorAll('.factor').length")
    return radio, [self.texts(f"#factor-{k} > .number")[0] for k in range(count)]

  def error(self):
    """The text of the error, once there is one."""
    self.wait("document.getElementById('error').getClientRects().length")
    return self.text("error-text")

  def asked(self):
    """How often the server was asked for codes or images."""
    return sum(url.endswith(":predict") for url in self.browser.urls)

  # --- what can be done ---------------------------------------------------------------------

  def click(self, selector):
    """Clicks, without waiting."""
    self.run(f"document.querySelector('{selector}').click()")

  def move(self, k, *values):
    """Moves the slider of a factor, without waiting."""
    self.run(f"""(() => {{
        const slider = document.querySelector("#factor-{k} input");
        for (slider.value of {list(values)}) slider.dispatchEvent(new Event("input"));
    }})()""")

  def choose(self, path):
    """Chooses a file, and waits for its codes."""
    self.run("""(input => { changed = new Promise(
        go => input.addEventListener('change', go, {once: true})) })(
        document.getElementById('file'))""")
    self.browser.choose_file("#file", path)
    self.run("changed.then(() => 0)")
    self.settle()

  def transfer(self, kind, *items):
    """Drops, or pastes, what items (JavaScript on a DataTransfer `data`) put there."""
    event = {
        "drop": "new DragEvent('drop', {dataTransfer: data})",
        "paste": "new ClipboardEvent('paste', {clipboardData: data})",
    }[kind]
    self.run(f"""(() => {{
        const data = new DataTransfer();
        {"; ".join(items)};
        dispatchEvent({event});
    }})()""")
    self.settle()

  def drag(self, points, button="left"):
    """Drags the mouse along points of the drawing area, shares of its width and height."""
    self.browser.drag([self.place(*point) for point in points], button)
    self.settle()

  def place(self, x, y):
    """A point of the drawing area in the window."""
    left, top, width, height = self.box("#draw")
    return left + x * width, top + y * height

  # --- what a server may do -----------------------------------------------------------------

  def answers(self, fetch="real"):
    """From now on requests have these answers: JavaScript in place of `fetch`."""
    self.run(f"void (fetch = {fetch})")

  def let_go(self):
    """Lets the requests go that were made since the last `answers(HELD)`."""
    self.run("free()")

  def wait_for_answers(self, count):
    """Waits until so many held requests have their answers, and the page has seen them."""
    self.wait(f"answered >= {count}")
    time.sleep(0.1)

  # --- what is to be expected ---------------------------------------------------------------

  def assert_shows(self, canvas, image):
    """That a canvas shows a float image [H, W, C]."""
    difference = np.abs(self.pixels(canvas).astype(int) - as_shown(image))
    assert difference.max() <= 1  # a rounding

  def assert_own(self):
    """That what is redrawn is the image's own reconstruction."""
    np.testing.assert_array_equal(self.pixels("redrawn"), self.pixels("reconstruction"))

  def assert_codes(self, model, image, atol=1e-4):
    """That the bars and the pictures are those of an image."""
    y, z, z_scale = (model.encode(image[None])[name][0] for name in ("y", "z", "z_scale"))
    codes = self.codes()
    ends = np.clip(np.stack([z - z_scale, z + z_scale], 1), -codes["range"], codes["range"])
    np.testing.assert_allclose(codes["y"], y, atol=atol)
    np.testing.assert_allclose(codes["z"], z, atol=atol)
    np.testing.assert_allclose(codes["ends"], ends, atol=atol)
    assert self.text("h-category").startswith(f"Category {y.argmax()}, ")

  def assert_no_result(self):
    """That neither pictures nor numbers of any image are shown."""
    assert not re.search(r"\d", self.text("h-category"))
    assert not self.pixels("reconstruction").any() and not self.pixels("redrawn").any()
    assert "".join(self.texts("main .number")) == ""
    assert self.chosen()[0] is None


def as_shown(image):
  """A float image [H, W, C] as `ServedPage.pixels` gives it."""
  return np.broadcast_to(np.rint(image * 255), (*image.shape[:2], 3))


def pictures(name):
  """40 random images of a model, with a dark border."""
  x = np.zeros((40, *SHAPES[name]), "float32")
  inside = x[:, 1:-1, 1:-1]
  inside[:] = np.random.default_rng(0).integers(0, 256, inside.shape).astype("float32") / 255
  return x


def write_image(path, pixels):
  """A file of uint8 pixels [H, W, C], in the format that its name says."""
  PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
  return path
