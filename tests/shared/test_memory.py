"""What memory is left: the machine's, and the limits of control groups of both versions."""

import pytest

from imae_tf._shared import memory

COUNTS = {"anon": 500, "inactive_file": 100, "active_file": 50}
STAT = "\n".join(f"{p}{k} {v}" for p in ("", "total_") for k, v in COUNTS.items())


def group(root, path, files, limit, used):
  folder = root / "sys/fs/cgroup" / path
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in zip((*files, "memory.stat"), (limit, used, STAT)):
    (folder / name).write_text(f"{content}\n")


V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


@pytest.fixture
def root(tmp_path):
  (tmp_path / "proc/self").mkdir(parents=True)
  (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: 4 kB\n")
  return tmp_path


def test_a_machine_without_groups(root):
  assert memory.free(root) == 4096
  (root / "proc/meminfo").unlink()
  assert memory.free(root) == memory.UNKNOWN


@pytest.mark.parametrize(
    "groups, path, files",
    [("0::/\n", "", V2), ("5:cpu,cpuacct:/a\n3:memory:/docker/7\n0::/\n", "memory", V1)],
    ids=["version 2", "version 1"],
)
def test_the_limit_of_a_container(root, groups, path, files):
  (root / "proc/self/cgroup").write_text(groups)
  group(root, path, files, 3000, 1000)
  assert memory.free(root) == 3000 - 1000 + 150  # the pages of files are given back
  group(root, path, files, 500, 1000)
  assert memory.free(root) == 0
  group(root, path, files, "max" if files == V2 else 2**63 - 4096, 1000)
  assert memory.free(root) == 4096
  (root / "sys/fs/cgroup" / path / files[1]).write_text("?")
  assert memory.free(root) == 4096


def test_the_tightest_of_nested_groups_counts(root):
  (root / "proc/self/cgroup").write_text("0::/user/job\n")
  group(root, "user/job", V2, "max", 1000)
  group(root, "user", V2, 2000, 1500)
  assert memory.free(root) == 650
