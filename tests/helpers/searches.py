"""A search of digits, described as imae-tune does it."""

import dataclasses

from imae_tf import recipes
from imae_tf.search import driver
from imae_tf.search import hypermodel
from imae_tf.training import runs


def describe(tuner="random", names=(), seed=0, epochs=60, executions_per_trial=1, method="imae"):
  recipe = dataclasses.replace(recipes.get("tuned", "digits", method), restarts=1, epochs=epochs)
  run = runs.Run(
      dataset="digits", method=method, recipe_name="tuned", recipe=recipe, num_categories=10,
      latent_dim=10, holdout=0, seed=seed, deterministic=True,
  )
  return driver.Search(run, hypermodel.space(names, method), tuner, executions_per_trial)
