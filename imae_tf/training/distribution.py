"""Lets several devices or processes train one model together: their strategy and communication.

`imae-train` calls `open_job`; `training.runs` and `training.fitting` use the `Job`.
"""

import contextlib
import functools
import json
import os
import re
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf._shared import streams
from imae_tf.data import pipelines
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.errors import WorkerLostError

STRATEGIES = ("auto", "none", "mirrored", "multi_worker")
# Errors that mean that another worker is gone; after a kill it was always "unavailable".
_LOST = (tf.errors.DeadlineExceededError, tf.errors.UnavailableError)
# These mean that another worker is gone only if the message speaks of other workers.
_PERHAPS_LOST = (tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)
_OF_OTHERS = re.compile(
    r"collective|connect|socket|peer|coordination service|heartbeat|barrier|remote (task|process)",
    re.IGNORECASE,
)


class Job:
  """One process's view of a training job, of one process or of several.

  Args:
    strategy: a `tf.distribute.Strategy`; None for the strategy in scope.

  Attributes:
    strategy: the strategy.
    num_workers: number of processes.
    is_chief: whether this process writes the files and the terminal for all.
  """

  def __init__(self, strategy: tf.distribute.Strategy | None = None):
    self.strategy = strategy or tf.distribute.get_strategy()
    resolver = self.strategy.cluster_resolver
    tasks = resolver.cluster_spec().as_dict() if resolver else {}
    self.num_workers = max(sum(map(len, tasks.values())), 1)
    self.is_chief = self.num_workers == 1 or self.strategy.extended.should_checkpoint
    self._any = tf.function(lambda flag: self._sum_over_replicas([flag], first_alone=False)[0])

  def say(self, text: str) -> None:
    """Prints a line, once for all workers."""
    if self.is_chief:
      print(text, flush=True)

  def from_chief(self, arrays: Sequence[np.ndarray | np.generic]) -> list[Any]:
    """Gives every worker the chief's NumPy arrays, so that only the chief needs to read files.

    On the other workers, `arrays` only give the shapes and dtypes.
    """
    if self.num_workers == 1:
      return list(arrays)
    own = [np.asarray(a) if self.is_chief else np.zeros_like(a) for a in arrays]
    # Each call makes a new function, because shapes differ. TensorFlow warns if the same code is
    # traced often, also the code of a lambda, but a partial has no code that it would recognise.
    merged = tf.function(functools.partial(self._sum_over_replicas, own, True))()
    return [value.numpy() for value in merged]

  def any(self, flag: bool) -> bool:
    """Whether `flag` is true on any worker."""
    if self.num_workers == 1:
      return bool(flag)
    return bool(self._any(tf.constant(flag, tf.float32)) > 0)

  def _sum_over_replicas(self, values: Sequence[Any], first_alone: bool) -> list[tf.Tensor]:
    def of_replica(*values: tf.Tensor) -> list[tf.Tensor]:
      context = tf.distribute.get_replica_context()
      first = tf.equal(context.replica_id_in_sync_group, 0)
      counts = first if first_alone else True  # the chief may have other replicas, too
      own = [tf.where(counts, value, tf.zeros_like(value)) for value in values]
      return [context.all_reduce("SUM", value) for value in own]  # of one dtype each

    sums = self.strategy.run(of_replica, args=tuple(map(tf.convert_to_tensor, values)))
    return [self.strategy.experimental_local_results(s)[0] for s in sums]

  def train_batches(
      self, data: pipelines.ImageData, batch_size: int, **kwargs: Any
  ) -> tf.data.Dataset:
    """`ImageData.train_batches` of global batches; each replica gets its rows of them."""
    replicas = self.strategy.num_replicas_in_sync
    if replicas == 1:
      return data.train_batches(batch_size, **kwargs)
    if batch_size < replicas:
      raise InputError(
          f"expected a batch_size of at least one image for each of {replicas} replicas, got"
          f" {batch_size}; raise it."
      )
    bounds = np.linspace(0, batch_size, replicas + 1).astype(int).tolist()
    shares = [slice(*pair) for pair in zip(bounds, bounds[1:])]

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
      own = replicas // context.num_input_pipelines
      first = own * context.input_pipeline_id
      return data.train_batches(batch_size, shares=shares[first : first + own], **kwargs)

    distributed = self.strategy.distribute_datasets_from_function(of_worker)
    streams.mark_checked(distributed)
    return distributed

  @contextlib.contextmanager
  def losing_workers(self) -> Iterator[None]:
    """Turns the errors that TensorFlow raises when a worker is gone into a `WorkerLostError`."""
    try:
      yield
    except (*_LOST, *_PERHAPS_LOST) as error:
      reason = first_line(error.message)
      if self.num_workers == 1 or not (isinstance(error, _LOST) or _OF_OTHERS.search(reason)):
        raise
      raise WorkerLostError(
          "another worker of this job has ended, or cannot be reached"
          f" ({reason}); when its messages are dealt with, start every"
          " worker again: they go on from the last checkpoint."
      ) from error


