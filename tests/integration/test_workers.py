"""One training run on several replicas and in several processes: the run of one."""

import json
import os
import re
import signal
import socket
import warnings

import configurations
import keras
import numpy as np
import programs
import pytest
import sklearn.datasets
import tensorflow as tf

import imae_tf
from imae_tf import optimizers
from imae_tf._shared import global_batch
from imae_tf.data import loading
from imae_tf.errors import InputError
from imae_tf.training import distribution
from imae_tf.training import run_folder

NUM_IMAGES = 650


def sgd():
  return keras.optimizers.SGD(1e-3, momentum=0.9)


# Settings, the batch size, numbers of replicas, the most first, for it takes the longest, and
# the optimizer. The last batch of 650 images has 10, or a single one, so that replicas differ in
# images, and some have none. Two epochs are 22 and 24 steps.
GOLDEN = {
    "last batch of 10": (dict(vat_radius=1.0), 64, (2, 1), sgd),
    "last batch of 1": (
        dict(vat_radius="neighbor", detach_y=True, entropy_weight=4.0, beta_y=20.0), 59,
        (2, 1), sgd,
    ),
}
# For before a release: four replicas, of which three have none of the last batch's images,
# each row of the table, and Adam, which two workers below train with in any case. It divides by
# sqrt(v) and magnifies rounding where gradients are tiny; of so small a model, without the
# recipes' tiny first weights, the logs still agree within 4e-7.
SLOW = {
    "Adam": (dict(vat_radius=1.0), 64, (2, 1), optimizers.Adam),
    "four": (*GOLDEN["last batch of 1"][:2], (4, 1), sgd),
    **{name: (row, 64, (2, 1), sgd) for name, row in configurations.GOLDEN.items()},
}


# Of imae-train: shares of 64 and 65 images of a batch, 11 steps to an epoch. Without VAT, for
# what workers say to each other does not depend on it. At a hundred times the learning rate
# the steps themselves magnify a difference in rounding by ten thousand within an epoch.
FLAGS = {
    "dataset": "digits", "recipe": "paper", "epochs": 5, "batch_size": 129, "seed": 3, "lam": 0,
    "learning_rate": 3e-5,
}
# The fused Adam, and short starts, of which the chief's choice goes on everywhere.
STARTS = {
    "optimizer": "adam", "restarts": 2, "restart_epochs": 1, "epochs": 2,
    "encoder_units": "64", "decoder_units": "64",
}
PROGRESS = r"(epoch \d of \d: Reconstruction loss [^\n]*\n)*"


def digits():
  return (sklearn.datasets.load_digits().images / 16).astype("float32")[:NUM_IMAGES, ..., None]


def build(synchronized=True, **settings):
  """A small model with batch normalisation, of all replicas' images or of each one's alone."""
  keras.utils.set_random_seed(0)
  encoder, decoder = configurations.networks_of(settings, units=64)
  if not synchronized:
    apart = keras.layers.BatchNormalization(synchronized=False, name="apart")
    encoder = keras.Sequential([keras.Input((8, 8, 1)), apart, encoder])
  method = imae_tf.methods.METHODS[settings.pop("method", "imae")]
  return method(encoder, decoder, **settings)


def train(strategy, config):
  """Weights and momenta, the logs of each batch and epoch, and `evaluate`, after two epochs."""
  settings, batch_size, _, optimizer = {**GOLDEN, **SLOW}[config]
  with strategy.scope():
    model = build(**settings)
    model.compile(optimizer=optimizer())
  batches = []
  keep = keras.callbacks.LambdaCallback(
      on_train_batch_end=lambda batch, logs: batches.append({k: float(v) for k, v in logs.items()})
  )
  x = digits()
  history = model.fit(
      x, batch_size=batch_size, epochs=2, shuffle=False, verbose=0, callbacks=[keep]
  ).history
  variables = [*model.weights, *model.optimizer.variables]
  return {
      "weights": {v.path: v.numpy() for v in variables},
      "batches": batches,
      "epochs": history,
      "evaluate": model.evaluate(x, batch_size=batch_size, verbose=0),
  }


