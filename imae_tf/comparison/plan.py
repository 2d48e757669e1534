"""Plans, trains and collects the runs of a comparison: methods x recipes x data sets x seeds.

Each run has a folder of its own:

    runs/mnist/betavae-paper/seed-0/     a workdir of imae-train, evaluated
    runs/mnist/imae-tuned-lam=0/seed-0/  the same with one setting changed
    baselines/mnist-10-0.json            accuracy of the classical methods, once for each seed
    locks/                               locks of the processes that share the work
    processes/2.log                      what the second of them prints

`imae-compare` calls `plan` and `train_all`, and `comparison.page` reads `rows` and `groups`. Runs
that are finished are skipped, and runs that were killed go on. Several processes with the same
folder take different runs, each under a lock of its own.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
import statistics
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from imae_tf import recipes
from imae_tf._shared import files
from imae_tf._shared import locks
from imae_tf._shared import paths
from imae_tf._shared import program
from imae_tf._shared.side_by_side import Shared
from imae_tf.data import loading
from imae_tf.data import pipelines
from imae_tf.data.reading import Reading
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError
from imae_tf.errors import InUseError
from imae_tf.training import evaluation
from imae_tf.training import run_data
from imae_tf.training import run_folder
from imae_tf.training import runs

# The paper's Table 4a: 10,000 test images, nats. Its estimators are not named.
PUBLISHED = {
    ("mnist", "betavae"): (141.5, 0.0, 4.4, 0.0),
    ("mnist", "jointvae"): (127.3, 1.9, 5.6, 2.3),
    ("mnist", "infovae"): (121.5, 1.7, 6.8, 1.5),
    ("mnist", "imae"): (117.9, 1.8, 7.2, 0.8),
    ("fashion_mnist", "betavae"): (252.5, 0.0, 4.6, 0.0),
    ("fashion_mnist", "jointvae"): (256.0, 1.8, 4.7, 2.6),
    ("fashion_mnist", "infovae"): (247.1, 0.9, 6.0, 0.7),
    ("fashion_mnist", "imae"): (234.9, 1.7, 8.5, 0.0),
}
PUBLISHED_NAMES = ("reconstruction", "mi_y", "mi_z", "total_correlation")

# Folders of runs by (method, recipe, variant).
Groups = dict[tuple[str, str, str], list[pathlib.Path]]

_AS_USUAL = Reading()
_OURS = (  # names in the folder
    "runs", "locks", "processes", "cache", "baselines", "figures", "comparison.*",
)
# The entries of metrics.json that say which run it is; the others are figures.
_NAMES = ("method", "recipe", "dataset", "split", "seed", "n", "epochs")


@dataclasses.dataclass(frozen=True)
class Planned:
  """A run of a comparison.

  Attributes:
    run: the `runs.Run`.
    variant: the changed setting of its recipe ("lam=0"); empty if none is changed.
  """

  run: runs.Run
  variant: str = ""

  def __str__(self) -> str:
    run = self.run
    names = (_short(run.dataset), run.method, run.recipe_name, self.variant, f"seed {run.seed}")
    return ", ".join(filter(None, names))

  def folder(self, workdir: str | pathlib.Path) -> pathlib.Path:
    """The folder of this run in the folder of the comparison."""
    run = self.run
    name = "-".join(filter(None, (run.method, run.recipe_name, self.variant)))
    return pathlib.Path(workdir) / "runs" / _short(run.dataset) / name / f"seed-{run.seed}"

  def run_on(self, data: pipelines.ImageData) -> runs.Run:
    """The run in batches that images can fill; those of recipes are for thousands of images."""
    recipe = self.run.recipe
    if self.variant.startswith("batch_size="):
      return self.run
    size = min(recipe.batch_size, data.size("train"))
    return dataclasses.replace(self.run, recipe=dataclasses.replace(recipe, batch_size=size))


def plan(
    methods: Sequence[str],
    recipe_names: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    *,
    epochs: int | None,
    num_categories: int,
    latent_dim: int,
    variants: Sequence[str] = ("",),
    reading: Reading = _AS_USUAL,
) -> list[Planned]:
  """The runs of a comparison, seed by seed, so that early on every method has a run.

  Args:
    methods: ids from `recipes.WEIGHTS`.
    recipe_names: "paper", "tuned".
    datasets: names as in imae-train.
    seeds: integers.
    epochs: epochs of every run; None for those of its recipe.
    num_categories: K2.
    latent_dim: K1.
    variants: changes of the recipes, one run each: "lam=0"; "" for the recipe as it is.
    reading: how images are read.

  Returns:
    A list of `Planned`.

  Raises:
    InputError: nothing to compare, an unknown name, or two data sets with the same short name.
  """
  lists: dict[str, Sequence] = {
      "methods": methods, "recipes": recipe_names, "datasets": datasets, "seeds": seeds,
      "variants": variants,
  }
  for name, given in lists.items():
    if not given:
      raise InputError(f"expected {name} to compare, got none; name one at least.")
    if len(set(given)) < len(given):
      raise InputError(
          f"expected each of the {name} once, got {','.join(map(str, given))}; leave out the"
          " second."
      )
  names = [loading.canonical(dataset) for dataset in datasets]
  if len({_short(name) for name in names}) < len(names):
    raise InputError(
        f"expected data sets of different names, got {','.join(names)}; rename one, or compare"
        " them in another --workdir."
    )
  return [
      Planned(
          runs.Run(
              dataset=dataset, method=method, recipe_name=recipe_name,
              recipe=_recipe(recipe_name, given, method, variant, epochs),
              num_categories=num_categories, latent_dim=latent_dim, holdout=0, seed=seed,
              deterministic=True, reading=reading,
          ),
          variant,
      )
      for seed in seeds
      for given, dataset in zip(datasets, names)
      for recipe_name in recipe_names
      for method in methods
      for variant in variants
  ]


def _recipe(
    name: str, dataset: str, method: str, variant: str, epochs: int | None
) -> recipes.Recipe:
  recipe = recipes.get(name, dataset, method)
  if variant:
    recipe = recipes.with_change(recipe, method, variant)
  return dataclasses.replace(recipe, epochs=epochs or recipe.epochs)


def train_all(
    planned: Sequence[Planned],
    workdir: str | pathlib.Path,
    done: Callable[[], Any] = lambda: None,
    shared: Shared = contextlib.nullcontext,
) -> int:
  """Trains and evaluates all runs of a plan that are not finished yet.

  A run that diverges is marked as failed in its folder and is not tried again. If there are
  labels, those of up to 10,000 training images are compared with the categories after each epoch
  (`callbacks.Watch`); nothing is trained or chosen by them. Test images are used once, when a run
  is finished.

  Args:
    planned: list of `Planned`.
    workdir: folder of the comparison.
    done: function that is called after each run.
    shared: makes a context in which other processes take some of the runs, and at whose end they
      have ended; `side_by_side.sharing` for one.

  Returns:
    The number of runs that were left to other processes, which are at work on them.

  Raises:
    InputError: bad data, or a folder that holds something else.
    Preempted: SIGTERM came; all is saved.
  """
  workdir = paths.folder(workdir, "a workdir")
  files.check_free(workdir, "a comparison's", ours=_OURS)
  if sum(not _is_over(item.folder(workdir)) for item in planned) < 2:
    return len(_train(planned, workdir, done))
  if shared is not contextlib.nullcontext:  # else several would download a data set at once
    for item in {item.run.dataset: item for item in planned}.values():
      _load(item.run.dataset, run_data.as_trained(item.folder(workdir), item.run.reading))
  with shared():
    left = _train(planned, workdir, done)
  if left and shared is not contextlib.nullcontext:  # one of the processes may have ended early
    left = _train(left, workdir, done)
  return len(left)


def _train(
    planned: Sequence[Planned], workdir: pathlib.Path, done: Callable[[], Any]
) -> list[Planned]:
  """Trains and evaluates: the runs that other processes are at work on."""
  elsewhere = []
  for index, item in enumerate(planned):
    run, folder = item.run, item.folder(workdir)
    head = f"[{index + 1} of {len(planned)}] {item}"
    name = "-".join(folder.relative_to(workdir / "runs").parts)
    try:
      with locks.locked(locks.place(workdir, name)):
        data = _load(run.dataset, run_data.as_trained(folder, run.reading))
        run = item.run_on(data)
        if _is_finished(folder, run, data):
          program.say(f"{head}: done before")
          continue
        program.say(head)
        _train_one(run, data, folder, workdir)
    except InUseError:
      program.say(f"{head}: another process is at work on it")
      elsewhere.append(item)
      continue
    done()
  return elsewhere


_load = functools.lru_cache(maxsize=1)(loading.opened)


def _train_one(
    run: runs.Run, data: pipelines.ImageData, folder: pathlib.Path, workdir: pathlib.Path
) -> None:
  keras.backend.clear_session()
  try:
    watched = data.arrays("train", limit=evaluation.MAX_IMAGES)
    runs.train(run, folder, watched=watched, data=data)
  except DivergenceError as error:
    files.write_json(folder / "failed.json", {"reason": str(error)})
    program.say(f"failed: {error}")
    return
  cached = workdir / "baselines" / (
      f"{_short(run.dataset)}-{run.num_categories}-{run.seed}.json"
  )
  known = files.read_json(cached) if cached.exists() else None
  metrics = evaluation.evaluate(folder, baselines=known, say=lambda text: None)
  if known is None and metrics["baselines"] is not None:
    files.write_json(cached, metrics["baselines"])
  program.say(run_folder.summary(metrics, folder))


def _is_over(folder: pathlib.Path) -> bool:
  return (folder / "metrics.json").exists() or (folder / "failed.json").exists()


def _is_finished(folder: pathlib.Path, run: runs.Run, data: pipelines.ImageData) -> bool:
  if not (folder / "config.json").exists():
    return False
  run = dataclasses.replace(run, reading=run_data.as_trained(folder, run.reading))
  config = runs.config_of(run, data)
  run_folder.check(folder, config)  # finished or not, it must be this run
  if (folder / "failed.json").exists():
    return True
  if not (folder / "metrics.json").exists():
    return False
  metrics = files.read_json(folder / "metrics.json")
  if (metrics["epochs"], metrics["split"]) != (run.recipe.epochs, "test"):
    return False
  run_folder.start(folder, config)  # which notes where its images are now
  return True


# ---- what was found ------------------------------------------------------------------------


def finished(workdir: str | pathlib.Path) -> list[pathlib.Path]:
  """Folders of the runs below a comparison's folder that were evaluated on test images, sorted.

  A run that somebody measured on other images last, or gave more epochs since, is not among them.
  """
  found = sorted(pathlib.Path(workdir).glob("runs/*/*/seed-*/metrics.json"))
  return [path.parent for path in found if _is_evaluated(path.parent)]


def _is_evaluated(folder: pathlib.Path) -> bool:
  metrics = files.read_json(folder / "metrics.json")
  epochs = run_folder.read_config(folder)["epochs"]
  return (metrics["epochs"], metrics["split"]) == (epochs, "test")


def groups(workdir: str | pathlib.Path) -> dict[str, Groups]:
  """{data set: {(method, recipe, variant): folders of its finished runs, by seed}}."""
  found: dict[str, dict[tuple[str, str, str], list]] = {}
  for folder in finished(workdir):
    config = run_folder.read_config(folder)
    of_dataset = found.setdefault(_short(config["dataset"]), {})
    key = (config["method"], config["recipe"], _variant(folder, config))
    of_dataset.setdefault(key, []).append((config["seed"], folder))
  methods = list(recipes.WEIGHTS)
  return {
      dataset: {
          key: [folder for _, folder in sorted(of_dataset[key])]
          for key in sorted(of_dataset, key=lambda k: (methods.index(k[0]), *k[1:]))
      }
      for dataset, of_dataset in found.items()
  }


def _variant(folder: pathlib.Path, config: dict[str, Any]) -> str:
  """The changed setting in the name of a run's folder; "" if none is changed."""
  return folder.parent.name.removeprefix(f"{config['method']}-{config['recipe']}")[1:]


