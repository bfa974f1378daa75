"""Texts that requests of ``/api/v1`` have in common, as the description of the API says them.

The use case holds the grammar and says what is wrong; the patterns here only describe it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.oci.names import NAME_MAX

_ACCOUNT = "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"
_REPOSITORY = "^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$"
_TAG = "^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$"
_DIGEST = "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"

AccountName = Annotated[
    str,
    Field(
        description="Name of a user or a worker.",
        examples=["alice"],
        json_schema_extra={"pattern": _ACCOUNT},
    ),
]
RepositoryName = Annotated[
    str,
    Field(
        description="Name of a repository, `team/app`; in a path its slashes are written `%2F`.",
        examples=["team/app"],
        json_schema_extra={"pattern": _REPOSITORY, "maxLength": NAME_MAX},
    ),
]
TagName = Annotated[
    str,
    Field(
        description="Name of a tag.",
        examples=["1.0"],
        json_schema_extra={"pattern": _TAG},
    ),
]
ContentDigest = Annotated[
    str,
    Field(
        description="Digest of a manifest.",
        examples=["sha256:" + "0" * 64],
        json_schema_extra={"pattern": _DIGEST},
    ),
]
ImageReference = Annotated[
    str, Field(description="`NAME:TAG` or `NAME@DIGEST`.", examples=["team/app:1.0"], min_length=1)
]
Id = Annotated[str, Field(description="What its creation or its list calls `id`.")]
