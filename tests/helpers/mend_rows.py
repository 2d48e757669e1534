"""Errors whose mend is a value or a line of Python: what is wrong, and what the mend makes of it.

`tests/test_mends.py` runs these rows. A row begins with words of the message's template, as
docs/generated.py writes it. `w` is the small world of the test.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import imae_tf
from imae_tf import clusterer
from imae_tf import recipes
from imae_tf._shared import category_names
from imae_tf._shared import paths
from imae_tf._shared import pixels
from imae_tf.comparison import plan
from imae_tf.data import loading
from imae_tf.data import splits
from imae_tf.export import client as clients
from imae_tf.export import codes
from imae_tf.export import publish
from imae_tf.export import versions
from imae_tf.export.client import inputs
from imae_tf.metrics import checks
from imae_tf.metrics import clustering
from imae_tf.metrics import disentanglement
from imae_tf.metrics import measuring
from imae_tf.reporting import run_page
from imae_tf.search import hypermodel
from imae_tf.training import distribution
from imae_tf.training import runs
from imae_tf.training import starts as start_checks

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (32, 8, 8, 1), np.uint8)
FLOATS = BYTES / np.float32(255)
COLOUR = np.repeat(FLOATS, 3, axis=-1)
TEN = RNG.normal(size=(disentanglement.FEWEST, 2))
FACTORS = np.arange(disentanglement.FEWEST)[:, np.newaxis] % 3
URL = "http://127.0.0.1:1"


def networks(**sizes):
  return imae_tf.networks.mlp((8, 8, 1), encoder_units=(8,), decoder_units=(8,), **sizes)


def make(method="imae", encoder=None, decoder=None, **options):
  ours = networks()
  return imae_tf.methods.METHODS[method](encoder or ours[0], decoder or ours[1], **options)


def decoder(size, shape=(8, 8, 1)):
  wide = keras.layers.Dense(int(np.prod(shape)))
  return keras.Sequential([keras.Input((size,)), wide, keras.layers.Reshape(shape)])


def encoder(*layers, shape=(8, 8, 1)):
  return keras.Sequential([keras.Input(shape), *layers])


def fit(x=BYTES, compiled=None, **options):
  model = make()
  model.compile(keras.optimizers.SGD(0.0), run_eagerly=True, **(compiled or {}))
  model.fit(x, verbose=0, **options)


def pipeline(x):
  return tf.data.Dataset.from_tensor_slices(x).batch(16)


def compare(**changes):
  lists = {"methods": ["imae"], "recipe_names": ["tuned"], "datasets": ["digits"], "seeds": [0]}
  plan.plan(**{**lists, **changes}, epochs=None, num_categories=3, latent_dim=3)


def disentangle(y=TEN, z=TEN, factors=FACTORS, names=("a",)):
  disentanglement.scores(y, z, factors, names)


def names(w, content):
  (w.folder / "names.json").write_text(content)
  category_names.of_run(w.folder, 3)


def report(w, x=FLOATS, labels=None, metrics=None):
  run_page._check(x, labels, metrics if metrics is not None else w.metrics())


def with_value(value, shape=(disentanglement.FEWEST, 2)):
  x = np.ones(shape)
  x[3] = value
  return x


def starts(**settings):
  """The checks of a run's short starts, which stand before the data are read."""
  def of(w, value):
    recipe = dataclasses.replace(recipes.TUNED["digits"], restarts=2, **settings, **value)
    run = runs.Run("no.npz", "imae", "tuned", recipe, 3, 3, 0, 0, True)
    try:
      runs.train(run, w.folder / "run")
    except imae_tf.errors.InputError as error:
      if "no.npz" not in str(error):
        raise

  return of


