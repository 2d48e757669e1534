"""The server's core: batches, the queue, deadlines, and versions that come and go."""

import asyncio
import os
import pathlib
import shutil
import struct
import threading
import time
import zlib

import exports
import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from waits import failure
from waits import until

from imae_tf.errors import InputError
from imae_tf.export import warmup
from imae_tf.export.server import core
from imae_tf.export.server.batching import ServingError

PIXELS = np.random.default_rng(3).integers(0, 256, (4, 8, 8), np.uint8)
_TIMEOUT = 30  # seconds; a machine may be busy


@pytest.fixture(scope="module")
def references(models):
  return [exports.reference(path) for path in models]


def publish(model, base, number):
  """Puts a copy of a SavedModel into a base folder at once, as an export does."""
  base.mkdir(exist_ok=True)
  shutil.copytree(model, base / ".tmp-copy")
  os.rename(base / ".tmp-copy", base / str(number))
  return base / str(number)


@pytest.fixture
def base(models, tmp_path):
  publish(models[0], tmp_path / "base", 1)
  return tmp_path / "base"


@pytest.fixture
def serve(base):
  """A function that starts a server on `base`; it looks for versions only when told."""
  servers = []

  def start(**settings):
    servers.append(core.Server(base, **{"poll_s": 0, **settings}))
    return servers[-1]

  yield start
  for server in servers:
    server.close(0)


@pytest.fixture(scope="module")
def shared(models, tmp_path_factory):
  """A server for tests that change nothing."""
  base = tmp_path_factory.mktemp("shared") / "base"
  publish(models[0], base, 1)
  server = core.Server(base, poll_s=0)
  yield server
  server.close(0)


