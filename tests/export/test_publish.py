"""Versions appear whole, one after the other, whoever else is publishing."""

import contextlib
import hashlib
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
import threading

import filelock
import numpy as np
import pytest
import tensorflow as tf
from exports import images
from exports import make_model
from exports import names

from imae_tf._shared import locks
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.errors import InUseError
from imae_tf.export import publish
from imae_tf.export import savedmodel


@pytest.fixture(scope="module")
def model():
  return make_model()


@pytest.fixture
def stub_write(monkeypatch):
  """Publishing of a small file in place of a SavedModel, unchecked."""
  def write(model, path, **unused):
    path.mkdir()
    (path / "saved_model.pb").write_text(str(model))

  monkeypatch.setattr(savedmodel, "write", write)
  monkeypatch.setattr(publish, "check", lambda model, path, alignment: None)


@pytest.fixture
def open_folder():
  """A folder that every user may look into, as that of `tmp_path` is not."""
  with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o755)
    yield pathlib.Path(folder)


@contextlib.contextmanager
def nobody():
  """Root may write anywhere, so the block runs without its rights."""
  user = os.geteuid()
  if user == 0:
    os.seteuid(65534)
  try:
    yield
  finally:
    os.seteuid(user)


@contextlib.contextmanager
def small_file_system(folder, size):
  mounted = subprocess.run(
      ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
      capture_output=True, text=True, check=False,
  )
  if mounted.returncode:
    pytest.skip(f"may not mount a file system: {mounted.stderr.strip()}")
  try:
    yield folder
  finally:
    subprocess.run(["umount", "-l", folder], check=True)