def failed(workdir: str | pathlib.Path) -> dict[pathlib.Path, str]:
  """{folder: reason} of the runs that diverged."""
  found = sorted(pathlib.Path(workdir).glob("runs/*/*/seed-*/failed.json"))
  return {path.parent: files.read_json(path)["reason"] for path in found}


def rows(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
  """The results of all finished runs; a row joins the runs that differ only in the seed.

  Returns:
    A list of {"method", "recipe", "variant", "dataset", "seeds", "n", "epochs", "settings",
    "num_categories", "latent_dim", "versions", "published", "metrics": {name: {"mean", "std",
    "values"}}}. The names are those of metrics.json, with pairs flattened ("mi_z.naive"), and
    `train_seconds`, the wall-clock of training. `std` is over seeds, and None for one seed.
    "published" holds the paper's figures under the same names; None if the paper has none.
  """
  members: dict[tuple, list[tuple]] = {}
  for folder in finished(workdir):
    config = run_folder.read_config(folder)
    metrics = files.read_json(folder / "metrics.json")
    names = ("method", "recipe", "n", "epochs")
    # The data set as the run knows it now, for it may have moved since it was measured.
    key = (_variant(folder, config), config["dataset"], *(metrics[name] for name in names))
    members.setdefault(key, []).append((folder, config, metrics))
  return sorted((_row(key, found) for key, found in members.items()), key=order)


def _row(
    key: tuple, members: list[tuple[pathlib.Path, dict[str, Any], dict[str, Any]]]
) -> dict[str, Any]:
  variant, dataset, method, recipe, n, epochs = key
  members = sorted(members, key=lambda member: member[1]["seed"])
  measured = [{**metrics, "train_seconds": _seconds(folder)} for folder, _, metrics in members]
  config = members[0][1]
  published = PUBLISHED.get((dataset, method))
  return {
      "method": method,
      "recipe": recipe,
      "variant": variant,
      "dataset": _short(dataset),
      "seeds": [config["seed"] for _, config, _ in members],
      "n": n,
      "epochs": epochs,
      "settings": config["settings"],
      "num_categories": config["num_categories"],
      "latent_dim": config["latent_dim"],
      "versions": config["versions"],
      "published": published and dict(zip(PUBLISHED_NAMES, published)),
      "metrics": statistics_over(measured),
  }


def statistics_over(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """{name: `statistics_of`} of the metrics of runs that differ in the seed, pairs flattened."""
  values: dict[str, list[float]] = {}
  for metrics in runs:
    for name, value in _flat(metrics).items():
      if value is not None:
        values.setdefault(name, []).append(value)
  return {name: statistics_of(found) for name, found in values.items()}


def statistics_of(values: list[float]) -> dict[str, Any]:
  """{"mean", "std", "values"} of a figure's values over seeds; std is None for one value."""
  std = statistics.stdev(values) if len(values) > 1 else None
  return {"mean": statistics.fmean(values), "std": std, "values": values}


def order(row: dict[str, Any]) -> tuple:
  """The key by which rows are sorted: data set, the methods' own order, recipe, variant."""
  methods = list(recipes.WEIGHTS)
  place = methods.index(row["method"])
  return (row["dataset"], place, row["recipe"], *_by_value(row["variant"]), row["epochs"])


def _by_value(variant: str) -> tuple[str, float, str]:
  """The name of a changed setting, its value as a number where it is one, and as text."""
  name, _, text = variant.partition("=")
  try:
    return name, float(text), text
  except ValueError:
    return name, math.inf, text


def _flat(metrics: dict[str, Any]) -> dict[str, float]:
  """The numbers of metrics.json: {name: number}; a number in a dict is under "name.key"."""
  flat: dict[str, float] = {}
  for name, value in metrics.items():
    parts = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {
        name: value
    }
    flat |= {k: v for k, v in parts.items() if isinstance(v, (int, float)) and name not in _NAMES}
  return flat


def _seconds(folder: pathlib.Path) -> float | None:
  """Wall-clock of training, all starts included; None if the history does not say."""
  histories = [run_folder.read_history(folder)]
  starts = [run_folder.read_history(start) for start in folder.glob("restarts/start-*")]
  if starts:  # the chosen one's rows are the first of the run's
    histories[0] = histories[0][len(max(starts, key=len)) :]
  total = sum(row.get("seconds", math.nan) for rows in histories + starts for row in rows)
  return total if math.isfinite(total) else None


def _short(dataset: str) -> str:
  """A data set's name in folders and tables: for a path, its last part without the suffix."""
  return pathlib.PurePath(dataset).stem if "/" in dataset else dataset
