"""imae-compare: methods side by side, on the same networks, data and seeds, under --workdir.

Example: imae-compare --methods=imae,betavae --datasets=digits --seeds=0,1 --workdir=runs/compare

Each run is a workdir of its own; the tables of all finished runs are comparison.md, .json and
.html. If a comparison is killed, the same command goes on with it. Another command with the same
--workdir adds runs, and several processes can share the work.
"""

from absl import flags

from imae_tf._shared import paths
from imae_tf._shared import program
from imae_tf._shared.method_table import METHODS
from imae_tf.errors import InputError
from imae_tf.trainers import data_flags
from imae_tf.trainers import setting_flags

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder that the comparison is written to; a comparison that is there goes on."
    " Required.",
    required=True,
)
_METHODS = flags.DEFINE_list(
    "methods", list(METHODS), "Methods that are compared, as in imae-train --method."
)
_RECIPES = flags.DEFINE_list(
    "recipes", ["paper", "tuned"], "Settings of each method: the paper's, ours, or both in turn."
)
_DATASETS = flags.DEFINE_list(
    "datasets", ["digits"], "Images that each method is trained on, as in imae-train --dataset."
)
_SEEDS = flags.DEFINE_list(
    "seeds", ["0", "1", "2"], "Seeds; each seed is a run with its own initial weights, order of the"
    " images and noise."
)
_VARIANTS = flags.DEFINE_list(
    "variants",
    [],
    "Settings that are changed one at a time, each in a run beside the recipe's: lam=0,gamma=0."
    " They have the names of imae-train's flags. Default: only the recipes as they are.",
)
_EPOCHS = flags.DEFINE_integer(
    "epochs", None, "Number of passes over the training images in every run. Default: the"
    " recipe's.", 1
)
_JOBS = flags.DEFINE_integer(
    "jobs", None, "Number of processes that share the runs. It changes the rounding, and with it"
    " the figures a little. Default: one for each core of a CPU, up to four; one on a GPU.", 1
)
_NUM_CATEGORIES = setting_flags.define_size("num_categories", __name__)
_LATENT_DIM = setting_flags.define_size("latent_dim", __name__)
flags.adopt_module_key_flags(data_flags)


def main() -> None:
  workdir = paths.folder(_WORKDIR.value, "a --workdir")
  # Imported here: --help and a wrong flag should not wait for TensorFlow.
  program.import_tensorflow()
  from imae_tf._shared import side_by_side
  from imae_tf.comparison import page
  from imae_tf.comparison import plan

  planned = plan.plan(
      _METHODS.value, _RECIPES.value, _DATASETS.value, _seeds(),
      epochs=_EPOCHS.value, num_categories=_NUM_CATEGORIES.value, latent_dim=_LATENT_DIM.value,
      variants=["", *_VARIANTS.value], reading=data_flags.reading(_WORKDIR.value),
  )
  elsewhere = plan.train_all(
      planned, workdir, done=lambda: page.write_tables(workdir),
      shared=side_by_side.sharing(
          "imae_tf.trainers.compare", _JOBS.value, len(planned), workdir
      ),
  )
  if side_by_side.is_started():
    return
  page.write(workdir)
  if elsewhere:
    print(f"{elsewhere} runs are left to other processes, which write the tables again.")
  print((workdir / "comparison.md").read_text())
  print(f"report          {workdir / 'comparison.html'}")


def _seeds() -> list[int]:
  try:
    seeds = [int(seed) for seed in _SEEDS.value]
    if min(seeds, default=0) < 0:
      raise ValueError
  except ValueError:
    given = ",".join(_SEEDS.value)
    raise InputError(
        f"expected --seeds as integers such as 0,1, got {given!r}; correct them."
    ) from None
  return seeds


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()
