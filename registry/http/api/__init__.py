"""``/api/v1``: one module per noun, each with its ``ROUTES``; :mod:`registry.http.api.table` has them all.

The name of a repository is one part of a path, so its slashes are written ``%2F``.
"""
