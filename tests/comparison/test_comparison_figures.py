"""The figures of a comparison show the numbers that went in."""

import numpy as np

from imae_tf.comparison import figures


def _history(values, **more):
  return [{"epoch": i + 1, "mi_y": v, **more} for i, v in enumerate(values)]


def _texts(figure):
  return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_line_is_the_mean_over_seeds_and_the_band_their_range():
  figure = figures.tracked({
      "imae": [_history([1.0, 2.0, 3.0]), _history([2.0, 4.0, 4.0, 9.0])],
      "vae": [_history([0.5, 0.0, 0.25])],
  })
  (axes,) = figure.axes  # no run has the other figures
  mean, other = (line.get_ydata() for line in axes.lines)
  np.testing.assert_allclose(mean, [1.5, 3.0, 3.5])
  np.testing.assert_allclose(other, [0.5, 0.0, 0.25])
  band = axes.collections[0].get_paths()[0].vertices
  assert {(2.0, 2.0), (2.0, 4.0)} <= {tuple(v) for v in band}
  assert [t.get_text() for t in figure.legends[0].get_texts()] == ["IMAE", "VAE"]


def test_epochs_that_did_not_measure_a_figure_are_a_gap():
  rows = _history([1.0, 2.0, 3.0])
  del rows[1]["mi_y"], rows[0]["mi_y"]
  (axes,) = figures.tracked({"imae": [rows]}).axes
  np.testing.assert_array_equal(axes.lines[0].get_ydata(), [np.nan, np.nan, 3.0])


def test_panels_are_those_of_figure_3():
  rows = _history([1.0, 2.0, 3.0], conditional_entropy_y=0.5, mi_y_label=1.0, accuracy=0.5)
  figure = figures.tracked({"imae": [rows]})
  titles = [axes.get_title(loc="left") for axes in figure.axes]
  assert titles == ["I(x;y)", "H(y|x)", "I(y; label)", "Accuracy"]


def test_confidence_is_parted_by_what_is_right():
  certainty = np.array([0.95, 0.96, 0.5, 0.97])
  right = np.array([True, True, False, False])
  figure = figures.confidence({"with VAT": (certainty, right), "without VAT": (certainty, None)})
  assert "mean confidence 0.845, accuracy 0.500" in _texts(figure)
  assert "mean confidence 0.845" in _texts(figure)
  heights = [patch.get_path().vertices[:, 1].max() for patch in figure.axes[0].patches]
  np.testing.assert_allclose(heights, [0.5, 0.25])  # shares of all images


def _point(method, naive, reconstruction, **more):
  return {
      "method": method, "recipe": "paper", "naive": naive, "leave_one_out": naive + 9,
      "reconstruction": reconstruction, "curves": [], "text": "", **more,
  }


def test_rate_and_distortion_of_each_run_with_its_curves():
  points = [
      _point("betavae", 6.0, 90.0, curves=["beta"], text="beta=1"),
      _point("betavae", 2.0, 130.0, curves=["beta"]), _point("imae", 7.0, 95.0),
  ]
  figure = figures.rate_distortion(points, floor=45.0, cap=8.0)
  (axes,) = figure.axes
  marks = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
  np.testing.assert_allclose(marks, [[6, 90], [2, 130], [7, 95]])
  bars = [line.get_xdata() for line in axes.lines if line.get_alpha() == 0.4]
  np.testing.assert_allclose(bars, [[6, 9.6], [2, 9.6], [7, 9.6]])  # cut off above the cap
  curve = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_alpha() is None
           and line.get_xdata()[0] == 2.0]
  np.testing.assert_allclose(curve[0].get_xydata(), [[2, 130], [6, 90]])
  assert "beta=1" in _texts(figure)
  labels = [t.get_text() for t in axes.get_legend().get_texts()]
  assert labels == ["β-VAE", "IMAE", "floor", "ln n"]


def test_maps_colour_by_category_and_by_label(rng):
  places = rng.normal(size=(6, 2))
  categories, labels = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 2, 0])
  figure = figures.maps_of_z({"imae": (places, categories, labels)}, ["cat", "dog", "owl"])
  above, below = (axes.collections[0] for axes in figure.axes)
  np.testing.assert_allclose(above.get_offsets(), places)
  same = (above.get_facecolors() == below.get_facecolors()).all(axis=1)
  np.testing.assert_array_equal(same, categories == labels)
  assert [t.get_text() for t in figure.legends[0].get_texts()] == ["cat", "dog", "owl"]
  unlabelled = figures.maps_of_z({"imae": (places, categories, None)})
  assert len(unlabelled.axes) == 1 and not unlabelled.legends


def test_a_row_for_each_category_that_was_drawn(rng):
  images = rng.random((2, 3, 8, 8, 1))
  figure = figures.drawn_categories(images, ["0", "7"], [-2, 0, 2], "IMAE, z[1]")
  shown = [np.asarray(image.get_array()) for image in figure.axes[0].images]
  np.testing.assert_array_equal(shown, images.reshape(6, 8, 8))
  assert {"0", "7", "−2", "2", "IMAE, z[1]"} <= set(_texts(figure))
