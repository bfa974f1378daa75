"""The registry: everything that runs in the ``serve`` process, and what it shares with the worker."""
