"""imae-tune: searches the weights without labels, under --workdir.

Example: imae-tune --dataset=digits --trials=30 --workdir=runs/search

Each trial is a run of its own; the best run is the workdir `best` in --workdir. The flags of
imae-train give the settings that are not searched. There are no flags for restarts and no
--strategy: on several GPUs or machines, start the same command in several processes, which share
the trials. If a search is killed, the same command goes on with it. More --trials add to a search.
"""

import dataclasses
import pathlib
import shlex
import sys
from typing import Any

from absl import flags

from imae_tf import recipes
from imae_tf._shared import paths
from imae_tf._shared import program
from imae_tf.trainers import data_flags
from imae_tf.trainers import run_flags

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder that the search is written to; a search that is there goes on."
    " Required.",
    required=True,
)
_TRIALS = flags.DEFINE_integer(
    "trials", 30, "Number of trials in all; you may raise it for an existing search.", 1
)
_SEARCHABLE = {name: s for name, s in (recipes.SETTINGS | recipes.SIZES).items() if s.search}
_SEARCH = flags.DEFINE_list(
    "search",
    [],
    "Names of what is searched, each alone or with a range or choices:"
    " beta=1:10,learning_rate,encoder_units=500-500|500-1000. The names are "
    + ", ".join(_SEARCHABLE) + ". Default: of "
    + ", ".join(name for name, s in _SEARCHABLE.items() if s.searched)
    + " those that the method has.",
)
_TUNER = flags.DEFINE_enum(
    "tuner", "random", ["random", "bayesian", "hyperband"],
    "How keras-tuner chooses the next trial: random; bayesian, by a model of the earlier trials; or"
    " hyperband, which makes short runs and goes on with the best.",
)
_EXECUTIONS_PER_TRIAL = flags.DEFINE_integer(
    "executions_per_trial", 1, "Number of runs in a trial, with consecutive seeds; the figure of"
    " the trial is the mean of its runs.", 1
)
_JOBS = flags.DEFINE_integer(
    "jobs", None, "Number of processes that share the trials. It changes the rounding, and with it"
    " the figures a little. Default: one for each core of a CPU, up to four; one on a GPU.", 1
)
flags.adopt_module_key_flags(run_flags)


def main() -> None:
  workdir = paths.folder(_WORKDIR.value, "a --workdir")
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf._shared import side_by_side
  from imae_tf.search import driver
  from imae_tf.search import hypermodel

  shared = side_by_side.sharing(
      "imae_tf.trainers.tune", _JOBS.value, _TRIALS.value, workdir
  )
  run = run_flags.run(_WORKDIR.value)
  run = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, restarts=1))
  described = driver.Search(
      run=run,
      space=hypermodel.space(_SEARCH.value, run.method),
      tuner=_TUNER.value,
      executions_per_trial=_EXECUTIONS_PER_TRIAL.value,
  )
  command = " ".join(["imae-tune", shlex.join(sys.argv[1:])])
  found = driver.search(described, workdir, _TRIALS.value, command, shared)
  _summarise(found, workdir, run.recipe_name)


def _summarise(found: dict[str, Any], workdir: pathlib.Path, recipe_name: str) -> None:
  states = [row["status"] for row in found["trials"]]
  best = next(row for row in found["trials"] if row["id"] == found["best"])
  weights = ", ".join(f"{name} {_short(value)}" for name, value in best["weights"].items())
  print(f"trials          {states.count('COMPLETED')} completed, {states.count('FAILED')} failed")
  print(f"best            {best['id']}: {weights}")
  print(f"objective       {found['objective']} {best['score']:.4f} nats, without labels")
  print(f"report          {workdir / 'report.html'}")
  print(f"next            imae-evaluate --workdir={workdir / 'best'}")
  print(f"on all images   {_command(best['weights'], recipe_name)}")


def _command(weights: dict[str, Any], recipe_name: str) -> str:
  """An imae-train command with the weights that were found and the flags that were given.

  It names the recipe, because imae-train has another default for images without one.
  """
  by_module = flags.FLAGS.flags_by_module_dict()
  own = [*by_module[run_flags.__name__], *by_module[data_flags.__name__]]
  left_out = {"seed", "holdout", "recipe", *weights}
  given = [
      f"--{flag.name}=none" if flag.value is None else flag.serialize()
      for flag in own
      if flag.present and flag.name not in left_out
  ]
  found = [f"--{name}={_short(value)}" for name, value in weights.items()]
  ours = [f"--recipe={recipe_name}", *found, "--seed=0", "--workdir=runs/found"]
  return shlex.join(["imae-train", *given, *ours])


def _short(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
