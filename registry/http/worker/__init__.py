"""The worker protocol over HTTP, version 1, below ``/worker/v1``: ``claim``, ``renew``, ``log``, ``scan`` and
``report``.

A worker's API token opens these five and nothing else.
"""
