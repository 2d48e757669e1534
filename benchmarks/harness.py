"""What the benchmarks share: candidates in processes of their own, timed in turn.

Speed on a shared machine drifts by more than the differences that matter, so candidates are
never timed one after the other: a round times each once, and rounds alternate (A B C A B
C ...). Each candidate lives in its own process, so that the thread pools of two libraries
never meet, and all but the one whose turn it is are stopped (SIGSTOP), prefetching threads
included. What is reported is the median over the rounds and, for ratios, the median of the
ratios within a round. Linux only.
"""

import atexit
import ctypes
import functools
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from absl import flags

GB = 1e9
_PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that the parent's death sends


def define_flags() -> None:
  """The flags of every benchmark; not on import, because tests import several programs."""
  flags.DEFINE_string("output", None, "JSON file for the figures; none by default.")
  flags.DEFINE_integer("threads", 2, "Threads that a library may use for one operation.", 1)


class Worker:
  """A process that holds timed functions.

  Args:
    factory: "module:function"; called in the process with `threads` and the other arguments,
      it returns {name: function of a number of steps}. Nothing heavy is imported before.
    threads: see `limit_threads`.
    **arguments: of the factory, picklable.
  """

  def __init__(self, factory: str, threads: int, **arguments: Any) -> None:
    context = multiprocessing.get_context("spawn")
    self._pipe, child = context.Pipe()
    self._process = context.Process(
        target=_work, args=(child, factory, threads, arguments), daemon=True
    )
    self._process.start()
    atexit.register(self._process.kill)  # a stopped process heeds no other signal
    child.close()

  @functools.cached_property
  def names(self) -> list[str]:
    """The functions' names; waits for the factory, which runs beside other workers'."""
    return self._answer()

  def seconds(self, name: str, steps: int = 1) -> float:
    """Seconds that `steps` steps of a function take."""
    return self.call(name, steps)[0]

  def call(self, name: str, steps: int = 1) -> tuple[float, Any]:
    """(seconds, what the function returned)."""
    if name not in self.names:
      raise ValueError(f"expected one of {self.names}, got {name!r}.")
    self._signal(signal.SIGCONT)
    self._pipe.send((name, steps))
    answer = self._answer()
    self._signal(signal.SIGSTOP)
    return answer

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    self._process.join()

  def _signal(self, number: signal.Signals) -> None:
    assert self._process.pid is not None  # it has been started
    os.kill(self._process.pid, number)

  def _answer(self) -> Any:
    try:
      return self._pipe.recv()
    except EOFError:
      self._process.join()
      raise RuntimeError(f"A worker ended with exit code {self._process.exitcode}.") from None


def _work(pipe: Connection, factory: str, threads: int, arguments: Any) -> None:
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  os.environ["OMP_NUM_THREADS"] = str(threads)
  module, function = factory.split(":")
  functions = getattr(importlib.import_module(module), function)(threads, **arguments)
  pipe.send(list(functions))
  while True:
    name, steps = pipe.recv()
    start = time.perf_counter()
    result = functions[name](steps)
    pipe.send((time.perf_counter() - start, result))


def limit_threads(threads: int) -> None:
  """TensorFlow on `threads` cores, as it sets itself up on a machine that has no more.

  That is `threads` for one operation, and as many operations at a time.
  """
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(threads)
  tf.config.threading.set_inter_op_parallelism_threads(threads)


def rounds(timed: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
  """Times each of {name: function that returns seconds} once a round.

  Returns:
    {name: [seconds of round 1, ...]}.
  """
  seconds: dict[str, list[float]] = {name: [] for name in timed}
  for _ in range(count):
    for name, function in timed.items():
      seconds[name].append(function())
  return seconds


def summary(
    seconds: Mapping[str, Sequence[float]], reference: str | None = None
) -> dict[str, dict[str, Any]]:
  """Medians over rounds, and how many times as long as the reference each takes.

  Args:
    seconds: {name: [seconds of each round]}.
    reference: a name, or None for no ratios.

  Returns:
    {name: {"median_s", "min_s", "max_s", "ratio_of_medians", "median_ratio"}}; the last is
    the median of the ratios within a round.
  """
  table = {}
  for name, values in seconds.items():
    row = {"median_s": statistics.median(values), "min_s": min(values), "max_s": max(values)}
    if reference:
      against = seconds[reference]
      row["ratio_of_medians"] = row["median_s"] / statistics.median(against)
      row["median_ratio"] = statistics.median(v / a for v, a in zip(values, against))
    table[name] = row
  return table


def peak_memory(function: Callable[[], Any]) -> int:
  """Bytes at which this process's resident memory peaks during a call."""
  pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM
  function()
  return _status("VmHWM")


def resident_memory() -> int:
  """Bytes of this process's resident memory."""
  return _status("VmRSS")


def _status(name: str) -> int:
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith(name + ":"):
      return int(line.split()[1]) * 1024
  raise ValueError(f"/proc/self/status has no {name}.")


def report(title: str, columns: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
  """Prints a table: columns {heading: key or function of a row}."""
  texts = [list(columns)]
  for row in rows:
    texts.append([_text(get(row) if callable(get) else row.get(get)) for get in columns.values()])
  widths = [max(map(len, column)) for column in zip(*texts)]
  print(f"\n{title}")
  for text in texts:
    cells = [text[0].ljust(widths[0])]
    print("  ".join(cells + [t.rjust(w) for t, w in zip(text[1:], widths[1:])]))


def _text(value: Any) -> str:
  if value is None:
    return "-"
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def save(figures: Mapping[str, Any], packages: Iterable[str] = ()) -> None:
  """Writes the figures to --output with the command, the versions and the machine."""
  if not flags.FLAGS.output:
    return
  path = pathlib.Path(flags.FLAGS.output)
  module = pathlib.Path(sys.argv[0]).stem
  result = {
      "command": " ".join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]]),
      "versions": _versions(packages),
      "machine": machine(),
      "threads": flags.FLAGS.threads,
      **figures,
  }
  path.write_text(json.dumps(_rounded(result), indent=1) + "\n")
  print(f"\nWrote {path}.")


def machine() -> dict[str, Any]:
  """{"cpu", "cores", "memory_gb", "load"}; load is the 1-minute average at the end."""
  info = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  cpu = next((line.split(":")[1].strip() for line in info if "model name" in line), "unknown")
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
  return {"cpu": cpu, "cores": os.cpu_count(), "memory_gb": memory, "load": os.getloadavg()[0]}


def _versions(packages: Iterable[str]) -> dict[str, str]:
  names = ("imae_tf", "tensorflow", "keras", "tensorflow-probability", "numpy", *packages)
  found = {name: importlib.metadata.version(name) for name in names}
  return {"python": platform.python_version(), **found}


def _rounded(value: Any) -> Any:
  if isinstance(value, dict):
    return {str(key): _rounded(v) for key, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [_rounded(v) for v in value]
  return float(f"{value:.5g}") if isinstance(value, float) else value
