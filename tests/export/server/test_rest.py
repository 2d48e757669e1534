"""The REST API: the codes of the SavedModel, and TF Serving's statuses for bad requests."""

import asyncio
import base64
import gzip
import json
import os
import shutil
import threading
import tracemalloc

import bad_requests
import exports
import httpx
import hypothesis
import numpy as np
import pytest
from bad_requests import as_json
from bad_requests import b64
from bad_requests import image
from bad_requests import MODEL
from bad_requests import PIXELS
from bad_requests import PREDICT
from bad_requests import rows
from bad_requests import X
from bad_requests import Y
from bad_requests import Z
from hypothesis import strategies as st

from imae_tf.export.server import core
from imae_tf.export.server import json_tensors
from imae_tf.export.server import rest
from imae_tf.export.server.batching import ServingError

MAX_BYTES = 200_000
SCOPE = {
    "type": "http", "method": "POST", "path": PREDICT, "raw_path": PREDICT.encode(),
    "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
    "server": ("test", 80), "client": ("test", 1),
}


class Client:
  """Requests to an application, without a network."""

  def __init__(self, application):
    self._application = application

  def request(self, method, path, **kwargs):
    return self.requests([(method, path, kwargs)])[0]

  def get(self, path):
    return self.request("GET", path)

  def post(self, path, **kwargs):
    return self.request("POST", path, **kwargs)

  def requests(self, several):
    """Several at a time."""

    async def send():
      transport = httpx.ASGITransport(self._application)
      async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        calls = (client.request(method, path, **kwargs) for method, path, kwargs in several)
        return await asyncio.gather(*calls)

    return asyncio.run(send())


@pytest.fixture(scope="module")
def client(server):
  return Client(rest.app(server, max_request_bytes=MAX_BYTES))


def predict(client, **document):
  response = client.post(PREDICT, json=document)
  assert response.status_code == 200, response.text
  assert response.headers["content-type"] == "application/json"
  return response.json()


def assert_rows(predictions, expected):
  """Rows of objects against columns."""
  assert all(set(row) == set(expected) for row in predictions)
  columns = {name: [row[name] for row in predictions] for name in expected}
  exports.assert_same_columns(columns, expected)


