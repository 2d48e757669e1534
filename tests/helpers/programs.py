"""Programs as the user starts them: own process, own flags, exit status, stdout and stderr.

Each run is forked from one server process that has imported TensorFlow and nothing of ours:
the import takes several seconds, and there are dozens of runs.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import multiprocessing
import os
import pathlib
import resource
import signal
import sys
import time

import numpy as np

from imae_tf.training import run_folder

_ROOMS = {
    "train": "trainers", "evaluate": "trainers", "tune": "trainers", "compare": "trainers",
    "export": "export", "encode": "export", "serve": "export.server",
}
_TIMEOUT = 240  # seconds; a machine may be busy

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["tensorflow", "keras", "tensorflow_probability", "tensorflow_datasets", "sklearn.cluster"]
)


@dataclasses.dataclass(frozen=True)
class Result:
  """How a program ended; negative status: the signal that killed it."""

  status: int
  stdout: str
  stderr: str


class Program:
  """A program that has been started, `imae-NAME` with flags given as keywords.

  It finds none of the libraries `without`. Those that could share their work among processes do
  not, unless `jobs` is given.
  """

  def __init__(self, name, folder, cwd=None, file_size=None, env=None, without=(), **flags):
    self._out, self._err = (folder / f"{name}-{stream}.txt" for stream in ("out", "err"))
    if name in ("compare", "tune"):
      flags.setdefault("jobs", 1)
    arguments = [f"--{flag}={value}" for flag, value in flags.items()]
    self._process = _context.Process(
        target=_enter, args=(name, arguments, self._out, self._err, cwd, file_size, env, without)
    )
    self._process.start()

  def wait(self):
    """The `Result`, when the program has ended by itself."""
    self._process.join(_TIMEOUT)
    assert self._process.exitcode is not None, "the program hangs"
    return Result(self._process.exitcode, self._out.read_text(), self._err.read_text())

  def kill_when(self, condition, seconds_later=0):
    """SIGKILL once `condition()` holds, which must be before the program ends."""
    self.signal_when(signal.SIGKILL, condition, seconds_later)
    assert self.wait().status == -9

  def signal_when(self, number, condition, seconds_later=0):
    """The same for any signal, without waiting for what it does."""
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
      assert self._process.is_alive(), f"ended before the kill:\n{self.wait()}"
      assert time.monotonic() < deadline, "the moment to kill never came"
      time.sleep(0.002)
    time.sleep(seconds_later)
    os.kill(self._process.pid, number)


def run(name, folder, **kwargs):
  """Runs `imae-NAME` to its end; its output is kept in `folder`."""
  return Program(name, folder, **kwargs).wait()


def call(function, arguments, at_once):
  """[function(*a) for a in arguments], each in a process of its own, `at_once` at a time.

  What TensorFlow allows once in a process, such as a choice of devices, is still free there.
  """
  with _context.Pool(at_once, maxtasksperchild=1) as pool:
    return pool.starmap_async(function, arguments, chunksize=1).get(_TIMEOUT)


def contents(folder):
  """{relative path: hash} of all files of a folder, for "nothing has changed"."""
  folder = pathlib.Path(folder)
  return {
      str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
      for path in sorted(folder.rglob("*"))
      if path.is_file()
  }


@contextlib.contextmanager
def unchanged(*folders):
  """Asserts that the block changes no file of these folders."""
  before = [contents(folder) for folder in folders]
  yield
  assert [contents(folder) for folder in folders] == before


def assert_same_weights(run, reference, atol=1e-6, slots_atol=None):
  """Asserts equal weights, optimizer's slots and step of the models of two runs."""
  models = [run_folder.load_keras(folder / "model.keras") for folder in (run, reference)]
  tolerances = [(lambda model: model, atol), (lambda model: model.optimizer, slots_atol or atol)]
  for part, tolerance in tolerances:
    for one, other in zip(*(part(model).variables for model in models), strict=True):
      np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=one.path)


def _enter(name, arguments, out, err, cwd, file_size, env, without):
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
  os.environ.update(env or {})
  for descriptor, path in ((1, out), (2, err)):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
  for library in without:
    for module in [m for m in sys.modules if f"{m}.".startswith(f"{library}.")]:
      del sys.modules[module]  # the server has imported some
    sys.modules[library] = None
  if cwd:
    os.chdir(cwd)
  if file_size:
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
  sys.argv = [f"imae-{name}", *arguments]
  importlib.import_module(f"imae_tf.{_ROOMS[name]}.{name}").cli()
