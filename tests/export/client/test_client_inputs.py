"""What the client refuses before it asks: images, files, arguments, the environment."""

import json
import pathlib

import exports
import fake_servers
import numpy as np
import pytest
from fake_servers import images
from fake_servers import write_images

from imae_tf.errors import InputError
from imae_tf.export import client as clients

K1, K2 = fake_servers.K1, fake_servers.K2
codes_of = fake_servers.codes_of

client, connect, fake, free_port = (
    fake_servers.client, fake_servers.connect, fake_servers.fake, fake_servers.free_port
)
protocol, server = fake_servers.protocol, fake_servers.server


class TestBadInput:

  @pytest.mark.parametrize(
      "x,sentence",
      [
          (np.zeros([8, 8, 1]), r"shape \[N, .*got \[8, 8, 1\]; .*x\[np.newaxis\]"),
          (np.zeros([5, 8, 8]), r"got \[5, 8, 8\]; .*x\[\.\.\., np.newaxis\]"),
          (np.zeros([8, 8]), r"got \[8, 8\]; .*x\[np.newaxis, \.\.\., np.newaxis\]"),
          (np.zeros([2, 3, 8, 8]), r"got \[2, 3, 8, 8\]; .*np.moveaxis\(x, 1, -1\)"),
          (None, "got a NoneType; give an array"),
          ([np.zeros([8, 8, 1]), np.zeros([9, 8, 1])], "expected images of one shape, got a list"),
          (np.ones([1, 8, 8, 1], np.uint8), r"got none above 1: all would be black; give x.astype"),
          (np.full([1, 8, 8, 1], 255), r"expected int64 pixels .* above 255: .*astype\('uint8'\)"),
          (np.full([1, 8, 8, 1], 2.0), r"expected float pixels in \[0, 1\], got .* from 2 to 2"),
          (np.full([1, 8, 8, 1], np.nan), "finite pixels .*, got NaN or infinity in 1 of 1"),
      ],
  )
  def test_images(self, client, fake, x, sentence):
    with pytest.raises(InputError, match=sentence):
      client.encode(x)
    assert not fake.requests

  @pytest.mark.parametrize("kind", ["uint16", "bool", "a rounding above 1", "a list"])
  def test_images_of_other_types(self, client, kind):
    x = np.round(images(2))
    given = {
        "uint16": (x * 65535).astype(np.uint16),
        "bool": x.astype(bool),
        "a rounding above 1": x * (1 + 1e-6),
        "a list": list(x),
    }[kind]
    exports.assert_same_arrays(client.encode(given), codes_of(x), 1e-6)

  @pytest.mark.parametrize(
      "y,z,sentence",
      [
          (np.zeros([2, K2]), np.zeros([3, K1]), "expected as many rows of y as of z, got 2 and 3"),
          (np.zeros([K2]), np.zeros([K1]), "expected y as a matrix of finite numbers"),
          (np.zeros([1, K2]), np.full([1, K1], np.inf), "expected z as a matrix of finite numbers"),
          (np.zeros([2, K2]), [[1], [1, 2]], "expected z as a matrix of finite numbers"),
      ],
  )
  def test_codes(self, client, fake, y, z, sentence):
    with pytest.raises(InputError, match=sentence):
      client.decode(y, z)
    assert not fake.requests

  def test_a_file_that_is_not_there(self, client, tmp_path):
    with pytest.raises(InputError, match="expected an image file at .*nowhere.png, got: No such"):
      client.encode_files([tmp_path / "nowhere.png"])

  @pytest.mark.parametrize("path", ["a\0.png", ".", "~nobody-of-that-name/a.png"])
  def test_no_file(self, client, path):
    with pytest.raises(InputError, match="expected an image file at .*, got: .*; correct the path"):
      client.encode_files([path])

  @pytest.mark.parametrize("lone", ["a.png", pathlib.Path("a.png"), b"\x89PNG", None, 3])
  def test_a_lone_file(self, client, fake, lone):
    with pytest.raises(InputError, match=r"expected a list of files, got a \w+ alone; send \[file"):
      client.encode_files(lone)

  @pytest.mark.parametrize("item", [None, 3, np.zeros([8, 8, 1])])
  def test_what_is_no_file(self, client, item):
    with pytest.raises(InputError, match="expected each file as a path, .*at index 1; send arrays"):
      client.encode_files([b"", item])

  def test_the_refused_file_is_named(self, client, tmp_path):
    paths = write_images(tmp_path, [(8, 8), (8, 8), (8, 8), (9, 8), (8, 8)])
    with pytest.raises(clients.RefusedError, match="^[^:]*3.png: expected .*shape .8, 8, 1.") as e:
      client.encode_files(paths)
    assert e.value.code == "INVALID_ARGUMENT"
    contents = [path.read_bytes() for path in paths]
    with pytest.raises(clients.RefusedError, match="^image 3: expected .*shape .8, 8, 1."):
      client.encode_files(contents)

  def test_only_the_refused_files_chunk_is_asked_again(self, client, fake, tmp_path):
    paths = write_images(tmp_path, [(8, 8)] * 290 + [(9, 8)] + [(8, 8)] * 9)
    with pytest.raises(clients.RefusedError, match="290.png: expected"):
      client.encode_files(paths)
    assert len(fake.requests) <= 5 + 35  # chunks, and files of the last one

  def test_a_chunk_whose_files_pass_one_by_one(self, client, fake, tmp_path):
    fake.failures.append(("INVALID_ARGUMENT", "too many at once"))
    with pytest.raises(clients.RefusedError, match="^expected a request .*too many at once$"):
      client.encode_files(write_images(tmp_path, [(8, 8)] * 3))
    assert [rows for _, rows, _ in fake.requests] == [1, 1, 1]


