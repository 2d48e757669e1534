"""Which figure that needs no label ranks runs as their accuracy does?

    python results/study.py run digits --workdir=runs/study      # resumable; --shard=0/2
    python results/study.py summarise digits --workdir=runs/study
    python results/study.py figure                               # docs/observables.png

`run` trains two groups of runs and writes a file for each: "settings", weights drawn at
random, two seeds each; and "recipe", the tuned recipe with many seeds, as restarts see it.
(The committed runs of digits' drawn settings were trained before the figures of neighbours
existed: these were computed from their categories, at the end of the run alone.)
`summarise` correlates (Spearman) each candidate with the accuracy at the end and writes
results/study_DATASET.json, which `figure` draws. Labels are used for these correlations
alone; images and accuracies are of the training split (`digits`) or of 10,000 training
images held out.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib

import collect
import numpy as np
import scipy.stats

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is trained, and on which images it is looked at."""

  holdout: int
  split: str
  snapshots: tuple[int, ...]  # epochs; the last ends the run
  settings: int
  recipe_seeds: int
  space: dict[str, tuple[float, float]]  # drawn log-uniformly
  recipe: dict  # settings of the tuned recipe at the time that have changed since


PLANS = {
    "digits": Plan(
        holdout=0,
        split="train",
        snapshots=(25, 60),
        settings=24,
        recipe_seeds=20,
        space={
            "beta": (0.5, 20.0),
            "gamma": (0.5, 20.0),
            "lam": (1.0, 30.0),
            "beta_y": (10.0, 300.0),
            "entropy_weight": (1.0, 8.0),
            "neighbor_fraction": (0.15, 0.7),
        },
        recipe={
            "beta": 5.0, "gamma": 5.0, "lam": 5.0, "beta_y": 100.0, "entropy_weight": 4.0,
            "neighbor_fraction": 0.35,
        },
    ),
    "mnist": Plan(
        holdout=10_000,
        split="holdout",
        snapshots=(4, 8),
        settings=8,
        recipe_seeds=4,
        space={
            "beta": (1.0, 20.0),
            "gamma": (1.0, 20.0),
            "lam": (2.0, 50.0),
            "beta_y": (30.0, 300.0),
            "entropy_weight": (1.0, 8.0),
            "neighbor_fraction": (0.1, 0.4),
        },
        recipe={"encoder_units": (1200, 1200)},
    ),
}
# name: sign with which a good run should be high
CANDIDATES = {
    "logged mi_y": 1,
    "logged vat_loss": -1,
    "logged mi_y - vat_loss": 1,
    "logged loss": -1,
    "logged reconstruction_loss": -1,
    "logged mi_z": 1,
    "logged total_correlation": -1,
    "mi_y": 1,
    "conditional_entropy_y": -1,
    "vat_loss 0.2": -1,
    "vat_loss 0.4": -1,
    "mi_y - vat_loss 0.2": 1,
    "mi_y - vat_loss 0.4": 1,
    "stable_mi_y 0.2": 1,
    "stable_mi_y 0.4": 1,
    "shifted_mi_y": 1,
    "neighbor_mi_y 1": 1,
    "neighbor_mi_y": 1,
    "neighbor_mi_y 50": 1,
    "probable neighbor_mi_y": 1,
    "agreement with the other seed": 1,
    "agreement with all runs": 1,
}
CHOSEN = "neighbor_mi_y"
FRACTIONS = (0.2, 0.4)  # of the distance to the nearest image: radius of the perturbation
NEIGHBORS = 10  # among the images of the split; docs/searching.md says what the package does now
_BATCH = 500


# ---- run ----------------------------------------------------------------------------------


def tasks(plan):
  """[(name, group, weights, seed)] in the order in which they run."""
  rng = np.random.default_rng(0)
  listed = []
  for i in range(plan.settings):
    weights = {
        name: float(np.exp(rng.uniform(np.log(low), np.log(high))))
        for name, (low, high) in plan.space.items()
    }
    listed += [(f"settings-{i:02d}-{s}", "settings", weights, 100 + 2 * i + s) for s in (0, 1)]
  listed += [(f"recipe-{s:02d}", "recipe", {}, 200 + s) for s in range(plan.recipe_seeds)]
  return listed


def run(dataset, folder, shard):
  import tensorflow as tf

  from imae_tf.data import loading
  from imae_tf.metrics import label_free

  tf.config.experimental.enable_op_determinism()
  plan = PLANS[dataset]
  data = loading.load(dataset, holdout=plan.holdout)
  x, labels = data.arrays(plan.split)
  neighbors = label_free.nearest_images(x, count=50)
  folder.mkdir(parents=True, exist_ok=True)
  first, step = shard
  for name, group, weights, seed in tasks(plan)[first::step]:
    path = folder / f"{name}.json"
    if not path.exists():
      row = train(dataset, plan, data, weights, seed, x, labels, neighbors)
      path.write_text(json.dumps({"group": group, "weights": weights, "seed": seed, **row}))
      print(name, {k: round(v, 3) for k, v in row["snapshots"][-1].items()}, flush=True)


