"""One file for each command; heavy imports stand inside the functions."""
