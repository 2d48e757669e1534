"""The size that a PNG or JPEG file claims, read from its header without decoding it.

Some kilobytes can claim, and decode to, gigabytes: what comes from outside is looked at
before anything allocates memory for it.
"""

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# Start-of-frame markers; C4, C8 and CC in their midst are others.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
_MOST_SEGMENTS = 1000  # before the frame; cameras write a dozen


def size(content):
  """(height, width) of the bytes of a PNG or JPEG file; None if they are neither, or cut."""
  try:
    if content.startswith(_PNG):
      width, height = struct.unpack_from(">II", content, 16)
      return (height, width) if content[12:16] == b"IHDR" else None
    if content.startswith(_JPEG):
      return _jpeg_size(content)
  except (struct.error, IndexError, ValueError):  # it ends before its header does
    pass
  return None


def _jpeg_size(content):
  position = 2
  for _ in range(_MOST_SEGMENTS):
    position = content.index(b"\xff", position)
    marker = content[position + 1]
    if marker in _FRAMES:
      return struct.unpack_from(">HH", content, position + 5)
    if marker == 0xFF:  # padding
      position += 1
    elif marker in _WITHOUT_LENGTH:
      position += 2
    else:
      position += 2 + struct.unpack_from(">H", content, position + 2)[0]
  return None
