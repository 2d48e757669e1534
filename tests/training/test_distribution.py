"""The processes of a job: TF_CONFIG, what they agree on, and SIGTERM.

Jobs of several processes are in integration/test_distribution.py.
"""

import json
import os
import signal
import threading

import numpy as np
import pytest
import tensorflow as tf

from imae_tf.data import loading
from imae_tf.errors import InputError
from imae_tf.errors import WorkerLostError
from imae_tf.training import distribution
from imae_tf.training import runs

TWO = {"worker": ["localhost:1", "localhost:2"]}


@pytest.fixture(autouse=True)
def no_tf_config(monkeypatch):
  monkeypatch.delenv("TF_CONFIG", raising=False)


# ---- open_job ---------------------------------------------------------------------------------


def test_without_tf_config_and_gpus_a_process_is_alone():
  for strategy in ("auto", "none"):
    job = distribution.open_job(strategy)
    assert job.num_workers == 1 and job.is_chief
    assert job.strategy.num_replicas_in_sync == 1


def test_a_job_of_one_address_and_the_strategy_none_open_no_port(monkeypatch):
  one = {"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 0}}
  two = {"cluster": TWO, "task": {"type": "worker", "index": 1}}
  for strategy, config in (("auto", one), ("none", two)):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert distribution.open_job(strategy).strategy is tf.distribute.get_strategy()


@pytest.mark.parametrize(
    "text",
    [
        "{cluster: worker}",
        json.dumps({"cluster": {"ps": ["localhost:1"]}, "task": {"type": "ps", "index": 0}}),
        json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 1}}),
    ],
    ids=["not JSON", "another task", "two workers"],
)
@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_a_process_that_is_to_be_alone_does_not_look_at_tf_config(monkeypatch, strategy, text):
  """TensorFlow's MirroredStrategy would, and raise an error of JSON's."""
  monkeypatch.setenv("TF_CONFIG", text)
  job = distribution.open_job(strategy)
  assert job.num_workers == 1 and job.is_chief
  assert os.environ["TF_CONFIG"] == text  # the variable stays the user's


def test_an_unknown_strategy_is_refused():
  with pytest.raises(InputError, match="auto, none, mirrored, multi_worker, got 'tpu'"):
    distribution.open_job("tpu")


@pytest.mark.parametrize("text", [None, "", "{}", '{"cluster": {}}'])
def test_several_workers_need_tf_config(monkeypatch, text):
  if text is not None:
    monkeypatch.setenv("TF_CONFIG", text)
  with pytest.raises(InputError, match="TF_CONFIG for the strategy multi_worker, got none"):
    distribution.open_job("multi_worker")


@pytest.mark.parametrize("strategy", ["auto", "multi_worker"])
@pytest.mark.parametrize(
    "config",
    [
        "{cluster: worker}",
        "[]",
        "null",
        {"cluster": ["localhost:1", "localhost:2"]},
        {"cluster": TWO},
        {"cluster": TWO, "task": {"index": 0}},
        {"cluster": TWO, "task": {"type": "worker"}},
        {"cluster": TWO, "task": {"type": "chief", "index": 0}},
        {"cluster": TWO, "task": {"type": "worker", "index": 2}},
        {"cluster": TWO, "task": {"type": "worker", "index": -1}},
        {"cluster": TWO, "task": {"type": "worker", "index": "first"}},
        {"cluster": {"worker": "localhost:1"}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": ["localhost:1", "host"]}, "task": {"type": "worker", "index": 0}},
    ],
    ids=[
        "not JSON", "a list", "null", "tasks as a list", "no task", "no type", "no index",
        "unknown task", "index too large", "negative index",
        "index that is no number", "addresses as text", "no port",
    ],
)
def test_a_tf_config_that_makes_no_sense_is_quoted_before_anything_starts(
    monkeypatch, strategy, config
):
  text = config if isinstance(config, str) else json.dumps(config)
  monkeypatch.setenv("TF_CONFIG", text)
  monkeypatch.setattr(
      tf.distribute, "MultiWorkerMirroredStrategy", lambda: pytest.fail("it was believed")
  )
  with pytest.raises(InputError) as error:
    distribution.open_job(strategy)
  assert str(error.value).startswith('expected TF_CONFIG like {"cluster": {"worker": [')
  assert repr(text) in str(error.value)


@pytest.mark.parametrize("task", ["ps", "evaluator"])
def test_tasks_that_do_not_train_are_refused(monkeypatch, task):
  config = {"cluster": {**TWO, task: ["localhost:3"]}, "task": {"type": "worker", "index": 0}}
  monkeypatch.setenv("TF_CONFIG", json.dumps(config))
  with pytest.raises(InputError, match=f"chief and worker tasks in TF_CONFIG, got '{task}'"):
    distribution.open_job()


@pytest.mark.parametrize(
    "error", [tf.errors.DeadlineExceededError, tf.errors.UnavailableError, tf.errors.UnknownError]
)
def test_workers_that_do_not_meet_are_one_line(monkeypatch, error):
  def fail():
    raise error(None, None, "Barrier timed out.\n\tDetails follow")

  monkeypatch.setenv(
      "TF_CONFIG", json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 0}})
  )
  monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", fail)
  with pytest.raises(WorkerLostError) as caught:
    distribution.open_job()
  assert str(caught.value) == (
      "expected to join the workers of TF_CONFIG, got: Barrier timed out.; start all of them,"
      " on hosts and ports that reach each other."
  )


