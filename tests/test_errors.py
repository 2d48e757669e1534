"""What messages are made of: one line of other libraries', and lists of names."""

import os

import pytest

from imae_tf.errors import first_line
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.errors import listing
from imae_tf.errors import MissingExtraError
from imae_tf.errors import shown


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("File not found: x\nmore", "File not found: x"),
        ("{{function_node f}} truncated record\n\t [[Op]]", "truncated record"),
        (
            "Graph execution error:\n\nDetected at node a/b defined at (most recent call last):\n"
            '  File "a.py", line 1, in <module>\n\n  File "b.py", line 2, in f\n\n'
            "Collective ops is aborted by: gone\nRestart.\n\t [[{{node a/b}}]] [Op:f]",
            "Collective ops is aborted by: gone",
        ),
        (
            "Error in user-defined function passed to MapDataset:3 transformation with iterator:"
            " Iterator::Root::Map: bad PNG\n",
            "bad PNG",
        ),
        ("", "ValueError"),
        ("x" * 300, "x" * 200),
    ],
)
def test_the_line_that_says_what_went_wrong(message, expected):
  assert first_line(ValueError(message)) == expected


@pytest.mark.parametrize(
    ("names", "told"), [(["x", "y"], "'x', 'y'"), ({"z": 1}, "'z'"), ([], "nothing")]
)
def test_names_are_told_in_quotes(names, told):
  assert listing(names) == told


def test_every_error_can_be_printed_whatever_is_in_a_name():
  name = os.fsdecode(b"caf\xe9 \xe2\x98\x83.png")
  for kind in (InputError, MissingExtraError, ImaeError):
    assert str(kind(f"expected {name}")) == "expected caf\\xe9 \u2603.png"
  assert shown("\ud800\udce9") == "\\ud800\\udce9"
