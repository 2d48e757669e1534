"""Bad requests to the REST API, and the status that TF Serving answers them with.

The cases marked (j) are those of TF Serving's json_tensor_test.cc, (h) those of its
http_rest_api_handler_test.cc and http_rest_api_util_test.cc, on this model's signatures. The
statuses are TF Serving's. So are most of the words, as far as those tests look for some; the
others are imae-serve's own or the graph's.
"""

import base64
import json

import exports
import numpy as np

MODEL = "/v1/models/imae"
PREDICT = f"{MODEL}:predict"
PIXELS = np.random.default_rng(3).integers(0, 256, (7, 8, 8), np.uint8)
X = exports.images(2).tolist()
Y, Z = np.eye(5)[:2].tolist(), [[0.5, -1.0, 2.0]] * 2


def b64(content):
  return {"b64": base64.b64encode(content).decode()}


def x_with(value):
  """Rows with a value at one place."""
  rows = json.loads(json.dumps(X))
  rows[1][3][4][0] = value
  return rows


def as_json(value):
  return json.dumps(value)


def rows(value, **more):
  return as_json({"instances": value, **more})


def columns(value, **more):
  return as_json({"inputs": value, **more})


def image(content):
  return rows([b64(content)], signature_name="encode_image_bytes")


LARGEST_DOUBLE = 1.7976931348623157e308
DECODE = {"signature_name": "decode"}
# (what, method, path, body, status, words of the error).
BAD = [
    # ---- paths and names
    ("another API (h)", "GET", "/v1/foo", "", 400, "Malformed request"),
    ("another API (h)", "POST", "/v1/foo", "", 400, "Malformed request"),
    ("no name (h)", "GET", "/v1/models", "", 400, "Missing model name"),
    ("no name (h)", "POST", "/v1/models", "", 400, "Malformed request"),
    ("GET predict (h)", "GET", "/v1/models/foo:predict", "", 400, "Malformed request"),
    ("'version' (h)", "GET", "/v1/models/foo/version/50:predict", "", 400, "Malformed request"),
    ("'version' (h)", "POST", "/v1/models/foo/version/50:regress", "", 400, "Malformed request"),
    ("a word as version (h)", "POST", "/v1/models/foo/versions/HELLO:regress", "", 400,
     "Malformed request"),
    ("a version and a label (h)", "POST", "/v1/models/foo/versions/50/labels/a:regress", "", 400,
     "Malformed request"),
    ("POST metadata (h)", "POST", "/v1/models/foo/metadata", "", 400, "Malformed request"),
    ("a version over 64 bits (h)", "POST", f"/v1/models/foo/versions/{2**64 - 1}:regress", "", 400,
     "Failed to convert version"),
    ("a version over 64 bits", "GET", f"{MODEL}/versions/{'9' * 5000}", "", 400,
     "Failed to convert version"),
    ("a method in capitals", "POST", f"{MODEL}:Predict", rows(X), 400, "Malformed request"),
    ("a query", "POST", f"{PREDICT}?a=b", rows(X), 400, "Malformed request"),
    ("a query", "GET", f"{MODEL}?a=b", "", 404, "imae?a=b"),
    ("PUT", "PUT", PREDICT, rows(X), 400, "Malformed request"),
    ("DELETE", "DELETE", MODEL, "", 400, "Malformed request"),
    ("no API", "GET", "/statuspage", "", 404, "Malformed request"),
    ("another model (h)", "POST", "/v1/models/foo:predict", rows([1]), 404, "Latest(foo)"),
    ("another model (h)", "POST", "/v1/models/foo/versions/50:predict", rows([1]), 404,
     "Specific(foo, 50)"),
    ("another model (h)", "POST", "/v1/models/imae99:predict", rows([1]), 404, "Latest(imae99)"),
    ("another version", "POST", f"{MODEL}/versions/99:predict", rows(X), 404, "(imae, 99)"),
    ("status of another model (h)", "GET", "/v1/models/foo", "", 404,
     "Could not find any versions of model foo"),
    ("status of another model", "GET", "/v1/models/foo/labels/a", "", 404, "model foo"),
    ("status of another version (h)", "GET", f"{MODEL}/versions/9", "", 404,
     "Could not find version 9 of model imae"),
    ("metadata of another version", "GET", f"{MODEL}/versions/9/metadata", "", 404, "(imae, 9)"),
    ("metadata of another model", "GET", "/v1/models/foo/metadata", "", 404, "Latest(foo)"),
    ("a label (h)", "POST", f"{MODEL}/labels/stable:predict", rows(X), 400,
     "Unrecognized servable version label"),
    ("a label", "GET", f"{MODEL}/labels/stable/metadata", "", 400,
     "Unrecognized servable version label"),
    # ---- JSON
    ("nothing (h, j)", "POST", PREDICT, "", 400, "JSON Parse error: The document is empty"),
    ("no JSON (h)", "POST", PREDICT, "instances = [1, 2]", 400, "JSON Parse error: Invalid value"),
    ("half a JSON", "POST", PREDICT, rows(X)[:-4], 400, "JSON Parse error"),
    ("a list", "POST", PREDICT, as_json(X), 400, "Is not object"),
    ("a number", "POST", PREDICT, "5", 400, "Is not object"),
    ("bytes that are no UTF-8", "POST", PREDICT, b'{"instances": "\xff"}', 400, "JSON Parse error"),
    ("deep lists", "POST", PREDICT, "[" * 100_000, 400, "JSON Parse error"),
    ("deep rows", "POST", PREDICT, '{"instances": ' + "[" * 500 + "]" * 500 + "}", 400, ""),
    ("a very long integer", "POST", PREDICT, '{"instances": [' + "9" * 9000 + "]}", 400,
     "JSON Parse error"),
    # ---- the request's object
    ("a number as signature (h, j)", "POST", PREDICT, rows(X, signature_name=100), 400,
     "'signature_name' key must be a string value."),
    ("a list as signature (j)", "POST", PREDICT, rows(X, signature_name=["encode"]), 400,
     "'signature_name' key must be a string value."),
    ("a signature without inputs", "POST", PREDICT,
     rows(X, signature_name="__saved_model_init_op"), 400, "Failed to get input map"),
    ("another signature", "POST", PREDICT, rows(X, signature_name="embed"), 400,
     '"embed" not found in signature def'),
    ("half a surrogate pair as signature", "POST", PREDICT,
     '{"signature_name": "\\ud800", "instances": [1]}', 400, "not found in signature def"),
    ("both (j)", "POST", PREDICT, as_json({"instances": X, "inputs": X}), 400,
     "Not formatted correctly"),
    ("neither", "POST", PREDICT, as_json({"x": X}), 400, "Missing 'inputs' or 'instances' key"),
    ("rows in no list", "POST", PREDICT, rows({"x": X}), 400, "to be an list/array"),
    ("no rows", "POST", PREDICT, rows([]), 400, "No values in 'instances' array"),
    ("no columns", "POST", PREDICT, columns([]), 400, "expected images x of shape"),
    ("null", "POST", PREDICT, rows(None), 400, "to be an list/array"),
    ("no values", "POST", PREDICT, columns({}), 400, "Missing named input: x"),
    ("a column is missing", "POST", PREDICT, columns({"y": Y}, **DECODE), 400,
     "Missing named input: z"),
    ("a row lacks a name", "POST", PREDICT, rows([{"y": Y[0]}], **DECODE), 400,
     "keys must be equal to: y,z"),
    ("a row has another name", "POST", PREDICT, rows([{"x": X[0], "a": 1}]), 400,
     "keys must be equal to: x"),
    ("plain rows for two inputs", "POST", PREDICT, rows(Y, **DECODE), 400, "list of objects"),
    ("plain columns for two inputs", "POST", PREDICT, columns(Y, **DECODE), 400,
     "expecting an object"),
    ("a list among objects (j)", "POST", PREDICT, rows([{"x": X[0]}, X[1]]), 400,
     "Expecting object but got list"),
    ("an object among lists (j)", "POST", PREDICT, rows([X[0], {"x": X[1]}]), 400,
     "Expecting value/list but got object"),
    # ---- values
    ("strings (h, j)", "POST", PREDICT, rows(["x", "y"]), 400, "not of expected type: float"),
    ("a string (j)", "POST", PREDICT, rows(x_with("0.5")), 400, "not of expected type: float"),
    ("null for a number", "POST", PREDICT, rows(x_with(None)), 400, "Type: Null"),
    ("true for a number", "POST", PREDICT, rows(x_with(True)), 400, "not of expected type: float"),
    ("an object for a number", "POST", PREDICT, rows(x_with({"a": 1})), 400, "Type: Object"),
    ("bytes for a number", "POST", PREDICT, rows(x_with(b64(b"a"))), 400, "Type: Object"),
    ("an integer beyond double", "POST", PREDICT, rows(x_with(10**400)), 400, "Number too big"),
    ("a ragged row (j)", "POST", PREDICT, rows([X[0], X[1][:7]]), 400, "Expecting tensor size"),
    ("a deeper row (j)", "POST", PREDICT, rows([1, [1]]), 400, "Expecting shape"),
    ("a flatter row (j)", "POST", PREDICT, rows([[1], 1]), 400, "Expecting"),
    ("a ragged row of an object (j)", "POST", PREDICT, rows([{"x": X[0]}, {"x": X[1][:7]}]), 400,
     "Expecting tensor size"),
    ("an empty row", "POST", PREDICT, rows([[]]), 400, "expected images x of shape"),
    # ---- what the graph refuses
    ("a number beyond float (j)", "POST", PREDICT, rows(x_with(LARGEST_DOUBLE)), 400,
     "expected pixels in [0, 1]"),
    ("an integer beyond 64 bits", "POST", PREDICT, rows(x_with(10**30)), 400,
     "expected pixels in [0, 1]"),
    ("numbers (h)", "POST", PREDICT, rows([1, 2]), 400, "[N, 8, 8, 1], got [2]; resize them"),
    ("a number", "POST", PREDICT, columns(1), 400, "[N, 8, 8, 1], got []"),
    ("another shape", "POST", PREDICT, rows(np.zeros((1, 8, 8)).tolist()), 400, "got [1 8 8]"),
    ("bytes not divided", "POST", PREDICT, rows(x_with(255)), 400, "divide bytes by 255"),
    ("NaN", "POST", PREDICT, rows(x_with(float("nan"))), 400, "expected pixels in [0, 1]"),
    ("Infinity", "POST", PREDICT, rows(x_with(float("inf"))), 400, "expected pixels in [0, 1]"),
    ("more y than z", "POST", PREDICT, columns({"y": Y, "z": Z[:1]}, **DECODE), 400,
     "as many rows of y as of z, got 2 and 1"),
    ("no probabilities", "POST", PREDICT, columns({"y": Z, "z": Z}, **DECODE), 400,
     "probabilities y of shape [N, 5]"),
    ("NaN in z", "POST", PREDICT, columns({"y": Y, "z": [[float("nan")] * 3] * 2}, **DECODE), 400,
     "expected z as finite numbers"),
    # ---- files
    ("numbers for bytes", "POST", PREDICT, rows([1], signature_name="encode_image_bytes"), 400,
     "Type: Number is not of expected type: string"),
    ("no base64 (j)", "POST", PREDICT, rows([{"b64": "%"}], signature_name="encode_image_bytes"),
     400, "Unable to base64 decode"),
    ("a number as base64", "POST", PREDICT,
     columns([{"b64": 5}], signature_name="encode_image_bytes"), 400,
     "not formatted correctly for base64 data"),
    ("half a surrogate pair", "POST", PREDICT,
     '{"signature_name": "encode_image_bytes", "instances": ["\\ud800"]}', 400, "surrogate"),
    ("text", "POST", PREDICT, image(b"hello"), 400, "expected the bytes of a PNG or JPEG file"),
    ("no bytes", "POST", PREDICT, image(b""), 400, "expected the bytes of a PNG or JPEG file"),
    ("a truncated file", "POST", PREDICT, image(exports.encoded(PIXELS[0])[:60]), 400, "PNG"),
    ("a larger image", "POST", PREDICT, image(exports.encoded(np.zeros((9, 8), np.uint8))), 400,
     "got [9 8]; resize them"),
    # ---- classify and regress, which no signature of this model is for
    ("classify", "POST", f"{MODEL}:classify", as_json({"examples": [{"x": 1.0}]}), 400,
     "tensorflow/serving/classify"),
    ("regress", "POST", f"{MODEL}:regress", as_json({"examples": [{"x": 1.0}]}), 400,
     "tensorflow/serving/regress"),
    ("classify no examples (j)", "POST", f"{MODEL}:classify", as_json({"examples": {"x": 1.0}}),
     400, "examples"),
    ("classify with a list as signature (j)", "POST", f"{MODEL}:classify",
     as_json({"signature_name": ["a"], "examples": [{}]}), 400, "must be a string"),
    ("classify of another model", "POST", "/v1/models/foo:classify", as_json({"examples": [{}]}),
     404, "Latest(foo)"),
]
