"""Probes: how each expectation of a smoke test is looked at, from outside the container's trust."""
