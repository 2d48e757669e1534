"""Compares methods, for `imae-compare`: `plan` trains the runs, `page` shows what they found."""

from imae_tf._shared import extras

extras.check("report", "compare methods on a page")
