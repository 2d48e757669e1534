"""Methods compared: the plan of the runs, and the page of what they found."""

from imae_tf._shared import extras

extras.check("report", "compare methods on a page")
