"""What people look at: the page of a run, its plots, and what all pages share."""

from imae_tf._shared import extras

extras.check("report", "draw pages and figures")
