"""Commands, one file per group; they speak ``/api`` over HTTP, except those that run or mend a server.

A file offers ``app`` (a typer app) or ``command`` (a function), as :mod:`registry.main` says.
"""
