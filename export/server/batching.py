"""Runs requests that wait together, with a bounded queue, batches and deadlines.

`core.Server` gives its requests to a `Batcher`. One run of a graph takes about as long for one
image as for sixteen, so requests that come while the workers are busy are run as one batch. This
module knows neither models nor protocols.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
from typing import Any

import numpy as np

from imae_tf.errors import ImaeError

Arrays = dict[str, np.ndarray]


class Answer(concurrent.futures.Future[Arrays]):
  """The future of {name: array}.

  Attributes:
    version: the number of the version that answers; `core` sets it.
  """

  version: int


class ServingError(ImaeError):
  """A request that failed.

  Attributes:
    code: canonical name of the gRPC status, such as "INVALID_ARGUMENT".
    message: one sentence.
  """

  def __init__(self, code: str, message: str) -> None:
    super().__init__(message)
    self.code = code
    self.message = message

  def __reduce__(self) -> tuple[Any, ...]:  # the default one would leave out an argument
    return type(self), (self.code, self.message)


@dataclasses.dataclass(eq=False)
class _Request:
  inputs: Arrays
  rows: int
  run: Callable[[Arrays], Arrays]
  deadline: float | None
  since: float
  future: Answer


class _Queue(collections.deque[_Request]):
  """Requests that may be merged, with the number of their rows."""

  rows = 0


class Batcher:
  """Workers that run requests of the same kind together.

  Args:
    max_batch_size: most rows in a batch of several requests; a larger request runs alone.
    batch_timeout_s: how long a request may wait for others while a worker is idle.
    max_queue: number of requests that may wait; one more gets RESOURCE_EXHAUSTED.
    workers: number of batches that run at a time.
  """

  def __init__(
      self, max_batch_size: int, batch_timeout_s: float, max_queue: int, workers: int
  ) -> None:
    self._max_batch_size = max_batch_size
    self._timeout = batch_timeout_s
    self._max_queue = max_queue
    self._queues: dict[Hashable, _Queue] = {}  # by kind, none of them empty
    self._waiting = 0
    self._closed = False
    self._condition = threading.Condition()
    self._workers = [
        threading.Thread(target=self._work, name=f"batch-{i}", daemon=True)
        for i in range(workers)
    ]
    for worker in self._workers:
      worker.start()

  def submit(
      self,
      kind: Hashable,
      run: Callable[[Arrays], Arrays],
      inputs: Arrays,
      rows: int | None,
      deadline: float | None = None,
  ) -> Answer:
    """Queues a request.

    Args:
      kind: hashable; requests of one kind have the same `run` and inputs whose first
        dimensions can be joined.
      run: function of {name: array} that returns {name: array}, as many rows in each.
      inputs: {name: array}.
      rows: the size of the first dimension; None if the request must run alone.
      deadline: time of `time.monotonic` after which nobody waits for the answer; or None.

    Returns:
      A future of {name: array}, or of a `ServingError`.

    Raises:
      ServingError: RESOURCE_EXHAUSTED or, once closed, UNAVAILABLE.
    """
    kind, rows = (object(), 1) if rows is None else (kind, rows)
    future = Answer()
    request = _Request(inputs, rows, run, deadline, time.monotonic(), future)
    with self._condition:
      if self._closed:
        raise closing()
      if self._waiting >= self._max_queue:
        raise ServingError(
            "RESOURCE_EXHAUSTED",
            f"expected at most {self._max_queue} waiting requests, got one more; try again later.",
        )
      queue = self._queues.setdefault(kind, _Queue())
      queue.append(request)
      queue.rows += rows
      self._waiting += 1
      self._condition.notify()
    future.add_done_callback(functools.partial(self._forget, kind))
    return future

  def close(self, grace: float) -> None:
    """Refuses new requests and finishes those that wait, for `grace` seconds at most."""
    until = time.monotonic() + grace
    with self._condition:
      self._closed = True
      self._condition.notify_all()
    for worker in self._workers:
      worker.join(max(0.0, until - time.monotonic()))
    with self._condition:
      late = [request for queue in self._queues.values() for request in queue]
      self._queues.clear()
    for request in late:
      if request.future.set_running_or_notify_cancel():
        request.future.set_exception(closing())

  def _forget(self, kind: Hashable, future: Answer) -> None:
    """Removes a request that was cancelled while it waited, so that others get its place."""
    # The function gets no reference to the request: the future would then keep it, and its inputs,
    # in a cycle.
    if not future.cancelled():
      return
    with self._condition:
      queue = self._queues.get(kind, _Queue())
      for request in [request for request in queue if request.future is future]:
        queue.remove(request)
        queue.rows -= request.rows
        self._waiting -= 1
        if not queue:
          del self._queues[kind]

  def _work(self) -> None:
    while True:
      batch = self._take()
      if batch is None:
        return
      batch = [request for request in batch if _is_wanted(request)]
      if batch:
        _answer(batch)
      del batch  # otherwise an idle worker would keep the last inputs in memory

  def _take(self) -> list[_Request] | None:
    """Waits for the next batch and returns it; None after the batcher is closed and empty."""
    with self._condition:
      while True:
        now = time.monotonic()
        kind, due = self._next()
        if self._queues and (due <= now or self._closed):
          batch = self._pop(kind)
          if self._queues:
            self._condition.notify()
          return batch
        if not self._queues and self._closed:
          return None
        self._condition.wait(due - now if self._queues else None)

  def _next(self) -> tuple[Hashable, float]:
    """(kind of the queue that is due first, its time); (None, infinity) if there is no queue."""
    found: tuple[Hashable, float] = None, math.inf
    for kind, queue in self._queues.items():
      full = queue.rows >= self._max_batch_size
      due = queue[0].since + (0.0 if full else self._timeout)
      if due < found[1]:
        found = kind, due
    return found

  def _pop(self, kind: Hashable) -> list[_Request]:
    queue = self._queues[kind]
    batch: list[_Request] = []
    rows = 0
    while queue and (not batch or rows + queue[0].rows <= self._max_batch_size):
      batch.append(queue.popleft())
      rows += batch[-1].rows
    queue.rows -= rows
    self._waiting -= len(batch)
    if not queue:
      del self._queues[kind]
    return batch


def _is_wanted(request: _Request) -> bool:
  """Whether somebody still waits for a request; after its deadline it gets an error."""
  if not request.future.set_running_or_notify_cancel():
    return False
  if request.deadline is not None and time.monotonic() > request.deadline:
    request.future.set_exception(
        ServingError("DEADLINE_EXCEEDED", "expected to start before the deadline, got no turn;"
                     " allow more time or send fewer requests at once.")
    )
    return False
  return True


def _answer(batch: Sequence[_Request]) -> None:
  """Runs requests together; if that fails, in halves, so that a bad request harms no other."""
  try:
    answers = _run(batch)
  except Exception as error:  # every error goes to somebody who waits for an answer
    if len(batch) == 1:
      batch[0].future.set_exception(error)
    else:
      middle = len(batch) // 2
      _answer(batch[:middle])
      _answer(batch[middle:])
    return
  for request, answer in zip(batch, answers, strict=True):
    request.future.set_result(answer)


def _run(batch: Sequence[_Request]) -> list[Arrays]:
  """[{name: array}], an answer for each request."""
  if len(batch) == 1:
    return [batch[0].run(batch[0].inputs)]
  inputs = {
      name: np.concatenate([request.inputs[name] for request in batch])
      for name in batch[0].inputs
  }
  outputs = batch[0].run(inputs)
  ends = np.cumsum([request.rows for request in batch])
  if any(value.ndim == 0 or len(value) != ends[-1] for value in outputs.values()):
    raise ValueError("outputs of other rows than the inputs'")  # each request then runs alone
  parts = {name: np.split(value, ends[:-1]) for name, value in outputs.items()}
  return [{name: part[i] for name, part in parts.items()} for i in range(len(batch))]


def closing() -> ServingError:
  """The error of a request that comes too late."""
  return ServingError(
      "UNAVAILABLE", "expected a server that runs, got one that shuts down; try another, or later."
  )
