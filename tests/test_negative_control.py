"""Where there is nothing to find, nothing is found."""

import keras
import numpy as np
import pytest

from imae_tf import recipes
from imae_tf.metrics import clustering


@pytest.mark.parametrize("method", ["imae", "betavae"])  # all: results/comparison.json
def test_noise_has_no_classes(method):
  """Test labels that images say nothing of: accuracy and NMI as of any other shuffle of them.

  The categories themselves may be even and sure, and I(x;y) high: noise can be parted too.
  """
  rng = np.random.default_rng(7)
  x = rng.random((1000, 8, 8, 1), dtype="float32")
  x_test, labels = rng.random((400, 8, 8, 1), dtype="float32"), rng.integers(10, size=400)
  keras.utils.set_random_seed(0)
  recipe = recipes.get("tuned", "digits", method)
  model = recipes.build(
      recipe, x.shape[1:], num_categories=10, latent_dim=4, seed=0, steps_per_epoch=7,
      method=method,
  )
  model.fit(x, batch_size=128, epochs=5, verbose=0)
  categories = model.encode(x_test)["y"].argmax(axis=1)
  for score in (clustering.clustering_accuracy, clustering.nmi):
    shuffled = [score(rng.permutation(labels), categories) for _ in range(200)]
    assert score(labels, categories) <= max(shuffled)
