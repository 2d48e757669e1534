"""Images per second of `fit` on a data set ten times larger than the memory it may use.

    python -m benchmarks.streaming --output=streaming.json

Two TFDS data sets of encoded 28x28 images are written to a temporary folder, one with a
tenth of the other's images. One process trains on the small one, which `data.load` holds in
memory; another on the large one, with `data.MEMORY_LIMIT` at a tenth of its decoded bytes,
so that it is streamed. Both take the real step of MNIST's recipe, in one call of `fit` each,
and in turn (`harness.py`): a callback holds `fit` between turns, and the input pipelines
stand still with their processes.

Before it opens the data set, the streaming process has trained on images in memory. From
there on it may not take more than a tenth of the decoded bytes while it trains: the kernel
refuses it more private memory (RLIMIT_DATA, which also counts what is reserved and never
touched), and its resident memory is read after every turn.

Afterwards, without that limit, the input pipelines run without training, and so do the
streaming one's stages: their time, and what they take of all cores together, which is what
streaming takes from the step.
"""

import functools
import pathlib
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
from absl import app
from absl import flags

from benchmarks import harness
from benchmarks import step

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

FLAGS = flags.FLAGS

SHARE = 10  # how many times larger the data set is than the memory
DISTINCT = 5_000  # encoded images, repeated in random order
SHARDS = 16


def define_flags() -> None:
  harness.define_flags()
  flags.DEFINE_integer("images", 4_000_000, "Of the large data set.", 10_000)
  flags.DEFINE_enum("precision", "mixed_bfloat16", step.PRECISIONS, "Of the networks.")
  flags.DEFINE_integer("rounds", 9, "Times that each has its turn.", 1)
  flags.DEFINE_integer("steps", 80, "Training steps of a turn.", 1)


