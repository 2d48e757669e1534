"""PNG and JPEG files as images, in TensorFlow's own operations: what `encode_image_bytes` does.

A folder of images is read with Pillow, and a served model is to see the same. Transparency is laid
on white, and 16 bits become 8, in Pillow's own integers. JPEGs are decoded with the accurate
transform, which is Pillow's too; TensorFlow's usual one is up to 10 levels of 255 off.
"""

import tensorflow as tf
from tensorflow import Tensor

from imae_tf.data.preparation import MOST_PIXELS
from imae_tf.data.preparation import Preparation
from imae_tf.export import graph_checks
from imae_tf.export import orientation

# The first bytes of the files. A PNG must have its first chunk at once, because libpng would accept
# other chunks before it.
_DEPTH_AT = 24  # where a PNG tells its bits per channel
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff"


def images(
    image_bytes: Tensor, image_shape: tuple[int, int, int], prepared: Preparation | None = None
) -> Tensor:
  """PNG or JPEG strings [N] as images [N, H, W, C] in [0, 1].

  Args:
    image_bytes: What is fed.
    image_shape: (H, W, C), C being 1, 3 or 4.
    prepared: What is done to images of any size; None if they must be of (H, W).
  """
  image_bytes = graph_checks.shaped(image_bytes, (), "image_bytes", "send one string per image")
  height, width, channels = image_shape
  size = (height, width) if prepared is None else None
  if prepared is None:
    prepared = Preparation((height, width), "stretch", "grey" if channels == 1 else "rgb")

  def decode(content: Tensor) -> Tensor:
    content, is_png, turn = _checked_file(content, size)
    image = tf.cond(is_png, lambda: _of_png(content), lambda: _of_jpeg(content))
    if channels == 4:
      image = orientation.upright(image, turn)
    else:
      image = prepared(orientation.upright(_on_white(image), turn))
    image.set_shape(image_shape)  # tf.ensure_shape would let Grappler drop the sentence
    # A plain division Grappler turns into a product with 1 / 255, which rounds some otherwise.
    return tf.math.divide_no_nan(tf.cast(image, tf.float32), 255.0)

  spec = tf.TensorSpec(image_shape, tf.float32)
  return tf.map_fn(decode, image_bytes, fn_output_signature=spec)


def _of_png(content: Tensor) -> Tensor:
  """Bytes [H, W, 4]."""
  image = tf.io.decode_png(content, channels=4)
  # Of 1, 2 or 4 bits without transparency TensorFlow makes the opacity 1, 3 or 15, not 255.
  depth = tf.cast(tf.io.decode_raw(tf.strings.substr(content, _DEPTH_AT, 1), tf.uint8)[0], tf.int32)
  wrong = tf.cast(tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1, tf.uint8)
  is_opaque = (depth < 8) & tf.reduce_all(tf.equal(image[..., 3], wrong))
  opacity = tf.where(is_opaque, tf.constant(255, tf.uint8), image[..., 3:])
  return tf.concat([image[..., :3], opacity], axis=-1)


def _of_jpeg(content: Tensor) -> Tensor:
  """The same, opaque."""
  image = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
  return tf.pad(image, [[0, 0], [0, 0], [0, 1]], constant_values=255)


def _on_white(image: Tensor) -> Tensor:
  """Colours [H, W, 3] of bytes [H, W, 4], as Pillow's `alpha_composite` rounds them."""
  colours, opacity = image[..., :3], image[..., 3:]

  def laid() -> Tensor:
    alpha = tf.cast(opacity, tf.int32)
    value = (tf.cast(colours, tf.int32) * alpha + 255 * (255 - alpha)) * 128 + 2**14
    return tf.cast((value // 256 + value) // 256 // 128, tf.uint8)

  is_opaque = tf.reduce_all(tf.equal(opacity, 255))
  return tf.cond(is_opaque, lambda: colours, laid)


def _checked_file(
    content: Tensor, size: tuple[int, int] | None
) -> tuple[Tensor, Tensor, Tensor]:
  """The content, whether it is a PNG and its orientation, once it tells of a file of the size.

  Without a size, of one that is not too large.

  The check comes before decoding, because a few kilobytes can claim, and decode to, gigabytes.
  """
  header = tf.strings.substr(content, 0, 24)
  is_png = tf.equal(tf.strings.substr(header, 0, len(_PNG)), _PNG) & (
      tf.strings.length(content) > _DEPTH_AT
  )
  is_jpeg = tf.equal(tf.strings.substr(header, 0, len(_JPEG)), _JPEG)
  message = (
      "expected the bytes of a PNG or JPEG file, got others or a part; send the whole file, in"
      " base64 under JSON."
  )
  content = graph_checks.asserted(content, is_png | is_jpeg, message)

  def of_png() -> Tensor:
    width_and_height = tf.strings.substr(header, 16, 8)
    return tf.io.decode_raw(width_and_height, tf.int32, little_endian=False)[::-1]

  claimed = tf.cond(is_png, of_png, lambda: tf.io.extract_jpeg_shape(content)[:2])
  turn = tf.cond(
      is_png, lambda: orientation.of_png(content), lambda: orientation.of_jpeg(content)
  )
  claimed = tf.where(turn >= 5, claimed[::-1], claimed)
  if size is None:
    claimed = tf.cast(claimed, tf.int64)
    is_right = tf.reduce_all(claimed > 0) & (claimed[0] * claimed[1] <= MOST_PIXELS)
    expected = f"expected images of at most {MOST_PIXELS:,} pixels"
  else:
    is_right = tf.reduce_all(tf.equal(claimed, size))
    expected = f"expected images of {list(size)} (height, width) pixels"
  message = tf.strings.format(f"{expected}, got {{}}; resize them.", claimed)
  return graph_checks.asserted(content, is_right, message), is_png, turn
