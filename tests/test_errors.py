"""What messages are made of: one line of other libraries', and lists of names."""

import pytest

from imae_tf.errors import first_line
from imae_tf.errors import listing


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
