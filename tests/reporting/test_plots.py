"""Figures show the numbers and the images that went in."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from imae_tf.reporting import plots


def _images(n, shape=(8, 8, 1), seed=0):
  return np.random.default_rng(seed).random((n, *shape)).astype("float32")


def _tiles(figure):
  return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def _texts(figure):
  return [text.get_text() for axes in figure.axes for text in axes.texts]


def _png(figure):
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png")
  return buffer.getvalue()


def _heights(container):
  return [bar.get_height() for bar in container]


class TestImageGrid:

  @pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (5, 9, 3), (300, 200, 3), (1, 1, 1)])
  def test_holds_the_images_in_row_major_order(self, shape):
    rows = [_images(3, shape, 0), _images(2, shape, 1)]
    tiles = _tiles(plots.image_grid(rows, "title"))
    assert len(tiles) == 5
    for tile, image in zip(tiles, np.concatenate(rows)):
      np.testing.assert_array_equal(tile, image[..., 0] if shape[-1] == 1 else image)

  @pytest.mark.parametrize("side", [1, 8, 28, 64, 100])
  def test_a_small_image_has_whole_screen_pixels_per_pixel(self, side):
    figure = plots.image_grid([_images(2, (side, side, 1))], "title")
    figure.canvas.draw()
    for image in figure.axes[0].images:
      box = image.get_window_extent()
      assert box.width / side == pytest.approx(round(box.width / side), abs=1e-6)
      assert box.x0 == pytest.approx(round(box.x0), abs=1e-6)
      assert image.get_interpolation() == "nearest"

  def test_a_drawn_tile_has_the_colours_of_the_image(self):
    image = np.zeros((1, 4, 4, 3), "float32")
    image[0, :, 2:] = (1.0, 0.5, 0.0)
    drawn = Image.open(io.BytesIO(_png(plots.image_grid([image], "")))).convert("RGB")
    colours = {tuple(int(v) for v in c) for c in np.asarray(drawn).reshape(-1, 3)}
    assert colours == {(255, 255, 255), (0, 0, 0), (255, 127, 0)}

  def test_large_images_do_not_make_large_figures(self):
    figure = plots.image_grid([_images(10, (512, 512, 3))], "title")
    assert figure.get_size_inches()[0] * figure.dpi < 1500

  def test_says_that_a_row_is_empty(self):
    figure = plots.typical([_images(2), _images(0)], ["a", "b"])
    assert len(_tiles(figure)) == 2
    assert "no image" in _texts(figure)

  def test_names_with_dollar_signs_are_no_mathematics(self):
    figure = plots.image_grid([_images(1)], "title", row_labels=["$x_$ $"])
    figure.canvas.draw()  # raises a ValueError when read as mathematics
    assert "$x_$ $" in _texts(figure)

  def test_long_names_are_cut(self):
    assert plots.shorten("a" * 16) == "a" * 16
    assert plots.shorten("a" * 17) == "a" * 15 + "…"


def test_reconstructions_stand_below_their_originals():
  x, reconstructed = _images(5, seed=0), _images(5, seed=1)
  tiles = _tiles(plots.reconstructions(x, reconstructed, columns=3))
  expected = np.concatenate([x[:3], reconstructed[:3], x[3:], reconstructed[3:]])
  np.testing.assert_array_equal(tiles, expected[..., 0])


def test_generated_images_are_one_row_per_category():
  images = _images(6).reshape(2, 3, 8, 8, 1)
  figure = plots.generated(images, ["first", ("second", "category 1")])
  np.testing.assert_array_equal(_tiles(figure), images.reshape(6, 8, 8))
  assert {"first", "second", "category 1"} <= set(_texts(figure))


def test_traversal_shows_the_image_then_its_positions():
  originals, moved = _images(2), _images(6, seed=1).reshape(2, 3, 8, 8, 1)
  figure = plots.traversal(originals, moved, np.array([-2.0, 0.5, 2.0]), 7, 1.234)
  tiles = _tiles(figure)
  np.testing.assert_array_equal(tiles[0], originals[0, ..., 0])
  np.testing.assert_array_equal(tiles[4], originals[1, ..., 0])
  np.testing.assert_array_equal(tiles[1:4], moved[0, ..., 0])
  np.testing.assert_array_equal(tiles[5:], moved[1, ..., 0])
  texts = _texts(figure)
  assert "z[7]   I(x;z) = 1.23 nats" in texts
  assert {"−2", "2"} <= set(texts)
  assert "0.5" not in texts


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("k1", [1, 3, 40])
def test_information_bars_are_the_numbers_sorted(columns, k1):
  rng = np.random.default_rng(0)
  naive, left_out, var_mean, mean_variance = rng.random((4, k1))
  figure = plots.information(
      {"naive": naive, "leave_one_out": left_out}, var_mean, mean_variance, columns=columns
  )
  order = np.argsort(-naive)
  info, spread = figure.axes
  np.testing.assert_allclose(_heights(info.containers[0]), naive[order])
  np.testing.assert_allclose(info.lines[0].get_ydata(), left_out[order])
  np.testing.assert_allclose(_heights(spread.containers[0]), var_mean[order])
  np.testing.assert_allclose(_heights(spread.containers[1]), mean_variance[order])
  assert [t.get_text() for t in info.get_xticklabels()] == [str(k) for k in order]


def test_confusion_shows_counts_and_shares_of_the_class():
  figure = plots.confusion([[3, 1, 0], [0, 0, 0]], ["cat", "a" * 30], [2, 0, 1])
  axes = figure.axes[0]
  np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0]])
  assert [text.get_text() for text in axes.texts] == ["3", "1", "", "", "", ""]
  assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "0", "1"]
  assert axes.get_yticklabels()[0].get_text() == "cat"


def test_accuracy_bars_are_the_accuracies():
  baselines = {"k_means": 0.7, "ward": None, "gaussian_mixture": 0.9}
  axes = plots.accuracy("IMAE", 0.8, baselines).axes[0]
  assert [bar.get_width() for bar in axes.containers[0]] == [0.8, 0.7, 0.0, 0.9]
  assert [t.get_text() for t in axes.texts] == ["0.800", "0.700", "not computed", "0.900"]
  assert [t.get_text() for t in axes.get_yticklabels()] == [
      "IMAE", "k-means", "Ward", "Gaussian mixture",
  ]


class TestTraining:

  def test_lines_are_the_history_and_the_limits(self):
    history = [
        {"epoch": e, "reconstruction_loss": 9.0 / e, "val_reconstruction_loss": 8.0 / e,
         "mi_y": 0.1 * e, "entropy_y": 2.0, "conditional_entropy_y": 2.0 - 0.1 * e}
        for e in (1, 2, 3)
    ]
    figure = plots.training(history, num_categories=10, floor=2.5)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.lines}
    assert list(panels) == ["Reconstruction", "Category"]
    values = [list(line.get_ydata()) for line in panels["Reconstruction"].lines]
    assert values == [[9.0, 4.5, 3.0], [8.0, 4.0, 8 / 3], [2.5, 2.5]]
    assert list(panels["Reconstruction"].lines[0].get_xdata()) == [1, 2, 3]
    category = [line.get_ydata() for line in panels["Category"].lines]
    np.testing.assert_allclose(category[1], [0.1, 0.2, 0.3])  # I(x;y)
    np.testing.assert_allclose(category[-1], math.log(10))

  @pytest.mark.parametrize("columns", [1, 3])
  def test_one_epoch_is_drawn_as_points(self, columns):
    figure = plots.training([{"epoch": 1, "loss": 3.0, "mi_z": 2.0}], columns=columns)
    lines = [line for axes in figure.axes for line in axes.lines]
    assert [line.get_marker() for line in lines] == ["o", "o"]


def test_the_same_input_gives_the_same_bytes():
  history = [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}]
  assert _png(plots.training(history)) == _png(plots.training(history))
  assert _png(plots.generated(_images(4)[None], ["a"])) == _png(
      plots.generated(_images(4)[None], ["a"])
  )


def test_labels_of_flat_images_do_not_overlap():
  rows = [_images(2, (4, 100, 1))] * 3
  figure = plots.image_grid(rows, "title", row_labels=[("first", "second")] * 3)
  figure.canvas.draw()
  boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_text() != "title"]
  for above, below in zip(boxes, boxes[1:]):
    assert above.y0 >= below.y1 - 2
