"""Every kind of images x every way into a model: the right codes, or the one sentence."""

import contextlib
import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from mendable import assert_mendable

from imae_tf.errors import InputError

N, HALF = 32, 16


class Batches(keras.utils.PyDataset):
  """The halves of an array, each given as `of(images)`."""

  def __init__(self, x, of):
    super().__init__()
    self._x, self._of = x, of

  def __len__(self):
    return 2

  def __getitem__(self, index):
    return self._of(self._x[index * HALF : (index + 1) * HALF])


class Iterable:
  """What can be iterated over again and again, as a DataLoader can."""

  def __init__(self, x):
    self._x = x

  def __iter__(self):
    return halves(self._x)


def halves(x, of=lambda part: part):
  return (of(x[start : start + HALF]) for start in (0, HALF))


def labelled(part):
  return part, np.zeros(len(part))


def named(part):
  return {"image": part, "label": np.zeros(len(part))}


def pipeline(x):
  return tf.data.Dataset.from_tensor_slices(x).batch(HALF)


WAYS = {
    "array": lambda x: x,
    "tensor": tf.constant,
    "list of images": list,
    "tuple": labelled,
    "dict": named,
    "tf.data": pipeline,
    "tf.data of tuples": lambda x: pipeline(labelled(x)),
    "tf.data of dicts": lambda x: pipeline(named(x)),
    "tf.data of a dict and a label": lambda x: pipeline((named(x), np.zeros(len(x)))),
    "tf.data of unknown shape": lambda x: tf.data.Dataset.from_generator(
        lambda: halves(x), output_types=tf.as_dtype(x.dtype)
    ),
    "generator": halves,
    "generator of tuples": lambda x: halves(x, labelled),
    "generator of dicts": lambda x: halves(x, named),
    "iterator": lambda x: iter(list(halves(x))),
    "iterable": Iterable,
    "PyDataset": lambda x: Batches(x, lambda part: (part,)),
    "PyDataset of dicts": lambda x: Batches(x, named),
}
BYTES = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 1), np.uint8)
FLOATS = BYTES / np.float32(255)
RIGHT = {
    "uint8": (BYTES, FLOATS),
    "uint16": (BYTES.astype("uint16") * 257, FLOATS),
    "bool": (BYTES > 99, BYTES > 99),
    "float64": (BYTES / 255, FLOATS),
    "a rounding outside": (np.where(BYTES > 99, 1.0005, -0.0005).astype("float32"), BYTES > 99),
}
NAN = FLOATS.copy()
NAN[:, 3] = np.nan
WRONG = {
    "bytes as floats": (BYTES.astype("float32"), "from 0 to 255; .*x / 255"),
    "nan": (NAN, "got NaN or infinity in"),
    "negative": (FLOATS * 2 - 1, r"from -1 to 1; .*\(x \+ 1\) / 2"),
    "bytes as int64": (BYTES.astype("int64"), r"none above 255: .*astype\('uint8'\)"),
    "mask as uint8": ((BYTES > 99).astype("uint8"), r"none above 1: .*astype\(bool\)"),
    "channels first": (np.zeros([N, 3, 8, 8], "float32"), r"3, 8, 8\]; .*np.moveaxis\(x, 1, -1\)"),
    "no channels": (FLOATS[..., 0], r"8, 8\]; add the channel axis"),
}


@pytest.fixture(scope="module")
def model():
  import imae_tf

  keras.utils.set_random_seed(0)
  encoder, decoder = imae_tf.networks.mlp((8, 8, 1), encoder_units=(8,), decoder_units=(8,))
  model = imae_tf.IMAE(encoder, decoder, lam=0.0)  # VAT takes most of an eager step
  model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
  return model


@contextlib.contextmanager
def nothing_written(folder):
  with contextlib.chdir(folder):
    yield
  assert os.listdir(folder) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_read_right(model, tmp_path, way, kind):
  x, floats = RIGHT[kind]
  before = x.copy()
  expected = model(tf.constant(floats, tf.float32))
  with nothing_written(tmp_path):
    codes = model.encode(WAYS[way](x))
  for name in expected:
    np.testing.assert_allclose(codes[name], expected[name], atol=2e-5)
  np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_refused_in_one_sentence(model, tmp_path, way, kind):
  x, sentence = WRONG[kind]
  with nothing_written(tmp_path), pytest.raises(InputError, match=sentence) as error:
    model.encode(WAYS[way](x))
  assert_mendable(error)


