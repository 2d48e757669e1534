"""A folder of many small files: time to the first step, memory, and images per second.

    python -m benchmarks.folders --output=results/benchmark_folders.json

Grey PNG files of 28x28 pixels are written into a hundred folders. Processes train on them with the
real step of MNIST's recipe:

* cold: `data.load` with a memory limit of a tenth of what the images take decoded, and no cache on
  disk yet. Headers are read, and all files decoded into the cache, before the first step.
* warm: the same once more, as every later program does it.
* arrays: the same images as a `.npy`, held in memory.

Time to the first step begins after TensorFlow is imported and the model has been trained on other
images, so that nothing is compiled in it. Memory is what the process itself has taken since then
(RssAnon): pages of the cache that the system keeps because there is room are not the process's.
Then an epoch of "warm" and of "arrays" is timed in turn (`harness.py`), with and without training.
"""

import functools
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
from absl import app
from absl import flags

from benchmarks import harness
from benchmarks import step
from benchmarks import streaming

FLAGS = flags.FLAGS

DISTINCT = 2_000  # images, repeated in random order
FOLDERS = 100
SHARE = 10  # how many times larger the decoded images are than the memory


def define_flags() -> None:
  harness.define_flags()
  flags.DEFINE_integer("images", 100_000, "Files.", 1000)
  flags.DEFINE_integer("rounds", 5, "Times that each has its turn.", 1)
  flags.DEFINE_integer("steps", 100, "Training steps of a turn.", 1)


def main(_: object) -> None:
  with tempfile.TemporaryDirectory() as folder:
    started = time.perf_counter()
    write(pathlib.Path(folder), FLAGS.images)
    print(f"Wrote {FLAGS.images} files in {time.perf_counter() - started:.0f} s.")
    first = {"cold": _started(folder, "cold")}
    workers = {}
    for kind in ("warm", "arrays"):
      workers[kind] = _worker(folder, kind)
      first[kind] = workers[kind].call("first_step")[1]
    table = {}
    for name in ("fit", "pipeline"):
      timed = {
          kind: functools.partial(worker.seconds, name, FLAGS.steps)
          for kind, worker in workers.items()
      }
      harness.rounds(timed, 1)
      table[name] = harness.summary(harness.rounds(timed, FLAGS.rounds), "arrays")
      for kind, row in table[name].items():
        row["images_per_s"] = FLAGS.steps * streaming._batch_size() / row["median_s"]
        row["memory_growth_bytes"] = workers[kind].call("memory")[1]
    for worker in workers.values():
      worker.close()
  harness.report(
      "To the first step",
      {"": "name", "seconds": "seconds",
       "own memory, MB": lambda row: row["memory_growth_bytes"] / 1e6},
      [{"name": kind, **row} for kind, row in first.items()],
  )
  for name, rows in table.items():
    harness.report(
        name,
        {"": "name", "images/s": "images_per_s", "time / arrays": "median_ratio",
         "own memory, MB": lambda row: row["memory_growth_bytes"] / 1e6},
        [{"name": kind, **row} for kind, row in rows.items()],
    )
  decoded = FLAGS.images * 28 * 28
  harness.save({
      "images": FLAGS.images, "decoded_bytes": decoded, "allowed_bytes": decoded // SHARE,
      "first_step": first, **table,
  })


def write(folder: pathlib.Path, images: int) -> None:
  """The files, below `folder/images`, and the same as `folder/arrays.npy`."""
  rng = np.random.default_rng(0)
  distinct = np.maximum(rng.integers(-1000, 256, (DISTINCT, 28, 28)), 0).astype(np.uint8)
  contents = []
  for pixels in distinct:
    file = folder / "one.png"
    PIL.Image.fromarray(pixels).save(file)
    contents.append(file.read_bytes())
  chosen = rng.integers(DISTINCT, size=images)
  for place in range(FOLDERS):
    (folder / "images" / f"{place:02d}").mkdir(parents=True)
  for place, index in enumerate(chosen):
    name = f"{place // 1000 % FOLDERS:02d}/{place:06d}.png"
    (folder / "images" / name).write_bytes(contents[index])
  np.save(folder / "arrays.npy", distinct[chosen])


def _started(folder: str, kind: str) -> dict[str, float]:
  worker = _worker(folder, kind)
  figures = worker.call("first_step")[1]
  worker.close()
  return figures


def _worker(folder: str, kind: str) -> harness.Worker:
  return harness.Worker(
      "benchmarks.folders:candidate", FLAGS.threads, folder=folder, kind=kind, images=FLAGS.images
  )


def candidate(
    threads: int, folder: str, kind: str, images: int
) -> dict[str, Callable[[int], Any]]:
  """The harness's factory."""
  harness.limit_threads(threads)
  from imae_tf.data import loading

  batch_size = streaming._batch_size()
  model = step.build("float32")
  model.fit(np.zeros((2 * batch_size, *step.PIXELS), "float32"), batch_size=batch_size, verbose=0)
  before = harness._status("RssAnon")
  held: dict[str, Any] = {}

  def memory(_: object) -> int:
    return harness._status("RssAnon") - before

  def first_step(_: object) -> dict[str, float]:
    started = time.perf_counter()
    if kind == "arrays":
      data = loading.load(f"{folder}/arrays.npy")
    else:
      loading.MEMORY_LIMIT = images * 28 * 28 // SHARE
      data = loading.load(f"{folder}/images", cache=f"{folder}/cache")
    held["batches"] = data.train_batches(batch_size, seed=0)
    held["turns"] = streaming._Turns(model, held["batches"])
    held["turns"].take(1)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory_growth_bytes": memory(None)}

  def pipeline(steps: int) -> None:
    for _ in held["batches"].take(steps):
      pass

  return {
      "first_step": first_step,
      "fit": lambda steps: held["turns"].take(steps),
      "pipeline": pipeline,
      "memory": memory,
  }


if __name__ == "__main__":
  define_flags()
  app.run(main)