def pages(folder):
  """The memory pages that the files of a folder take, of 4 kB each."""
  return sum(-(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())


def contents(folder):
  """{relative path: hash} of all files of a folder."""
  return {
      str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
      for path in folder.rglob("*") if path.is_file()
  }


class TestPublish:

  def test_versions_are_readable_by_others_and_counted_up(self, model, tmp_path):
    assert publish.publish(model, tmp_path / "new" / "base").name == "1"
    version = publish.publish(model, tmp_path / "new" / "base")
    assert version == tmp_path / "new" / "base" / "2"
    assert names(version.parent) == ["1", "2"]
    assert tf.saved_model.contains_saved_model(str(version))
    umask = os.umask(0)
    os.umask(umask)
    assert version.stat().st_mode & 0o777 == 0o777 & ~umask

  def test_the_check_finds_another_models_codes(self, model, tmp_path):
    path = tmp_path / "model"
    savedmodel.write(model, path)
    publish.check(model, path)
    with pytest.raises(ImaeError, match="expected the [yz].* of model.encode .* difference of"):
      publish.check(make_model(seed=1), path)

  def test_a_failing_check_leaves_nothing(self, model, tmp_path, monkeypatch):
    other = make_model(seed=1)
    write = savedmodel.write
    monkeypatch.setattr(savedmodel, "write", lambda model, path, **about: write(other, path))
    with pytest.raises(ImaeError, match="nothing was published"):
      publish.publish(model, tmp_path)
    assert names(tmp_path) == []

  @pytest.mark.parametrize("limit", [1_000, 60_000])
  def test_a_full_disk_leaves_nothing(self, model, tmp_path, limit):
    # Python ignores SIGXFSZ, so that a write beyond the limit fails as on a full disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
      with pytest.raises(ImaeError, match="expected to write .* nothing was published. Free"):
        publish.publish(model, tmp_path)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []

  # The card is written last, in a page or two.
  @pytest.mark.parametrize(
      "missing",
      [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(20, marks=pytest.mark.slow)],
  )  # one of three suffices while one works
  def test_a_file_system_that_fills_up_leaves_nothing(self, model, tmp_path, missing):
    needed = pages(publish.publish(model, tmp_path / "measured"))
    assert needed > 20
    (tmp_path / "small").mkdir()
    with small_file_system(tmp_path / "small", f"{4 * (needed - missing)}k") as base:
      with pytest.raises(ImaeError, match="nothing was published"):
        publish.publish(model, base)
      assert names(base) == []
      subprocess.run(["mount", "-o", "remount,size=10m", base], check=True)
      assert publish.publish(model, base).name == "1"

  def test_an_unusable_base(self, model, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ImaeError, match="expected a folder to write to as --base, got .*file"):
      publish.publish(model, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"

  def test_a_base_that_may_only_be_read(self, model, open_folder):
    base = open_folder / "base"
    base.mkdir(mode=0o555)
    with nobody(), pytest.raises(ImaeError, match="Permission denied.*change its permissions"):
      publish.publish(model, base)
    assert names(base) == []

  def test_a_version_that_may_not_be_removed(self, stub_write, open_folder):
    base = open_folder / "base"
    base.mkdir()
    publish.publish("old", base)
    base.chmod(0o1777)  # sticky: anyone may add, owners alone may rename
    with nobody(), pytest.raises(ImaeError, match="version 2 is published. Remove them by hand"):
      publish.publish("new", base, keep=1)
    assert names(base) == ["1", "2"]

  def test_whatever_an_integer_names_is_left_alone(self, stub_write, tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "007").write_text("a file")
    (tmp_path / "latest").mkdir()
    (tmp_path / ".tmp-of-another-machine" / "model").mkdir(parents=True)
    assert publish.publish("a", tmp_path).name == "8"
    assert names(tmp_path) == [".tmp-of-another-machine", "007", "3", "8", "latest"]

  def test_a_version_taken_meanwhile_is_not_overwritten(self, stub_write, tmp_path, monkeypatch):
    publish.publish("first", tmp_path)
    publish.publish("second", tmp_path)
    monkeypatch.setattr(publish.versions, "numbered", lambda base: {})
    assert publish.publish("third", tmp_path).name == "3"
    contents = [(tmp_path / n / "saved_model.pb").read_text() for n in "123"]
    assert contents == ["first", "second", "third"]

  def test_many_exporters_at_once_get_a_version_each(self, stub_write, tmp_path):
    start = threading.Barrier(16)
    published = {}

    def run(index):
      start.wait()
      published[index] = publish.publish(f"model {index}", tmp_path)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(16)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    assert names(tmp_path) == sorted(map(str, range(1, 17)))
    for index, version in published.items():
      assert (version / "saved_model.pb").read_text() == f"model {index}"

  def test_a_number_is_not_given_again_while_others_prune(
      self, stub_write, tmp_path, monkeypatch
  ):
    publish.publish("old", tmp_path)
    seen, go = threading.Event(), threading.Event()
    numbered = publish.versions.numbered

    def slow(base):
      found = numbered(base)
      if threading.current_thread().name == "slow":
        seen.set()
        go.wait(1.0)
      return found

    monkeypatch.setattr(publish.versions, "numbered", slow)
    first = threading.Thread(target=publish.publish, args=("slow", tmp_path), name="slow")
    first.start()
    assert seen.wait(30)
    second = threading.Thread(target=publish.publish, args=("fast", tmp_path, 1))
    second.start()
    second.join(0.3)
    go.set()
    first.join()
    second.join()
    assert names(tmp_path) == ["3"]
    assert (tmp_path / "3" / "saved_model.pb").read_text() == "fast"

  @pytest.mark.parametrize("base", ["gs://bucket/models", "models[1]"])
  def test_bases_that_are_not_what_they_seem(self, stub_write, tmp_path, monkeypatch, base):
    monkeypatch.chdir(tmp_path)
    for act in (lambda: publish.publish("new", base), lambda: publish.rollback(base, 1)):
      with pytest.raises(InputError, match="expected a (base )?folder"):
        act()
    assert names(tmp_path) == []

  def test_a_linked_version_is_pruned_and_its_folder_left(self, stub_write, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").symlink_to(tmp_path / "elsewhere")
    publish.publish("new", tmp_path / "base", keep=1)
    assert names(tmp_path / "base") == ["2"] and (tmp_path / "elsewhere").is_dir()

  @pytest.mark.parametrize(
      "keep,left",
      [(None, "1 2 3 4 5"), (9, "1 2 3 4 5"), (4, "2 3 4 5"), (2, "4 5"), (1, "5")],
  )
  def test_keep_prunes_older_versions_alone(self, stub_write, tmp_path, keep, left):
    for _ in range(4):
      publish.publish("old", tmp_path)
    (tmp_path / "notes").mkdir()
    publish.publish("new", tmp_path, keep=keep)
    assert names(tmp_path) == [*left.split(), "notes"]

  def test_a_failed_export_prunes_nothing(self, stub_write, tmp_path, monkeypatch):
    publish.publish("old", tmp_path)

    def fail(model, path, alignment):
      raise ImaeError("no")

    monkeypatch.setattr(publish, "check", fail)
    with pytest.raises(ImaeError, match="no"):
      publish.publish("new", tmp_path, keep=1)
    assert names(tmp_path) == ["1"]

  def test_keep_must_leave_the_new_version(self, tmp_path):
    with pytest.raises(InputError, match="expected a keep of 1 version or more, got 0"):
      publish.publish(None, tmp_path, keep=0)


class TestRollback:

  @pytest.fixture(scope="class")
  @classmethod
  def base(cls, model, tmp_path_factory):
    base = tmp_path_factory.mktemp("rollback")
    for each in (model, make_model(seed=1)):
      publish.publish(each, base, images=images(20))
    return base

  def test_the_old_version_is_published_again_as_the_next(self, model, base, tmp_path):
    base = shutil.copytree(base, tmp_path / "base")
    before = {name: contents(base / name) for name in "12"}
    assert publish.rollback(base, 1) == base / "3"
    assert names(base) == ["1", "2", "3"]
    assert contents(base / "3") == before["1"]
    assert {name: contents(base / name) for name in "12"} == before
    codes = tf.saved_model.load(str(base / "3")).signatures["encode"](x=tf.constant(images(7)))
    for name, value in model.encode(images(7)).items():
      np.testing.assert_allclose(codes[name], value, rtol=0, atol=1e-5)

  def test_the_copy_does_not_share_its_files(self, base, tmp_path):
    base = shutil.copytree(base, tmp_path / "base")
    version = publish.rollback(base, 1)
    for path in version.rglob("*"):
      assert path.is_dir() or path.stat().st_nlink == 1

  def test_the_old_one_may_be_pruned(self, base, tmp_path):
    base = shutil.copytree(base, tmp_path / "base")
    expected = contents(base / "1")
    assert publish.rollback(base, 1, keep=1).name == "3"
    assert names(base) == ["3"] and contents(base / "3") == expected

  def test_no_such_version(self, base, tmp_path):
    with pytest.raises(InputError, match="expected version 7 in .*, got 1, 2; name one"):
      publish.rollback(base, 7)
    with pytest.raises(InputError, match="expected version 1 in .*, got none; name one"):
      publish.rollback(tmp_path / "missing", 1)
    assert names(base) == ["1", "2"] and names(tmp_path) == []

  @pytest.mark.parametrize("damaged", ["saved_model.pb", "variables/variables.index",
                                       "variables/variables.data-00000-of-00001"])
  def test_a_damaged_version_is_not_published(self, base, tmp_path, damaged):
    base = shutil.copytree(base, tmp_path / "base")
    content = (base / "1" / damaged).read_bytes()
    (base / "1" / damaged).write_bytes(content[: len(content) // 2])
    with pytest.raises(ImaeError, match="expected a whole SavedModel in .*1, got a damaged"):
      publish.rollback(base, 1)
    assert names(base) == ["1", "2"]

  def test_a_damaged_warm_up_file_is_not_published(self, base, tmp_path):
    base = shutil.copytree(base, tmp_path / "base")
    file = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ImaeError, match="nothing was published"):
      publish.rollback(base, 1)
    assert names(base) == ["1", "2"]


class TestLeftovers:

  def test_those_of_the_dead_go_and_those_of_the_living_stay(self, stub_write, tmp_path):
    dead = tmp_path / f"{publish._prefix()}dead"
    living = tmp_path / f"{publish._prefix()}living"
    for folder in (dead, living):
      (folder / "model" / "variables").mkdir(parents=True)
    with locks.locked(living):
      publish.publish("a", tmp_path)
      assert names(tmp_path) == [living.name, "1"]
    publish.publish("b", tmp_path)
    assert names(tmp_path) == ["1", "2"]

  def test_an_exporter_at_work_holds_its_lock(self, stub_write, tmp_path, monkeypatch):
    def look(model, path, alignment):
      publish._remove_leftovers(tmp_path)
      assert path.exists()
      assert not locks.is_free(path.parent)

    monkeypatch.setattr(publish, "check", look)
    assert publish.publish("a", tmp_path).name == "1"

  def test_a_folder_taken_for_a_leftover_before_its_lock_is_replaced(self, tmp_path, monkeypatch):
    locked, taken = locks.locked, []

    def late(folder, *args):
      if not taken:  # another exporter was between our making of the folder and our lock
        taken.append(folder)
        raise InUseError("by the other one")
      return locked(folder, *args)

    monkeypatch.setattr(publish.locks, "locked", late)
    with contextlib.ExitStack() as held:
      path = publish._locked_folder(tmp_path, held)
      assert path.is_dir() and path not in taken and not locks.is_free(path)

  def test_without_locks_nothing_is_removed(self, stub_write, tmp_path, monkeypatch):
    def unsupported(lock):
      raise OSError(95, "Operation not supported")

    monkeypatch.setattr(filelock.FileLock, "acquire", unsupported)
    leftover = tmp_path / f"{publish._prefix()}unknown"
    leftover.mkdir()
    assert publish.publish("a", tmp_path).name == "1"
    assert names(tmp_path) == [leftover.name, "1"]
