"""Collects finished runs into one small JSON file, and writes the README's tables from them.

    python results/collect.py digits runs/digits-*      # writes results/digits.json
    python results/collect.py --minutes=7 unseen_signs runs/signs-0
    python results/collect.py --search=runs/search    # writes results/search_DATASET[_METHOD].json
    python results/collect.py --comparison=runs/compare # adds to results/comparison.json
    python results/collect.py --readme       # the tables of README.md and docs/*.md

results/benchmark_NAME.json are the outputs of `python -m benchmarks.NAME`.
"""

import argparse
import functools
import json
import pathlib
import re
import statistics

import scipy.stats

HERE = pathlib.Path(__file__).parent
README = HERE.parent / "README.md"
COMPARE = HERE.parent / "docs" / "compare.md"
SERVING = HERE.parent / "docs" / "serving.md"
SPEED = HERE.parent / "docs" / "speed.md"
PAGES = (README, COMPARE, SERVING, SPEED)
# Title of each row; the order is the README's.
ROWS = {
    "digits": "`digits`, tuned",
    "mnist": "`mnist`, tuned",
    "fashion_mnist": "`fashion_mnist`, tuned",
    "mnist_paper": "`mnist`, `--recipe=paper --epochs=50`",
}
# Sets of images that no recipe was made for, by `--recipe=auto`.
UNSEEN = {
    "unseen_letters": "letters (notMNIST), 28x28 grey",
    "unseen_coil20": "COIL-20, 128x128 grey, 20 objects",
    "unseen_signs": "hand signs for 0 to 9, photos at 64x64",
    "unseen_cells": "blood cells of 934 sizes, at 64x64, 86% of one class",
    "unseen_cifar10": "CIFAR-10, 10,000 of its photos, 32x32",
    "unseen_colored": "digits in random colors, 28x28 RGB",
    "unseen_mnist": "MNIST, as if unknown (`--recipe=auto`)",
    "unseen_fashion_mnist": "Fashion-MNIST, as if unknown",
}
COMPARED = ("mnist", "fashion_mnist")  # rows of comparison.json; the others have files

DATASETS = ("mnist", "fashion_mnist", "shapes", "noise")  # of the comparison
OTHERS = ("digits_5_categories", "digits_20_categories")


def collect(folders, minutes=None):
  """{"command", "versions", "settings", "runs", "mean", "std"} of runs that differ in the seed."""
  from imae_tf.training import run_folder

  configs = [_read(folder / "config.json") for folder in folders]
  runs = [_read(folder / "metrics.json") for folder in folders]
  config = configs[0]
  for other in configs:
    if any(other[key] != config[key] for key in config if key not in ("seed", "versions")):
      raise SystemExit("expected runs that differ in the seed alone; collect them apart.")
  labels = f" --labels={runs[0]['labels']}" if "labels" in runs[0] else ""
  names = [name for name in runs[0] if isinstance(runs[0][name], float)]
  values = {name: [run[name] for run in runs] for name in names}
  return {
      **({} if minutes is None else {"minutes": minutes}),
      "command": f"{run_folder.command({**config, 'seed': 'SEED'})}"
      f" && imae-evaluate --workdir=WORKDIR{labels}",
      "versions": config["versions"],
      "settings": {"epochs": config["epochs"], **config["settings"]},
      "seeds": [c["seed"] for c in configs],
      "runs": runs,
      "mean": {name: statistics.fmean(v) for name, v in values.items()},
      "std": {name: statistics.stdev(v) for name, v in values.items() if len(v) > 1},
  }


def search(workdir):
  """The name of a finished search, and its trials, one to a line, with how accurate they were."""
  found = _read(workdir / "trials.json")
  described = _read(workdir / "search.json")
  method, versions = described["method"], described["versions"]
  left_out = ("executions", "folder", "epochs")
  trials = [
      {
          **{k: v for k, v in row.items() if k not in left_out},
          "scores": [figures[found["objective"]] for figures in row["executions"]],
      }
      for row in found.pop("trials")
  ]
  found["command"] = re.sub(r"--workdir=\S+", "--workdir=W", found["command"])
  accuracies = _accuracies(workdir, found, trials)
  for trial, accuracy in zip(trials, accuracies, strict=True):
    trial["accuracy"] = accuracy
  done = [t for t in trials if t["accuracy"]]
  found["spearman of score and mean accuracy"] = float(
      scipy.stats.spearmanr(
          [t["score"] for t in done], [statistics.fmean(t["accuracy"]) for t in done]
      ).statistic
  )
  name = "_".join(["search", found["dataset"], *([] if method == "imae" else [method])])
  return name, text_of({"versions": versions, **found}, "trials", rounded(trials, 5))


