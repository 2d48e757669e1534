"""Seconds that whole commands take with --jobs=1 and with --jobs=2, on `digits`.

    python -m benchmarks.jobs --output=jobs.json

Each command runs as a process in a new folder; rounds run each once, in turn. The first pair
trains eight starts of the recipe `auto` and a short last model, the second compares two methods
with two seeds, the third searches with four trials. All include the start of the programs.
"""

import functools
import subprocess
import tempfile
import time

from absl import app
from absl import flags

from benchmarks import harness
from imae_tf._shared import program as programs

FLAGS = flags.FLAGS

COMMANDS = {
    "imae-train": ("train", "--recipe=auto", "--restart_epochs=40", "--epochs=40"),
    "imae-compare": ("compare", "--methods=imae,vae", "--recipes=paper", "--seeds=0,1",
                     "--epochs=40"),
    "imae-tune": ("tune", "--trials=4", "--epochs=40"),
}


def define_flags() -> None:
  harness.define_flags()
  flags.DEFINE_integer("rounds", 3, "Commands of each kind.", 1)


def main(_: object) -> None:
  tables = {}
  for name, (program, *given) in COMMANDS.items():
    timed = {
        f"{name} --jobs={jobs}": functools.partial(seconds, program, [*given, f"--jobs={jobs}"])
        for jobs in (1, 2)
    }
    tables |= harness.summary(harness.rounds(timed, FLAGS.rounds), f"{name} --jobs=1")
  harness.report(
      "Side by side",
      {"command": "name", "seconds": "median_s", "least": "min_s", "most": "max_s",
       "time / --jobs=1": "median_ratio"},
      [{"name": name, **row} for name, row in tables.items()],
  )
  harness.save({"rounds": FLAGS.rounds, "candidates": tables})


def seconds(program: str, given: list[str]) -> float:
  """Seconds until a program of `imae_tf.trainers` ends, in a new folder."""
  command = programs.command(f"imae_tf.trainers.{program}", f"imae-{program}")
  dataset = "--datasets=digits" if program == "compare" else "--dataset=digits"
  with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    command += [f"--workdir={folder}/all", dataset, *given]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
  if ended.returncode:
    raise RuntimeError(f"imae-{program} failed:\n{ended.stderr}")
  return elapsed


if __name__ == "__main__":
  define_flags()
  app.run(main)
