"""What every program does with errors: one line for the user's, a traceback for ours."""

import sys

import pytest
import tensorflow as tf
from absl import flags

from imae_tf._shared import program
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError


@pytest.fixture(autouse=True)
def no_flags_but_ours(monkeypatch):
  monkeypatch.setattr(program, "_show_in_help", lambda module: None)
  # Of programs that other tests have imported, whose required flags nobody gives here.
  monkeypatch.setattr(flags.FlagValues, "validate_all_flags", lambda self: None)


@pytest.fixture
def run(monkeypatch, capsys):
  """A function that runs a program whose main raises; returns (status, stderr)."""

  def start(error=None, arguments=()):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/imae-test", *arguments])

    def main():
      if error:
        raise error

    with pytest.raises(SystemExit) as status:
      program.run(main)
    return status.value.code, capsys.readouterr().err

  return start


def test_success(run):
  assert run() == (0, "")


@pytest.mark.parametrize("kind", [InputError, DivergenceError])
def test_errors_for_the_user_are_one_line(run, kind):
  assert run(kind("expected a,\ngot b.")) == (1, "imae-test: error: expected a, got b.\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        PermissionError(13, "Permission denied", "/locked/file"),
        tf.errors.ResourceExhaustedError(None, None, "{{node Write}} No space left\n\tFailed"),
        tf.errors.PermissionDeniedError(None, None, "Permission denied"),
    ],
)
def test_files_that_cannot_be_written_are_one_line(run, error):
  status, stderr = run(error)
  assert status == 1
  assert stderr.startswith("imae-test: error: expected to read and write files, got ")
  assert stderr.count("\n") == 1 and "{{" not in stderr and "\t" not in stderr
  assert "No space left" in stderr or "Permission denied" in stderr
  assert stderr.endswith("give the same command again.\n")


def test_an_input_error_inside_a_pipeline_is_one_line(run):
  """A tf.data function that raises ends as text in an error of TensorFlow's."""

  def damaged(_):
    raise InputError("expected a whole image file, got cat.png; replace it.")

  images = tf.data.Dataset.range(1).map(lambda i: tf.numpy_function(damaged, [i], tf.uint8))
  with pytest.raises(tf.errors.OpError) as error:
    next(iter(images))
  assert run(error.value) == (
      1, "imae-test: error: expected a whole image file, got cat.png; replace it.\n"
  )


def test_an_interrupt_says_how_to_go_on(run):
  status, stderr = run(KeyboardInterrupt())
  assert status == 130
  assert stderr == "imae-test: interrupted; the same command goes on from here.\n"


@pytest.mark.parametrize(
    "error",
    [ValueError("of ours"), tf.errors.InvalidArgumentError(None, None, "Incompatible shapes")],
)
def test_bugs_keep_their_traceback(monkeypatch, error):
  monkeypatch.setattr(sys, "argv", ["imae-test"])

  def main():
    raise error

  with pytest.raises(type(error)):
    program.run(main)


def test_arguments_that_are_not_flags(run):
  status, stderr = run(arguments=["digits"])
  assert status == 1
  assert "expected flags alone, got 'digits'; write --flag=value." in stderr
