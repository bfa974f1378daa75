"""Bundles: image config and plan to the hardened ``config.json`` of one run, and the checks before it runs."""
