"""imae-evaluate: metrics.json, report.html and figures of a trained run.

Example: imae-evaluate --workdir=runs/digits
"""

import pathlib

from absl import flags

from imae_tf import program

FLAGS = flags.FLAGS

_MOST_IMAGES = 10_000


def _define_flags():
  flags.DEFINE_string("workdir", None, "Folder of a run of imae-train.", required=True)
  flags.DEFINE_string("split", "test", "test, train, or holdout (of a run with --holdout).")


_define_flags()


def main():
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf import data as data_lib
  from imae_tf import metrics as metrics_lib
  from imae_tf import report
  from imae_tf import workdir as workdirs

  workdir = pathlib.Path(FLAGS.workdir)
  model, config = workdirs.load_model(workdir)
  data = data_lib.load(config["dataset"], holdout=config["holdout"])
  x, labels = data.arrays(FLAGS.split, limit=_MOST_IMAGES)
  print(f"Evaluating {len(x)} {FLAGS.split} images of {config['dataset']}.")
  metrics = {
      **{key: config[key] for key in ("method", "dataset", "seed", "recipe")},
      "split": FLAGS.split,
      "epochs": config["epochs"],
      **metrics_lib.evaluate(model, x, labels, seed=config["seed"]),
      "baselines": _baselines(metrics_lib, data, x, labels, config),
  }
  workdirs.write_json(workdir / "metrics.json", metrics)
  report.write(
      workdir / "report.html",
      model=model,
      history=workdirs.read_history(workdir),
      metrics=metrics,
      config=config,
      x=x,
      labels=labels,
      class_names=data.class_names,
  )
  print(summary(metrics, workdir))


def summary(metrics, workdir):
  """The few lines a person wants to read."""
  lines = []
  if metrics["accuracy"] is not None:
    baselines = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}" for name, value in metrics["baselines"].items()
    )
    lines.append(f"accuracy        {metrics['accuracy']:.3f} without labels ({baselines})")
  lines += [
      f"I(x;y)          {metrics['mi_y']:.3f} nats",
      f"reconstruction  {metrics['reconstruction']:.1f} nats per image"
      f" (floor {metrics['reconstruction_floor']:.1f})",
      f"report          {pathlib.Path(workdir) / 'report.html'}",
  ]
  return "\n".join(lines)


def _baselines(metrics_lib, data, x, labels, config):
  if labels is None:
    return None
  train, _ = data.arrays("train", limit=_MOST_IMAGES)
  return metrics_lib.baselines(train, x, labels, config["num_categories"], seed=config["seed"])


def cli():
  program.run(main)


if __name__ == "__main__":
  cli()