def open_job(strategy: str = "auto") -> Job:
  """Opens a strategy by its name; call it before anything else that uses TensorFlow.

  Args:
    strategy: "none": one device; "mirrored": all visible GPUs; "multi_worker": the processes that
      TF_CONFIG names, each with its GPUs; "auto": "multi_worker" if TF_CONFIG names several, else
      "mirrored" if there are several GPUs, else "none". With "none" and "mirrored" this process is
      alone, whatever TF_CONFIG says.

  Returns:
    `Job`.

  Raises:
    InputError: an unknown name, or TF_CONFIG is missing or cannot be understood.
  """
  if strategy not in STRATEGIES:
    raise InputError(
        f"expected a strategy of {', '.join(STRATEGIES)}, got {strategy!r}; give one of them."
    )
  gpus = tf.config.list_physical_devices("GPU")
  workers = _workers_of_tf_config() if strategy in ("auto", "multi_worker") else []
  if strategy == "multi_worker" or (strategy == "auto" and len(workers) > 1):
    if not workers:
      raise InputError(
          "expected TF_CONFIG for the strategy multi_worker, got none; set it to"
          ' {"cluster": {"worker": ["host1:12345", "host2:12345"]},'
          ' "task": {"type": "worker", "index": 0}}, with its own index on each host.'
      )
    print(f"Waiting for the {len(workers)} workers of TF_CONFIG to start.", flush=True)
    return _multi_worker_job()
  if strategy == "mirrored" or (strategy == "auto" and len(gpus) > 1):
    with _without_tf_config():  # TensorFlow would read it, and raise errors of its own
      return Job(tf.distribute.MirroredStrategy())
  return Job()


@contextlib.contextmanager
def _without_tf_config() -> Iterator[None]:
  text = os.environ.pop("TF_CONFIG", None)
  try:
    yield
  finally:
    if text is not None:
      os.environ["TF_CONFIG"] = text


def _multi_worker_job() -> Job:
  try:
    return Job(tf.distribute.MultiWorkerMirroredStrategy())
  except tf.errors.OpError as error:
    raise WorkerLostError(
        f"expected to join the workers of TF_CONFIG, got: {first_line(error.message)}; start"
        " all of them, on hosts and ports that reach each other."
    ) from error


def _workers_of_tf_config() -> list[str]:
  """The addresses of the processes that TF_CONFIG names; empty when it is not set."""
  text = os.environ.get("TF_CONFIG")
  if not text:
    return []
  try:
    config = json.loads(text)
    tasks = config.get("cluster", {})
    workers = [address for addresses in tasks.values() for address in addresses]
    if not all(re.fullmatch(r".+:\d+", address) for address in workers):
      raise ValueError("an address is not host:port")
    unknown = sorted(tasks.keys() - {"chief", "worker"})
    if tasks and not unknown:
      task, index = tasks[config["task"]["type"]], str(config["task"]["index"])
      if not index.isdecimal() or int(index) >= len(task):
        raise ValueError(f"no index {index} among {len(task)}")
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise InputError(
        'expected TF_CONFIG like {"cluster": {"worker": ["host1:12345", "host2:12345"]},'
        f' "task": {{"type": "worker", "index": 0}}}}, got {text!r}'
        f" ({type(error).__name__}: {error}); correct it, or give --strategy=none, which does not"
        " look at it."
    ) from error
  if unknown:
    raise InputError(
        f"expected chief and worker tasks in TF_CONFIG, got {unknown[0]!r}; leave it out, or"
        " give --strategy=none, which does not look at TF_CONFIG."
    )
  return workers


@contextlib.contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
  """Yields a function that says whether SIGTERM has come; the signal does not end the process.

  Platforms send SIGTERM before they take a machine away. Only the main thread can catch signals; in
  another thread the function always says no.
  """
  event = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield event.is_set
    return
  before = signal.signal(signal.SIGTERM, lambda number, frame: event.set())
  try:
    yield event.is_set
  finally:
    signal.signal(signal.SIGTERM, before)
