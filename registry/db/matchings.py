"""What advisories say of packages: which file counts, what it says of each, and who has yet to be told."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, Float, ForeignKey, Index, Integer, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

CHANGES = ("new", "gone", "changed", "minor")
"""What came of a match: ``changed`` is what people are told, as its severity; ``minor`` what they are not, as
how likely it is to be exploited."""

matchings = Table(
    "matchings",
    metadata,
    # The later counts: packages that were matched by an earlier one are to be matched again.
    Column("id", Id, primary_key=True, autoincrement=True),
    # Of the file of advisories, and of the rules by which its records are held against packages.
    Column("generation", Bytewise, nullable=False),
    Column("rules", Integer, nullable=False),
    # When the file was put in its place, and when its newest source was as it is there.
    Column("put_at", UtcTime, nullable=False),
    Column("as_of", UtcTime, nullable=False),
    # Its sources as they are told, and the ecosystems that it has records of, each a JSON list.
    Column("sources", Text, nullable=False),
    Column("ecosystems", Text, nullable=False),
    Column("begun_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("leased_until", UtcTime, nullable=False),
    # What it has come to: packages, those of them with other matches than before, and images told of.
    Column("matched", Integer, nullable=False, server_default="0"),
    Column("changed", Integer, nullable=False, server_default="0"),
    Column("images", Integer, nullable=False, server_default="0"),
)

component_findings = Table(
    "component_findings",
    metadata,
    Column(
        "component_id",
        Id,
        ForeignKey("components.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    # As in registry.advisories.matching.Match, from here on.
    Column("advisory", Bytewise, primary_key=True),
    Column("aliases", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("score", Float),
    Column("summary", Text, nullable=False),
    Column("fixed_version", Text),
    Column("state", Text, nullable=False),
    Column("kev", Boolean, nullable=False),
    Column("epss", Float),
    Column("published_at", UtcTime),
    # Since when this registry knows of it, under whatever name and in whatever version of the package.
    Column("first_seen_at", UtcTime, nullable=False),
    Index(None, "advisory", "component_id"),
)

advisory_names = Table(
    "advisory_names",
    metadata,
    # What a vulnerability that was found is also called. It stays when nothing has that any more, and whoever
    # asks by it finds no package.
    Column("name", Bytewise, primary_key=True),
    Column("advisory", Bytewise, primary_key=True),
)

finding_changes = Table(
    "finding_changes",
    metadata,
    # In the order of their commits.
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("component_id", Id, ForeignKey("components.id", ondelete="CASCADE"), nullable=False),
    Column("advisory", Bytewise, nullable=False),
    Column("change", Text, nullable=False),
    CheckConstraint(f"change IN {CHANGES}", name="change"),
    Column("severity", Text, nullable=False),
    Column("fixed_version", Text),
    Index(None, "component_id", "id"),
)

changed_images = Table(
    "changed_images",
    metadata,
    # An image that changes are to be told of, from the first on that it was not told of.
    Column(
        "manifest_id",
        Id,
        ForeignKey("manifests.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("first_change", Id, nullable=False),
)

rejudgings = Table(
    "rejudgings",
    metadata,
    # An image whose matches changed since it was judged by them.
    Column(
        "manifest_id",
        Id,
        ForeignKey("manifests.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("asked_at", UtcTime, nullable=False),
)