class TestPredict:

  @pytest.mark.parametrize("n", [0, 1, 7])
  def test_outputs_are_those_of_the_saved_model(self, shared, references, n):
    x = exports.images(n)
    for signature in ("", "encode", "reconstruct"):
      expected = references[0](signature or "serving_default", x=x)
      exports.assert_same_arrays(shared.predict(signature, {"x": x}).result(_TIMEOUT), expected)
    codes = references[0]("encode", x=x)
    inputs = {"z": codes["z"], "y": codes["y"]}
    expected = references[0]("decode", **inputs)
    exports.assert_same_arrays(shared.predict("decode", inputs).result(_TIMEOUT), expected)

  def test_image_bytes(self, shared, references):
    contents = exports.strings(*map(exports.encoded, PIXELS))
    answer = shared.predict("encode_image_bytes", {"image_bytes": contents}).result(_TIMEOUT)
    x = PIXELS[..., None].astype("float32") / 255
    exports.assert_same_arrays(answer, references[0]("encode", x=x))

  def test_many_at_a_time_each_get_their_own(self, shared, references):
    x = exports.images(200)
    expected = references[0]("encode", x=x)
    bad = {17, 18, 90}
    futures = [
        shared.predict("encode", {"x": x[i : i + 1] + (2 if i in bad else 0)})
        for i in range(len(x))
    ]
    for i, future in enumerate(futures):
      if i in bad:
        assert failure(lambda: future).code == "INVALID_ARGUMENT"
      else:
        exports.assert_same_arrays(
            future.result(_TIMEOUT), {k: v[i : i + 1] for k, v in expected.items()}
        )

  @pytest.mark.parametrize(
      "signature,inputs,code,sentence",
      [
          ("encode", {"x": np.full((1, 8, 8, 1), np.nan, "float32")}, "INVALID_ARGUMENT",
           "expected pixels in [0, 1], got [nan, nan]; divide bytes by 255 and remove what is"
           " not finite."),
          ("encode", {"x": np.zeros((2, 64), "float32")}, "INVALID_ARGUMENT",
           "expected images x of shape [N, 8, 8, 1], got [2 64]"),
          ("encode", {"x": np.float32(1)}, "INVALID_ARGUMENT", "[N, 8, 8, 1], got []"),
          ("encode", {"x": np.zeros((1, 8, 8, 1))}, "INVALID_ARGUMENT",
           "expected x of type float32, got float64; convert it."),
          ("encode", {"x": exports.strings(b"a")}, "INVALID_ARGUMENT", "got string"),
          ("encode", {}, "INVALID_ARGUMENT", "Missing but required: {x}"),
          ("decode", {"z": np.zeros((1, 3), "float32")}, "INVALID_ARGUMENT", "required: {y}"),
          ("decode", {"z": np.zeros((1, 3), "float32"), "y": np.eye(5, dtype="float32")},
           "INVALID_ARGUMENT", "as many rows of y as of z, got 5 and 1"),
          ("encode", {"x": exports.images(1), "y": exports.images(1)}, "INVALID_ARGUMENT",
           "Sent extra: {y}"),
          ("classify", {"x": exports.images(1)}, "FAILED_PRECONDITION",
           'Serving signature key "classify" not found.'),
          ("encode_image_bytes", {"image_bytes": exports.strings(b"GIF89a")},
           "INVALID_ARGUMENT", "expected the bytes of a PNG or JPEG file"),
          ("encode_image_bytes", {"image_bytes": exports.strings(exports.encoded(PIXELS[0, :7]))},
           "INVALID_ARGUMENT", "expected images of [8, 8] (height, width) pixels, got [7 8]"),
          ("encode_image_bytes", {"image_bytes": exports.strings(exports.encoded(PIXELS[0])[:60])},
           "INVALID_ARGUMENT", "Invalid PNG"),
      ],
  )
  def test_a_bad_request_gets_a_code_and_a_sentence(
      self, shared, signature, inputs, code, sentence
  ):
    error = failure(shared.predict, signature, inputs)
    assert error.code == code
    assert sentence in error.message and "\n" not in error.message

  def test_a_version_that_is_not_there(self, shared):
    error = failure(shared.predict, "encode", {"x": exports.images(1)}, version=99)
    assert (error.code, error.message) == (
        "NOT_FOUND", "Servable not found for request: Specific(imae, 99)"
    )

  def test_answer_gives_up_at_its_timeout(self, serve):
    server = serve(batch_timeout_s=_TIMEOUT, max_batch_size=2)
    start = time.monotonic()
    with pytest.raises(ServingError) as caught:
      asyncio.run(server.answer("encode", {"x": exports.images(1)}, timeout_s=0.05))
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - start < _TIMEOUT / 2

  def test_metadata_and_names(self, shared):
    number, signatures = shared.metadata()
    assert number == 1
    assert set(signatures) == {
        "serving_default", "encode", "decode", "reconstruct", "encode_image_bytes",
        "__saved_model_init_op",  # which takes nothing
    }
    assert shared.resolve("imae", 3) == 3 and shared.resolve("imae") is None
    assert failure(shared.resolve, "other").code == "NOT_FOUND"
    assert failure(shared.resolve, "imae", label="stable").code == "INVALID_ARGUMENT"


def png_bomb(side):
  """A file of kilobytes that is a grey image of side * side pixels."""
  def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

  compressor, line = zlib.compressobj(9), bytes(side + 1)
  pixels = b"".join(compressor.compress(line) for _ in range(side)) + compressor.flush()
  header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
  return (
      b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
  )


