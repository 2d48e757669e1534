"""The report: one self-contained page that holds what the run holds."""

import base64
import io
import json
import re

import html_page
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imae_tf import methods
from imae_tf import networks
from imae_tf._shared import category_names
from imae_tf.errors import InputError
from imae_tf.metrics import measuring
from imae_tf.metrics.definitions import DEFINITIONS
from imae_tf.reporting import plots
from imae_tf.reporting import run_page
from imae_tf.reporting import shown

DESIGN_KEYS = {
    "method", "dataset", "split", "n", "seed", "reconstruction", "mi_y", "mi_z",
    "mi_z_per_dimension", "total_correlation", "entropy_y", "conditional_entropy_y", "accuracy",
    "nmi", "ari", "mi_y_label", "active_units", "var_mean_per_dimension",
    "mean_variance_per_dimension", "reconstruction_floor", "baselines",
}
HISTORY = [
    {"epoch": e, "loss": 5.0 / e, "reconstruction_loss": 40.0 / e, "mi_y": 1.0, "entropy_y": 1.5,
     "conditional_entropy_y": 0.5, "mi_z": 2.0, "kl_z": 0.5, "total_correlation": 0.1,
     "vat_loss": 0.2}
    for e in (1, 2)
]


def _model(k1=3, k2=4, shape=(8, 8, 1), likelihood="bernoulli"):
  encoder, decoder = networks.mlp(shape, k2, k1, encoder_units=(16,), decoder_units=(16,))
  return methods.IMAE(
      encoder, decoder, num_categories=k2, latent_dim=k1, likelihood=likelihood
  )


def _images(n=40, shape=(8, 8, 1)):
  """Random ones, of which the last is a copy of the first."""
  x = np.random.default_rng(0).random((n, *shape)).astype("float32")
  x[n - 1 :] = x[:1]
  return x


def _metrics(k1=3, labelled=True, **changes):
  rng = np.random.default_rng(1)
  pair = {"naive": 1.25, "leave_one_out": 1.75}
  score = 0.625 if labelled else None
  return {
      "method": "imae", "dataset": "digits", "split": "test", "n": 40, "codes": 40, "seed": 3,
      "reconstruction": 31.5, "reconstruction_floor": 21.5, "mi_y": 1.1, "entropy_y": 1.3,
      "conditional_entropy_y": 0.2, "mi_z": pair, "mi_joint": pair, "mi_z_joint": pair, "kl_z": 0.3,
      "mi_z_per_dimension": {
          "naive": rng.random(k1).tolist(), "leave_one_out": rng.random(k1).tolist(),
      },
      "total_correlation": {"naive": 0.5, "leave_one_out": -0.25}, "active_units": k1,
      "neighbor_mi_y": 0.9, "used_categories": 3,
      "var_mean_per_dimension": rng.random(k1).tolist(),
      "mean_variance_per_dimension": rng.random(k1).tolist(),
      "accuracy": score, "nmi": score, "ari": score, "mi_y_label": score,
      "baselines": {"k_means": 0.5, "ward": 0.75, "gaussian_mixture": None} if labelled else None,
      **changes,
  }


@pytest.fixture(scope="module")
def model():
  return _model()


@pytest.fixture(scope="module")
def labelled(model, tmp_path_factory):
  """(folder, page) of a report with all its parts, drawn for real."""
  folder = tmp_path_factory.mktemp("labelled")
  return folder, _write(folder, model, labels=_labels())


@pytest.fixture
def quick(monkeypatch):
  """Figures are made but not painted, which takes most of the time."""
  monkeypatch.setattr(Figure, "savefig", lambda self, file, **kwargs: file.write(b"painted"))


def _write(
    folder, model, *, metrics=None, history=HISTORY, x=None, labels=None, names=None, **about
):
  x = _images() if x is None else x
  metrics = metrics or _metrics(model.latent_dim, labels is not None)
  path = folder / "report.html"
  run_page.write(
      path, model=model, history=history, metrics=metrics, x=x, labels=labels, class_names=names,
      **about,
  )
  return html_page.Page(path.read_text(encoding="utf-8"))


