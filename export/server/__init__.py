"""imae-serve, a stand-in for TF Serving on a laptop and in tests: it gives the same answers."""
