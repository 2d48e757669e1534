"""What tests of servers wait for: a condition, and the error of a future."""

import time

import pytest

from imae_tf.export.server.batching import ServingError

_TIMEOUT = 120  # seconds; a machine may be busy


def until(condition):
  """Returns once the condition holds."""
  deadline = time.monotonic() + _TIMEOUT
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.002)


def failure(function, *args, **kwargs):
  """The ServingError of a request, raised by the function or from its future."""
  with pytest.raises(ServingError) as caught:
    function(*args, **kwargs).result(_TIMEOUT)
  return caught.value
