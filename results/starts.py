"""Which label-free figure tells the good starts of runs with restarts?

    python results/starts.py fashion_mnist RUN...     # writes results/starts_fashion_mnist.json

Each RUN is a workdir of imae-train whose restarts are still there. Labels of training images
score the starts; they choose nothing here.
"""

import json
import pathlib
import statistics
import sys

import collect
import keras
import scipy.stats

from imae_tf.data import loading
from imae_tf.metrics import clustering
from imae_tf.metrics import label_free
from imae_tf.training import run_folder

FIGURES = ("neighbors", "agreement")


def starts_of(run):
  """{"seed", "accuracy": [...], "neighbors": [...], "agreement": [...]} of a run's starts."""
  config = run_folder.read_config(run)
  data = loading.load(config["dataset"])
  x, labels = data.arrays("train", limit=10_000)
  near, neighbors = label_free.neighborhood(data, "train", config["seed"])
  found, shared = [], []
  for folder in sorted((run / "restarts").glob("start-*")):
    keras.backend.clear_session()
    model = run_folder.load_keras(run_folder.newest_checkpoint(folder).path)
    found.append(model.encode(x)["y"].argmax(axis=1))
    categories = model.encode(near)["y"].argmax(axis=1)
    shared.append(label_free.neighbor_information(categories, neighbors))
  return {
      "seed": config["seed"],
      "accuracy": [clustering.clustering_accuracy(labels, categories) for categories in found],
      "neighbors": shared,
      "agreement": label_free.agreement(found),
  }


def summary(runs):
  """Rank correlations with the accuracy, and the accuracy of what each figure picks."""
  correlation = lambda xs, ys: float(scipy.stats.spearmanr(xs, ys).statistic)
  joined = {name: [v for run in runs for v in run[name]] for name in ("accuracy", *FIGURES)}
  return {
      "starts": len(joined["accuracy"]),
      "mean accuracy": statistics.fmean(joined["accuracy"]),
      **{
          figure: {
              "spearman": correlation(joined["accuracy"], joined[figure]),
              "spearman within a run": statistics.fmean(
                  correlation(run["accuracy"], run[figure]) for run in runs
              ),
              "mean accuracy of the picked": statistics.fmean(
                  run["accuracy"][run[figure].index(max(run[figure]))] for run in runs
              ),
          }
          for figure in FIGURES
      },
  }


def main():
  name, *folders = sys.argv[1:]
  runs = [starts_of(pathlib.Path(folder)) for folder in folders]
  config = run_folder.read_config(folders[0])
  head = {
      "command": f"python results/starts.py {name} RUN...",
      "versions": config["versions"], "settings": config["settings"],
      **collect.rounded(summary(runs), 4),
  }
  path = pathlib.Path(__file__).with_name(f"starts_{name}.json")
  path.write_text(collect.text_of(head, "runs", collect.rounded(runs, 5)))
  print(json.dumps(head, indent=1))


if __name__ == "__main__":
  main()