# (words of the template, a function of (w, value), the wrong value, the mended one).
VALUES = [
    ("got a <value>; give it as a str", lambda w, v: paths.text(v), 3, "3"),
    ("got an empty text; give one", lambda w, v: versions.base_folder(v), "", "m/ok"),
    ("got a zero byte", lambda w, v: paths.text(v), "a\0", "a"),
    ("<name> as a number, 0 or more", lambda w, v: make(beta=v), -1, 1),
    ("alpha as a number", lambda w, v: make("infovae", alpha=v), 2, 1),
    ("capacity_steps as an integer", lambda w, v: make("jointvae", capacity_steps=v), 0, 1),
    ("expected <name> as <expected>, got", lambda w, v: make(marginals=v), "all", "batch"),
    ("as a functional or Sequential", lambda w, v: make(encoder=v), keras.layers.Dense(2),
     lambda w: keras.Model(inputs := keras.Input((8, 8, 1)), keras.layers.Flatten()(inputs))),
    ("features [B, F] of the encoder", lambda w, v: make(encoder=v),
     lambda w: encoder(keras.layers.Conv2D(2, 3)),
     lambda w: encoder(keras.layers.Conv2D(2, 3), keras.layers.Flatten())),
    ("a decoder of num_categories + latent", lambda w, v: make(decoder=v),
     lambda w: networks(latent_dim=3)[1], lambda w: networks()[1]),
    ("a decoder whose output has the shape", lambda w, v: make(decoder=v),
     lambda w: decoder(20, (4, 4, 1)), lambda w: decoder(20)),
    ("no <name> in compile", lambda w, v: fit(compiled=v), {"loss": "mse"}, {}),
    ("no weights of samples", lambda w, v: fit(sample_weight=v), np.ones(32), None),
    ("batches of 2 images or more", lambda w, v: fit(batch_size=v), 1, 16),
    ("expected 2 images or more", lambda w, v: fit(v), BYTES[:1], BYTES[:2]),
    ("an empty array or data set", lambda w, v: fit(v), BYTES[:0], BYTES[:2]),
    ("under the name 'image' or 'x', got a dict", lambda w, v: w.model.encode(v),
     {"left": FLOATS, "right": FLOATS}, {"x": FLOATS, "right": FLOATS}),
    ("got elements of <value>; make them dense", lambda w, v: w.model.encode(v),
     lambda w: pipeline(tf.RaggedTensor.from_tensor(FLOATS[..., 0])), lambda w: pipeline(FLOATS)),
    ("decode or convert them in the pipeline", lambda w, v: w.model.encode(v),
     lambda w: pipeline(FLOATS.astype(str)),
     lambda w: pipeline(FLOATS.astype(str)).map(tf.strings.to_number)),
    ("got <kind>; convert them to floats", lambda w, v: pixels.scaled(v),
     tf.constant(["0.5"]), tf.constant([0.5])),
    ("y of shape [N, <num_categories>]", lambda w, v: w.model.decode(**v),
     lambda w: {"y": TEN, "z": TEN}, lambda w: {k: w.codes()[k] for k in "yz"}),
    ("y as an integer in 0", lambda w, v: w.model.generate(2, y=v), 10, 9),
    ("sides that are multiples", lambda w, v: imae_tf.networks.conv(v), (30, 30, 1), (32, 32, 1)),
    ("sides that are multiples", lambda w, v: v((30, 30, 1)), imae_tf.networks.conv,
     imae_tf.networks.mlp),
    ("image_shape as", lambda w, v: imae_tf.networks.mlp(v), (8, 8), (8, 8, 1)),
    ("the optimizer 'adam'", lambda w, v: recipes.building._optimizer(
        dataclasses.replace(recipes.PAPER, optimizer=v), 9), "lion", "sgd"),
    ("a method among", lambda w, v: recipes.get("paper", "digits", v), "x", "imae"),
    ("the recipe 'paper'", lambda w, v: recipes.get(v, "digits"), "best", "tuned"),
    ("a setting of <method>", lambda w, v: recipes.with_change(recipes.PAPER, "imae", v), "x",
     "lam=0"),
    ("expected <name> as <what>", lambda w, v: recipes.with_change(recipes.PAPER, "imae", v),
     "lam=no", "lam=0"),
    ("to search for <method>", lambda w, v: hypermodel.space([v]), "speed", "beta"),
    ("or the like to search", lambda w, v: hypermodel.space([v]), "beta=2", "beta=1:10"),
    ("<name> to compare, got none", lambda w, v: compare(seeds=v), [], [0]),
    ("each of the <name> once", lambda w, v: compare(seeds=v), [0, 0], [0]),
    ("data sets of different names", lambda w, v: compare(datasets=v),
     lambda w: [w.npz("a/x.npz"), w.npz("b/x.npz")], lambda w: [w.npz("a/x.npz"), w.npz("y.npz")]),
    ("a split of <name>", lambda w, v: w.data().arrays(v), "validation", "test"),
    ("batch_size of 1 or more", lambda w, v: w.data().batches("test", v), 0, 1),
    ("batch_size from 2 to", lambda w, v: w.data().steps_per_epoch(v), 1, 2),
    ("batch_size from 2 to", lambda w, v: w.data().steps_per_epoch(v), 99, 9),
    ("holdout of 0 or more", lambda w, v: splits.train_holdout(9, v), -1, 0),
    ("at least 2 training images and 1", lambda w, v: loading.load(w.npz(x=BYTES[:v])), 1, 3),
    ("at least 2 training images and 1", lambda w, v: loading.load(w.npz(), holdout=v), 31, 2),
    ("numbers of values as in shapes", lambda w, v: loading.load(v), "shapes:size=2",
     "shapes:shape=1:scale=2:x=1:y=1"),
    ("image_size as auto", lambda w, v: loading.load(w.images(), image_size=v), 0, 8),
    ("<name> as <value>, got <value>; choose one",
     lambda w, v: loading.load(w.images(), fit=v), "bend", "crop"),
    ("labels for a folder of images alone", lambda w, v: loading.load("digits", labels=v),
     "folders", None),
    ("no <given> for <name>", lambda w, v: loading.load("digits", image_size=v), (8, 8), None),
    ("TFDS name (such as", lambda w, v: loading.load(v), "digit", "digits"),
    ("with N >= 1, got shape", lambda w, v: checks.images(v), FLOATS[:0], FLOATS),
    ("with N >= 1, got shape", lambda w, v: checks.images(v), FLOATS[0, 0, 0], FLOATS),
    ("as a vector of integers", lambda w, v: checks.integers("y", v), [1.0], [1]),
    ("one label for each of", lambda w, v: checks.labels(v, 2), [0, 1, 2], [0, 1]),
    ("categories in [0", lambda w, v: clustering.hungarian([0, 1], [0, 3], v), 2, 4),
    ("the category of at least one", lambda w, v: clustering.nmi(v, v), np.zeros(0, int), [0]),
    ("training and test images of one", lambda w, v: clustering.baselines(v, FLOATS, [0] * 32, 2),
     FLOATS[:, :4], FLOATS),
    ("one a cluster, got", lambda w, v: clustering.baselines(v, FLOATS, [0] * 32, 5), FLOATS[:3],
     FLOATS),
    ("one a cluster, got", lambda w, v: clustering.baselines(FLOATS[:3], FLOATS, [0] * 32, v), 5,
     2),
    ("training images, one a category", lambda w, v: recipes.auto(v, 5), FLOATS[:3], FLOATS),
    ("codes and factors of the same", lambda w, v: disentangle(z=v), TEN[1:], TEN),
    ("finite codes, got NaN or infinity; leave", lambda w, v: disentangle(**v),
     {"z": with_value(np.nan)},
     {"y": np.delete(np.r_[TEN, TEN], 3, 0), "z": np.delete(np.r_[TEN, TEN], 3, 0),
      "factors": np.delete(np.r_[FACTORS, FACTORS], 3, 0)}),
    ("factors as integers", lambda w, v: disentangle(factors=v), FACTORS / 2, FACTORS),
    ("names of factors, got", lambda w, v: disentangle(names=v), [], ["a"]),
    ("factors of two values", lambda w, v: disentangle(factors=v, names="ab"[: v.shape[1]]),
     np.c_[FACTORS, 0 * FACTORS], FACTORS),
    ("an array of two dimensions", lambda w, v: disentangle(factors=v), FACTORS[:, 0], FACTORS),
    ("2 images to measure", lambda w, v: measuring.evaluate(w.model, v), FLOATS[:1], FLOATS),
    ("the likelihood 'bernoulli'", lambda w, v: measuring.reconstruction_floor(FLOATS, v), "normal",
     "gaussian"),
    ("pixels in [0, 1], got <value> to <value>; <mend>",
     lambda w, v: measuring.reconstruction_floor(v, "bernoulli"), BYTES * 1.0, BYTES / 255),
    ("pixels in [0, 1], got <value> to <value>; <mend>",
     lambda w, v: measuring.reconstruction_floor(v, "bernoulli"),
     with_value(np.nan, (5, 8, 8, 1)), np.delete(with_value(np.nan, (5, 8, 8, 1)), 3, 0)),
    ("one image to report on", lambda w, v: report(w, v), FLOATS[:0], FLOATS),
    ("one label per image", lambda w, v: report(w, labels=v), [0], [0] * 32),
    ("what metrics.evaluate returns", lambda w, v: report(w, metrics=v), {},
     lambda w: w.metrics()),
    ("the method imae for the recipe auto",
     lambda w, v: start_checks.check(runs.Run("", v, "auto", recipes.PAPER, 3, 3, 0, 0, True)),
     "vae", "imae"),
    ("restart_epochs of 1", starts(), {"restart_epochs": 0}, {"restart_epochs": 25}),
    ("restart_score among", starts(restart_epochs=1), {"restart_score": "luck"},
     {"restart_score": "agreement"}),
    ("--network=towers for", starts(restart_epochs=1), {"restart_mixtures": 1},
     {"restart_mixtures": 1, "network": "towers"}),
    ("restart_vote with restart_categories", starts(restart_epochs=1, network="towers"),
     {"restart_categories": True}, {"restart_categories": True, "restart_vote": True}),
    ("a strategy of", lambda w, v: distribution.open_job(v), "tpu", "none"),
    # The client.
    ("an endpoint such as", lambda w, v: clients.Client(v), "localhost", URL),
    ("a user's name and password", lambda w, v: clients.Client(**v),
     {"endpoint": "http://me:secret@127.0.0.1:1"},
     {"endpoint": URL, "headers": {"Authorization": "Basic bWU6c2VjcmV0"}}),
    ("an endpoint with a port", lambda w, v: clients.Client(v), "grpc://127.0.0.1",
     "grpc://127.0.0.1:8500"),
    ("<name> as an integer from", lambda w, v: clients.Client(URL, retries=v), -1, 0),
    ("timeout_s as a number", lambda w, v: clients.Client(URL, timeout_s=v), 0, 1),
    ("model_name as the server", lambda w, v: clients.Client(URL, model_name=v), "", "imae"),
    ("version as an integer", lambda w, v: clients.Client(URL, version=v), -1, 1),
    ("headers as {name: value}", lambda w, v: clients.Client(URL, headers=v), ["a"], {"a": "b"}),
    ("names of headers", lambda w, v: clients.Client(URL, headers={v: "b"}), "a b",
     "Authorization"),
    ("value of the header", lambda w, v: clients.Client(URL, headers={"a": v}), "b\n",
     "b\n".strip()),
    ("as a matrix of finite numbers", lambda w, v: inputs.rows("y", v), FLOATS,
     lambda w: w.codes()["y"]),
    ("a list of files", lambda w, v: inputs.files(v), "a.png", ["a.png"]),
    # Exports.
    ("a keep of 1", lambda w, v: publish._publish(w.no_write, w.folder / "b", v), 0, None),
    ("reshape them into images", lambda w, v: clusterer._array(v), FLOATS.reshape(32, 64), FLOATS),
    ("images for <num_categories> categories", lambda w, v: clusterer._check_count(9, v), 10, 9),
    ("names of categories as JSON", lambda w, v: names(w, v), "no JSON", '{"0": "cat"}'),
    ("expected categories 0 to", lambda w, v: names(w, v), '{"3": "cat"}', '{"2": "cat"}'),
    ("another name for each category", lambda w, v: names(w, v), '{"0": "a", "1": "A"}',
     '{"0": "a", "1": "b"}'),
    ("that folders can have", lambda w, v: names(w, v), '{"0": "a/b"}', '{"0": "a-b"}'),
    ("an --output that ends in", lambda w, v: codes.check_output(w.folder / v), "a.txt", "a.npz"),
    ("without [ and ]", lambda w, v: versions.base_folder(v), "m[1]", "m1"),
    ("a folder of this machine", lambda w, v: versions.base_folder(v), "gs://m", "m"),
    ("as the SavedModel was trained on", lambda w, v: codes.Encoder(w.base / "1")(v),
     lambda w: FLOATS[:, :4], lambda w: np.repeat(FLOATS[:, :4], 2, axis=1)),
    ("as the SavedModel was trained on", lambda w, v: codes.Encoder(w.base / "1")(v),
     COLOUR, COLOUR.mean(axis=-1, keepdims=True)),
    ("version <number> in <base>", lambda w, v: versions.get(w.base, v), 7, 1),
]