def _accuracies(workdir, found, trials):
  """Of each trial's runs on the training images, which the search itself does not know."""
  import keras

  from imae_tf.data import loading
  from imae_tf.metrics import clustering
  from imae_tf.training import run_folder

  x, labels = loading.load(found["dataset"]).arrays("train")
  accuracies = []
  for trial in trials:
    accuracies.append([])
    for i in range(len(found["seeds"]) if trial["status"] == "COMPLETED" else 0):
      keras.backend.clear_session()
      model = run_folder.load_keras(workdir / "trials" / trial["id"] / f"run-{i}" / "model.keras")
      categories = model.encode(x)["y"].argmax(axis=1)
      accuracies[-1].append(clustering.clustering_accuracy(labels, categories))
  return accuracies


def comparison(workdir, known=()):
  """comparison.json of a comparison, a line for each of its rows.

  Seeds of `known` rows that were trained elsewhere join those of the same settings; a known
  row of other settings is replaced.
  """
  from imae_tf.comparison import plan

  rows = {_key(row): row for row in known}
  for new in rounded(plan.rows(workdir), 5):
    old = rows.get(_key(new))
    rows[_key(new)] = _joined(old, new) if old and _same_run(old, new) else new
  rows = [{**row, "command": _compare_command(row)} for row in rows.values()]
  rows = sorted(rows, key=plan.order)
  return "[\n" + ",\n".join(" " + json.dumps(row) for row in rows) + "\n]\n"


def _key(row):
  return tuple(row[name] for name in ("dataset", "method", "recipe", "variant", "epochs"))


def _same_run(old, new):
  names = ("n", "settings", "num_categories", "latent_dim")
  return all(old[name] == new[name] for name in names)


def _joined(old, new):
  """A row with the seeds of both; a seed that both have is the new one's."""
  from imae_tf.comparison import plan

  seeds = sorted({*old["seeds"], *new["seeds"]})
  metrics = {}
  for name in new["metrics"]:
    found = {}
    for row in (old, new):
      values = row["metrics"].get(name, {}).get("values", ())
      if len(values) == len(row["seeds"]):
        found |= dict(zip(row["seeds"], values))
    if len(found) == len(seeds):
      metrics[name] = plan.statistics_of([found[seed] for seed in seeds])
  return {**new, "seeds": seeds, "metrics": rounded(metrics, 5)}


def _compare_command(row):
  from imae_tf import recipes

  flags = {
      "methods": row["method"], "recipes": row["recipe"],
      "datasets": "noise.npz" if row["dataset"] == "noise" else row["dataset"],
      "seeds": ",".join(map(str, row["seeds"])), "variants": row["variant"],
      **{name: row[name] for name in ("num_categories", "latent_dim") if row[name] != 10},
  }
  usual = recipes.get(row["recipe"], row["dataset"], row["method"]).epochs
  flags["epochs"] = row["epochs"] if row["epochs"] != usual else ""
  return "imae-compare" + "".join(f" --{k}={v}" for k, v in flags.items() if v)


def compared(dataset, variants):
  """A table of results/comparison.json: the methods of a data set, or its ablations."""
  from imae_tf.comparison import page

  rows = [r for r in _read(HERE / "comparison.json") if r["dataset"] == dataset]
  if variants:
    changed = {(r["method"], r["recipe"]) for r in rows if r["variant"]}
    rows = [
        {**r, "published": None} for r in rows if (r["method"], r["recipe"]) in changed
    ]
  else:
    rows = [r for r in rows if not r["variant"]]
  return page.means_table(rows) if rows else ""