class TestPredict:

  @pytest.mark.parametrize("n", [1, 7])
  @pytest.mark.parametrize("signature", ["serving_default", "encode"])
  def test_codes_in_rows_and_columns(self, client, reference, n, signature):
    x = exports.images(n)
    expected = reference(signature, x=x)
    rows, name = x.tolist(), {} if signature == "serving_default" else {"signature_name": signature}
    for instances in (rows, [{"x": row} for row in rows]):
      answer = predict(client, instances=instances, **name)
      assert set(answer) == {"predictions"} and len(answer["predictions"]) == n
      assert_rows(answer["predictions"], expected)
    for columns in (rows, {"x": rows}):
      answer = predict(client, inputs=columns, **name)
      assert set(answer) == {"outputs"}
      exports.assert_same_columns(answer["outputs"], expected)

  @pytest.mark.parametrize("n", [0, 1, 7])
  def test_image_bytes(self, client, reference, n):
    contents = [exports.encoded(pixels) for pixels in PIXELS[:n]]
    expected = reference("encode", x=PIXELS[:n, ..., None].astype("float32") / 255)
    name = {"signature_name": "encode_image_bytes"}
    listed = [b64(content) for content in contents]
    exports.assert_same_columns(predict(client, inputs=listed, **name)["outputs"], expected)
    exports.assert_same_columns(
        predict(client, inputs={"image_bytes": listed}, **name)["outputs"], expected
    )
    if n:  # TF Serving has no empty rows
      assert_rows(predict(client, instances=listed, **name)["predictions"], expected)
      named = [{"image_bytes": content} for content in listed]
      assert_rows(predict(client, instances=named, **name)["predictions"], expected)

  def test_one_output_has_no_name_and_two_inputs_have_theirs(self, client, reference):
    y, z = np.array(Y, "float32"), np.array(Z, "float32")
    expected = reference("decode", y=y, z=z)["x"]
    rows = [{"z": z_row, "y": y_row} for y_row, z_row in zip(Y, Z)]
    name = {"signature_name": "decode"}
    np.testing.assert_allclose(
        predict(client, instances=rows, **name)["predictions"], expected, atol=1e-5
    )
    np.testing.assert_allclose(
        predict(client, inputs={"y": Y, "z": Z}, **name)["outputs"], expected, atol=1e-5
    )

  def test_integers_are_floats_and_the_case_of_paths_does_not_matter(self, client, reference):
    zeros = np.zeros((1, 8, 8, 1), int)
    zeros[0, 0] = 1
    response = client.post(
        "/V1/models/imae/VERSIONS/1:predict", json={"instances": zeros.tolist()}
    )
    expected = reference("encode", x=zeros.astype("float32"))
    assert_rows(response.json()["predictions"], expected)

  def test_large_numbers_are_rounded(self, server):
    _, signatures = server.metadata()
    z = [16777217, 1435774380, 1435774380.0, 10**30, bad_requests.LARGEST_DOUBLE, 1e-60]
    body = json.dumps({"signature_name": "decode", "instances": [{"y": [1], "z": z}]}).encode()
    inputs, _ = json_tensors.Request(body).inputs(signatures["decode"])
    expected = np.float32([16777216, 1435774380, 1435774380, 1e30, np.inf, 0])
    np.testing.assert_array_equal(inputs["z"][0], expected)

  def test_what_stands_around_the_object_is_skipped(self, client, reference):
    expected = reference("encode", x=np.array(X, "float32"))
    body = rows(X).encode()
    for content in (b"\xef\xbb\xbf" + body, b" \r\n\t" + body + b"\n", body + b" {} what"):
      assert_rows(client.post(PREDICT, content=content).json()["predictions"], expected)

  def test_a_body_in_gzip(self, client, reference):
    body, headers = gzip.compress(rows(X).encode()), {"Content-Encoding": "gzip"}
    answer = client.post(PREDICT, content=body, headers=headers).json()["predictions"]
    assert_rows(answer, reference("encode", x=np.array(X, "float32")))
    for damaged in (body[:-9], b"", b"{}", body[:30] + b"\xff" * 30 + body[60:]):
      response = client.post(PREDICT, content=damaged, headers=headers)
      assert_error(response, 400, "expected a whole gzip body")
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < MAX_BYTES
    response = client.post(PREDICT, content=bomb, headers=headers)
    assert_error(response, 413, f"expected a body of at most {MAX_BYTES} bytes")

  def test_base64_may_be_broken_into_lines_and_lack_its_padding(self, client, reference):
    content = exports.encoded(PIXELS[0])
    text = base64.encodebytes(content).decode().rstrip("=\n")
    answer = predict(client, inputs=[{"b64": text}], signature_name="encode_image_bytes")
    expected = reference("encode", x=PIXELS[:1, ..., None].astype("float32") / 255)
    exports.assert_same_columns(answer["outputs"], expected)

  def test_what_is_not_finite_is_written_as_tf_serving_does(self):
    value = np.array([[np.nan, np.inf], [3, -np.inf]], "float32")
    assert json_tensors.response({"a": value}, True) == (
        b'{"predictions":[[NaN,Infinity],[3.0,-Infinity]]}'
    )
    assert json_tensors.response({"a_bytes": exports.strings(b"hello")}, False) == (
        b'{"outputs":[{"b64":"aGVsbG8="}]}'
    )

  def test_floats_have_nine_digits_that_give_them_back(self):
    few = np.array([0.2, 9e6, 3e-5, 555557.5, -0.0], "float32")
    assert json_tensors.response({"a": few}, True) == (
        b'{"predictions":[0.200000003,9000000.0,2.99999992e-05,555557.5,-0.0]}'
    )
    many = np.exp(np.random.default_rng(0).normal(0, 20, 2000)).astype("float32")
    body = json_tensors.response({"a": many}, True)
    read = np.array(json.loads(body)["predictions"], "float32")
    np.testing.assert_array_equal(read, many)

  @pytest.mark.parametrize("in_rows", [True, False])
  def test_an_output_without_rows(self, in_rows):
    with pytest.raises(ServingError, match="expected outputs with a row for each input"):
      json_tensors.response({"a": np.ones([2, 3], "float32"), "b": np.float32(1)}, in_rows)

  def test_what_is_not_finite_is_read(self, server):
    _, signatures = server.metadata()
    body = b'{"signature_name": "decode", "instances": [{"y": [NaN], "z": [-Infinity, 1, 2.5]}]}'
    request = json_tensors.Request(body)
    inputs, in_rows = request.inputs(signatures["decode"])
    assert in_rows and request.signature_name == "decode"
    np.testing.assert_array_equal(inputs["z"], np.array([[-np.inf, 1, 2.5]], "float32"))
    np.testing.assert_array_equal(inputs["y"], np.array([[np.nan]], "float32"))


