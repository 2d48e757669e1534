"""imae-serve: what TF Serving answers, on a laptop and in tests."""