def mirrored(num_replicas):
  """A strategy of CPU devices; first of all that a process does with TensorFlow."""
  cpu = tf.config.list_physical_devices("CPU")[0]
  tf.config.set_logical_device_configuration(
      cpu, [tf.config.LogicalDeviceConfiguration()] * num_replicas
  )
  return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(num_replicas)])


def train_replicas(num_replicas, config):
  one = num_replicas == 1
  return train(tf.distribute.get_strategy() if one else mirrored(num_replicas), config)


def train_worker(tf_config, config):
  os.environ["TF_CONFIG"] = tf_config
  return train(tf.distribute.MultiWorkerMirroredStrategy(), config)


def tf_configs(num_workers):
  """TF_CONFIG of each worker of a job on this machine."""
  sockets = [socket.create_server(("localhost", 0)) for _ in range(num_workers)]
  addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
  for s in sockets:
    s.close()
  return [
      json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}})
      for i in range(num_workers)
  ]


def assert_same_training(result, reference, atol=1e-5):
  """Within `atol`, of 1 or of the value: the rounding of float32 is ten times smaller."""
  assert result["weights"].keys() == reference["weights"].keys()
  for path, value in reference["weights"].items():
    np.testing.assert_allclose(result["weights"][path], value, rtol=atol, atol=atol, err_msg=path)
  assert len(reference["batches"]) >= 20
  for ours, theirs in zip(result["batches"], reference["batches"], strict=True):
    assert ours == pytest.approx(theirs, rel=atol, abs=atol)
  for name, values in reference["epochs"].items():
    assert result["epochs"][name] == pytest.approx(values, rel=atol, abs=atol), name
  assert result["evaluate"] == pytest.approx(reference["evaluate"], rel=atol, abs=atol)


# ---- replicas -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
  """A function: {number of replicas: what `train` returns} of a configuration, made once."""
  made = {}

  def get(config):
    if config not in made:
      counts = {**GOLDEN, **SLOW}[config][2]
      results = programs.call(train_replicas, [(n, config) for n in counts], at_once=2)
      made[config] = dict(zip(counts, results))
    return made[config]

  return get


@pytest.mark.parametrize(
    ("config", "num_replicas"),
    [
        # The other row has what this one has, and replicas without an image.
        pytest.param("last batch of 10", 2, marks=pytest.mark.slow),
        ("last batch of 1", 2),
    ],
)
def test_replicas_train_and_evaluate_as_one(trained, config, num_replicas):
  results = trained(config)
  assert_same_training(results[num_replicas], results[1])


@pytest.mark.slow  # two trainings a row
@pytest.mark.parametrize("config", SLOW)
def test_more_replicas_and_every_row_train_as_one(trained, config):
  results = trained(config)
  # Marginals without i itself run away (docs/experiments.md, 63): this loss is at -8,600 by then.
  atol = 1e-3 if config == "literal" else 1e-5
  assert_same_training(results[max(results)], results[1], atol)


@pytest.mark.slow  # test_two_workers_train_the_run_of_one has two processes, too
def test_two_processes_train_and_evaluate_as_one(trained):
  config = "last batch of 10"
  workers = programs.call(train_worker, [(c, config) for c in tf_configs(2)], at_once=2)
  for worker in workers:
    assert_same_training(worker, trained(config)[1])


# ---- what replicas say to each other ----------------------------------------------------------


def _ask_three_replicas():
  """What `GlobalBatch` gives replicas of 2, 0 and 3 rows, and what is refused there."""
  strategy = mirrored(3)
  rows = np.arange(10, dtype="float32").reshape(5, 2)
  shares = [rows[:2], rows[2:2], rows[2:]]
  x = strategy.experimental_distribute_values_from_function(
      lambda context: tf.constant(shares[context.replica_id_in_sync_group])
  )

  def of_replica(x):
    batch = global_batch.GlobalBatch(x)
    replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
    with tf.GradientTape() as tape:
      tape.watch(x)
      everyone = batch.gather(x)
      loss = (replica + 1.0) * tf.reduce_sum(tf.square(everyone))
    return {
        "size": batch.size,
        "first_row": batch.first_row,
        "gathered": everyone,
        "own": batch.own(everyone),
        "sum": batch.sum(replica + 1.0),
        "gradient": tape.gradient(loss, x),
    }

  results = tf.function(lambda: strategy.run(of_replica, args=(x,)))()
  parts = {
      name: [part.numpy() for part in strategy.experimental_local_results(value)]
      for name, value in results.items()
  }
  return {"rows": rows, "shares": shares, "parts": parts, **_refusals(strategy)}


