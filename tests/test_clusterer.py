"""`ImageClusterer`: scikit-learn's rules, on images; its codes are those of the programs."""

import dataclasses
import functools
import pickle
import random

import numpy as np
import PIL.Image
import pytest
import sklearn.base
import sklearn.pipeline
import sklearn.preprocessing
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted
from sklearn.utils.validation import validate_data

import imae_tf
from imae_tf import clusterer
from imae_tf import recipes
from imae_tf.data import loading
from imae_tf.data.reading import Reading
from imae_tf.errors import InputError
from imae_tf.export import codes
from imae_tf.export import savedmodel
from imae_tf.training import runs

K2, K1 = 5, 3
SMALL = {"batch_size": 40, "encoder_units": (16,), "decoder_units": (16,)}


def make(**changes):
  given = {"recipe": "paper", "epochs": 1, "settings": SMALL, "random_state": 0}
  return imae_tf.ImageClusterer(K2, K1, **{**given, **changes})


@pytest.fixture(scope="module")
def images(digits):
  """uint8 [120, 8, 8, 1]."""
  return np.uint8(digits[0][:120] * 255)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, images):
  folder = tmp_path_factory.mktemp("photos")
  for i, image in enumerate(images):
    PIL.Image.fromarray(image[..., 0]).save(folder / f"{i:03d}.png")
  return folder


@pytest.fixture(scope="module")
def fitted(images):
  return make().fit(images)


def paths_of(folder):
  return sorted(folder.glob("*.png"))


class OfRows(imae_tf.ImageClusterer):
  """Rows of any numbers as images of one line, so that scikit-learn's checks can be run."""

  def __sklearn_tags__(self):
    tags = super().__sklearn_tags__()
    tags.input_tags.two_d_array = True
    tags.non_deterministic = False  # with the random_state of the checks
    return tags

  def fit(self, X, y=None):
    return super().fit(self._lines(validate_data(self, X)))

  def _codes(self, X, name):
    check_is_fitted(self)
    return super()._codes(self._lines(validate_data(self, X, reset=False)), name)

  def _lines(self, X):
    return (1 / (1 + np.exp(-X.astype("float64"))))[:, None, :, None]


# The checks that do not hold, and why.
FAILING = {
    "check_clustering": "three blobs of points are no images",
    "check_methods_sample_order_invariance": "asks for 1e-9, and codes are float32",
    "check_fit2d_1sample": "asks for the word sample; our sentence says image",
}


class TestOfScikitLearn:

  # Checks that need no data; `check_estimator` runs those that hold for data of any shape.
  @pytest.mark.parametrize(
      "name",
      [
          "check_estimator_cloneable",
          "check_estimator_repr",
          "check_estimator_tags_renamed",
          "check_get_params_invariance",
          "check_mixin_order",
          "check_no_attributes_set_in_init",
          "check_parameters_default_constructible",
          "check_set_params",
          "check_valid_tag_types",
      ],
  )
  def test_check(self, name):
    getattr(estimator_checks, name)("ImageClusterer", imae_tf.ImageClusterer())

  @pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
  def test_checks_that_feed_tables(self, monkeypatch):
    """All of scikit-learn's, on rows taken for images of one line.

    Fits end at once with first weights: no check depends on what training finds, but for one.
    """

    @functools.cache
    def untrained(image_shape, **kwargs):
      recipe = dataclasses.replace(recipes.PAPER, **SMALL)
      return recipes.build(recipe, image_shape, steps_per_epoch=1, **kwargs)

    def train(run, folder, job, progress, data, board):
      sizes = {"num_categories": run.num_categories, "latent_dim": run.latent_dim}
      return untrained(data.image_shape, seed=run.seed, method=run.method, **sizes)

    monkeypatch.setattr(runs, "train", train)
    results = check_estimator(
        OfRows(2, recipe="paper", random_state=0), expected_failed_checks=FAILING, on_fail=None
    )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(FAILING)
    assert sum(r["status"] == "passed" for r in results) > 40

  def test_without_tables_the_rest_is_left_out(self):
    with pytest.warns(UserWarning, match="Can't test estimator"):
      results = check_estimator(imae_tf.ImageClusterer(), on_fail=None)
    assert results and {result["status"] for result in results} == {"passed"}

  def test_parameters(self):
    one = make(color="grey")
    other = sklearn.base.clone(one)
    assert other is not one and other.get_params() == one.get_params()
    assert other.set_params(latent_dim=7, image_fit="pad").get_params()["latent_dim"] == 7
    assert one.latent_dim == K1

  def test_fit_keeps_the_parameters_and_repeats(self, images, fitted):
    again = make()
    before = again.get_params()
    random.seed(1)
    np.random.seed(1)
    assert again.fit(images, y="ignored") is again
    drawn = random.random(), np.random.random()  # the caller's generators are left alone
    assert drawn == (random.Random(1).random(), np.random.RandomState(1).random())
    assert again.get_params() == before
    np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))
    assert again.labels_.tolist() == fitted.labels_.tolist()

  def test_answers(self, images, fitted):
    state = set(vars(fitted))
    y, z = fitted.predict_proba(images), fitted.transform(images)
    assert (y.shape, z.shape) == ((120, K2), (120, K1))
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-5)
    assert fitted.predict(images).tolist() == y.argmax(axis=1).tolist() == fitted.labels_.tolist()
    np.testing.assert_array_equal(fitted.transform(images[..., 0]), z)  # [N, H, W]
    np.testing.assert_allclose(fitted.transform(images / np.float32(255)), z, atol=1e-5)
    assert set(vars(fitted)) == state
    assert fitted.get_feature_names_out().tolist() == [f"imageclusterer{k}" for k in range(K1)]

  def test_a_method_of_its_own_and_fit_predict(self, images):
    one = make(method="vae")
    assert one.fit_predict(images).tolist() == one.labels_.tolist()
    assert isinstance(one.model_, imae_tf.VAE)

  @pytest.mark.parametrize("method", ["predict", "predict_proba", "transform"])
  def test_not_fitted(self, images, method):
    with pytest.raises(NotFittedError):
      getattr(make(), method)(images)

  def test_pickle(self, images, fitted):
    other = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(other.predict_proba(images), fitted.predict_proba(images))
    np.testing.assert_array_equal(other.labels_, fitted.labels_)
    assert pickle.loads(pickle.dumps(make())).get_params() == make().get_params()

  def test_pipeline(self, images, fitted):
    brighter = sklearn.preprocessing.FunctionTransformer(lambda x: 255 - x)
    chain = sklearn.pipeline.make_pipeline(brighter, make(), sklearn.preprocessing.StandardScaler())
    z = sklearn.base.clone(chain).fit_transform(255 - images)
    expected = fitted.transform(images)
    np.testing.assert_allclose(
        z, (expected - expected.mean(axis=0)) / expected.std(axis=0), atol=1e-3
    )