def test_categories_have_the_names_that_people_gave(model):
  metrics, names = _metrics(model.latent_dim, True), [str(k) for k in range(model.num_categories)]
  names[1] = "cat"
  for labels in (None, _labels()):
    run = shown.Shown(model, metrics, _images(), labels, category_names=names)
    plain = shown.Shown(model, metrics, _images(), labels)
    assert run.category_name(1) == ("cat", "category 1")
    assert run.category_name(0) == plain.category_name(0)


def test_the_page_passes_the_names_on(model, tmp_path, quick, monkeypatch):
  given = []
  monkeypatch.setattr(run_page.plots, "generated", _kept(run_page.plots.generated, given))
  run_page.write(
      tmp_path / "report.html", model=model, history=HISTORY, x=_images(),
      metrics=_metrics(model.latent_dim, False),
      category_names=[f"name {k}" for k in range(model.num_categories)],
  )
  assert [name for name, _ in given[0][1]] == [f"name {k}" for k in range(model.num_categories)]


def _kept(function, given):
  """The function, which adds its arguments to a list."""
  return lambda *arguments: given.append(arguments) or function(*arguments)


def _figures(folder):
  return sorted(path.stem for path in (folder / "figures").glob("*.png"))


def _labels(n=40, classes=4):
  return np.arange(n) % classes


def test_is_one_self_contained_page_with_described_pictures(labelled):
  folder, page = labelled
  assert page.all("title", "h1", "main")
  assert not page.all("script", "link", "iframe", "object")
  pictures = page.all("img")
  assert len(pictures) == len(run_page.FIGURES)
  assert all(picture["alt"] for picture in pictures)
  sources = [p["src"] for p in pictures] + [p["srcset"] for p in page.all("source")]
  assert all(source.startswith("data:image/png;base64,") for source in sources)
  assert all(a["href"].startswith("#") for a in page.all("a"))
  text = (folder / "report.html").read_text(encoding="utf-8")
  assert "://" not in text  # "http" alone may stand in the base64 of a picture
  assert "url(" not in text and "@import" not in text


def test_the_pictures_of_the_page_are_the_files(labelled):
  folder, page = labelled
  embedded = {base64.b64decode(p["src"].partition(",")[2]) for p in page.all("img")}
  files = {(folder / "figures" / f"{name}.png").read_bytes() for name in run_page.FIGURES}
  assert embedded == files
  for png in files:
    Image.open(io.BytesIO(png)).verify()


def test_links_lead_to_sections_in_the_order_of_the_page(labelled):
  _, page = labelled
  assert [a["href"][1:] for a in page.all("a")] == [s["id"] for s in page.all("section")]


def test_every_metric_has_a_definition(model):
  measured = measuring.evaluate(model, _images(), _labels())
  described = {*DEFINITIONS, "method", "dataset", "split", "seed"}
  assert {*measured, *DESIGN_KEYS} <= described


def test_shows_the_headline_and_every_number(tmp_path, model, quick):
  metrics = _metrics(recipe="tuned & <odd>")
  page = _write(tmp_path, model, metrics=metrics, labels=_labels())
  assert "IMAE on digits" in page.text
  assert "40 test images" in page.text and "2 epochs" in page.text and "seed 3" in page.text
  assert "0.625best baseline 0.750 (Ward)" in page.text
  assert "of at most 1.39 nats" in page.text  # ln 4
  assert "31.5nats per image; floor 21.5" in page.text
  assert "−0.250" in page.text  # TC, leave-one-out
  for values in (metrics["mi_z_per_dimension"]["naive"], metrics["var_mean_per_dimension"]):
    assert all(f"{value:.3f}" in page.text for value in values)
  assert "tuned & <odd>" in page.text  # not defined, so shown with the configuration
  for key in ("num_categories", "latent_dim", "beta", "gamma", "lam", "temperature", "detach_y"):
    assert f"{key}{getattr(model, key)}" in page.text


@pytest.fixture
def drawn(monkeypatch):
  """Arguments of every traversal, by dimension."""
  calls, traversal = {}, plots.traversal

  def spy(originals, moved, positions, dimension, information):
    calls.setdefault(dimension, (originals, moved, positions, information))
    return traversal(originals, moved, positions, dimension, information)

  monkeypatch.setattr(plots, "traversal", spy)
  return calls