def peak_memory():
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class TestImages:

  @pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="Linux's")
  def test_a_decompression_bomb_is_not_decoded(self, shared):
    bomb = png_bomb(10_000)
    assert len(bomb) < 200_000
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_memory()
    error = failure(
        shared.predict, "encode_image_bytes", {"image_bytes": exports.strings(bomb)}
    )
    assert "got [10000 10000]" in error.message
    assert peak_memory() - before < 20e6  # the pixels would be 100 MB

  def test_a_bomb_behind_another_chunk_is_not_decoded(self, shared):
    """libpng skips chunks that it does not know, before the header, too."""
    size, bomb = struct.pack(">II", 8, 8), png_bomb(10_000)
    chunk = b"prVt" + size + b"\0" * 5
    chunk = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = bomb[:8] + chunk + bomb[8:]
    error = failure(
        shared.predict, "encode_image_bytes", {"image_bytes": exports.strings(content)}
    )
    assert "expected the bytes of a PNG or JPEG file" in error.message

  @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
  @pytest.mark.parametrize("shape", [(1, 1), (8, 9), (300, 7, 3)])
  def test_sizes_are_read_from_headers(self, shared, kind, shape):
    content = exports.encoded(np.zeros(shape, np.uint8), kind)
    content = content[:-5]  # which is enough of it
    inputs = {"image_bytes": exports.strings(content)}
    error = failure(shared.predict, "encode_image_bytes", inputs)
    assert error.message == (
        f"expected images of [8, 8] (height, width) pixels, got [{shape[0]} {shape[1]}]; resize"
        " them."
    )

  def test_a_frame_behind_a_stuffed_byte_is_seen(self, shared):
    """libjpeg skips FF 00 and reads on: what follows is no segment to be skipped."""
    hidden, shown = (
        b"\xff\xc0\0\x0b\x08" + struct.pack(">HH", side, side) + b"\1\1\x11\0"
        for side in (20_000, 8)
    )
    content = b"\xff\xd8\xff\0" + struct.pack(">H", len(hidden) + 2) + hidden + shown
    inputs = {"image_bytes": exports.strings(content)}
    error = failure(shared.predict, "encode_image_bytes", inputs)
    assert error.code == "INVALID_ARGUMENT"

  @hypothesis.settings(
      max_examples=60, deadline=None,
      suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
  )
  @hypothesis.given(
      kind=st.sampled_from(["PNG", "JPEG"]),
      cut=st.integers(0, 400),
      flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=4),
  )
  def test_damaged_files_get_codes_or_invalid_argument(self, shared, kind, cut, flips):
    content = bytearray(exports.encoded(PIXELS[0], kind))
    for position, mask in flips:
      content[position % len(content)] ^= mask
    content = bytes(content[: len(content) - cut % len(content)])
    inputs = {"image_bytes": exports.strings(content)}
    try:
      answer = shared.predict("encode_image_bytes", inputs).result(_TIMEOUT)
    except ServingError as error:
      assert error.code == "INVALID_ARGUMENT"
    else:
      assert all(np.isfinite(value).all() for value in answer.values())