def train(dataset, plan, data, weights, seed, x, labels, neighbors):
  import keras

  from imae_tf import recipes
  from imae_tf.metrics import clustering

  recipe = dataclasses.replace(
      recipes.TUNED[dataset], precision="float32", restarts=1, **{**plan.recipe, **weights}
  )
  steps = data.steps_per_epoch(recipe.batch_size)
  keras.backend.clear_session()
  keras.utils.set_random_seed(seed)
  model = recipes.build(
      recipe, data.image_shape, num_categories=10, latent_dim=10, seed=seed,
      steps_per_epoch=steps,
  )
  snapshots, done = [], 0
  for epoch in plan.snapshots:
    history = model.fit(
        data.train_batches(recipe.batch_size, seed=seed, initial_epoch=done),
        steps_per_epoch=steps, initial_epoch=done, epochs=epoch, shuffle=False, verbose=0,
    )
    done = epoch
    y = model.encode(x)["y"]
    snapshots.append({
        "epoch": epoch,
        "accuracy": clustering.clustering_accuracy(labels, y.argmax(1)),
        **{f"logged {k}": v[-1] for k, v in history.history.items()},
        **looked_at(model, x, y.astype(np.float64), neighbors),
    })
  return {"snapshots": snapshots, "categories": y.argmax(1).tolist()}


def looked_at(model, x, y, neighbors):
  """The candidates that need the model or its probabilities y [N, K2]."""
  from imae_tf.metrics import label_free

  categories = y.argmax(1)
  marginal, conditional = entropy(y.mean(0)), np.mean([entropy(row) for row in y])
  figures = {
      "mi_y": marginal - conditional,
      "conditional_entropy_y": conditional,
      "neighbor_mi_y 1": label_free.neighbor_information(categories, neighbors[:, :1]),
      "neighbor_mi_y": label_free.neighbor_information(categories, neighbors[:, :NEIGHBORS]),
      "neighbor_mi_y 50": label_free.neighbor_information(categories, neighbors[:, :50]),
      "probable neighbor_mi_y": shared(y, y[neighbors[:, :NEIGHBORS]].mean(1)),
  }
  for fraction in FRACTIONS:
    log_y, log_perturbed = perturbed(model, x, fraction)
    figures[f"vat_loss {fraction}"] = -np.mean(np.sum(np.exp(log_y) * log_perturbed, axis=1))
    figures[f"stable_mi_y {fraction}"] = shared(np.exp(log_y), np.exp(log_perturbed))
  shifts = [np.roll(x, step, axis) for axis in (1, 2) for step in (-1, 1)]
  figures["shifted_mi_y"] = np.mean([shared(y, model.encode(s)["y"]) for s in shifts])
  return {name: float(value) for name, value in figures.items()}


def shared(y, other):
  """I(y;y') of two categories drawn from probabilities [N, K2] of the same N images."""
  joint = y.T @ other.astype(np.float64) / len(y)
  return entropy(joint.sum(1)) + entropy(joint.sum(0)) - entropy(joint)


def entropy(p):
  return -np.sum(p * np.log(np.maximum(p, 1e-300)))


def perturbed(model, x, fraction):
  """log p(y|x) and log p(y|x+r), r that of vat.py in inference: two float64 [N, K2]."""
  import tensorflow as tf

  from imae_tf import vat

  noise = np.random.default_rng(0).standard_normal(x.shape).astype("float32")
  images = tf.constant(x)

  def log_p_y(part):
    return tf.nn.log_softmax(model.posterior(part).y.logits)

  def both(first):
    part = images[first : first + _BATCH]
    log_y = log_p_y(part)
    radius = vat.neighbor_radius(part, fraction, others=images, first_row=first)
    direction = vat.direction(log_p_y, part, log_y, noise[first : first + _BATCH], model.vat_xi)
    return log_y, log_p_y(part + radius[:, None, None, None] * direction)

  parts = [both(first) for first in range(0, len(x), _BATCH)]
  return [np.concatenate(rows).astype(np.float64) for rows in zip(*parts)]


# ---- summarise ----------------------------------------------------------------------------


def summarise(dataset, folder):
  from imae_tf.training import runs

  plan = PLANS[dataset]
  expected = {name for name, *_ in tasks(plan)}
  rows = {p.stem: json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))}
  if rows.keys() != expected:
    raise SystemExit(f"expected {len(expected)} runs in {folder}, got {len(rows)}; run them first.")
  add_agreements(rows)
  for row in rows.values():
    for snapshot in row["snapshots"]:
      add_differences(snapshot)
  result = {
      "command": f"python results/study.py run {dataset} --workdir=W && python"
      f" results/study.py summarise {dataset} --workdir=W",
      "versions": runs.versions(),
      "plan": dataclasses.asdict(plan),
      "spearman": {
          group: {str(i): correlations(rows, group, k) for k, i in enumerate(plan.snapshots)}
          for group in ("settings", "recipe", "all")
      },
  }
  runs_made = [
      {"name": name, **{k: v for k, v in row.items() if k != "categories"}}
      for name, row in rows.items()
  ]
  text = collect.text_of(collect.rounded(result, 4), "runs", collect.rounded(runs_made, 4))
  (HERE / f"study_{dataset}.json").write_text(text)
  print(json.dumps(collect.rounded(result["spearman"], 4), indent=1))


