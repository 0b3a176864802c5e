"""Measurements: each file prints the figures that the documents quote, and says how to run it."""