ONE_NAN = FLOATS.copy()
ONE_NAN[3] = np.nan
RANGE = "float pixels in [0, 1]<value>, got values from"
SHAPE = "expected images of shape <value>, got <value>; <value>."
TYPE = "integers such as uint8, or floats in [0, 1]<value>, got"
PLAIN = "[N, height, width, channels]<value>"
DARK = "is white<value>, got none above"
# (words of the template, x): the line of Python in the message makes of x what `encode` takes.
LINES = [
    *((RANGE, x) for x in (FLOATS * 255, FLOATS * 65535, FLOATS * 2 - 1, FLOATS - 0.5, FLOATS * 7,
                           FLOATS * 1.05, FLOATS * 5 - 2)),
    ("integer pixels from 0 to", BYTES.astype("int16") - 9),
    ("finite pixels in [0, 1]", ONE_NAN),
    *((DARK, x) for x in (BYTES.astype("int64"), BYTES // 128, BYTES.astype("uint16") // 4)),
    *((SHAPE, x) for x in (FLOATS[..., 0], FLOATS[0], FLOATS.reshape(32, 64), COLOUR,
                           np.repeat(FLOATS, 2, 1), np.zeros([9, 1, 8, 8], "float32"))),
    ("without a mask", np.ma.masked_greater(FLOATS, 0.5)),
    (TYPE, FLOATS.astype(object)),
    (TYPE, np.array([*map(np.asarray, FLOATS), None], object)[:-1]),
    ("got a list of <value> batches", [FLOATS[:16], FLOATS[16:]]),
]
# The same of `metrics` and the client, which do not know H, W and C.
FIRST = np.zeros([2, 3, 8, 8])
PLAIN_LINES = [(PLAIN, x) for x in (FLOATS[..., 0], FLOATS[0], FIRST, FLOATS[0, ..., 0])]
