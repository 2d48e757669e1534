"""What is done to images: each step against Pillow and NumPy, in a graph and outside one."""

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from mendable import assert_mendable

from imae_tf.data.preparation import Preparation
from imae_tf.errors import InputError

SIZES = [(100, 100), (37, 91), (301, 20), (16, 16), (5, 9), (1, 1), (1, 50)]


def pixels(shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def triangle(n_in, n_out):
  """[n_out, n_in]: the weights of a triangle that covers what an output pixel covers."""
  scale = n_in / n_out
  reach = max(scale, 1)
  centres = (np.arange(n_out) + 0.5) * scale - 0.5
  weights = np.maximum(0, 1 - np.abs(np.arange(n_in)[None] - centres[:, None]) / reach)
  return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", SIZES)
def test_the_resize_is_a_triangle_that_widens_and_pillows_bilinear(size):
  image = pixels((*size, 3))
  done = Preparation((16, 24), "stretch", "rgb").of_array(image)
  expected = np.einsum("ih,hwc,jw->ijc", triangle(size[0], 16), image, triangle(size[1], 24))
  assert done.dtype == np.uint8
  assert np.abs(done - expected).max() <= 0.5 + 1e-3  # rounded, and nothing else
  pillow = PIL.Image.fromarray(image).resize((24, 16), PIL.Image.Resampling.BILINEAR)
  assert np.abs(done.astype(int) - np.asarray(pillow)).max() <= 1  # which rounds each axis


def test_grey_is_pillows_to_the_bit():
  cube = np.stack(np.meshgrid(*[np.arange(0, 256, 5, dtype=np.uint8)] * 3), -1).reshape(52, -1, 3)
  done = Preparation(cube.shape[:2], "crop", "grey").of_array(cube)
  np.testing.assert_array_equal(done[..., 0], np.asarray(PIL.Image.fromarray(cube).convert("L")))


def test_grey_images_become_three_equal_channels():
  image = pixels((8, 9, 1))
  done = Preparation((8, 9), "crop", "rgb").of_array(image)
  np.testing.assert_array_equal(done, np.repeat(image, 3, axis=-1))


@pytest.mark.parametrize("size", SIZES)
def test_a_crop_is_the_middle_of_the_proportions_asked_for(size):
  image = pixels((*size, 3))
  done = Preparation((8, 16), "crop", "rgb").of_array(image)
  height, width = size
  rows, columns = min(height, int(width / 2 + 0.5)), min(width, 2 * height)
  top, left = (height - rows) // 2, (width - columns) // 2
  middle = image[top : top + rows, left : left + columns]
  np.testing.assert_array_equal(done, Preparation((8, 16), "stretch", "rgb").of_array(middle))


@pytest.mark.parametrize("size, inner", [
    ((40, 40), (8, 8)), ((40, 20), (8, 4)), ((10, 40), (4, 16)), ((1, 50), (1, 16)),
    ((300, 2), (8, 1)),
])
def test_a_pad_holds_the_whole_image_and_continues_its_edge(size, inner):
  image = pixels((*size, 3))
  done = Preparation((8, 16), "pad", "rgb").of_array(image)
  small = Preparation(inner, "stretch", "rgb").of_array(image)
  above, before = (8 - inner[0]) // 2, (16 - inner[1]) // 2
  around = ((above, 8 - inner[0] - above), (before, 16 - inner[1] - before), (0, 0))
  np.testing.assert_array_equal(done, np.pad(small, around, mode="edge"))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("color, channels", [("grey", 3), ("rgb", 3), ("rgb", 1), ("grey", 1)])
def test_a_graph_does_the_same_to_the_bit(fit, color, channels):
  """A graph of unknown sizes, as a SavedModel has, against operations one by one."""
  done = Preparation((16, 24), fit, color)
  graph = tf.function(done, input_signature=[tf.TensorSpec([None, None, channels], tf.uint8)])
  for seed, size in enumerate([*SIZES, (16, 24)]):
    image = pixels((*size, channels), seed)
    expected = done(tf.constant(image)).numpy()
    np.testing.assert_array_equal(graph(image).numpy(), expected)
    np.testing.assert_array_equal(done.of_array(image), expected)


def test_what_has_the_size_already_stays_as_it_is():
  image = pixels((16, 24, 3))
  for fit in ("crop", "pad", "stretch"):
    done = Preparation((16, 24), fit, "rgb")
    np.testing.assert_array_equal(done(tf.constant(image)).numpy(), image)


def test_floats_are_not_rounded():
  image = np.random.default_rng(0).uniform(size=(40, 30, 3)).astype(np.float32)
  done = Preparation((16, 16), "stretch", "grey").of_array(image)
  grey = image @ np.array([0.299, 0.587, 0.114])
  expected = np.einsum("ih,hw,jw->ij", triangle(40, 16), grey, triangle(30, 16))
  assert done.dtype == np.float32
  np.testing.assert_allclose(done[..., 0], expected, atol=1e-5)


def test_two_channels_cannot_be_resized():
  with pytest.raises(InputError) as error:
    Preparation((4, 4)).of_array(pixels((8, 8, 2)))
  assert_mendable(error, "1 or 3 channels", "2")


def test_a_record_makes_it_again():
  done = Preparation((16, 24), "pad", "grey")
  assert done.record() == {"size": [16, 24], "fit": "pad", "color": "grey"}
  assert Preparation.of_record(done.record()) == done