def searches(dataset):
  """A table of results/search_DATASET_METHOD.json: what each method's search chose."""
  from imae_tf import recipes

  lines = [
      "| method | searched | best of trials | `neighbor_mi_y`, and at the paper's weights"
      " | I(x;y) | reconstruction | accuracy on all training images, looked at afterwards |",
      "|---|---|---|---|---|---|---|",
  ]
  for method in recipes.WEIGHTS:
    path = HERE / f"search_{dataset}_{method}.json"
    if path.exists():
      found = _read(path)
      best = next(row for row in found["trials"] if row["id"] == found["best"])
      figures = best["figures"]
      weights = ", ".join(f"{name} {value:.3g}" for name, value in best["weights"].items())
      lines.append(
          f"| `{method}` | {', '.join(found['space'])} | {weights} (of {found['trials_asked']})"
          f" | {best['score']:.3f}, {found['trials'][0]['score']:.3f} | {figures['mi_y']:.3f}"
          f" | {figures['reconstruction']:.1f} | {best['accuracy'][0]:.3f} |"
      )
  return "\n".join(lines)


def text_of(head, name, rows):
  """JSON of head and of rows under a name, with a line for each key and each row."""
  lines = [f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
  listed = ",\n".join("  " + json.dumps(row) for row in rows)
  return "{\n" + "".join(lines) + f' "{name}": [\n' + listed + "\n ]\n}\n"


def rounded(value, digits):
  """The value with all floats in it at so many significant digits."""
  if isinstance(value, dict):
    return {k: rounded(v, digits) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [rounded(v, digits) for v in value]
  return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def table():
  """The README's table of results, as Markdown."""
  from imae_tf.comparison import plan

  lines = [
      "| data, recipe | seeds | accuracy | k-means / Ward / mixture | I(x;y) | reconstruction"
      " (floor) | sum I(x;z_k) | TC(y,z), naive / leave-one-out |",
      "|---|---|---|---|---|---|---|---|",
  ]
  for name, title in ROWS.items():
    seeds, statistics_of = _tuned(name) if name in COMPARED else _collected(name)
    mean = {key: value["mean"] for key, value in statistics_of.items()}
    accuracy, mi_y, reconstruction = (
        _mean_std(statistics_of[key], digits)
        for key, digits in (("accuracy", 3), ("mi_y", 3), ("reconstruction", 1))
    )
    baselines = " / ".join(
        f"{mean[f'baselines.{b}']:.3f}" for b in ("k_means", "ward", "gaussian_mixture")
    )
    lines.append(
        f"| {title} | {len(seeds)} | {accuracy} | {baselines} | {mi_y} | {reconstruction}"
        f" ({mean['reconstruction_floor']:.1f}) | {mean['mi_z.naive']:.2f}"
        f" | {mean['total_correlation.naive']:.2f} / {mean['total_correlation.leave_one_out']:.2f}"
        " |"
    )
  reconstruction, mi_y, mi_z, total_correlation = plan.PUBLISHED["mnist", "imae"]
  lines.append(
      f"| MNIST, as the paper reports IMAE (Table 4a) | | | | {mi_y} | {reconstruction}"
      f" | {mi_z} (sum or joint: not said) | {total_correlation} |"
  )
  return "\n".join(lines)


def _collected(name):
  """Seeds and {name: statistics} of the runs of results/NAME.json."""
  from imae_tf.comparison import plan

  result = _read(HERE / f"{name}.json")
  return result["seeds"], plan.statistics_over(result["runs"])


def _tuned(dataset):
  """The same of IMAE's tuned recipe in results/comparison.json."""
  from imae_tf import recipes

  epochs = recipes.get("tuned", dataset).epochs
  expected = {
      "dataset": dataset, "method": "imae", "recipe": "tuned", "variant": "", "epochs": epochs
  }
  for row in _read(HERE / "comparison.json"):
    if expected.items() <= row.items():
      return row["seeds"], row["metrics"]
  raise SystemExit(f"expected {expected} in results/comparison.json, got no such row; train it.")


def unseen():
  """The README's table of images that no recipe was made for, as Markdown."""
  lines = [
      "| images | seeds | accuracy / NMI / ARI | k-means | Ward | mixture | I(x;y) | minutes |",
      "|---|---|---|---|---|---|---|---|",
  ]
  for name, title in UNSEEN.items():
    path = HERE / f"{name}.json"
    if not path.exists():
      continue
    found = _read(path)
    methods = [
        " / ".join(
            f"{statistics.fmean(run['simple_methods'][method][key] for run in found['runs']):.2f}"
            for key in ("accuracy", "nmi", "ari")
        )
        for method in ("model", "k_means", "ward", "gaussian_mixture")
    ]
    lines.append(
        f"| {title} | {len(found['seeds'])} | **{methods[0]}** | {' | '.join(methods[1:])}"
        f" | {found['mean']['mi_y']:.2f} | {found['minutes']:.0f} |"
    )
  return "\n".join(lines)


def quickstart():
  """The closing lines of imae-quickstart: digits with seed 0."""
  from imae_tf.training import run_folder

  run = _read(HERE / "digits.json")["runs"][0]
  return "```\n" + run_folder.summary(run, "runs/quickstart") + "\n```"


def benchmarks():
  """What `benchmarks/` measured, in a few sentences and a table."""
  names = ("step", "pairwise", "evaluation", "streaming", "startup")
  step, pairwise, evaluation, streaming, startup = (
      _read(HERE / f"benchmark_{name}.json") for name in names
  )
  machine = step["machine"]
  lines = [
      f"Training step of MNIST's recipe (250 images, {machine['cores']} cores of"
      f" {machine['cpu']}) against the same mathematics written by hand in plain TensorFlow and"
      " in PyTorch, and against its matrix products alone; processes in turn, medians:",
      "",
      "| precision | imae_tf, images/s | speed against plain TensorFlow | against PyTorch"
      " | time against TensorFlow's matrix products alone |",
      "|---|---|---|---|---|",
  ]
  for precision in ("float32", "mixed_bfloat16"):
    rows = step[precision]["step"]["candidates"]
    floor = 1.0 / rows["matmul_floor_tf"]["median_ratio"]
    lines.append(
        f"| {precision} | {rows['imae_tf']['images_per_s']:.0f}"
        f" | {rows['plain_tf']['median_ratio']:.2f} | {rows['pytorch']['median_ratio']:.2f}"
        f" | {floor:.2f} |"
    )
  return "\n".join([*lines, "", *_pairwise_lines(pairwise), *_other_lines(
      evaluation, streaming, startup)])


def _pairwise_lines(pairwise):
  rows = {
      (r["implementation"], r["batch_size"], r["latent_dim"]): r
      for r in pairwise["rows"]
      if r["call"] == "with gradients"
  }
  blocks, broadcast = rows["blocks", 2048, 64], rows["broadcast", 2048, 64]
  large, largest = rows["blocks", 8192, 64], rows["blocks", 16384, 64]
  rounds = min(r["rounds"] for r in (blocks, broadcast, large))
  calls = "one call each" if rounds == 1 else f"medians of {rounds} rounds or more"
  small = " and ".join(
      f"{rows['blocks', 128, k]['median_s'] * 1e3:.1f} ms for K1 = {k} (broadcast"
      f" {rows['broadcast', 128, k]['median_s'] * 1e3:.1f})"
      for k in (10, 64)
  )
  return [
      f"- The pairwise terms of a batch of 2,048 with K1 = 64, gradients included ({calls}):"
      f" {_mb(blocks)} beyond their inputs and {blocks['median_s']:.2f} s, where a plain"
      f" broadcast takes {_mb(broadcast)} and {broadcast['median_s']:.2f} s; a batch of 8,192:"
      f" {_mb(large)}, one of 16,384: {_mb(largest)}.",
      "- With a batch size that is not known in advance (several replicas) the loop of blocks runs"
      f" even where one block would do: 128 images take {small}.",
  ]


def _other_lines(evaluation, streaming, startup):
  first = startup["candidates"]
  return [
      f"- All pairwise metrics of {evaluation['codes']:,} codes among"
      f" {evaluation['images']:,} posteriors: {evaluation['median_s']:.0f} s and"
      f" {_mb(evaluation)}.",
      f"- A data set of {streaming['decoded_bytes'] / 1e9:.1f} GB streams from disk through"
      f" {streaming['memory_growth_bytes'] / 1e6:.0f} MB at"
      f" {streaming['speed_ratio']:.2f} of the speed from memory.",
      f"- `import imae_tf` takes {first['import imae_tf']['median_s']:.2f} s, `imae-train"
      f" --help` {first['imae-train --help']['median_s']:.2f} s, the first training step of"
      f" `digits` {first['first step of digits']['median_s']:.1f} s (TensorFlow's import alone:"
      f" {first['import tensorflow']['median_s']:.1f} s).",
  ]


def serving():
  """What imae-serve answers under load: a table and a few sentences."""
  found = _read(HERE / "benchmark_serving.json")
  function, swaps, memory = (found[k] for k in ("bare_calls_per_s", "swaps", "memory"))
  rows = [
      f"| {run['protocol']} | {'yes' if run['batching'] else 'no'} | {run['requests_per_s']:.0f}"
      f" | {run['p50_ms']:.0f} | {run['p99_ms']:.0f} | {run['errors']} |"
      for run in found["runs"]
  ]
  return "\n".join([
      f"{found['clients']} clients that share {found['machine']['cores']} cores with the server,"
      f" one image a request, MNIST's network, {found['seconds']:.0f} s each (`python -m"
      " benchmarks.serving`):",
      "",
      "| protocol | batching | requests/s | p50, ms | p99, ms | failed |",
      "|---|---|---|---|---|---|",
      *rows,
      "",
      f"The bare function takes {function['1 image']:.0f} single images a second there, or"
      f" {function['64 images']:.0f} batches of 64. {swaps['swaps']} versions were published under"
      f" that load, each serving after {swaps['median_swap_s']:.1f} s (median), and"
      f" {swaps['errors']} of {swaps['requests']:,} requests failed. Over"
      f" {memory['requests']:,} requests the server's memory grew by {memory['growth_mb']:.0f} MB.",
  ])


def _mb(row):
  return f"{row['extra_memory_bytes'] / 1e6:,.0f} MB"


def made(text):
  """A page with what stands between its markers made anew from results/*.json."""
  parts = {
      "results": table, "unseen": unseen, "quickstart": quickstart, "benchmarks": benchmarks,
      "serving": serving,
      **{f"comparison of {d}": functools.partial(compared, d, False) for d in DATASETS},
      **{f"ablations of {d}": functools.partial(compared, d, True) for d in DATASETS},
      **{f"searches of {d}": functools.partial(searches, d) for d in DATASETS},
  }
  for marker, content in parts.items():
    start, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    if start in text:
      head, _, tail = text.partition(start)
      text = f"{head}{start}\n{content()}\n{end}{tail.partition(end)[2]}"
  return text


def _mean_std(found, digits):
  mean = f"{found['mean']:.{digits}f}"
  return mean if found["std"] is None else f"{mean} ± {found['std']:.{digits}f}"


def _read(path):
  return json.loads(path.read_text())


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("name", nargs="?", choices=sorted({*ROWS, *OTHERS, *UNSEEN} - {*COMPARED}))
  parser.add_argument("workdirs", nargs="*", type=pathlib.Path)
  parser.add_argument("--search", type=pathlib.Path)
  parser.add_argument("--comparison", type=pathlib.Path)
  parser.add_argument("--minutes", type=float, help="that a training took")
  parser.add_argument("--readme", action="store_true")
  arguments = parser.parse_args()
  if arguments.search:
    name, text = search(arguments.search)
    (HERE / f"{name}.json").write_text(text)
  if arguments.name:
    result = collect(arguments.workdirs, arguments.minutes)
    path = HERE / f"{arguments.name}.json"
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
  if arguments.comparison:
    path = HERE / "comparison.json"
    known = _read(path) if path.exists() else ()
    path.write_text(comparison(arguments.comparison, known))
  if arguments.readme:
    for page in PAGES:
      page.write_text(made(page.read_text()))


if __name__ == "__main__":
  main()
