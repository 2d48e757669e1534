"""imae-evaluate: metrics.json, report.html and figures of a trained run.

Example: imae-evaluate --workdir=runs/digits
"""

import pathlib

from absl import flags

from imae_tf import program

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of imae-train.", required=True)
_SPLIT = flags.DEFINE_string("split", "test", "test, train, or holdout (of a run with --holdout).")

# Figures over more images say little more, and pairwise ones cost n^2.
_MOST_IMAGES = 10_000


def main():
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf import data as data_lib
  from imae_tf import metrics as metrics_lib
  from imae_tf import report
  from imae_tf import workdir as workdirs

  workdir = pathlib.Path(_WORKDIR.value)
  model, config = workdirs.load_model(workdir)
  history = workdirs.read_history(workdir)  # before the work: it may be damaged
  data = data_lib.load(config["dataset"], holdout=config["holdout"])
  x, labels = data.arrays(_SPLIT.value, limit=_MOST_IMAGES)
  print(f"Evaluating {len(x)} {_SPLIT.value} images of {config['dataset']}.")
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
  train, _ = data.arrays("train", limit=_MOST_IMAGES)
  return metrics_lib.baselines(train, x, labels, config["num_categories"], seed=config["seed"])


def cli():
  program.run(main)


if __name__ == "__main__":
  cli()
