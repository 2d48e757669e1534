"""The `digits` recipe with each departure from the paper's eq (11) switched off.

    python results/ablations.py run --workdir=runs/ablations     # resumable; a minute a run
    python results/ablations.py summarise --workdir=runs/ablations

`run` trains and evaluates ROWS x SEEDS; `summarise` writes results/ablation_digits.json and
prints its table. All rows but the last train one start, so that they cost and vary alike.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
SEEDS = range(5)
ROWS = {
    "one start": ["--restarts=1"],
    "H(y) counted once": ["--restarts=1", "--entropy_weight=1"],
    "y attached to the reconstruction": ["--restarts=1", "--nodetach_y"],
    "no weight of its own for L_D(y)": ["--restarts=1", "--beta_y=0.57"],
    "fixed VAT radius, 1 pixel": ["--restarts=1", "--vat_radius=1"],
    "no VAT": ["--restarts=1", "--lam=0"],
    "the recipe: best of six starts": [],
}
SHOWN = ("accuracy", "mi_y", "entropy_y", "used_categories", "reconstruction", "neighbor_mi_y")


def run(folder):
  for name, flags in ROWS.items():
    for seed in SEEDS:
      workdir = folder / f"{list(ROWS).index(name)}-{seed}"
      if not (workdir / "metrics.json").exists():
        _program("train", "--dataset=digits", f"--seed={seed}", f"--workdir={workdir}", *flags)
        _program("evaluate", f"--workdir={workdir}")


def _program(name, *flags):
  code = f"from imae_tf.trainers import {name}; {name}.cli()"
  subprocess.run([sys.executable, "-c", code, *flags], check=True, stdout=subprocess.DEVNULL)


def summarise(folder):
  rows = []
  for index, (name, flags) in enumerate(ROWS.items()):
    runs = [json.loads((folder / f"{index}-{s}" / "metrics.json").read_text()) for s in SEEDS]
    figures = {key: [run[key] for run in runs] for key in SHOWN}
    rows.append({
        "row": name,
        "command": " ".join(["imae-train --dataset=digits --seed=SEED --workdir=W", *flags]),
        "seeds": list(SEEDS),
        **{key: [round(v, 4) for v in values] for key, values in figures.items()},
    })
  path = HERE / "ablation_digits.json"
  path.write_text("[\n" + ",\n".join(" " + json.dumps(row) for row in rows) + "\n]\n")
  print("| | accuracy | I(x;y) | H(y) | categories used | reconstruction |")
  print("|---|---|---|---|---|---|")
  for row in rows:
    mean = {key: statistics.fmean(row[key]) for key in SHOWN}
    print(
        f"| {row['row']} | {mean['accuracy']:.3f} ± {statistics.stdev(row['accuracy']):.3f}"
        f" | {mean['mi_y']:.2f} | {mean['entropy_y']:.2f} | {mean['used_categories']:.1f}"
        f" | {mean['reconstruction']:.1f} |"
    )


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument("action", choices=("run", "summarise"))
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  arguments = parser.parse_args()
  {"run": run, "summarise": summarise}[arguments.action](arguments.workdir)


if __name__ == "__main__":
  main()
