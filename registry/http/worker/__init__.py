"""The worker protocol over HTTP, version 1: ``/worker/v1/claim``, ``renew``, ``log`` and ``report``.

A worker's API token opens these four and nothing else.
"""