def main(_: object) -> None:
  decoded = FLAGS.images * 28 * 28
  with tempfile.TemporaryDirectory() as folder:
    write_in_process(folder)
    workers = {
        "in memory": _worker(folder, "small", 0),
        "streamed": _worker(folder, "large", decoded // SHARE),
    }
    timed = {
        name: functools.partial(worker.seconds, "fit", FLAGS.steps)
        for name, worker in workers.items()
    }
    harness.rounds(timed, 1)
    table = harness.summary(harness.rounds(timed, FLAGS.rounds), "in memory")
    memory = workers["streamed"].call("memory")[1]
    for name, worker in workers.items():
      table[name]["images_per_s"] = FLAGS.steps * _batch_size() / table[name]["median_s"]
      table[name]["pipeline"] = worker.call("pipeline")[1]
    stages = workers["streamed"].call("stages")[1]
    for worker in workers.values():
      worker.close()
  harness.report(
      "fit",
      {"data set": "name", "images/s": "images_per_s", "time / in memory": "median_ratio",
       "pipeline alone, images/s": lambda row: row["pipeline"]["images_per_s"],
       "CPU us/image": lambda row: row["pipeline"]["cpu_us_per_image"]},
      [{"name": name, **row} for name, row in table.items()],
  )
  print(f"Decoded: {decoded / 1e6:.0f} MB. Memory: +{memory['memory_growth_bytes'] / 1e6:.0f} MB"
        f" of {decoded / SHARE / 1e6:.0f} MB allowed.")
  harness.report(
      "Stages of the streaming pipeline, each with those before it",
      {"stage": "name", "images/s": "images_per_s", "CPU us/image": "cpu_us_per_image"},
      [{"name": name, **row} for name, row in stages.items()],
  )
  harness.save({
      "precision": FLAGS.precision,
      "images": FLAGS.images,
      "decoded_bytes": decoded,
      "allowed_bytes": decoded // SHARE,
      "speed_ratio": 1.0 / table["streamed"]["median_ratio"],
      **memory,
      "candidates": table,
      "stages": stages,
  })


def _worker(folder: str, name: str, limit: int) -> harness.Worker:
  return harness.Worker(
      "benchmarks.streaming:candidate",
      FLAGS.threads,
      folder=folder,
      name=name,
      limit=limit,
      precision=FLAGS.precision,
  )


def _batch_size() -> int:
  from imae_tf import recipes

  return recipes.TUNED["mnist"].batch_size


# --- the data sets --------------------------------------------------------------------------


def write_in_process(folder: str) -> None:
  """Writes both data sets from a process of its own, so that this one stays small."""
  worker = harness.Worker(
      "benchmarks.streaming:writer", FLAGS.threads, folder=folder, images=FLAGS.images
  )
  print(f"Wrote the data sets in {worker.seconds('write'):.0f} s.")
  worker.close()


def writer(threads: int, folder: str, images: int) -> dict[str, Callable[[int], None]]:
  """The harness's factory."""
  harness.limit_threads(threads)

  def write(_: object) -> None:
    records = _records()
    _write(folder, "large", images, records)
    _write(folder, "small", images // SHARE, records)

  return {"write": write}


def _features() -> Any:
  import tensorflow_datasets as tfds

  return tfds.features.FeaturesDict({
      "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
      "label": tfds.features.ClassLabel(num_classes=10),
  })


def _records() -> list[bytes]:
  """Serialized examples of distinct images, sparse like strokes."""
  features = _features()
  rng = np.random.default_rng(0)
  records = []
  for _ in range(DISTINCT):
    pixels = np.maximum(rng.integers(-1000, 256, (28, 28, 1)), 0).astype("uint8")
    example = {"image": pixels, "label": int(rng.integers(10))}
    records.append(features.serialize_example(example))
  return records


def _write(folder: str, name: str, images: int, records: Sequence[bytes]) -> None:
  """A TFDS data set `name` 1.0.0 with splits "train" and "test"."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  target = pathlib.Path(folder, name, "1.0.0")
  target.mkdir(parents=True)
  rng = np.random.default_rng(1)
  sizes = {"train": [images // SHARDS] * SHARDS, "test": [1000]}
  for split, shards in sizes.items():
    for i, size in enumerate(shards):
      file = target / f"{name}-{split}.tfrecord-{i:05d}-of-{len(shards):05d}"
      with tf.io.TFRecordWriter(str(file)) as output:
        for index in rng.integers(DISTINCT, size=size):
          output.write(records[index])
  template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
  tfds.folder_dataset.write_metadata(
      data_dir=str(target),
      features=_features(),
      split_infos=[
          tfds.core.SplitInfo(
              name=split,
              shard_lengths=shards,
              num_bytes=0,
              filename_template=tfds.core.ShardedFileTemplate(
                  data_dir=target, template=template, dataset_name=name, split=split,
                  filetype_suffix="tfrecord",
              ),
          )
          for split, shards in sizes.items()
      ],
      check_data=False,
  )


# --- training on them -----------------------------------------------------------------------


def candidate(
    threads: int, folder: str, name: str, limit: int, precision: str
) -> dict[str, Callable[[int], Any]]:
  """The harness's factory; a limit of 0 leaves the process all memory."""
  import os

  harness.limit_threads(threads)
  os.environ["TFDS_DATA_DIR"] = folder
  from imae_tf.data import loading
  from imae_tf.data import pipelines

  batch_size = _batch_size()
  model = step.build(precision)
  model.fit(np.zeros((2 * batch_size, *step.PIXELS), "float32"), batch_size=batch_size, verbose=0)
  before = harness.resident_memory()
  if limit:
    loading.MEMORY_LIMIT = limit
    _cap(limit)
  data = loading.load(name)
  assert isinstance(data, pipelines.StreamedData) == bool(limit)
  batches = data.train_batches(batch_size, seed=0)
  turns = _Turns(model, batches)
  peak = [before]

  def fit(steps: int) -> None:
    turns.take(steps)
    peak.append(harness.resident_memory())

  def pipeline(_: object) -> dict[str, float]:
    _uncap()
    return _rate(batches, batch_size)

  return {
      "fit": fit,
      "memory": lambda _: {"memory_growth_bytes": max(peak) - before, "before_bytes": before},
      "pipeline": pipeline,
      "stages": lambda _: stages(data, batch_size),
  }


def _cap(limit: int) -> None:
  """Refuses the process more than `limit` bytes of private memory beyond what it has."""
  status = pathlib.Path("/proc/self/status").read_text()
  private = int(status.split("VmData:")[1].split()[0]) * 1024
  resource.setrlimit(resource.RLIMIT_DATA, (private + limit, resource.RLIM_INFINITY))


def _uncap() -> None:
  resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)


class _Turns:
  """One endless `fit` in a thread, which takes as many steps as it is told and waits."""

  def __init__(self, model: "HybridAutoencoder", batches: Any) -> None:
    import keras

    self._allowed, self._done = threading.Semaphore(0), threading.Semaphore(0)
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs=None: self._allowed.acquire(),
        on_train_batch_end=lambda batch, logs=None: self._done.release(),
    )
    fit = functools.partial(
        model.fit, batches, steps_per_epoch=10**9, shuffle=False, verbose=0, callbacks=[callback]
    )
    self._thread = threading.Thread(target=fit, daemon=True)
    self._thread.start()

  def take(self, steps: int) -> None:
    self._allowed.release(steps)
    for _ in range(steps):
      while not self._done.acquire(timeout=10.0):
        if not self._thread.is_alive():
          raise RuntimeError("fit has ended.")


def stages(data: Any, batch_size: int) -> dict[str, dict[str, float]]:
  """Rates of the streaming pipeline, one stage after the other.

  These are the stages of `StreamedData`, made again from its attributes.
  """
  import tensorflow as tf

  from imae_tf.data import stages as data_stages

  read = data.records["train"].repeat()
  windows = data_stages.shuffled_windows(read, data.window, [0, 0])
  shuffled = windows.rebatch(batch_size, drop_remainder=True)
  parsed = shuffled.map(data.parse, num_parallel_calls=tf.data.AUTOTUNE)
  return {
      "read": _rate(read.batch(batch_size), batch_size),
      "shuffle": _rate(shuffled, batch_size),
      "parse": _rate(parsed, batch_size),
      "decode": _rate(data._decoded(shuffled), batch_size),
  }


def _rate(batches: Any, batch_size: int, seconds: float = 4.0) -> dict[str, float]:
  """{"images_per_s", "cpu_us_per_image"} of a data set, after two seconds of warming up."""
  # Batches stay in TensorFlow, of which Python sees the sizes.
  iterator = iter(batches.map(lambda *batch: len(batch[0])))
  for duration in (2.0, seconds):
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < duration:
      next(iterator)
      count += batch_size
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
  return {"images_per_s": count / elapsed, "cpu_us_per_image": 1e6 * cpu / count}


if __name__ == "__main__":
  define_flags()
  app.run(main)
