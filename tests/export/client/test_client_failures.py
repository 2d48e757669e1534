"""The client where servers and networks fail: repeats, time limits, replies, and its errors."""

import asyncio
import concurrent.futures
import contextlib
import copy
import pickle
import socket
import time

import exports
import fake_servers
import numpy as np
import pytest
from fake_servers import images

from imae_tf import errors
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import client as clients
from imae_tf.export.client import channels

K1, K2, SHAPE = fake_servers.K1, fake_servers.K2, fake_servers.SHAPE
codes_of = fake_servers.codes_of

client, connect, fake, free_port = (
    fake_servers.client, fake_servers.connect, fake_servers.fake, fake_servers.free_port
)
protocol, server = fake_servers.protocol, fake_servers.server


def assert_codes_equal(actual, expected, atol=1e-6):
  exports.assert_same_arrays(actual, expected, atol)


class TestRetries:

  @pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
  def test_busy_then_success(self, client, fake, code):
    fake.failures.extend([(code, "the queue is full"), (code, "the queue is full")])
    x = images(3)
    assert_codes_equal(client.encode(x), codes_of(x))
    assert not fake.failures and len(fake.requests) == 1

  @pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
  def test_busy_for_good(self, server, connect, fake, code):
    fake.failures.extend([(code, "the queue is full")] * 10)
    with pytest.raises(clients.UnavailableError, match="got .*: the queue is full; try") as raised:
      connect(server.endpoint, retries=3).encode(images(3))
    assert raised.value.code == code
    assert len(fake.failures) == 6

  @pytest.mark.parametrize(
      "code,kind",
      [
          ("INVALID_ARGUMENT", clients.RefusedError),
          ("NOT_FOUND", clients.NotFoundError),
          ("DEADLINE_EXCEEDED", clients.DeadlineError),
          ("INTERNAL", clients.ClientError),
      ],
  )
  def test_other_failures_are_not_repeated(self, client, fake, code, kind):
    fake.failures.extend([(code, "the server's own sentence.")] * 2)
    with pytest.raises(kind) as raised:
      client.encode(images(3))
    assert type(raised.value) is kind and isinstance(raised.value, ImaeError)
    assert code == "INTERNAL" or raised.value.code == code
    if code != "DEADLINE_EXCEEDED":
      assert "the server's own sentence" in str(raised.value)
    assert len(fake.failures) == 1

  def test_wrong_shape_is_the_servers_to_refuse(self, client):
    with pytest.raises(clients.RefusedError, match=r"expected images x of shape \[N, 8, 8, 1\]"):
      client.encode(np.zeros([2, 9, 8, 1]))

  def test_no_server(self, protocol, connect, free_port):
    client = connect(f"{protocol}://127.0.0.1:{free_port}", retries=2)
    with pytest.raises(clients.UnavailableError, match="expected a server that answers at"):
      client.encode(images(1))

  def test_a_server_that_comes_later(self, protocol, connect, free_port, fake, monkeypatch):
    monkeypatch.setattr(clients, "_FIRST_PAUSE_S", 0.2)
    client = connect(f"{protocol}://127.0.0.1:{free_port}", retries=8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
      answer = pool.submit(client.encode, images(2))
      time.sleep(0.5)
      assert not answer.done()
      server = fake_servers.SERVERS[protocol](fake, free_port)
      assert_codes_equal(answer.result(), codes_of(images(2)))
    server.stop()

  def test_a_server_that_vanishes_in_the_middle(self, server, protocol, connect, fake):
    with fake_servers.Proxy(server.port) as proxy:
      client = connect(f"{protocol}://127.0.0.1:{proxy.port}")
      client.encode(images(1))  # the connection stands
      fake.delay = 0.4
      with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(client.encode, images(2))
        time.sleep(0.2)
        proxy.cut()
        fake.delay = 0
        assert_codes_equal(answer.result(), codes_of(images(2)))

  def test_a_server_that_vanishes_for_good(self, server, protocol, connect, fake):
    with fake_servers.Proxy(server.port) as proxy:
      client = connect(f"{protocol}://127.0.0.1:{proxy.port}", retries=2)
      client.encode(images(1))
      fake.delay = 0.4
      with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(client.encode, images(2))
        time.sleep(0.2)
        proxy.close()
        with pytest.raises(clients.UnavailableError):
          answer.result()

  def test_timeout(self, server, connect, fake):
    fake.delay = 1
    client = connect(server.endpoint, timeout_s=0.2)
    with pytest.raises(clients.DeadlineError, match="no answer within 0.2 s; raise the client's"):
      client.encode(images(1))

  def test_pauses_grow_to_a_bound(self, server, monkeypatch, fake):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    fake.failures.extend([("UNAVAILABLE", "")] * 9)
    monkeypatch.setattr(fake, "_predict", _without_sleep(fake))
    with clients.Client(server.endpoint, retries=9) as client:
      client.encode(images(1))
    pauses = [p for p in pauses if p >= 0.05]  # not those of the server
    bounds = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
    for pause, bound in zip(pauses, bounds, strict=True):
      assert bound / 2 <= pause <= bound

  def test_by_default_they_outlast_a_restart(self, server, monkeypatch, fake):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    fake.failures.extend([("UNAVAILABLE", "")] * 8)
    monkeypatch.setattr(fake, "_predict", _without_sleep(fake))
    with clients.Client(server.endpoint) as client:
      client.encode(images(1))
    assert 8 <= sum(p for p in pauses if p >= 0.05) <= 17

  def test_very_many(self, server, fake, monkeypatch):
    monkeypatch.setattr(clients, "_LONGEST_PAUSE_S", 1e-4)
    monkeypatch.setattr(fake, "_predict", _without_sleep(fake))
    fake.failures.extend([("UNAVAILABLE", "")] * 1100)  # 2.0 ** 1100 is more than a float holds
    x = images(1)
    with clients.Client(server.endpoint, retries=2000) as client:
      assert_codes_equal(client.encode(x), codes_of(x))


def _without_sleep(fake):
  def predict(signature, inputs, version):
    if fake.failures:
      raise fake_servers.Refusal(*fake.failures.popleft())
    return codes_of(inputs["x"])

  return predict


class TestTime:

  def test_a_connection_may_take_its_time(self, server, protocol, connect):
    with fake_servers.Proxy(server.port, delay=1.2) as proxy:
      client = connect(f"{protocol}://127.0.0.1:{proxy.port}", retries=0, timeout_s=20)
      assert_codes_equal(client.encode(images(1)), codes_of(images(1)))

  def test_an_answer_that_drips(self, fake):
    """An awaiting client's limit is one of the whole request over REST, too."""
    server = fake_servers.RestServer(fake)
    with fake_servers.Proxy(server.port, drip=0.02) as proxy:
      with fake_servers.Awaiting(f"http://127.0.0.1:{proxy.port}", timeout_s=0.6) as client:
        with pytest.raises(clients.DeadlineError, match="no answer within 0.6 s.*check the endp"):
          client.encode(images(1))
    server.stop()

  @pytest.mark.parametrize("timeout_s", [0.5, 20])
  def test_a_host_that_does_not_answer(self, connect, monkeypatch, timeout_s):
    monkeypatch.setattr(channels, "_CONNECT_S", 0.3)
    with full_backlog() as port:
      start = time.monotonic()
      with pytest.raises(clients.UnavailableError, match="expected a server that answers at"):
        connect(f"http://127.0.0.1:{port}", retries=1, timeout_s=timeout_s).encode(images(1))
      assert time.monotonic() - start < 20  # the whole time of one long try


@contextlib.contextmanager
def full_backlog():
  """A port that lets nobody in any more, as where a firewall drops what comes."""
  with contextlib.ExitStack() as stack:
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(3):
      waiting = stack.enter_context(socket.socket())
      waiting.setblocking(False)
      with contextlib.suppress(BlockingIOError):
        waiting.connect(listener.getsockname())
    yield listener.getsockname()[1]


class TestWrongReplies:

  @pytest.mark.parametrize(
      "answer",
      [
          {"probabilities": np.zeros([2, 5])},
          {"y": np.zeros([2, K2]), "z": np.zeros([2, K1])},
          {"y": np.zeros([3, K2]), "z": np.zeros([3, K1]), "z_scale": np.zeros([3, K1])},
          {"y": np.zeros([2]), "z": np.zeros([2]), "z_scale": np.zeros([2])},
      ],
  )
  def test_another_model(self, client, fake, answer):
    fake.answer = answer
    with pytest.raises(clients.ReplyError, match="got .*; check the endpoint and the model's name"):
      client.encode(images(2))

  @pytest.mark.parametrize(
      "body",
      [
          b"", b"<html>hello</html>", b"[]", b"{}", b"null", b'{"outputs": [[1], [1, 2]]}',
          b'{"outputs": {"y": [["a"]], "z": [[1]], "z_scale": [[1]]}}', b'{"outputs": 3}', b"\xff",
          b'{"outputs": {"y": [[1], [1, 2]], "z": [[1]], "z_scale": [[1]]}}',
      ],
  )
  def test_bodies_of_another_server(self, connect, body):
    with fake_servers.Canned(200, body) as port:
      with pytest.raises(clients.ReplyError, match="got another one"):
        connect(f"http://127.0.0.1:{port}").encode(images(1))

  @pytest.mark.parametrize(
      "status,body,kind,sentence",
      [
          (404, b"<html>nowhere</html>", clients.NotFoundError, "got HTTP 404: <html>nowhere"),
          (400, b"", clients.RefusedError, "got HTTP 400: Bad Request"),
          (413, b"too large", clients.RefusedError, "got HTTP 413: too large"),
          (302, b"", clients.ClientError, "got HTTP 302: Found"),
          (401, b"log in", clients.RefusedError, "got HTTP 401: log in; correct the headers"),
          (403, b"no", clients.RefusedError, "got HTTP 403: no; correct the headers"),
          (408, b"", clients.DeadlineError, "got HTTP 408: Request Timeout; raise the client"),
          (500, b'{"error": 3}', clients.ClientError, "got HTTP 500: 3"),
      ],
  )
  def test_statuses_of_another_server(self, connect, status, body, kind, sentence):
    with fake_servers.Canned(status, body) as port:
      with pytest.raises(kind, match=sentence):
        connect(f"http://127.0.0.1:{port}").encode(images(1))

  def test_a_body_that_is_not_the_gzip_it_claims(self, connect):
    with fake_servers.Canned(200, b"plain", {"Content-Encoding": "gzip"}) as port:
      with pytest.raises(clients.ClientError, match="expected an answer"):
        connect(f"http://127.0.0.1:{port}").encode(images(1))

  def test_grpc_asked_of_a_rest_port(self, fake, connect):
    server = fake_servers.RestServer(fake)
    with pytest.raises(clients.UnavailableError):
      connect(f"grpc://127.0.0.1:{server.port}", retries=1).encode(images(1))
    server.stop()

  def test_rest_asked_of_a_grpc_port(self, fake, connect):
    server = fake_servers.GrpcServer(fake)
    with pytest.raises(clients.ClientError):
      connect(f"http://127.0.0.1:{server.port}", retries=1).encode(images(1))
    server.stop()

  @pytest.mark.parametrize(
      "status,code",
      [(401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (408, "DEADLINE_EXCEEDED")],
  )
  def test_codes_of_statuses(self, connect, status, code):
    with fake_servers.Canned(status, b"") as port:
      with pytest.raises(clients.ClientError) as raised:
        connect(f"http://127.0.0.1:{port}").encode(images(1))
    assert raised.value.code == code

  @pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
  def test_no_permission_over_grpc(self, connect, code):
    fake = fake_servers.Fake()
    fake.failures.append((code, "who are you?"))
    server = fake_servers.GrpcServer(fake)
    with pytest.raises(clients.RefusedError, match="who are you.; correct the headers") as raised:
      connect(server.endpoint).encode(images(1))
    assert raised.value.code == code
    server.stop()

  def test_a_redirect_is_named(self, connect):
    with fake_servers.Canned(308, b"", {"Location": "https://here.invalid/x"}) as port:
      with pytest.raises(
          clients.RefusedError, match="got HTTP 308: a redirect to https://here.invalid/x; correct"
      ):
        connect(f"http://127.0.0.1:{port}").encode(images(1))


class TestClosed:

  @pytest.mark.parametrize("used", [False, True])
  def test_use_after_close(self, server, fake, used):
    for kind in fake_servers.KINDS.values():
      with kind(server.endpoint) as client:
        if used:
          client.encode(images(1))
        client.close()
        client.close()
        with pytest.raises(InputError, match="expected an open client, got one that was closed"):
          client.encode(images(1))
        with pytest.raises(InputError, match="expected an open client, got one that was closed"):
          client.served_version()

  def test_closed_by_another_thread(self, server, fake):
    fake.delay = 0.3
    with clients.Client(server.endpoint) as client:
      with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(client.encode, images(1000))
        time.sleep(0.1)
        client.close()
        with pytest.raises(InputError, match="expected an open client, got one that was closed"):
          answer.result()

  def test_closed_by_another_task(self, server, fake):
    fake.delay = 0.3

    async def close_in_the_middle():
      client = clients.AsyncClient(server.endpoint)
      answer = asyncio.create_task(client.encode(images(1000)))
      await asyncio.sleep(0.1)
      await client.aclose()
      await answer

    with pytest.raises(InputError, match="expected an open client, got one that was closed"):
      asyncio.run(close_in_the_middle())


KINDS_OF_ERRORS = [
    kind
    for module in (errors, channels)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, ImaeError)
]


class TestErrors:

  @pytest.mark.parametrize("kind", dict.fromkeys(KINDS_OF_ERRORS))
  @pytest.mark.parametrize(
      "copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy]
  )
  def test_they_survive_a_copy(self, kind, copied):
    code = ["NOT_FOUND"] if issubclass(kind, clients.ClientError) else []
    again = copied(kind("expected x, got y; mend z.", *code))
    assert type(again) is kind and str(again) == "expected x, got y; mend z."
    assert again.args == ("expected x, got y; mend z.",)
    assert [again.code] == code if code else not hasattr(again, "code")

  def test_pythons_own_kinds_of_them(self, server, connect, fake):
    fake.failures.append(("UNAVAILABLE", "away"))
    with pytest.raises(ConnectionError, match="^expected a server that answers at .*away; try"):
      connect(server.endpoint, retries=0).encode(images(1))
    fake.failures.append(("DEADLINE_EXCEEDED", "late"))
    with pytest.raises(TimeoutError, match="^expected an answer of .* in time, got .*; raise"):
      connect(server.endpoint, retries=0).encode(images(1))
