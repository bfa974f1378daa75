"""Runtimes: OCI runtimes behind one protocol, and the supervision of one run from create to teardown."""
