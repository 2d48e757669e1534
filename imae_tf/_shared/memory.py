"""How much memory a process can still take: of the machine, and of the container around it."""

import pathlib
from collections.abc import Iterator

UNKNOWN = 2**62
# Of a group of processes: the files of the limit and of what is in use, and the lines of
# memory.stat that count the pages of files, which the system gives back when memory is short.
_VERSIONS = (
    ("", "memory.max", "memory.current", ("inactive_file", "active_file")),
    (
        "memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
)


def free(root: str | pathlib.Path = "/") -> int:
  """Bytes that can still be taken; where the system does not tell, `UNKNOWN`.

  It is the least of what the machine has and of what the limits of control groups, versions 1
  and 2, leave: those of this process's group and of all groups around it.

  Args:
    root: Folder in which /proc and /sys are.
  """
  root = pathlib.Path(root)
  return min([_of_machine(root), *_of_groups(root)])


def _of_machine(root: pathlib.Path) -> int:
  try:
    lines = (root / "proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
  except (OSError, StopIteration, ValueError, IndexError):
    return UNKNOWN


def _of_groups(root: pathlib.Path) -> Iterator[int]:
  try:
    groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
  except OSError:
    return
  for folder, limit, usage, of_files in _VERSIONS:
    top = root / "sys/fs/cgroup" / folder
    for path in (group[2] for group in groups if folder in group[1].split(",") and len(group) == 3):
      own = top / path.strip("/")  # in a container it may not be there, and the top is its own
      for group in (own, *own.parents):
        if group.is_relative_to(top):
          yield _left(group, limit, usage, of_files)


def _left(group: pathlib.Path, limit: str, usage: str, of_files: tuple[str, str]) -> int:
  """What the limit of one group leaves."""
  try:
    most = (group / limit).read_text().strip()
    if most == "max":
      return UNKNOWN
    used = int((group / usage).read_text())
    rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return max(0, int(most) - used + sum(int(rows.get(name, 0)) for name in of_files))
  except (OSError, ValueError):
    return UNKNOWN