def _refusals(strategy):
  """Messages of errors and warnings, before anything is trained."""
  none = np.zeros([0, 8, 8, 1], "float32")
  messages = {"errors": {}, "warnings": {}}

  def message(call):
    with pytest.raises(InputError) as error:
      call()
    return str(error.value)

  for name, value in (("jit_compile", True), ("steps_per_execution", 2)):
    with strategy.scope():
      model = build()
      model.compile(optimizer="sgd", **{name: value})
    messages["errors"][name] = message(lambda: model.fit(digits(), verbose=0))
  for synchronized in (True, False):
    with strategy.scope():
      model = build(synchronized)
      model.compile(optimizer="sgd")
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      message(lambda: model.fit(none, verbose=0))  # seen before the images are
    messages["warnings"][synchronized] = [
        str(w.message) for w in caught if "replica" in str(w.message)
    ]
  data = loading.load("digits")
  messages["errors"]["batch_size"] = message(
      lambda: distribution.Job(strategy).train_batches(data, 2, seed=0)
  )
  return messages


@pytest.fixture(scope="module")
def three_replicas():
  return programs.call(_ask_three_replicas, [()], at_once=1)[0]


def test_replicas_see_all_rows_in_their_order(three_replicas):
  parts, rows = three_replicas["parts"], three_replicas["rows"]
  assert parts["size"] == [5, 5, 5]
  assert parts["first_row"] == [0, 2, 2]
  for gathered in parts["gathered"]:
    np.testing.assert_array_equal(gathered, rows)


def test_own_rows_come_back_and_sums_are_over_all(three_replicas):
  parts = three_replicas["parts"]
  for own, share in zip(parts["own"], three_replicas["shares"], strict=True):
    np.testing.assert_array_equal(own, share)
  assert parts["sum"] == [6.0, 6.0, 6.0]


def test_gradients_of_all_replicas_reach_the_rows_they_came_from(three_replicas):
  """Replica r weighs the squares by r + 1: 6 in all."""
  gradients = three_replicas["parts"]["gradient"]
  for gradient, share in zip(gradients, three_replicas["shares"], strict=True):
    np.testing.assert_allclose(gradient, 6 * 2 * share)


@pytest.mark.parametrize(
    ("name", "expected"), [("jit_compile", "False"), ("steps_per_execution", "1")]
)
def test_what_tensorflow_cannot_combine_with_replicas_is_refused(three_replicas, name, expected):
  message = three_replicas["errors"][name]
  assert message.startswith(f"expected {name}={expected} in compile under MirroredStrategy, got ")


def test_a_batch_has_an_image_for_each_replica(three_replicas):
  message = three_replicas["errors"]["batch_size"]
  assert "at least one image for each of 3 replicas, got 2" in message


def test_batch_normalisation_of_each_replica_apart_is_warned_of(three_replicas):
  (message,) = three_replicas["warnings"][False]
  assert message.startswith("apart normalises each replica's images apart")
  assert three_replicas["warnings"][True] == []


# ---- imae-train as two workers ------------------------------------------------------------------


def start(folder, *flags_of_workers):
  """imae-train as one job; a dict of flags beyond FLAGS for each worker."""
  workers = []
  for i, (flags, tf_config) in enumerate(zip(flags_of_workers, tf_configs(2), strict=True)):
    output = folder / f"worker-{i}"
    output.mkdir(parents=True, exist_ok=True)
    env = {"TF_CONFIG": tf_config}
    workers.append(programs.Program("train", output, env=env, **{**FLAGS, **flags}))
  return workers


def finish(folder, *flags_of_workers):
  """Starts a job that must succeed, and of which the chief alone tells; returns its `Result`."""
  chief, other = (worker.wait() for worker in start(folder, *flags_of_workers))
  assert (chief.status, other.status) == (0, 0), (chief, other)
  assert re.fullmatch(PROGRESS, chief.stderr), chief.stderr
  assert other.stdout == "Waiting for the 2 workers of TF_CONFIG to start.\n"
  assert other.stderr == ""
  return chief


