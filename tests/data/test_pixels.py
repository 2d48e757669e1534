"""Pixels: every type and range in NumPy and in a pipeline, against float64; and the mends."""

import re

import hypothesis
import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from mendable import assert_mendable

from imae_tf._shared import pixels
from imae_tf.errors import InputError

INTEGERS = ("int8", "uint8", "int16", "uint16", ">u2", "int32", "uint32", "int64", "uint64")
FLOATS = ("float16", "float32", "float64", ">f4")
quiet = hypothesis.settings(
    max_examples=80, deadline=None, derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)


def in_pipeline(x):
  """`pixels.checked` of one batch."""
  batches = tf.data.Dataset.from_tensors(x).map(pixels.checked)
  return next(iter(batches)).numpy()


def reference(x):
  """float64: what the module's table says, or None where it refuses."""
  if x.dtype == bool:
    return x.astype(np.float64)
  if x.dtype.kind in "iu":
    white = np.iinfo(x.dtype).max
    if x.size and (x.min() < 0 or x.max() == 1 or 0 < int(x.max()) * 128 < white):
      return None
    return x.astype(np.float64) / white
  wide = x.astype(np.float64)
  if not np.all((wide >= -1e-3) & (wide <= 1 + 1e-3)):
    return None
  return np.clip(wide, 0, 1)


def shapes():
  return hnp.array_shapes(min_dims=4, max_dims=4, min_side=0, max_side=4)


def arrays():
  integers = st.sampled_from(INTEGERS).flatmap(lambda t: hnp.arrays(t, shapes()))
  bounds = st.sampled_from([(0, 1), (-0.002, 1.002), (-1, 1), (0, 255), (-1e30, 1e30)])
  floats = st.tuples(st.sampled_from(FLOATS), bounds).flatmap(
      lambda drawn: hnp.arrays(
          drawn[0],
          shapes(),
          elements=st.one_of(
              st.floats(*(max(-6e4, min(6e4, b)) for b in drawn[1])).map(
                  lambda v: float(np.dtype(drawn[0]).type(v))
              ),
              st.sampled_from([0.0, 1.0, 0.5]),
          ),
      )
  )
  odd = floats.map(lambda x: np.where(x > 0.9, np.nan, x).astype(x.dtype))
  return st.one_of(integers, floats, odd, hnp.arrays(bool, shapes()))


@quiet
@hypothesis.given(arrays(), st.sampled_from(["C", "F", "strided"]))
def test_values_against_float64(x, layout):
  x = np.asfortranarray(x) if layout == "F" else x
  x = np.repeat(x, 2, axis=2)[:, :, ::2] if layout == "strided" else x
  before = x.copy()
  expected = reference(x)
  if expected is None:
    for read in (pixels.floats, pixels.stored):
      with pytest.raises(InputError):
        read(x)
  else:
    found = pixels.floats(x)
    assert found.dtype == np.float32 and found.shape == x.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    kept = pixels.stored(x)
    kept = kept / np.float64(255) if kept.dtype == np.uint8 else kept
    np.testing.assert_allclose(kept, expected, rtol=1e-6, atol=1e-7)
  np.testing.assert_array_equal(x, before)


@hypothesis.settings(quiet, max_examples=25)
@hypothesis.given(arrays())
def test_a_pipeline_reads_as_numpy_does(x):
  x = x.astype(x.dtype.newbyteorder("="))  # TensorFlow has no other order
  try:
    expected = pixels.floats(x)
  except InputError as error:
    with pytest.raises(tf.errors.OpError, match=re.escape(str(error))):
      in_pipeline(x)
  else:
    found = in_pipeline(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_bfloat16():
  x = np.linspace(0, 1, 12).reshape(1, 3, 4, 1).astype(ml_dtypes.bfloat16)
  np.testing.assert_array_equal(pixels.floats(x), x.astype(np.float32))
  np.testing.assert_array_equal(in_pipeline(x), x.astype(np.float32))


def test_what_is_right_already_is_not_copied():
  x = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2, 1)
  assert pixels.floats(x) is x
  assert pixels.stored(np.full([1, 2, 2, 1], 9, np.uint8)).dtype == np.uint8


def test_the_excess_is_shown():
  x = np.linspace(0, 1.0010002, 8).reshape(2, 2, 2, 1)
  with pytest.raises(InputError) as error:
    pixels.floats(x)
  assert_mendable(error, "from 0 to 1.0010002", "np.clip")