class TestVersions:

  def test_the_largest_is_served_and_others_are_not_found(self, serve, base, models):
    publish(models[1], base, 10)
    publish(models[1], base, 9)
    server = serve()
    assert server.status() == [(10, "AVAILABLE", "OK", "")]
    assert server.path() == base / "10"
    assert failure(server.predict, "encode", {"x": exports.images(1)}, 9).code == "NOT_FOUND"
    assert failure(server.status, 9).code == "NOT_FOUND"

  def test_swaps_under_load_drop_nothing(self, serve, base, models, references):
    server = serve(poll_s=0.02)
    x = exports.images(3)
    expected = {number: references[(number + 1) % 2]("encode", x=x) for number in range(1, 5)}
    stop, failures, seen = threading.Event(), [], set()

    def client():
      try:
        while not stop.is_set():
          future = server.predict("encode", {"x": x})
          exports.assert_same_arrays(future.result(_TIMEOUT), expected[future.version])
          seen.add(future.version)
      except BaseException as error:
        failures.append(error)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
      thread.start()
    for number in range(2, 5):
      publish(models[(number + 1) % 2], base, number)
      until(lambda: number in seen or failures)
    stop.set()
    for thread in clients:
      thread.join()
    assert not failures and seen == {1, 2, 3, 4}
    until(lambda: server.status() == [
        (4, "AVAILABLE", "OK", ""), *((n, "END", "OK", "") for n in (3, 2, 1))
    ])

  def test_the_old_version_lives_until_its_last_answer(self, serve, base, models, references):
    server = serve(max_batch_size=2, batch_timeout_s=_TIMEOUT)
    x = exports.images(1)
    future = server.predict("encode", {"x": x})  # waits for company
    publish(models[1], base, 2)
    server.refresh()
    assert [status[:2] for status in server.status()] == [(2, "AVAILABLE"), (1, "UNLOADING")]
    server.close(_TIMEOUT)  # no more company will come
    exports.assert_same_arrays(future.result(0), references[0]("encode", x=x))
    assert server.status(1) == [(1, "END", "OK", "")]

  @pytest.mark.parametrize("damage", ["no graph", "cut graph", "no weights", "cut weights",
                                      "empty", "bad warm-up"])
  def test_a_corrupt_version_leaves_the_old_one_serving(
      self, serve, base, models, references, damage
  ):
    server = serve()
    broken = shutil.copytree(models[1], base / ".tmp")
    _damage(broken, damage)
    os.rename(broken, base / "2")
    server.refresh()
    (number, state, code, message), old = server.status()
    assert (number, state, old) == (2, "END", (1, "AVAILABLE", "OK", ""))
    assert code != "OK" and len(message) > 10 and "\n" not in message
    x = exports.images(2)
    answer = server.predict("encode", {"x": x}).result(_TIMEOUT)
    exports.assert_same_arrays(answer, references[0]("encode", x=x))
    # Once mended it is served, and not tried again before.
    shutil.rmtree(base / "2")
    publish(models[1], base, 2)
    server.refresh()
    assert server.status()[0] == (2, "AVAILABLE", "OK", "")

  def test_a_corrupt_version_is_not_loaded_over_and_over(self, serve, base, monkeypatch):
    server = serve()
    (base / "2").mkdir()
    loads = []
    load = tf.compat.v1.saved_model.load
    monkeypatch.setattr(
        tf.compat.v1.saved_model, "load", lambda *a: loads.append(a) or load(*a)
    )
    for _ in range(3):
      server.refresh()
    assert len(loads) == 1

  def test_a_server_starts_with_the_newest_whole_version(self, serve, base):
    (base / "2").mkdir()
    server = serve()
    assert server.metadata()[0] == 1
    assert server.status(2)[0][1] == "END"

  def test_what_failed_for_a_moment_is_tried_again(self, serve, base, models, monkeypatch):
    server = serve()
    publish(models[1], base, 2)
    monkeypatch.setattr(core, "_RETRY_S", 0.0)
    with monkeypatch.context() as patch:

      def fail(*_):
        raise OSError(24, "Too many open files")

      patch.setattr(tf.compat.v1.saved_model, "load", fail)
      server.refresh()
      assert "Too many open files" in server.status(2)[0][3]
    server.refresh()
    assert server.status(2) == [(2, "AVAILABLE", "OK", "")]

  def test_a_name_with_zeros(self, serve, base, models):
    os.rename(base / "1", base / "0001")
    server = serve()
    assert (server.metadata()[0], server.path()) == (1, base / "0001")

  def test_a_base_that_cannot_be_read_is_told_once(self, serve, base, monkeypatch, caplog):
    server = serve()

    def fail(_):
      raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(core.versions, "versions", fail)
    server.refresh()
    server.refresh()
    assert [record.getMessage() for record in caplog.records] == [
        f"{base} is a folder that cannot be read (Permission denied)."
    ]
    assert server.metadata()[0] == 1
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); mend its perm"):
      serve()

  def test_the_newest_is_taken_back(self, serve, base, models):
    publish(models[1], base, 2)
    server = serve()
    shutil.rmtree(base / "2")
    server.refresh()
    assert server.metadata()[0] == 1
    shutil.rmtree(base)
    server.refresh()
    assert server.metadata()[0] == 1  # rather this than nothing

  @pytest.mark.parametrize("content", ["missing", "empty", "corrupt"])
  def test_nothing_to_serve_is_one_clear_error(self, tmp_path, content):
    base = tmp_path / "base"
    if content != "missing":
      base.mkdir()
    if content == "corrupt":
      (base / "3").mkdir()
    with pytest.raises(InputError) as caught:
      core.Server(base)
    assert f"expected a version in {base} that can be loaded, got" in str(caught.value)
    assert ("got 3 (" in str(caught.value)) == (content == "corrupt")
    mend = "export it again" if content == "corrupt" else "give the --base of an imae-export"
    assert mend in str(caught.value)

  def test_closed_servers_are_unavailable(self, serve):
    server = serve()
    waiting = server.predict("encode", {"x": exports.images(1)})
    server.close(_TIMEOUT)
    assert waiting.result(0)["y"].shape == (1, 5)
    with pytest.raises(ServingError):
      server.predict("encode", {"x": exports.images(1)})

  def test_a_version_that_is_loaded_when_it_closes_is_not_served(
      self, serve, base, models, monkeypatch
  ):
    server = serve()
    publish(models[1], base, 2)
    load = tf.compat.v1.saved_model.load
    monkeypatch.setattr(
        tf.compat.v1.saved_model, "load", lambda *a: server.close(0.0) or load(*a)
    )
    server.refresh()
    assert list(server._served) == [1]  # which goes with the process
    server.refresh()
    assert list(server._served) == [1]

  def test_closing_does_not_wait_for_a_version_that_is_being_loaded(self, serve):
    server = serve()
    with server._refreshing:
      server.close(0.1)
    assert server.status(1) == [(1, "AVAILABLE", "OK", "")]  # it goes with the process

  def test_a_version_that_comes_back_as_another_answers_as_itself(
      self, serve, base, models, references
  ):
    server = serve(batch_timeout_s=0.5, max_batch_size=2)
    x = exports.images(1)
    former = server.predict("encode", {"x": x})
    second = publish(models[1], base, 2)
    server.refresh()
    shutil.rmtree(base / "1")
    publish(models[1], base, 1)
    shutil.rmtree(second)
    server.refresh()
    latter = server.predict("encode", {"x": x})
    for future, reference in zip((former, latter), references):
      exports.assert_same_arrays(future.result(_TIMEOUT), reference("encode", x=x))