def assert_error(response, status, words):
  assert response.status_code == status, response.text
  assert response.headers["content-type"] == "application/json"
  document = response.json()
  assert set(document) == {"error"} and words in document["error"], document
  assert 0 < len(document["error"]) < 1000 and "\n" not in document["error"]


class TestBadRequests:

  @pytest.mark.parametrize(
      "method,path,body,status,words",
      [pytest.param(*case[1:], id=f"{case[0]}-{i}") for i, case in enumerate(bad_requests.BAD)],
  )
  def test_status_and_sentence(self, client, method, path, body, status, words):
    assert_error(client.request(method, path, content=body), status, words)

  def test_a_large_body(self, client):
    response = client.post(PREDICT, content=" " * (MAX_BYTES + 1))
    assert_error(response, 413, f"expected a body of at most {MAX_BYTES} bytes")

  def test_a_large_body_without_a_length(self, client):
    async def chunks():
      for _ in range(10):
        yield b" " * 50_000

    assert_error(client.post(PREDICT, content=chunks()), 413, "expected a body of at most")

  @pytest.mark.parametrize(
      "code,status",
      [("RESOURCE_EXHAUSTED", 429), ("UNAVAILABLE", 503), ("DEADLINE_EXCEEDED", 504),
       ("INTERNAL", 500), ("UNIMPLEMENTED", 501), ("UNKNOWN", 500)],
  )
  def test_codes_of_the_core(self, client, server, monkeypatch, code, status):
    def fail(*args):
      raise ServingError(code, "why")

    monkeypatch.setattr(server, "predict", fail)
    assert_error(client.post(PREDICT, content=rows(X)), status, "why")

  def test_a_bug_is_an_error_500(self, client, server, monkeypatch):
    monkeypatch.setattr(server, "predict", lambda *args: 1 / 0)
    assert_error(client.post(PREDICT, content=rows(X)), 500, "Internal error")

  def test_a_full_queue_and_a_deadline(self, base):
    server = core.Server(
        base, poll_s=0, max_queue=1, max_batch_size=100, batch_timeout_s=60.0
    )
    client = Client(rest.app(server, timeout_s=1.0))
    responses = client.requests([("POST", PREDICT, {"content": rows(X)})] * 2)
    waited, refused = sorted(responses, key=lambda response: -response.status_code)
    assert_error(waited, 504, "expected an answer within 1 s")
    assert_error(refused, 429, "expected at most 1 waiting requests")
    server.close(0)

  def test_a_client_that_goes_gives_up_its_place(self, base):
    server = core.Server(
        base, poll_s=0, max_queue=1, max_batch_size=100, batch_timeout_s=60.0
    )
    application = rest.app(server)
    statuses = []

    async def send(message):
      statuses.append(message.get("status"))

    async def ask(messages):
      async def receive():
        return next(messages)

      await application(SCOPE, receive, send)

    for _ in range(3):  # it would wait for a minute, and the next be refused
      body = {"type": "http.request", "body": rows(X).encode(), "more_body": False}
      asyncio.run(ask(iter([body, {"type": "http.disconnect"}])))
    assert statuses[::2] == [499] * 3
    server.close(0)

  def test_many_rows_are_refused_before_they_are_looked_at(self, client):
    for key in ("instances", "inputs"):
      body = as_json({key: [[]] * 5000})
      assert_error(client.post(PREDICT, content=body), 400, "at most 4096 rows")

  def test_a_body_that_does_not_arrive(self, server):
    async def slow():
      yield b"{"
      await asyncio.sleep(5)

    response = Client(rest.app(server, timeout_s=0.2)).post(PREDICT, content=slow())
    assert_error(response, 504, "expected the whole body within 0.2 s, got 1 bytes")


