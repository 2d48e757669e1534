"""The fused Adam against Keras's own, and through save and load."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from imae_tf import optimizers


def _apply(optimizer, variables):
  return lambda *gradients: optimizer.apply(list(gradients), variables)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_updates_are_those_of_keras(rng, jit_compile):
  """20 steps, with a schedule, weight decay, clipping, and amsgrad, which stays Keras's."""
  starts = [rng.normal(size=shape).astype("float32") for shape in ((7, 5), (5,))]
  gradients = [[rng.normal(size=s.shape).astype("float32") for s in starts] for _ in range(20)]
  for arguments in ({}, {"weight_decay": 0.1, "global_clipnorm": 1.0}, {"amsgrad": True}):
    ends = []
    for optimizer_class in (keras.optimizers.Adam, optimizers.Adam):
      rate = keras.optimizers.schedules.ExponentialDecay(1e-2, 5, 0.5)
      optimizer = optimizer_class(rate, **arguments)
      variables = [keras.Variable(start) for start in starts]
      optimizer.build(variables)
      apply = tf.function(_apply(optimizer, variables), jit_compile=jit_compile)
      for step in gradients:
        apply(*map(tf.constant, step))
      ends.append([v.numpy() for v in (*variables, *optimizer.variables)])
    for ours, theirs in zip(*ends, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=1e-5)


def test_it_saves_and_loads(tiny_model, digits, tmp_path):
  model = tiny_model()
  model.compile(optimizer=optimizers.Adam(1e-3))
  model.fit(digits[0][:64], batch_size=32, verbose=0)
  model.save(tmp_path / "m.keras")
  loaded = keras.models.load_model(tmp_path / "m.keras")
  assert type(loaded.optimizer) is optimizers.Adam
  for one, other in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
    np.testing.assert_array_equal(one, other)