# ---- mends ------------------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 5 * 8 * 8).reshape(5, 8, 8, 1)
BYTES = (RAMP * 255).round().astype(np.uint8)
NESTED = np.empty(5, object)
NESTED[:] = list(RAMP)
# (what a user has, what it is read as once the error's own expression has been followed)
MENDABLE = {
    "bytes as floats": (BYTES.astype("float32"), BYTES / 255),
    "16 bits as floats": (BYTES * 257.0, BYTES / 255),
    "sixteenths": (RAMP * 16, RAMP),
    "overshoot": (RAMP * 1.1 - 0.05, np.clip(RAMP * 1.1 - 0.05, 0, 1)),
    "centred": (RAMP - 0.5, RAMP),
    "minus one to one": (RAMP * 2 - 1, RAMP),
    "standardised": ((RAMP - 0.5) * 3.4, RAMP),
    "huge": (RAMP * 1e6, RAMP),
    "nan": (np.where(np.arange(5).reshape(5, 1, 1, 1) == 3, np.nan, RAMP), RAMP[[0, 1, 2, 4]]),
    "bytes as int64": (BYTES.astype("int64"), BYTES / 255),
    "bytes as int32": (BYTES.astype("int32"), BYTES / 255),
    "bytes as int16": (BYTES.astype("int16"), BYTES / 255),
    "bytes as uint16": (BYTES.astype("uint16"), BYTES / 255),
    "16 bits as int32": (BYTES.astype("int32") * 257, BYTES / 255),
    "thousandths": ((RAMP * 1000).astype("int64") // 2, (RAMP * 1000).astype(int) // 2 / 500),
    "mask as uint8": ((RAMP > 0.5).astype("uint8"), RAMP > 0.5),
    "mask as int64": ((RAMP > 0.5).astype("int64"), RAMP > 0.5),
    "signed": ((BYTES.astype(int) - 128).astype("int8"), BYTES / 255),
    "masked": (np.ma.masked_greater(RAMP, 0.8), np.where(RAMP > 0.8, 0, RAMP)),
    "objects": (RAMP.astype(object), RAMP),
    "array of arrays": (NESTED, RAMP),
    "channels first": (np.moveaxis(np.repeat(RAMP, 3, -1), -1, 1), np.repeat(RAMP, 3, -1)),
    "no channels": (RAMP[..., 0], RAMP),
    "one image": (RAMP[0], RAMP[:1]),
    "one grey image": (RAMP[0, ..., 0], RAMP[:1]),
}
EXPRESSION = re.compile(
    r"(?:for example with|give(?! one)|channels last:|channel axis:|stack them:|image as)"
    r" (.+?)(?: if .*|, or .*)?\.$"
)


@pytest.mark.parametrize("case", MENDABLE)
def test_the_mend_in_an_error_works(case):
  x, expected = MENDABLE[case]
  read = lambda x: pixels.floats(pixels.batch_of_images(pixels.array(x)))
  with pytest.raises(InputError) as error:
    read(x)
  assert_mendable(error)
  expression = EXPRESSION.search(str(error.value)).group(1)
  mended = eval(expression, {"np": np, "x": x})
  np.testing.assert_allclose(read(mended), expected, atol=1e-6)


SHAPES = {
    "channels first": ((4, 3, 6, 8), (6, 8, 3), "np.moveaxis(x, 1, -1)"),
    "no channels": ((4, 6, 8), (6, 8, 1), "x[..., np.newaxis]"),
    "one image": ((6, 8, 3), (6, 8, 3), "x[np.newaxis]"),
    "rows": ((4, 48), (6, 8, 1), "x.reshape(-1, 6, 8, 1)"),
    "colour": ((4, 6, 8, 3), (6, 8, 1), "x.mean(axis=-1, keepdims=True)"),
    "grey": ((4, 6, 8, 1), (6, 8, 3), "np.repeat(x, 3, axis=-1)"),
    "another size": ((4, 5, 5, 3), (6, 8, 3), "tf.image.resize(x, (6, 8))"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_the_mend_of_a_shape_works(case):
  shape, image_shape, mend = SHAPES[case]
  x = np.full(shape, 0.5, np.float32)
  with pytest.raises(InputError) as error:
    pixels.check_shape(x.shape, image_shape)
  assert_mendable(error, list(shape), mend)
  pixels.check_shape(np.shape(eval(mend, {"np": np, "tf": tf, "x": x})), image_shape)


@pytest.mark.parametrize(
    "x, part",
    [
        (None, "a NoneType"),
        (3, "a int"),
        ("pictures/", "a str"),
        ([np.zeros([8, 8, 1]), np.zeros([9, 8, 1])], "a list of several; resize them"),
        ([np.zeros([8, 8, 1]), np.zeros([8, 8, 3])], "a list of several; make all grey"),
        ([np.zeros([8, 8]), np.zeros([8, 8, 3])], "a list of several; make all grey"),
        (np.array(["a.png"]), "text"),
        (np.zeros([2, 2], complex), "complex128"),
        (np.zeros(2, "datetime64[s]"), "datetime64"),
    ],
)
def test_what_holds_no_pixels_is_named(x, part):
  with pytest.raises(InputError) as error:
    pixels.array(x)
  assert_mendable(error, part)