class TestStatus:

  def test_of_all_versions_and_of_one(self, client):
    expected = {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    for path in (MODEL, f"{MODEL}/versions/1", "/v1/models/i%6Dae",
                 f"{MODEL}/labels/any", f"{MODEL}/METADATA"):
      response = client.get(path)
      assert (response.status_code, response.json()) == (200, expected)

  def test_of_a_corrupt_version_and_a_swap(self, base, tmp_path):
    shutil.copytree(base / "1", tmp_path / "base" / "1")
    server = core.Server(tmp_path / "base", poll_s=0)
    client = Client(rest.app(server))
    (tmp_path / "base" / "2").mkdir()
    server.refresh()
    broken, old = client.get(MODEL).json()["model_version_status"]
    assert (broken["version"], broken["state"], old["state"]) == ("2", "END", "AVAILABLE")
    assert broken["status"]["error_code"] != "OK" and broken["status"]["error_message"]
    assert client.post(PREDICT, content=rows(X)).status_code == 200
    shutil.copytree(base / "1", tmp_path / "base" / ".tmp")
    os.rename(tmp_path / "base" / ".tmp", tmp_path / "base" / "3")
    server.refresh()
    states = [s["state"] for s in client.get(MODEL).json()["model_version_status"]]
    assert states == ["AVAILABLE", "END", "END"]
    server.close(0)

  def test_metadata(self, client, base):
    answer = client.get(f"{MODEL}/metadata").json()
    assert answer["model_spec"] == {"name": "imae", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {
        "serving_default", "encode", "decode", "reconstruct", "encode_image_bytes",
        "__saved_model_init_op",
    }
    x = signatures["serving_default"]["inputs"]["x"]
    assert x["dtype"] == "DT_FLOAT" and x["tensor_shape"]["unknown_rank"] is False
    assert [dim["size"] for dim in x["tensor_shape"]["dim"]] == ["-1", "8", "8", "1"]
    assert signatures["encode"]["method_name"] == "tensorflow/serving/predict"
    versioned = client.get(f"{MODEL}/versions/1/metadata").json()
    assert versioned == answer


def assert_in_protocol(response, *contents):
  """A reply that a client of TF Serving understands."""
  assert response.status_code in {200, 400, 404}, response.text
  assert response.headers["content-type"] == "application/json"
  document = response.json()
  if response.status_code == 200:
    assert set(document) in contents
  else:
    assert set(document) == {"error"} and isinstance(document["error"], str) and document["error"]


_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.builds(lambda text: {"b64": text}, st.text("aGVsbG8=\n%", max_size=8))
)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["x", "y", "z", "b64", "image_bytes"]), inner, max_size=3),
    max_leaves=20,
)
_documents = st.fixed_dictionaries(
    {},
    optional={
        "instances": _values,
        "inputs": _values,
        "signature_name": st.sampled_from(
            ["", "encode", "decode", "reconstruct", "encode_image_bytes", "é"]
        )
        | _values,
    },
)
_fuzz = hypothesis.settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