def add_agreements(rows):
  """Mean normalised mutual information of a run's final categories with those of others."""
  from imae_tf.metrics import clustering

  names = sorted(rows)
  of = {
      frozenset(pair): clustering.nmi(*(np.array(rows[n]["categories"]) for n in pair))
      for pair in itertools.combinations(names, 2)
  }
  for name in names:
    group = [n for n in names if rows[n]["group"] == rows[name]["group"] and n != name]
    last = rows[name]["snapshots"][-1]
    last["agreement with all runs"] = float(np.mean([of[frozenset((name, n))] for n in group]))
    if rows[name]["group"] == "settings":
      other = name[:-1] + str(1 - int(name[-1]))
      last["agreement with the other seed"] = of[frozenset((name, other))]


def add_differences(snapshot):
  snapshot["logged mi_y - vat_loss"] = snapshot["logged mi_y"] - snapshot["logged vat_loss"]
  for fraction in FRACTIONS:
    snapshot[f"mi_y - vat_loss {fraction}"] = (
        snapshot["mi_y"] - snapshot[f"vat_loss {fraction}"]
    )


def correlations(rows, group, k):
  """Spearman's rank correlation with the accuracy at the end, of the figures of snapshot k."""
  chosen = [row["snapshots"] for row in rows.values() if group in (row["group"], "all")]
  accuracy = [s[-1]["accuracy"] for s in chosen]
  found = {}
  for name, sign in CANDIDATES.items():
    if all(name in s[k] for s in chosen):
      values = [sign * s[k][name] for s in chosen]
      found[name] = float(scipy.stats.spearmanr(values, accuracy).statistic)
  return dict(sorted(found.items(), key=lambda item: -item[1]))


# ---- figure -------------------------------------------------------------------------------

TITLES = {
    ("digits", "settings"): "digits, 24 drawn settings, 2 seeds each",
    ("digits", "recipe"): "digits, 20 seeds of the recipe",
    ("mnist", "all"): "MNIST, 20 runs of 8 epochs",
}


def figure():
  """Bars of the correlations at the end, and the best candidate against the accuracy."""
  from matplotlib import figure as figures

  shown = [key for key in TITLES if (HERE / f"study_{key[0]}.json").exists()]
  page = figures.Figure(figsize=(5.2 * len(shown), 8.4), layout="constrained")
  axes = page.subplots(2, len(shown), squeeze=False, height_ratios=(1.6, 1))
  for column, (dataset, group) in enumerate(shown):
    result = json.loads((HERE / f"study_{dataset}.json").read_text())
    last = str(result["plan"]["snapshots"][-1])
    draw_bars(axes[0, column], result["spearman"][group][last], TITLES[dataset, group])
    runs = [row["snapshots"][-1] for row in result["runs"] if group in (row["group"], "all")]
    draw_points(axes[1, column], runs)
  page.savefig(HERE.parent / "docs" / "observables.png", dpi=110)


def draw_bars(axes, correlations, title):
  names = list(correlations)[::-1]
  colours = ["C0" if name == CHOSEN else "0.7" for name in names]
  axes.barh(names, [correlations[name] for name in names], color=colours)
  axes.axvline(0.0, color="0.3", linewidth=0.8)
  axes.set(xlim=(-0.8, 1.0), xlabel="Spearman correlation with accuracy", title=title)
  axes.spines[["top", "right"]].set_visible(False)


def draw_points(axes, runs):
  axes.scatter([run[CHOSEN] for run in runs], [run["accuracy"] for run in runs], s=18)
  axes.set(xlabel=f"{CHOSEN}, nats", ylabel="accuracy")
  axes.spines[["top", "right"]].set_visible(False)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("action", choices=("run", "summarise", "figure"))
  parser.add_argument("dataset", choices=PLANS, nargs="?")
  parser.add_argument("--workdir", type=pathlib.Path)
  parser.add_argument("--shard", default="0/1", help="FIRST/STEP, to share the runs out")
  arguments = parser.parse_args()
  if arguments.action == "figure":
    figure()
    return
  if not arguments.dataset or not arguments.workdir:
    parser.error(f"{arguments.action} needs a data set and --workdir")
  folder = arguments.workdir / arguments.dataset
  if arguments.action == "summarise":
    summarise(arguments.dataset, folder)
  else:
    run(arguments.dataset, folder, tuple(map(int, arguments.shard.split("/"))))


if __name__ == "__main__":
  main()