class TestImages:

  def test_codes_are_those_of_the_programs(self, images, fitted, tmp_path):
    """The model that a run trains, and what its SavedModel gives."""
    np.savez(tmp_path / "images.npz", x=np.concatenate([images, images[:30]]))
    run = fitted._run()
    run = runs.dataclasses.replace(run, dataset=str(tmp_path / "images.npz"), reading=Reading())
    model = runs.train(run, tmp_path / "run", progress=False, board=False)  # on the first 120
    assert loading.load(tmp_path / "images.npz").size("train") == 120
    savedmodel.write(model, tmp_path / "1")
    found = codes.Encoder(tmp_path / "1")(images / np.float32(255))
    np.testing.assert_allclose(fitted.predict_proba(images), found["y"], atol=1e-5)
    np.testing.assert_allclose(fitted.transform(images), found["z"], atol=1e-5)

  def test_a_folder_and_a_list_of_paths_are_their_images(self, images, folder, fitted):
    files = paths_of(folder)
    np.testing.assert_array_equal(fitted.predict_proba(str(folder)), fitted.predict_proba(images))
    np.testing.assert_array_equal(fitted.transform(files[::-1]), fitted.transform(images)[::-1])
    one = make(image_size=4).fit(files)
    assert one.model_.image_shape == (4, 4, 1)
    assert one.files_ == list(map(str, files))
    np.testing.assert_array_equal(one.transform(images), one.transform(folder))  # resized, too

  def test_the_recipe_is_derived_with_what_is_given(self):
    run = make(recipe="auto", settings={"lam": 2.5}).set_params(epochs=7)._run()
    assert (run.recipe_name, run.changes) == ("auto", (("epochs", 7), ("lam", 2.5)))
    assert run.deterministic and not make(random_state=None)._run().deterministic
    seeds = {make(random_state=np.random.RandomState(i))._run().seed for i in (1, 1, 2)}
    assert len(seeds) == 2

  def test_many_images_are_encoded_in_batches(self, images, fitted, monkeypatch):
    expected = fitted.transform(images)
    monkeypatch.setattr(clusterer, "_BATCH", 50)
    np.testing.assert_allclose(fitted.transform(images), expected, atol=1e-6)

  @pytest.mark.parametrize(
      ("x", "words"),
      [
          (np.zeros((9, 64)), r"got vectors \[9, 64\]; reshape them into images"),
          (np.zeros((4, 8, 8)), "expected at least 5 images for 5 categories, got 4"),
          (np.full((9, 8, 8), 0.5), "expected images that differ, got 9 equal"),
          (np.full((9, 8, 8), 7.0), "in .*0, 1.*"),
          (["nowhere.png"] * 9, "expected nowhere.png"),
          ("./nowhere", "nowhere"),
      ],
  )
  def test_what_is_no_image(self, x, words):
    with pytest.raises(InputError, match=words):
      make().fit(x)

  def test_another_size(self, fitted):
    with pytest.raises(InputError, match=r"\[N, 8, 8, 1\]"):
      fitted.predict(np.zeros((2, 9, 9, 1)))

  def test_a_file_that_cannot_be_read_is_named(self, folder, fitted, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    for call in (fitted.predict, make().fit):
      with pytest.raises(InputError, match="broken.png"):
        call([*paths_of(folder), tmp_path / "broken.png"])

  def test_an_unknown_setting(self, images):
    with pytest.raises(InputError, match="expected a setting of imae"):
      make(settings={"lamb": 1.0}).fit(images)
