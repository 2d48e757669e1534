"""Collects finished runs into one small JSON file, and writes the README's tables from them.

    python results/collect.py digits runs/digits-*      # writes results/digits.json
    python results/collect.py --readme                  # README.md from results/*.json
"""

import argparse
import dataclasses
import json
import pathlib
import statistics

HERE = pathlib.Path(__file__).parent
README = HERE.parent / "README.md"
SHOWN = ("accuracy", "mi_y", "reconstruction")
# Title of each row; the order is the README's.
ROWS = {
    "digits": "`digits`, tuned",
    "mnist": "`mnist`, tuned",
    "mnist_paper": "`mnist`, `--recipe=paper`",
}

PUBLISHED = "| MNIST, as the paper reports IMAE (Table 4a) | | | | 1.8 | 117.9 | 7.2 | 0.8 |"


def collect(workdirs):
  """{"command", "versions", "settings", "runs", "mean", "std"} of runs that differ in the seed."""
  configs = [_read(w / "config.json") for w in workdirs]
  runs = [_read(w / "metrics.json") for w in workdirs]
  config = configs[0]
  for other in configs:
    if any(other[key] != config[key] for key in config if key not in ("seed", "versions")):
      raise SystemExit("expected runs that differ in the seed alone; collect them apart.")
  names = [name for name in runs[0] if isinstance(runs[0][name], float)]
  values = {name: [run[name] for run in runs] for name in names}
  return {
      "command": f"imae-train{_flags(config)} --seed=SEED --workdir=W"
      " && imae-evaluate --workdir=W",
      "versions": config["versions"],
      "settings": {"epochs": config["epochs"], **config["settings"]},
      "seeds": [c["seed"] for c in configs],
      "runs": runs,
      "mean": {name: statistics.fmean(v) for name, v in values.items()},
      "std": {name: statistics.stdev(v) for name, v in values.items() if len(v) > 1},
  }


def _flags(config):
  """The flags that give this configuration: those that differ from the recipe's values."""
  from imae_tf import recipes

  recipe = dataclasses.asdict(recipes.get(config["recipe"], config["dataset"]))
  usual = {"recipe": "tuned", "num_categories": 10, "latent_dim": 10, "holdout": 0}
  usual = json.loads(json.dumps({**usual, **recipe}))
  given = {**{name: config[name] for name in usual if name in config}, **config["settings"]}
  changed = {name: value for name, value in given.items() if value != usual[name]}
  return "".join(f" --{n}={v}" for n, v in {"dataset": config["dataset"], **changed}.items())


def table():
  """The README's table of results, as Markdown."""
  lines = [
      "| data, recipe | seeds | accuracy | k-means / Ward / mixture | I(x;y) | reconstruction"
      " (floor) | sum I(x;z_k) | TC(y,z), naive / leave-one-out |",
      "|---|---|---|---|---|---|---|---|",
  ]
  for name, title in ROWS.items():
    path = HERE / f"{name}.json"
    if path.exists():
      result = _read(path)
      accuracy, mi_y, reconstruction = (_mean_std(result, key) for key in SHOWN)
      floor = result["mean"]["reconstruction_floor"]
      baselines = [
          statistics.fmean(run["baselines"][b] for run in result["runs"])
          for b in ("k_means", "ward", "gaussian_mixture")
      ]
      mi_z = _mean(result, "mi_z", "naive")
      tc = [_mean(result, "total_correlation", kind) for kind in ("naive", "leave_one_out")]
      lines.append(
          f"| {title} | {len(result['seeds'])} | {accuracy}"
          f" | {' / '.join(f'{b:.3f}' for b in baselines)} | {mi_y} | {reconstruction}"
          f" ({floor:.1f}) | {mi_z:.2f} | {tc[0]:.2f} / {tc[1]:.2f} |"
      )
  lines.append(PUBLISHED)
  return "\n".join(lines)


def quickstart():
  """The closing lines of imae-quickstart: digits with seed 0."""
  from imae_tf import workdir

  if not (HERE / "digits.json").exists():
    return ""
  run = _read(HERE / "digits.json")["runs"][0]
  return "```\n" + workdir.summary(run, "runs/quickstart") + "\n```"


def readme(text):
  """README.md with what stands between its markers made anew."""
  for marker, content in (("results", table()), ("quickstart", quickstart())):
    start, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    head, _, tail = text.partition(start)
    tail = tail.partition(end)[2] if end in tail else tail
    text = f"{head}{start}\n{content}\n{end}{tail}"
  return text


def _mean(result, name, kind):
  return statistics.fmean(run[name][kind] for run in result["runs"])


def _mean_std(result, name):
  digits = 1 if name == "reconstruction" else 3
  mean = f"{result['mean'][name]:.{digits}f}"
  return f"{mean} ± {result['std'][name]:.{digits}f}" if name in result["std"] else mean


def _read(path):
  return json.loads(path.read_text())


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("name", nargs="?", choices=ROWS)
  parser.add_argument("workdirs", nargs="*", type=pathlib.Path)
  parser.add_argument("--readme", action="store_true")
  arguments = parser.parse_args()
  if arguments.name:
    result = collect(arguments.workdirs)
    path = HERE / f"{arguments.name}.json"
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
  if arguments.readme:
    README.write_text(readme(README.read_text()))


if __name__ == "__main__":
  main()
