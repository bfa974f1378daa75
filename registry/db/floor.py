"""How old a version may be that still runs on the schema: what a version asks that finds a newer one.

A migration expands: it adds what older versions never look at, so that they run on beside it. One that takes
something away (contracts) comes when no version that needs it may run any more, and raises the floor in the
same transaction.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text

from registry.db.tables import metadata

schema_floor = Table(
    "schema_floor",
    metadata,
    Column("id", Integer, primary_key=True),
    CheckConstraint("id = 1", name="single"),
    # The newest schema that the oldest version knows which runs on this one; revisions are numbered in order.
    Column("oldest", Text, nullable=False),
)
