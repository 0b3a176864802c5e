"""A regular package, so that no `tests` folder in site-packages comes before it."""