@pytest.mark.parametrize("way", WAYS)
def test_training_and_evaluation_read_the_same(model, way):
  logs = [model.evaluate(give(BYTES), batch_size=HALF, verbose=0) for give in (WAYS[way], pipeline)]
  assert logs[0] == pytest.approx(logs[1], rel=1e-5)
  history = model.fit(WAYS[way](BYTES), batch_size=HALF, verbose=0, shuffle=False).history
  assert np.isfinite(history["loss"]).all()
  for use in (model.fit, model.evaluate):
    for kind in ("bytes as floats", "nan"):
      x, sentence = WRONG[kind]
      with pytest.raises(InputError, match=sentence):
        use(WAYS[way](x), batch_size=HALF, verbose=0)


@pytest.mark.parametrize("way", WAYS)
def test_validation_data_is_checked_before_the_first_step(model, way):
  x, sentence = WRONG["bytes as floats"]
  if way in ("tuple", "dict", "list of images", "array", "tensor"):
    data = (WAYS[way](x),)
  else:
    data = WAYS[way](x)
  with pytest.raises(InputError, match=sentence):
    model.fit(BYTES, batch_size=HALF, validation_data=data, verbose=0)


STREAMS = [way for way in WAYS if way.startswith(("tf.data", "gen", "iter", "PyData"))]
NIGHT = np.concatenate([BYTES[:HALF] > 200, BYTES[HALF:]], dtype=np.uint8, casting="unsafe")


