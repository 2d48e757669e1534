"""Several processes of one program that share its work, so that all cores of a machine are busy.

`imae-compare` and `imae-tune` use it for --jobs. Processes with the same command take different
runs, each under a lock of its own (`_shared.locks`); this module starts the others and waits for
them. Networks of this size leave cores idle when one process computes in many threads.
"""

import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

import tensorflow as tf

from imae_tf._shared import program

_MOST = 4  # each process holds the images, a model and TensorFlow: 1 GiB and more
_COUNT = "IMAE_TF_PROCESSES"  # in the environment of a process that another one has started

Shared = Callable[[], contextlib.AbstractContextManager]


def sharing(module: str, asked: int | None, most: int, workdir: pathlib.Path) -> Shared:
  """Makes a context in which more processes of this command share its work, if that is faster.

  At the end of the context they have ended. If this process ends early, however it does, they save
  what they have and end, too. Call it before TensorFlow computes: each process gets its part of
  the cores. What the others print is in `workdir/processes`.

  Args:
    module: name of the module whose `cli` the program is.
    asked: number of processes; None for one for each core of a CPU, up to four, or one on a GPU.
    most: number of pieces that the work has.
    workdir: folder of the work.
  """
  if is_started():
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _share_cores(int(os.environ[_COUNT]))
    return contextlib.nullcontext
  count = min(asked or _usual(), most)
  if count < 2:
    return contextlib.nullcontext
  _share_cores(count)
  return functools.partial(_with_others, module, count, workdir / "processes")


def is_started() -> bool:
  """Whether another process started this one to share its work."""
  return _COUNT in os.environ


def cores() -> int:
  """Number of cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _with_others(module: str, count: int, folder: pathlib.Path) -> Iterator[None]:
  folder.mkdir(parents=True, exist_ok=True)
  logs = [folder / f"{number}.log" for number in range(2, count + 1)]
  others: list[subprocess.Popen] = []
  try:
    for log in logs:
      others.append(_started(module, count, log))
    program.say(f"{count} processes share the work; {folder} has what the others print.")
    yield
    for log, other in zip(logs, others):
      status = other.wait()
      if status:
        program.say(f"A process ended with status {status}; {log} has what it printed.")
  finally:
    for other in others:
      other.terminate()
    for other in others:
      other.communicate()


def _started(module: str, count: int, log: pathlib.Path) -> subprocess.Popen:
  command = program.command(module, os.path.basename(sys.argv[0]))
  with log.open("ab") as out:
    return subprocess.Popen(
        [*command, *sys.argv[1:]],
        stdin=subprocess.PIPE, stdout=out, stderr=out, env={**os.environ, _COUNT: str(count)},
    )


def _end_with_parent() -> None:
  """Ends this process as SIGTERM does once its input ends, which its parent holds open."""
  while os.read(0, 1024):
    pass
  while True:  # one that comes while a finished run is saved is forgotten
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5.0)


def _usual() -> int:
  return 1 if tf.config.list_physical_devices("GPU") else min(cores(), _MOST)


def _share_cores(count: int) -> None:
  threads = -(-cores() // count)
  tf.config.threading.set_intra_op_parallelism_threads(threads)
  tf.config.threading.set_inter_op_parallelism_threads(threads)
