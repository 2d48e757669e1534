"""Which way up a camera held a picture: EXIF's tag of JPEG and PNG files, in TensorFlow's ops.

`tf.io.decode_jpeg` and `decode_png` pass the tag over; folders of images (`imae_tf.data`) apply
it, and a served model is to see the same images.
"""

from collections.abc import Callable

import tensorflow as tf

_MOST_PARTS = 64  # of a file before its pixels; more would cost a server time
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_JPEG_EXIF = b"Exif\0\0"
_HEADER = 12  # bytes looked at where a part of a file begins


def of_jpeg(content: tf.Tensor) -> tf.Tensor:
  """1 to 8, the tag of a JPEG string; 1 where it has none."""

  def look(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    part = tf.strings.substr(content, start, _HEADER)
    size = 2 + _number(tf.strings.substr(part, 2, 2))
    is_exif = tf.equal(tf.strings.substr(part, 1, 1), b"\xe1") & tf.equal(
        tf.strings.substr(part, 4, len(_JPEG_EXIF)), _JPEG_EXIF
    )
    is_marker = tf.equal(tf.strings.substr(part, 0, 1), b"\xff")
    is_last = tf.equal(tf.strings.substr(part, 1, 1), b"\xda") | ~is_marker
    return is_exif & is_marker, is_last, size

  return _orientation(content, _found(content, 2, look, 4 + len(_JPEG_EXIF)))


def of_png(content: tf.Tensor) -> tf.Tensor:
  """The same of a PNG string."""

  def look(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    part = tf.strings.substr(content, start, _HEADER)
    kind = tf.strings.substr(part, 4, 4)
    size = 12 + _number(tf.strings.substr(part, 0, 4))
    return tf.equal(kind, b"eXIf"), tf.equal(kind, b"IDAT") | tf.equal(kind, b"IEND"), size

  return _orientation(content, _found(content, 8, look, 8))


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
  """Pixels [H, W, C] as they were seen; H and W change places from orientation 5 on."""
  pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
  is_flipped = tf.stack([_is_in(orientation, 3, 4, 7, 8), _is_in(orientation, 2, 3, 6, 7)])
  return tf.reverse(pixels, tf.boolean_mask([0, 1], is_flipped))


def _is_in(value: tf.Tensor, *numbers: int) -> tf.Tensor:
  return tf.reduce_any(tf.equal(value, numbers))


def _number(content: tf.Tensor, is_little: bool | tf.Tensor = False) -> tf.Tensor:
  """The unsigned integer of a string of at most 4 bytes."""
  digits = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int64)
  digits = tf.where(is_little, digits, digits[::-1])
  return tf.reduce_sum(digits * 256 ** tf.range(tf.size(digits, tf.int64)))


def _found(
    content: tf.Tensor,
    first: int,
    look: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
    offset: int,
) -> tf.Tensor:
  """Where the TIFF block of the first part that holds one begins; 0 for nowhere."""
  end = tf.strings.length(content)

  def step(start: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    is_it, is_last, size = look(start)
    # Never beyond the end, where substr would raise.
    following = tf.cast(tf.minimum(tf.cast(start, tf.int64) + size, tf.cast(end, tf.int64)),
                        tf.int32)
    return tf.where(is_it | is_last, end, following), tf.where(is_it, start + offset, found)

  start, found = tf.constant(first), tf.constant(0)
  return tf.while_loop(
      lambda start, found: start + _HEADER <= end, step, (start, found),
      maximum_iterations=_MOST_PARTS,
  )[1]


def _orientation(content: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
  end = tf.strings.length(content)

  def read() -> tf.Tensor:
    block = tf.strings.substr(content, start, end - start)
    is_little = tf.equal(tf.strings.substr(block, 0, 2), b"II")
    number = lambda text: _number(text, is_little)
    size = tf.strings.length(block)
    place = tf.cast(number(tf.strings.substr(block, 4, 4)), tf.int64)
    place = tf.cast(tf.minimum(place, tf.cast(size, tf.int64)), tf.int32)
    count = tf.cast(number(tf.strings.substr(block, place, 2)), tf.int32)
    entries = tf.strings.substr(block, tf.minimum(place + 2, size), 12 * count)
    rows = tf.cast(tf.io.decode_raw(entries, tf.uint8), tf.int32)
    rows = tf.reshape(rows[: tf.size(rows) // 12 * 12], [-1, 12])
    weights = tf.where(is_little, [1, 256], [256, 1])
    tags = tf.reduce_sum(rows[:, 0:2] * weights, axis=1)
    kinds = tf.reduce_sum(rows[:, 2:4] * weights, axis=1)
    shorts = tf.reduce_sum(rows[:, 8:10] * weights, axis=1)
    longs = tf.where(is_little, shorts, tf.reduce_sum(rows[:, 10:12] * weights, axis=1))
    values = tf.where(tf.equal(kinds, _LONG), longs, shorts)
    is_tag = tf.equal(tags, _TAG) & (tf.equal(kinds, _SHORT) | tf.equal(kinds, _LONG))
    return tf.concat([tf.boolean_mask(values, is_tag), [1]], axis=0)[0]

  value = tf.cond((start > 0) & (start + 14 <= end), read, lambda: 1)
  return tf.where((value >= 1) & (value <= 8), value, 1)
