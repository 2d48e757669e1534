"""Trains runs in folders: resumes them, distributes them, watches and evaluates them."""
