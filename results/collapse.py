"""Does any seed lose its categories? One start of the `digits` recipe for each of 20 seeds.

    python results/collapse.py          # writes results/digits_collapse.json

A collapse is H(y) on the test images far below ln 10 = 2.303 nats.
"""

import dataclasses
import json
import pathlib
import tempfile

from imae_tf import recipes
from imae_tf.data import loading
from imae_tf.metrics import measuring
from imae_tf.training import runs

SEEDS = range(20)
SHOWN = ("entropy_y", "mi_y", "accuracy", "reconstruction")


def train(seed):
  recipe = recipes.TUNED["digits"]
  run = runs.Run(
      dataset="digits",
      method="imae",
      recipe_name="tuned",
      # A single start: what the choice among starts begins with.
      recipe=dataclasses.replace(recipe, restarts=1, epochs=recipe.restart_epochs),
      num_categories=10,
      latent_dim=10,
      holdout=0,
      seed=seed,
      deterministic=True,
  )
  with tempfile.TemporaryDirectory() as folder:
    model = runs.train(run, pathlib.Path(folder) / "run")
  x, labels = loading.load("digits").arrays("test")
  figures = measuring.evaluate(model, x, labels, seed=seed)
  return {"seed": seed, **{name: round(figures[name], 4) for name in SHOWN}}


def main():
  rows = [train(seed) for seed in SEEDS]
  lowest = min(row["entropy_y"] for row in rows)
  result = {
      "command": "python results/collapse.py",
      "versions": runs.versions(),
      "epochs": recipes.TUNED["digits"].restart_epochs,
      "lowest_entropy_y": lowest,
      "runs": rows,
  }
  path = pathlib.Path(__file__).with_name("digits_collapse.json")
  path.write_text(json.dumps(result, indent=1) + "\n")
  print(f"lowest H(y) over {len(rows)} seeds: {lowest:.3f} nats")


if __name__ == "__main__":
  main()