def test_traversals_decode_the_moved_codes(tmp_path, model, drawn, quick):
  per_dimension = {"naive": [0.2, 0.9, 0.0], "leave_one_out": [0.3, 1.0, 0.1]}
  _write(tmp_path, model, metrics=_metrics(mi_z_per_dimension=per_dimension), labels=_labels())
  assert list(drawn) == [1, 0, 2]  # most, middle, least
  for dimension, (originals, moved, positions, information) in drawn.items():
    assert information == per_dimension["naive"][dimension]
    assert (positions[0], positions[-1]) == (-2.0, 2.0)
    codes = model.encode(originals)
    for p, position in enumerate(positions):
      z = codes["z"].copy()
      z[:, dimension] = position
      np.testing.assert_allclose(moved[:, p], model.decode(codes["y"], z), atol=1e-6)


def test_typical_images_are_the_most_certain_of_their_category(tmp_path, model, monkeypatch, quick):
  calls = []
  monkeypatch.setattr(
      plots, "typical", lambda rows, names, f=plots.typical: calls.append((rows, names))
      or f(rows, names)
  )
  x = _images()
  _write(tmp_path, model, x=x)
  rows, names = calls[0]
  y = model.encode(x)["y"]
  for category, (row, name) in enumerate(zip(rows, names)):
    members = np.flatnonzero(y.argmax(axis=1) == category)
    best = members[np.argsort(-y[members, category])][:10]
    np.testing.assert_array_equal(row, x[best])
    assert name[0] == f"category {category}"
    assert name[1].split()[0] == str(len(members))


def test_each_category_has_its_images(tmp_path, model, quick):
  x = _images()
  files = [f"folder/{i}.png" for i in range(len(x))]
  page = _write(tmp_path, model, x=x, files=files)
  codes = model.encode(x)
  of, confidence = codes["y"].argmax(axis=1), codes["y"].max(axis=1)
  rows = {row[0]: row[1:] for row in page.rows if row[0].startswith("category ")}
  for category in range(4):
    members = np.flatnonzero(of == category)
    row = rows[f"category {category}"]
    assert row[:2] == [str(len(members)), f"{len(members) / 40:.1%}"]
    if not len(members):
      assert row[2:] == ["–"] * 4
      continue
    z = codes["z"][members]
    distance = np.square(z - z.mean(0)).sum(1)
    nearest = members[distance <= distance.min() * 1.0001]  # two images are equally far
    assert row[2] == f"{confidence[members].mean():.2f}"
    assert row[4] in [files[i] for i in nearest]
    ends = confidence[members].argmax(), confidence[members].argmin()
    assert row[3::2] == [files[members[place]] for place in ends]


def test_images_that_fit_nowhere_and_duplicates_are_named(tmp_path, model, quick):
  x = _images()
  page = _write(tmp_path, model, x=x)
  confidence = model.encode(x)["y"].max(axis=1)
  undecided = [row for row in page.rows if row[1:2] == ["undecided"]]
  lowest = [i for i in np.argsort(confidence, kind="stable") if confidence[i] < 0.5][:20]
  assert [row[0] for row in undecided] == [f"image {i}" for i in lowest]
  assert f"{np.sum(confidence < 0.5)} undecided, of 40" in " ".join(page.text.split())
  assert ["group 1", "image 0, image 39"] in page.rows
  assert "There is 1 group of 2 images." in " ".join(page.text.split())
  page = _write(tmp_path, model, x=x[:-1])
  assert "There are none among these images." in page.text
  assert "duplicates" not in _figures(tmp_path)


def test_names_to_fill_in(tmp_path, model, quick):
  page = _write(tmp_path, model)
  assert json.loads(re.search(r"{[^}]*}", page.text)[0]) == {str(k): str(k) for k in range(4)}
  given = ["0", "<cats>", "2", "dogs"]
  page = _write(tmp_path, model, category_names=given)
  text = re.search(r"{[^}]*}", page.text)[0]
  assert json.loads(text) == dict(zip("0123", given))
  assert any(row[0] == "<cats> (category 1)" for row in page.rows)
  (tmp_path / "names.json").write_text(text.replace("<cats>", "cats"))
  assert category_names.of_run(tmp_path, 4) == ["0", "cats", "2", "dogs"]


