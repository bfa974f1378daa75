"""Bundles: image config and plan to the ``config.json`` of one run, and the checks before it."""
