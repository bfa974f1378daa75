"""Texts that requests of ``/api/v1`` have in common, as the description of the API says them.

The use case holds the grammar and says what is wrong; the patterns here only describe it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.oci.names import NAME_MAX

_ACCOUNT = "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"
_REPOSITORY = "^[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)*$"
_ROBOT = f"{_REPOSITORY[:-1]}[+]{_ACCOUNT[1:]}"
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
NamespaceName = Annotated[
    str,
    Field(
        description="Name of a namespace, `team/sub`, without a slash at its end; in a path its slashes are "
        "written `%2F`.",
        examples=["team"],
        json_schema_extra={"pattern": _REPOSITORY, "maxLength": NAME_MAX},
    ),
]
RobotName = Annotated[
    str,
    Field(
        description="Name of a robot, `team/sub+ci`: its namespace, a plus, its own name; in a path its "
        "slashes are written `%2F`.",
        examples=["team+ci"],
        json_schema_extra={"pattern": _ROBOT},
    ),
]
GroupName = Annotated[
    str,
    Field(description="Name of a group.", examples=["devs"], json_schema_extra={"pattern": _ACCOUNT}),
]
MemberName = Annotated[
    str,
    Field(
        description="Who holds a role: `user:alice`, `robot:team+ci` or `group:devs`.",
        examples=["user:alice"],
        json_schema_extra={"pattern": f"^((user|group):{_ACCOUNT[1:-1]}|robot:{_ROBOT[1:-1]})$"},
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