def test_rows_are_named_after_the_matched_class(tmp_path, model, monkeypatch, quick):
  calls = []
  monkeypatch.setattr(
      plots, "generated", lambda images, names, f=plots.generated: calls.append((images, names))
      or f(images, names)
  )
  x = _images()
  categories = model.encode(x)["y"].argmax(axis=1)
  labels = (categories + 1) % 4  # a perfect clustering under other names
  _write(tmp_path, model, x=x, labels=labels, names=["one", "two", "three", "four"])
  images, names = calls[0]
  for row, (name, index) in zip(images, names):
    category = int((name if index == "unmatched" else index).removeprefix("category "))
    if category in categories:
      assert name == ["one", "two", "three", "four"][(category + 1) % 4]
    np.testing.assert_array_equal(row, model.generate(10, y=category, seed=0))


def test_without_labels_says_what_is_missing(tmp_path, model, quick):
  _write(tmp_path, model, labels=_labels())
  page = _write(tmp_path, model)
  assert _figures(tmp_path) == sorted(set(run_page.FIGURES) - {"confusion", "accuracy"})
  assert "The confusion matrix needs labels" in page.text
  assert "Accuracy–the images have no labels" in page.text


def test_without_history_or_baselines(tmp_path, model, quick):
  metrics = _metrics(baselines=None)
  page = _write(tmp_path, model, metrics=metrics, history=[], labels=_labels())
  assert "training" not in _figures(tmp_path)
  assert "No training history" in page.text
  assert "no baseline was computed" in page.text


@pytest.mark.parametrize(
    "k1, k2, shape, likelihood",
    [(1, 2, (8, 8, 1), "bernoulli"), (2, 12, (5, 7, 3), "gaussian"), (4, 3, (1, 1, 1), "gaussian")],
)
def test_any_size(tmp_path, k1, k2, shape, likelihood):
  model = _model(k1, k2, shape, likelihood)
  x = _images(9, shape)
  metrics = measuring.evaluate(model, x)
  _write(tmp_path, model, metrics=metrics, x=x, history=[])
  traversals = [name for name in _figures(tmp_path) if name.startswith("traversal")]
  assert len(traversals) == min(k1, 3)


def test_empty_categories_are_said(tmp_path, model, quick):
  page = _write(tmp_path, model, x=_images(1), history=HISTORY[:1])
  assert "3 categories got no image at all" in page.text
  assert "1 test image described" in page.text and "1 epoch of training" in page.text


def test_names_are_escaped(tmp_path, model):
  metrics = _metrics(dataset="<script>alert(1)</script>")
  names = ["<b>", "$", "$x_$", "&"]
  page = _write(
      tmp_path, model, metrics=metrics, history=[], labels=_labels(), names=names
  )
  assert not page.all("script")
  assert "<script>alert(1)</script>" in page.text


def test_is_deterministic(tmp_path, model, labelled):
  folder, _ = labelled
  _write(tmp_path, model, labels=_labels())
  assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()


@pytest.mark.parametrize("broken", ["training", "page"])
def test_a_failure_leaves_the_old_report(tmp_path, model, monkeypatch, broken, quick):
  _write(tmp_path, model)
  old = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

  def fail(*args, **kwargs):
    raise OSError("disk full")

  if broken == "training":
    monkeypatch.setattr(plots, "training", fail)
  else:
    monkeypatch.setattr("os.replace", fail)
  with pytest.raises(OSError, match="disk full"):
    _write(tmp_path, model, metrics=_metrics(labelled=False, dataset="other"))
  assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == old


def test_bad_input_is_one_clear_error(tmp_path, model):
  with pytest.raises(InputError, match="at least one image"):
    _write(tmp_path, model, x=_images(0))
  with pytest.raises(InputError, match="7 labels for 40 images"):
    _write(tmp_path, model, labels=_labels(7))
  with pytest.raises(InputError, match="without reconstruction,"):
    _write(tmp_path, model, metrics={"method": "imae"})
  with pytest.raises(InputError, match="shape"):
    _write(tmp_path, model, x=_images(4, (9, 8, 1)))
  assert not list(tmp_path.iterdir())
