"""Long random runs, by hand: ``make soak``."""
