"""The flags that say how images are read; the programs that train share them."""

import pathlib
from typing import TYPE_CHECKING

from absl import flags

from imae_tf._shared import paths

if TYPE_CHECKING:
  from imae_tf.data.reading import Reading

_IMAGE_SIZE = flags.DEFINE_string(
    "image_size", "auto", "Size that images get: N for a square, or HxW, in pixels; auto keeps the"
    " size that all have, and for a folder or a .npz whose images differ chooses one of at most 64."
)
_FIT = flags.DEFINE_enum(
    "fit", "crop", ["crop", "pad", "stretch"], "How images of other proportions get that size: crop"
    " cuts both ends of the longer side, pad continues the edge beside the shorter one, stretch"
    " changes the proportions."
)
_COLOR = flags.DEFINE_enum(
    "color", "auto", ["auto", "grey", "rgb"], "Colour of the images: grey, rgb, or auto, which is"
    " rgb if any image is stored in colour."
)
_LABELS = flags.DEFINE_string(
    "labels", "none", "Labels of a folder's images: none; folders, the first folder of an image's"
    " path; or a CSV with the columns file and label. They are used in evaluation alone."
)
_ON_BAD_FILE = flags.DEFINE_enum(
    "on_bad_file", "skip", ["skip", "fail"], "What to do with a file of a folder that cannot be"
    " read: skip it and list it in unreadable.txt, or fail."
)
_CACHE = flags.DEFINE_string(
    "cache", "auto", "Folder for the decoded images of a folder that do not fit into memory: auto"
    " is cache in --workdir; none decodes the files in every epoch."
)


def reading(workdir: str | None) -> "Reading":
  """The `Reading` that the flags describe.

  Args:
    workdir: Folder of the program, where the cache is by default; None for no cache there.

  Raises:
    InputError: A size that is none.
  """
  from imae_tf.data import labels
  from imae_tf.data import reading as reading_lib

  usual = None if workdir is None else str(pathlib.Path(paths.text(workdir)) / "cache")
  cache = {"auto": usual, "none": None}
  return reading_lib.Reading(
      image_size=reading_lib.size_of(_IMAGE_SIZE.value),
      fit=_FIT.value,
      color=_COLOR.value,
      labels=labels.canonical(_LABELS.value),
      on_bad_file=_ON_BAD_FILE.value,
      cache=cache.get(_CACHE.value, paths.text(_CACHE.value, "a --cache")),
  )