def wide(x):
  """uint8 as int64, whose batches of 0 and 1 look like bytes."""
  return np.where(x == 1, 255, x.astype("int64") * (2**63 // 255))


@pytest.mark.parametrize("way", STREAMS)
def test_a_dark_batch_of_a_stream_is_read(model, way):
  for x in (NIGHT, NIGHT[::-1], wide(NIGHT), wide(NIGHT[::-1])):
    floats = tf.constant(x / np.iinfo(x.dtype).max, tf.float32)
    np.testing.assert_allclose(model.encode(WAYS[way](x))["z"], model(floats)["z"], atol=2e-5)
  assert np.isfinite(model.evaluate(WAYS[way](NIGHT), verbose=0)["loss"])
  assert np.isfinite(model.fit(WAYS[way](NIGHT), verbose=0).history["loss"]).all()


@pytest.mark.parametrize("way", STREAMS)
def test_a_stream_of_dark_batches_alone_is_refused_before_the_first_step(model, way):
  x, sentence = WRONG["mask as uint8"]
  steps = int(model.optimizer.iterations)
  for use in (model.fit, model.evaluate, model.predict):
    with pytest.raises(InputError, match=sentence):
      use(WAYS[way](x), verbose=0)
  assert int(model.optimizer.iterations) == steps


def test_predict_judges_the_steps_that_it_takes(model):
  with pytest.raises(InputError, match="none above 1"):
    model.predict(pipeline(NIGHT), steps=1, verbose=0)
  assert len(model.predict(pipeline(NIGHT[::-1]), steps=1, verbose=0)["z"]) == HALF


@pytest.mark.parametrize("way", STREAMS)
def test_no_images_are_one_sentence(model, way):
  class Nothing(Batches):
    def __len__(self):
      return 0

  empty = WAYS[way](BYTES[:0])
  if way.startswith(("gen", "iter")):
    empty = {}.values() if way == "iterable" else iter(())
  if "PyDataset" in way:
    empty = Nothing(BYTES, lambda part: part)
  if way == "tf.data of unknown shape":
    empty = tf.data.Dataset.from_generator(lambda: iter(()), output_types=tf.uint8)
  for use in (model.encode, model.predict, model.evaluate, model.fit):
    with pytest.raises(InputError, match="got an empty array or data set; add images") as error:
      use(empty)
    assert_mendable(error)


@pytest.mark.parametrize(
    "of, code",
    [
        (lambda image: image, "np.stack([part for part in x])"),
        (lambda image: (image, 3), "np.stack([part[0] for part in x])"),
        (lambda image: {"image": image, "label": 3}, "np.stack([part['image'] for part in x])"),
        (lambda image: ({"x": image}, 3), "np.stack([part[0]['x'] for part in x])"),
    ],
    ids=["image", "tuple", "dict", "dict and label"],
)
def test_an_unbatched_generator_is_told_to_batch(model, of, code):
  for use in (model.encode, model.fit, model.evaluate):
    with pytest.raises(InputError) as error:
      use(map(of, BYTES))
    assert_mendable(error, "one image at a time", "128", code)
  whole = eval(code, {"np": np, "x": list(map(of, BYTES))})
  np.testing.assert_array_equal(whole, BYTES)


@pytest.mark.parametrize("compiled", [{}, {"jit_compile": True}], ids=["graph", "xla"])
def test_a_bad_batch_late_in_a_pipeline_ends_the_training(tiny_model, compiled):
  """Where XLA drops assertions, too: the check stands before the step."""
  model = tiny_model(lam=0.0)
  model.compile(keras.optimizers.SGD(1e-3), **compiled)
  x = np.concatenate([FLOATS, FLOATS, NAN])
  with pytest.raises(InputError, match="got NaN or infinity"):
    model.fit(pipeline(x), verbose=0)


@pytest.mark.parametrize(
    "x, part",
    [
        (None, "a NoneType"),
        ("pictures", "imae_tf.data.load"),
        (tf.data.Dataset.from_tensor_slices(FLOATS), "dataset.batch(128)"),
        (tf.data.Dataset.from_tensor_slices(["a.png"]).batch(2), "string"),
        ({"left": FLOATS, "right": FLOATS}, "'left', 'right'"),
        (tf.ragged.constant([[0.5], [0.5, 1.0]]), "several shapes"),
        ([FLOATS[0], FLOATS[1, :7]], "a list of several"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_batch_of_images_is_named(model, x, part):
  for use in (model.encode, model.fit, model.evaluate):
    with pytest.raises(InputError) as error:
      use(x)
    assert_mendable(error, part)


def test_integers_reach_the_layers_scaled(model):
  for x in (BYTES, tf.constant(BYTES)):
    np.testing.assert_allclose(model(x)["z"], model(FLOATS)["z"], atol=1e-6)
    np.testing.assert_allclose(model.posterior(x).z.mean(), model(FLOATS)["z"], atol=1e-6)
  logs = model.train_step(tf.constant(BYTES))
  assert np.isfinite(float(logs["loss"]))


@pytest.mark.parametrize("kind", [kind for kind in WRONG if kind != "no channels"])
def test_the_posterior_of_a_tensor_is_checked(model, kind):
  x, sentence = WRONG[kind]
  with pytest.raises(InputError, match=sentence) as error:
    model.posterior(tf.constant(x))
  assert_mendable(error)


def test_the_posterior_in_a_graph_checks_shapes_and_passes_gradients(model):
  with pytest.raises(InputError, match="add the channel axis"):
    mean = tf.function(lambda x: model.posterior(x).z.mean(), autograph=False)
    mean(tf.constant(FLOATS[..., 0]))
  x = tf.constant(FLOATS)
  with tf.GradientTape() as tape:
    tape.watch(x)
    mean = model.posterior(x).z.mean()
  assert np.abs(tape.gradient(mean, x)).max() > 0


@pytest.mark.parametrize("kind", ["bytes as floats", "nan", "channels first", "no images"])
def test_a_distributed_data_set_has_its_first_batch_checked(kind):
  import imae_tf

  x, sentence = WRONG.get(kind, (FLOATS[:0], "add images"))
  strategy = tf.distribute.MirroredStrategy(["CPU:0"])
  with strategy.scope():
    encoder, decoder = imae_tf.networks.mlp((8, 8, 1), encoder_units=(8,), decoder_units=(8,))
    model = imae_tf.IMAE(encoder, decoder, lam=0.0)
    model.compile(keras.optimizers.SGD(0.0))
  with pytest.raises(InputError, match=sentence) as error:
    model.fit(strategy.experimental_distribute_dataset(pipeline(x)), verbose=0)
  assert_mendable(error)
  if kind == "nan":
    right = strategy.experimental_distribute_dataset(pipeline(BYTES))
    assert np.isfinite(model.fit(right, verbose=0).history["loss"]).all()


def test_errors_of_others_stay_theirs(model):
  def fails(part):
    raise RuntimeError("a pipeline of the user's own")

  data = pipeline(FLOATS).map(lambda x: tf.numpy_function(fails, [x], tf.float32))
  data = data.map(lambda x: tf.ensure_shape(x, (None, 8, 8, 1)))
  with pytest.raises(tf.errors.OpError, match=re.escape("a pipeline of the user's own")):
    model.encode(data)