class TestFuzz:

  @_fuzz
  @hypothesis.given(_documents)
  def test_any_document(self, client, document):
    response = client.post(PREDICT, content=json.dumps(document))
    assert_in_protocol(response, {"predictions"}, {"outputs"})

  @_fuzz
  @hypothesis.given(st.binary(max_size=100) | st.text(max_size=100).map(str.encode))
  def test_any_bytes(self, client, body):
    assert_in_protocol(client.post(PREDICT, content=body))

  @_fuzz
  @hypothesis.given(
      st.integers(0, len(rows(X)) - 1), st.integers(0, 300), st.binary(max_size=3)
  )
  def test_a_good_body_with_a_part_replaced(self, client, start, length, part):
    body = rows(X).encode()
    body = body[:start] + part + body[start + length :]
    assert_in_protocol(client.post(PREDICT, content=body), {"predictions"})

  @_fuzz
  @hypothesis.given(
      st.sampled_from(["PNG", "JPEG"]), st.integers(0, 400), st.integers(0, 20),
      st.binary(max_size=4),
  )
  def test_image_bytes_with_a_part_replaced(self, client, kind, start, length, part):
    content = exports.encoded(PIXELS[0], kind)
    start %= len(content)
    content = content[:start] + part + content[start + length :]
    assert_in_protocol(client.post(PREDICT, content=image(content)), {"predictions"})

  @_fuzz
  @hypothesis.given(
      st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "TRACE", "BREW"]),
      st.lists(
          st.sampled_from(["v1", "models", "imae", "versions", "labels", "1", "metadata", ":",
                           "predict", "%2F", "%ff", ""])
          | st.text("abc0189:%", max_size=6),
          max_size=8,
      ),
  )
  def test_any_path(self, client, method, parts):
    response = client.request(method, "/v1/" + "/".join(parts), content=rows(X))
    assert_in_protocol(
        response, {"predictions"}, {"model_version_status"}, {"model_spec", "metadata"}
    )


def test_a_text_among_numbers_takes_no_memory(client):
  body = rows([[0.5] * 20_000 + ["a" * 10_000]])  # 800 MB as an array of texts
  tracemalloc.start()
  try:
    response = client.post(PREDICT, content=body)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert response.status_code == 400 and "is not of expected type" in response.json()["error"]
  assert peak < 50e6


def test_another_encoding_than_utf_8_is_refused(client):
  body = json.dumps({"instances": [[True, 0.5]]}).encode("utf-16")
  response = client.post(PREDICT, content=body)
  assert response.status_code == 400 and "JSON Parse error" in response.json()["error"]


def test_large_bodies_are_read_and_written_alike(server, reference):
  x = exports.images(300)  # JSON of more than 256 KiB, which threads read and write
  client = Client(rest.app(server))
  answer = client.post(PREDICT, content=rows(x.tolist())).json()["predictions"]
  expected = reference("encode", x=x)["y"]
  np.testing.assert_allclose([row["y"] for row in answer], expected, atol=1e-5)


@pytest.mark.parametrize(
    "host,status",
    [("127.0.0.1:8501", 200), ("localhost", 200), ("[::1]:8501", 200), ("rebound.example", 400)],
)
def test_on_loopback_other_names_are_refused(server, host, status):
  application = rest.app(server, hosts=("127.0.0.1", "localhost", "::1"))
  for path in ("/", "/page/model", MODEL):
    response = Client(application).request("GET", path, headers={"Host": host})
    assert response.status_code == status, path


def test_a_vanished_client_harms_nobody(server, client):
  """A disconnect while the body arrives, and one while the answer is computed."""
  application = rest.app(server)
  body = rows(X).encode()
  for messages in (
      [{"type": "http.request", "body": body[:50], "more_body": True}],
      [{"type": "http.request", "body": body, "more_body": False}],
  ):
    incoming, sent = iter(messages), []

    async def receive():
      return next(incoming, {"type": "http.disconnect"})

    async def send(message):
      sent.append(message)

    asyncio.run(application(SCOPE, receive, send))
    assert sent[0]["status"] in (200, 499)
  assert client.post(PREDICT, content=body).status_code == 200
  assert threading.active_count() < 50
