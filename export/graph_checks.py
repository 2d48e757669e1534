"""Checks of what is fed to a served graph, made when it runs: a wrong request gets a sentence."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import Tensor


def shaped(tensor: Tensor, row_shape: Sequence[int], what: str, mend: str) -> Tensor:
  """A fed tensor, once its shape is `[N, *row_shape]`.

  Args:
    tensor: What is fed.
    row_shape: Of one row.
    what: What it is, for the message.
    mend: What to do, for the message.
  """
  # TensorFlow believes the shape of a signature without a check, and removes a check as constant.
  # A placeholder with the tensor as its default has no known shape, so its check stays.
  tensor = tf.compat.v1.placeholder_with_default(tensor, shape=None)
  shape = tf.shape(tensor)
  same_rank = tf.equal(tf.size(shape), 1 + len(row_shape))
  same_sizes = tf.raw_ops.Equal(  # for another rank the result is False, not an error
      x=shape[1:],
      y=tf.constant(row_shape, tf.int32),
      incompatible_shape_error=False,
  )
  same = same_rank & tf.reduce_all(same_sizes)
  expected = ", ".join(["N", *map(str, row_shape)])
  message = tf.strings.format(
      f"expected {what} of shape [{expected}], got {{}}; {mend}.", shape
  )
  tensor = asserted(tensor, same, message)
  tensor.set_shape((None, *row_shape))
  return tensor


def asserted(tensor: Tensor, condition: Tensor, message: str | Tensor) -> Tensor:
  """A tensor, once a condition holds.

  Args:
    tensor: What is handed on.
    condition: A boolean.
    message: Of the error, INVALID_ARGUMENT.
  """
  with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
    return tf.identity(tensor)
