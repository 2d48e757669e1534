"""The configuration of the real server, read with the messages that it is read with there.

tensorflow-serving-api has ModelServerConfig alone; the other two are described here as in
`session_bundle_config.proto` and `monitoring_config.proto` of TensorFlow Serving.
"""

import http.server
import json
import pathlib
import re
import subprocess
import threading

import pytest
from google.protobuf import text_format

from imae_tf import export
from imae_tf.export import messages

yaml = pytest.importorskip("yaml", reason="needs PyYAML")

FOLDER = pathlib.Path(export.__file__).parent / "tf_serving"
# Flags of tensorflow_model_server (model_servers/main.cc) that a configuration may use.
SERVER_FLAGS = {
    "port", "rest_api_port", "model_config_file", "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models", "enable_batching",
    "batching_parameters_file", "monitoring_config_file", "file_system_poll_wait_seconds",
}
PUBLISHED = {
    "Int64Value": {"value": (1, "int64")},
    "BoolValue": {"value": (1, "bool")},
    "BatchingParameters": {
        "max_batch_size": (1, "Int64Value"),
        "batch_timeout_micros": (2, "Int64Value"),
        "max_enqueued_batches": (3, "Int64Value"),
        "num_batch_threads": (4, "Int64Value"),
        "enable_large_batch_splitting": (8, "BoolValue"),
        "max_execution_batch_size": (9, "Int64Value"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
}


def message_class(name):
  return messages.classes("published", PUBLISHED)[name]


@pytest.fixture(scope="module")
def models():
  published = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
  text = (FOLDER / "models.config").read_text()
  return text_format.Parse(text, published.ModelServerConfig())


@pytest.fixture(scope="module")
def service():
  compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
  assert list(compose) == ["services"] and list(compose["services"]) == ["imae"]
  return compose["services"]["imae"]


@pytest.fixture(scope="module")
def server_flags(service):
  flags = dict(flag.removeprefix("--").split("=", 1) for flag in service["command"])
  assert len(flags) == len(service["command"])
  return flags


def test_one_model_whose_versions_are_all_loaded_and_two_of_them_labelled(models):
  (config,) = models.model_config_list.config
  assert (config.name, config.model_platform) == ("imae", "tensorflow")
  assert config.model_version_policy.WhichOneof("policy_choice") == "all"
  # On the first day there is version 1 alone.
  assert dict(config.version_labels) == {"stable": 1, "canary": 1}
  assert all(re.fullmatch("[a-zA-Z0-9_]+", label) for label in config.version_labels)


def test_batching():
  text = (FOLDER / "batching.config").read_text()
  batching = text_format.Parse(text, message_class("BatchingParameters")())
  assert batching.enable_large_batch_splitting.value
  # The server's own conditions.
  assert 1 <= batching.max_execution_batch_size.value <= batching.max_batch_size.value
  assert batching.num_batch_threads.value >= 1 and batching.max_enqueued_batches.value >= 1
  # A request that waits for others waits less than anyone notices.
  assert 0 < batching.batch_timeout_micros.value <= 10_000


def test_monitoring():
  text = (FOLDER / "monitoring.config").read_text()
  monitoring = text_format.Parse(text, message_class("MonitoringConfig")())
  assert monitoring.prometheus_config.enable
  assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_compose_starts_a_fixed_release_of_the_official_image(service):
  assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", service["image"])


def test_the_readme_has_the_same_image_flags_that_exist_and_files_that_are_there(service):
  text = (FOLDER / "README.md").read_text()
  assert set(re.findall(r"tensorflow/serving:[\w.]+", text)) == {service["image"]}
  (command,) = re.findall(r"^tensorflow_model_server (?:.+\\\n)+.+$", text, re.MULTILINE)
  assert set(re.findall(r"--(\w+)=", command)) <= SERVER_FLAGS
  files = re.findall(r"export/tf_serving/([\w.]+)", text)
  assert len(files) >= 4 and all((FOLDER / name).is_file() for name in files)


def test_compose_gives_the_server_flags_that_it_has_and_files_that_are_there(
    service, server_flags, models
):
  assert set(server_flags) <= SERVER_FLAGS
  config = [volume for volume in service["volumes"] if volume.startswith(".")]
  assert config == [".:/config:ro"]  # beside the file
  files = [value for name, value in server_flags.items() if name.endswith("_file")]
  assert len(files) == 3
  for path in files:
    assert (FOLDER / pathlib.Path(path).relative_to("/config")).is_file()
  # Labels name a version that a server that has just started has not loaded yet.
  assert server_flags["allow_version_labels_for_unavailable_models"] == "true"


def test_compose_mounts_the_versions_where_the_model_is_looked_for(service, models):
  (mount,) = [volume for volume in service["volumes"] if "IMAE_BASE" in volume]
  target = re.fullmatch(r"\$\{IMAE_BASE:\?[^}]+\}:(.+):ro", mount).group(1)
  assert target == models.model_config_list.config[0].base_path


def test_compose_opens_the_ports_of_both_protocols_to_this_machine_alone(service):
  assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]


@pytest.mark.parametrize("state,status", [("AVAILABLE", 0), ("LOADING", 1)])
def test_the_health_check_tells_a_server_that_answers(service, state, status):
  body = json.dumps({"model_version_status": [{"version": "1", "state": state}]}).encode()

  class Answer(http.server.BaseHTTPRequestHandler):

    def do_GET(self):
      assert self.path == "/v1/models/imae"
      self.send_response(200)
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, *args):
      pass

  with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    command[-1] = command[-1].replace("8501", str(server.server_port))
    assert subprocess.run(command, timeout=30, check=False).returncode == status
    server.shutdown()
  # Nobody listens on the port any more.
  assert subprocess.run(command, timeout=30, check=False, stderr=subprocess.DEVNULL).returncode
