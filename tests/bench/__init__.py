"""Figures, measured against real processes; run by ``make bench``, never by pytest."""
