"""imae-evaluate: metrics.json, report.html and figures of a trained run.

Example: imae-evaluate --workdir=runs/digits
"""

import pathlib

import numpy as np
from absl import flags

from imae_tf import program

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of imae-train.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "test, train, or holdout (of a run with --holdout).")

# The pairwise figures cost n^2.
_MOST_IMAGES = 10_000


def main():
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf import data as data_lib
  from imae_tf import metrics as metrics_lib
  from imae_tf import report
  from imae_tf import workdir as workdirs

  workdir = pathlib.Path(_WORKDIR.value).expanduser()
  model, config = workdirs.load_model(workdir)
  history = workdirs.read_history(workdir)  # before the work: it may be damaged
  data = data_lib.load(config["dataset"], holdout=config["holdout"])
  x, labels = data.arrays(_SPLIT.value, limit=_MOST_IMAGES)
  total = data.size(_SPLIT.value)
  print(f"Evaluating {len(x)} of {total} {_SPLIT.value} images of {config['dataset']}.")
  metrics = {
      **{key: config[key] for key in ("method", "dataset", "seed", "recipe")},
      "split": _SPLIT.value,
      "epochs": config["epochs"],
      **metrics_lib.evaluate(model, x, labels, seed=config["seed"]),
      "baselines": _baselines(metrics_lib, data, x, labels, config),
  }
  workdirs.write_json(workdir / "metrics.json", metrics)
  report.write(
      workdir / "report.html",
      model=model,
      history=history,
      metrics=metrics,
      x=x,
      labels=labels,
      class_names=data.class_names,
  )
  print(workdirs.summary(metrics, workdir))


def _baselines(metrics_lib, data, x, labels, config):
  if labels is None:
    return None
  seed = config["seed"]
  train = _training_images(data, seed, metrics_lib.MAX_BASELINE_IMAGES)
  return metrics_lib.baselines(train, x, labels, config["num_categories"], seed=seed)


def _training_images(data, seed, most):
  """All training images, or `most` of them drawn by the seed."""
  if data.size("train") <= most:
    return data.arrays("train")[0]
  batches = data.train_batches(most // 10, seed=seed).take(10)
  return np.concatenate(list(batches.as_numpy_iterator()))


def cli():
  program.run(main)


if __name__ == "__main__":
  cli()
