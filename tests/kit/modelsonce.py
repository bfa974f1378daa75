"""What botocore knows of a service is read once in a process.

Each session reads it anew, and a store has a session of its own: to make a client took five times as long.
"""

from __future__ import annotations

from functools import cache

import botocore.session


def read_models_once() -> None:
    """Have all sessions that are made in this process from now on, and in what is forked from it, share what
    they read."""
    if not hasattr(botocore.session.create_loader, "cache_info"):
        botocore.session.create_loader = cache(botocore.session.create_loader)


def read_models() -> None:
    """Read now what a client of S3 needs."""
    read_models_once()
    botocore.session.get_session().create_client(
        "s3", region_name="us-east-1", aws_access_key_id="nobody", aws_secret_access_key="nobody"
    ).close()
