"""What the tests of runs share."""

import pytest

from imae_tf.training import tensorboard


@pytest.fixture(scope="module")
def no_pictures():
  """TensorBoard's pictures take longer than a training this small; test_tensorboard.py has them."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tensorboard.Board, "_pictures", lambda board, x: {})
    yield