def _damage(path, how):
  if how == "no graph":
    (path / "saved_model.pb").unlink()
  elif how == "cut graph":
    os.truncate(path / "saved_model.pb", 1000)
  elif how == "no weights":
    shutil.rmtree(path / "variables")
  elif how == "cut weights":
    data = next((path / "variables").glob("*.data-*"))
    os.truncate(data, data.stat().st_size // 2)
  elif how == "empty":
    shutil.rmtree(path)
    path.mkdir()
  else:
    warmup.write(path, ["encode"], (4, 4, 1), 5, 3)


def test_a_request_of_too_many_rows_is_refused(serve):
  server = serve(max_rows=3)
  y, z = np.eye(5, dtype="float32")[[0] * 4], np.zeros((4, 3), "float32")
  error = failure(server.predict, "decode", {"y": y, "z": z})
  assert error.code == "INVALID_ARGUMENT" and "at most 3 rows in a request, got 4" in error.message
  assert server.predict("decode", {"y": y[:3], "z": z[:3]}).result(_TIMEOUT)["x"].shape[0] == 3


def test_a_version_that_comes_back_stays_available(serve, models, base):
  """Its former self ends only when its last answer is given, and says nothing of the new one."""
  server = serve()
  former = server._acquire(None)
  second = publish(models[1], base, 2)
  server.refresh()
  shutil.rmtree(second)
  server.refresh()
  assert server.status(1) == [(1, "AVAILABLE", "OK", "")]
  server._release(former)
  assert server.status(1) == [(1, "AVAILABLE", "OK", "")]
