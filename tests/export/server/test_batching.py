"""Batches of requests that wait: what runs together, what is refused, what becomes of failures."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
from waits import failure
from waits import until

from imae_tf.export.server import batching
from imae_tf.export.server.batching import ServingError

_TIMEOUT = 30  # seconds; a machine may be busy


class Recorder:
  """A slow graph: records the rows of its batches, and runs only once released."""

  def __init__(self):
    self.batches, self.go = [], threading.Event()

  def __call__(self, inputs):
    self.go.wait(_TIMEOUT)
    self.batches.append(inputs["x"][:, 0].tolist())
    if np.isnan(inputs["x"]).any():
      raise ServingError("INVALID_ARGUMENT", "nan")
    return {"y": 2 * inputs["x"]}


@pytest.fixture
def recorder():
  return Recorder()


@pytest.fixture
def batcher():
  """A function that makes a batcher of one worker."""
  made = []

  def make(max_batch_size=4, timeout=0.0, max_queue=100):
    made.append(batching.Batcher(max_batch_size, timeout, max_queue, workers=1))
    return made[-1]

  yield make
  for batcher in made:
    batcher.close(0)


def rows(*values):
  return {"x": np.array(values, "float32")[:, None]}


def submit(batcher, recorder, *values, kind="a", deadline=None):
  return batcher.submit(kind, recorder, rows(*values), len(values), deadline)


def occupy(batcher, recorder):
  """A first request that keeps the worker busy until the recorder is released."""
  first = submit(batcher, recorder, -1, kind="first")
  until(first.running)
  return first


class TestBatcher:

  def test_what_waits_runs_together_and_gets_its_own_rows(self, batcher, recorder):
    batcher = batcher()
    occupy(batcher, recorder)
    futures = [submit(batcher, recorder, *v) for v in [(1,), (2, 3), (4,), (5,), ()]]
    recorder.go.set()
    answers = [future.result(_TIMEOUT)["y"][:, 0].tolist() for future in futures]
    assert answers == [[2], [4, 6], [8], [10], []]
    assert recorder.batches == [[-1], [1, 2, 3, 4], [5]]

  def test_kinds_do_not_mix_and_a_large_request_runs_alone(self, batcher, recorder):
    batcher = batcher()
    occupy(batcher, recorder)
    futures = [
        submit(batcher, recorder, 1),
        submit(batcher, recorder, 2, kind="b"),
        submit(batcher, recorder, *range(9), kind="b"),
        batcher.submit("b", recorder, rows(7), None),
        submit(batcher, recorder, 3),
    ]
    recorder.go.set()
    for future in futures:
      future.result(_TIMEOUT)
    assert sorted(recorder.batches[1:]) == [list(range(9)), [1, 3], [2], [7]]

  def test_a_bad_request_fails_alone(self, batcher, recorder):
    batcher = batcher()
    occupy(batcher, recorder)
    good, bad, other = (submit(batcher, recorder, v) for v in (1, np.nan, 2))
    recorder.go.set()
    assert failure(lambda: bad).code == "INVALID_ARGUMENT"
    assert [f.result(_TIMEOUT)["y"][0, 0] for f in (good, other)] == [2, 4]

  def test_a_bad_request_costs_its_batch_few_runs(self, batcher, recorder):
    batcher = batcher(max_batch_size=64)
    occupy(batcher, recorder)
    futures = [submit(batcher, recorder, np.nan if v == 21 else v) for v in range(64)]
    recorder.go.set()
    for v, future in enumerate(futures):
      if v == 21:
        assert failure(lambda: future).code == "INVALID_ARGUMENT"
      else:
        assert future.result(_TIMEOUT)["y"][0, 0] == 2 * v
    assert len(recorder.batches) == 1 + 1 + 2 * 6  # it is halved six times

  def test_an_idle_worker_waits_for_company_until_the_timeout(self, batcher, recorder):
    recorder.go.set()
    batcher = batcher(max_batch_size=3, timeout=0.3)
    start = time.monotonic()
    submit(batcher, recorder, 1).result(_TIMEOUT)
    assert time.monotonic() - start >= 0.3
    assert recorder.batches == [[1]]

  def test_a_full_batch_waits_for_nobody(self, batcher, recorder):
    recorder.go.set()
    batcher = batcher(max_batch_size=3, timeout=2 * _TIMEOUT)
    for future in [submit(batcher, recorder, v) for v in (1, 2, 3)]:
      future.result(_TIMEOUT)
    assert recorder.batches == [[1, 2, 3]]

  def test_what_is_answered_is_not_kept(self, batcher, recorder):
    """Without a collector: inputs are few and large, so that it hardly ever comes."""
    recorder.go.set()
    batcher, inputs = batcher(), rows(1)
    kept = weakref.ref(inputs["x"])
    gc.disable()
    try:
      future = batcher.submit("a", recorder, inputs, 1)
      future.result(_TIMEOUT)
      del inputs
      until(lambda: batcher._workers[0].is_alive() and kept() is None)
    finally:
      gc.enable()

  def test_a_full_queue_refuses(self, batcher, recorder):
    batcher = batcher(max_queue=2)
    occupy(batcher, recorder)
    waiting = [submit(batcher, recorder, v) for v in (1, 2)]
    assert failure(submit, batcher, recorder, 3).code == "RESOURCE_EXHAUSTED"
    recorder.go.set()
    for future in waiting:
      future.result(_TIMEOUT)
    submit(batcher, recorder, 4).result(_TIMEOUT)  # there is room again

  def test_a_cancelled_request_gives_up_its_place(self, batcher, recorder):
    batcher = batcher(max_batch_size=4, max_queue=2)
    occupy(batcher, recorder)
    for future in [submit(batcher, recorder, 1, 2, 3), submit(batcher, recorder, 4)]:
      assert future.cancel()
    futures = [submit(batcher, recorder, *v) for v in [(5, 6), (7, 8)]]
    recorder.go.set()
    for future in futures:
      future.result(_TIMEOUT)
    assert recorder.batches == [[-1], [5, 6, 7, 8]]

  def test_late_and_cancelled_requests_do_not_run(self, batcher, recorder):
    batcher = batcher()
    occupy(batcher, recorder)
    late = submit(batcher, recorder, 1, deadline=time.monotonic())
    cancelled = submit(batcher, recorder, 2)
    good = submit(batcher, recorder, 3, deadline=time.monotonic() + _TIMEOUT)
    assert cancelled.cancel()
    time.sleep(0.01)
    recorder.go.set()
    assert failure(lambda: late).code == "DEADLINE_EXCEEDED"
    good.result(_TIMEOUT)
    assert recorder.batches == [[-1], [3]]

  def test_closing_answers_what_waits_and_refuses_the_rest(self, batcher, recorder):
    batcher = batcher()
    first = occupy(batcher, recorder)
    waiting = submit(batcher, recorder, 1)
    closer = threading.Thread(target=batcher.close, args=(_TIMEOUT,))
    closer.start()
    until(lambda: batcher._closed)
    assert failure(submit, batcher, recorder, 2).code == "UNAVAILABLE"
    recorder.go.set()
    closer.join()
    assert first.done() and waiting.result(0)["y"][0, 0] == 2

  def test_closing_without_grace_says_so(self, batcher, recorder):
    batcher = batcher()
    occupy(batcher, recorder)
    waiting = submit(batcher, recorder, 1)
    batcher.close(0)
    assert failure(lambda: waiting).code == "UNAVAILABLE"
    recorder.go.set()