class TestArguments:

  @pytest.mark.parametrize(
      "endpoint",
      [
          "", "localhost:8501", "ftp://host:1", "http://", "http://host:99999999",
          "grpc://host:8500/path", "http://host:1?x=2", "http://[::1:8501", "http://ä..b:1",
          "http://ho\nst:1", "http://ho st:1", "grpc://ho\nst:1", "http://host:1#x", "grpc://",
          None, 8501, b"http://host:1", pathlib.Path("http://host:1"), "unix:///tmp/x",
      ],
  )
  def test_endpoint(self, endpoint):
    with pytest.raises(InputError, match="expected an endpoint such as http://127.0.0.1:8501 or"):
      clients.Client(endpoint)

  @pytest.mark.parametrize("endpoint", ["grpc://host", "grpcs://host/", "grpc://[::1]"])
  def test_a_port_is_missing(self, endpoint):
    with pytest.raises(InputError, match=r"expected an endpoint with a port, .*add it, .*:8500\.$"):
      clients.Client(endpoint)

  @pytest.mark.parametrize("endpoint", ["http://me:secret@host:1", "grpc://me:secret@host"])
  def test_a_password_is_not_shown(self, endpoint):
    with pytest.raises(InputError, match="got one with an @; send them from Python") as raised:
      clients.Client(endpoint)
    assert "secret" not in str(raised.value)

  @pytest.mark.parametrize(
      "name,value",
      [
          *(("timeout_s", value) for value in (0, -1, None, "30", np.inf, np.nan, True, 1e9)),
          *(("retries", value) for value in (-1, 2.5, None, "5", True)),
          *(("chunk_size", value) for value in (0, 10.5, None, True)),
          *(("concurrency", value) for value in (0, 1.5, None, True)),
          *(("version", value) for value in (True, 1.0, -1, 2**63, "", b"stable")),
          *(("model_name", value) for value in (None, "", 3)),
          *(("headers", value) for value in ("a: b", [("a", "b")], 3)),
      ],
  )
  def test_misuse(self, name, value):
    with pytest.raises(InputError, match=f"expected {name} as .*, got .*; correct it"):
      clients.AsyncClient("http://127.0.0.1:1", **{name: value})

  @pytest.mark.parametrize(
      "headers",
      [
          {"a b": "x"}, {"": "x"}, {"a:": "x"}, {"a\n": "x"}, {"ä": "x"}, {3: "x"}, {None: "x"},
          {"x-bin": "x"}, {"Grpc-Timeout": "x"}, {"Content-Length": "3"}, {"TE": "x"},
      ],
  )
  def test_names_of_headers(self, headers):
    with pytest.raises(InputError, match="expected names of headers such as 'Authorization', got"):
      clients.Client("http://127.0.0.1:1", headers=headers)

  @pytest.mark.parametrize("value", ["secret\n", " secret", "sec\rret", "secrät", b"secret", 3])
  def test_values_of_headers(self, value):
    with pytest.raises(InputError, match="the value of the header 'Token' as printable") as raised:
      clients.Client("http://127.0.0.1:1", headers={"Token": value})
    assert "sec" not in str(raised.value)


PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all", "grpc", "no")]


@pytest.fixture
def environment(monkeypatch):
  """A function that sets variables of the environment, where there are no proxies else."""
  for name in (*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
    monkeypatch.delenv(name, raising=False)
  return monkeypatch.setenv


class TestEnvironment:

  @pytest.mark.parametrize(
      "name,value,reason",
      [
          ("ALL_PROXY", "socks5://127.0.0.1:1", "socksio"),
          ("HTTP_PROXY", "ftp://127.0.0.1:1", "scheme"),
          ("HTTP_PROXY", "http://127.0.0.1:port", "port"),
          ("SSL_CERT_FILE", "/nowhere/a.pem", "No such file"),
      ],
  )
  def test_what_cannot_be_used(self, environment, connect, name, value, reason):
    environment(name, value)
    with pytest.raises(InputError, match=rf"got: .*{reason}.*; correct .*{name}.* environment"):
      connect("http://192.0.2.1:8501")

  @pytest.mark.parametrize("proxy", ["http://127.0.0.1:{port}", "socks5://127.0.0.1:{port}"])
  @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
  def test_this_machine_needs_no_proxy(self, environment, connect, free_port, proxy, host, fake):
    for name in PROXIES[:-1]:
      environment(name, proxy.format(port=free_port))
    for kind in fake_servers.SERVERS.values():
      server = kind(fake, host="0.0.0.0")
      client = connect(server.endpoint.replace("0.0.0.0", host), retries=0)
      exports.assert_same_arrays(client.encode(images(1)), codes_of(images(1)), 1e-6)
      server.stop()

  def test_others_are_asked_through_it(self, environment, connect):
    body = json.dumps({"outputs": {"y": [[1]], "z": [[2]], "z_scale": [[3]]}}).encode()
    proxy = fake_servers.Canned(200, body)
    with proxy as port:
      environment("HTTP_PROXY", f"http://127.0.0.1:{port}")
      assert connect("http://imae.invalid:8501").encode(images(1))["z"].tolist() == [[2]]
    assert proxy.asked == ["http://imae.invalid:8501/v1/models/imae:predict"]