# ---- a job of one process -----------------------------------------------------------------------


def test_what_the_chief_has_is_its_own_in_a_job_of_one():
  arrays = [np.arange(3.0), np.int64(2**40)]
  for ours, theirs in zip(distribution.Job().from_chief(arrays), arrays, strict=True):
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("flag", [False, True])
def test_any_of_one_worker_is_its_own_flag(flag):
  assert distribution.Job().any(flag) is flag


def test_the_chief_says_a_line(capsys):
  distribution.Job().say("Going on.")
  assert capsys.readouterr().out == "Going on.\n"


def test_workers_that_are_not_the_chief_say_nothing(capsys):
  job = distribution.Job()
  job.is_chief = False
  job.say("Going on.")
  assert capsys.readouterr().out == ""


def test_batches_of_one_replica_are_those_of_the_data():
  class Data:
    def train_batches(self, *args, **kwargs):
      return args, kwargs

  assert distribution.Job().train_batches(Data(), 64, seed=1) == ((64,), {"seed": 1})


def test_errors_of_a_process_alone_are_no_lost_workers():
  with pytest.raises(tf.errors.UnavailableError), distribution.Job().losing_workers():
    raise tf.errors.UnavailableError(None, None, "of a file system")


def test_errors_of_collectives_are_lost_workers_and_ours_stay_ours():
  job = distribution.Job()
  job.num_workers = 2
  with pytest.raises(WorkerLostError, match=r"another worker .* \(Socket closed\); .*again"):
    with job.losing_workers():
      raise tf.errors.UnavailableError(None, None, "Socket closed\nMore")
  with pytest.raises(InputError), job.losing_workers():
    raise InputError("expected a, got b.")


@pytest.mark.parametrize(
    "error", [tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError]
)
def test_an_error_with_other_causes_must_speak_of_another_worker(error):
  job = distribution.Job()
  job.num_workers = 2
  node = "{{function_node __wrapped__CollectiveReduceV2_device_/job:worker/task:0}} "
  lost = node + "Collective ops is aborted by: Connection reset by peer\nMore"
  with pytest.raises(WorkerLostError, match=r"\(Collective ops is aborted by: Connection"):
    with job.losing_workers():
      raise error(None, None, lost)
  with pytest.raises(error), job.losing_workers():
    raise error(None, None, node + "Blas GEMM launch failed")


def test_the_path_of_the_data_alone_may_differ_between_workers(tmp_path, rng):
  def images(count=50, first=0.5, **labels):
    x = everything[:count].copy()
    x[0, 0, 0] = first
    np.savez(tmp_path / "images.npz", x=x, **labels)
    return loading.load(str(tmp_path / "images.npz"))

  everything = rng.random((60, 4, 4))
  job = distribution.Job()
  job.num_workers = 2
  chief = {"dataset": "/a/images.npz", "seed": 1, "settings": {"beta": 5.0}}
  said = []
  job.from_chief = lambda arrays: said.extend(arrays) or arrays
  runs._check_same_command(job, chief, images())
  job.from_chief = lambda arrays: said
  runs._check_same_command(job, {**chief, "dataset": "/b/images.npz"}, images())
  for other, data in (
      ({"seed": 2}, images()),
      ({"settings": {"beta": 5.5}}, images()),
      ({}, images(count=60)),
      ({}, images(first=0.75)),
      ({}, images(y=np.arange(50) % 3)),
  ):
    with pytest.raises(InputError, match="the same command on every worker"):
      runs._check_same_command(job, {**chief, **other}, data)


# ---- SIGTERM ------------------------------------------------------------------------------------


def test_sigterm_is_noted_and_the_handler_restored():
  heard = []
  before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
  try:
    with distribution.sigterm_noted() as came:
      assert not came()
      os.kill(os.getpid(), signal.SIGTERM)
      assert came() and heard == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]
  finally:
    signal.signal(signal.SIGTERM, before)


def test_the_handler_is_restored_after_an_error():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(KeyError), distribution.sigterm_noted():
    raise KeyError
  assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_the_main_thread_no_signal_is_caught():
  before, answers = signal.getsignal(signal.SIGTERM), []

  def ask():
    with distribution.sigterm_noted() as came:
      answers.extend([came(), signal.getsignal(signal.SIGTERM) is before])

  thread = threading.Thread(target=ask)
  thread.start()
  thread.join()
  assert answers == [False, True]