def rows(run, count):
  """A function: whether a run has finished so many epochs."""
  return lambda: len(run_folder.read_history(run)) >= count


def assert_same_run(run, reference, atol, slots_atol=None, epochs=5):
  programs.assert_same_weights(run, reference, atol, slots_atol)
  ours, theirs = run_folder.read_history(run), run_folder.read_history(reference)
  assert [row["epoch"] for row in ours] == list(range(1, epochs + 1))
  for one, other in zip(ours, theirs, strict=True):
    assert one == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  """The folder of a run of two workers that nothing interrupted."""
  folder = tmp_path_factory.mktemp("two-workers")
  flags = {"workdir": folder / "run"}
  finish(folder, flags, flags)
  return folder / "run"


def test_two_workers_train_the_run_of_one(tmp_path):
  flags = {**STARTS, "workdir": tmp_path / "two"}
  chief = finish(tmp_path, flags, flags)
  result = programs.run("train", tmp_path, workdir=tmp_path / "one", **{**FLAGS, **STARTS})
  assert result.status == 0, result.stderr
  for output in (chief.stdout, result.stdout):
    assert len(re.findall(r"Start \d of 2, 1 epochs|Start \d goes on", output)) == 3
  # Where a gradient is as small as its rounding, Adam's whole steps of 3e-5 differ: with the
  # paper's layers, one weight of 500,000 by 1.6e-5 after these 22, and the momenta of one of
  # 1,000 units by 3.5e-4.
  assert_same_run(tmp_path / "two", tmp_path / "one", atol=1e-4, slots_atol=2e-3, epochs=2)


@pytest.mark.slow  # a rare event: two workers, killed and started again
@pytest.mark.parametrize("lost", [0, 1])
def test_a_job_that_loses_a_worker_ends_and_goes_on_like_an_unbroken_one(
    tmp_path, unbroken, lost
):
  """The chief is worker 0."""
  run = tmp_path / "run"
  flags = {"workdir": run}
  workers = start(tmp_path, flags, flags)
  workers[lost].kill_when(rows(run, 2), seconds_later=0.03)
  survivor = workers[1 - lost].wait()
  assert survivor.status == 1
  assert re.fullmatch(
      PROGRESS + r"imae-train: error: another worker of this job has ended, or [^\n]*\n",
      survivor.stderr,
  ), survivor.stderr
  assert not (run / "model.keras").exists()
  assert re.search("Going on after epoch [1-3] of 5", finish(tmp_path, flags, flags).stdout)
  assert_same_run(run, unbroken, atol=1e-6)


@pytest.mark.slow  # a rare event: two workers, stopped and started again
def test_sigterm_to_one_worker_stops_all_and_only_the_chief_writes(tmp_path, unbroken):
  """The other worker has a folder of its own, which does not come into being."""
  run = tmp_path / "run"
  flags = {"workdir": run}, {"workdir": tmp_path / "of-the-other"}
  chief, other = start(tmp_path, *flags)
  other.signal_when(signal.SIGTERM, rows(run, 2))
  stopped = r"imae-train: stopped by SIGTERM (in|after) epoch \d[^\n]*goes on from here.\n"
  for worker, lines in ((chief, PROGRESS + stopped), (other, stopped)):
    result = worker.wait()
    assert result.status == 143, result
    assert re.fullmatch(lines, result.stderr), result.stderr
  assert run_folder.newest_checkpoint(run).epochs >= 2
  assert not (run / "model.keras").exists()
  assert "Going on after epoch" in finish(tmp_path, *flags).stdout
  assert_same_run(run, unbroken, atol=1e-6)
  assert not (tmp_path / "of-the-other").exists()


def test_another_command_on_a_worker_is_refused(tmp_path):
  """Before anything is written; the chief is not left to wait for it."""
  run = tmp_path / "run"
  workers = start(tmp_path, {"workdir": run}, {"workdir": run, "beta": 7.0})
  chief, other = (worker.wait() for worker in workers)
  assert (chief.status, other.status) == (1, 1)
  assert re.fullmatch(
      r"imae-train: error: expected the flags, data and versions of the chief [^\n]*\n",
      other.stderr,
  )
  assert re.fullmatch(r"imae-train: error: another worker of this job [^\n]*\n", chief.stderr)
  assert not run.exists()
