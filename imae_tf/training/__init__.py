"""Runs: trained in a folder, resumed, distributed, watched and evaluated."""
