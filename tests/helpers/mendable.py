"""What an error message for a person says."""


def assert_mendable(error, *parts):
  """The message says what was expected, what came and how to mend it."""
  message = str(error.value)
  assert message.startswith("expected ") and "got" in message and ";" in message, message
  assert "\n" not in message
  for part in parts:
    assert str(part) in message, message
