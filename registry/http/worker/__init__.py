"""The worker protocol over HTTP, version 1: ``/worker/v1/claim``, ``renew`` and ``report``.

A worker's API token opens these three and nothing else.
"""
