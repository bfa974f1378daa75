"""Requests that are to be carried out once, whatever becomes of their answer on the way."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, Table, Text

from registry.db.tables import metadata
from registry.db.types import Bytewise, Id, UtcTime

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # Of the account, the credential and the key that the client chose: none can be read here.
    Column("key_hash", Bytewise, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False, index=True),
    # Of the request and the actor's rights, keyed with the client's key: no password in it can be guessed.
    Column("request_mac", Bytewise, nullable=False),
    # NULL: carried out, and the answer was lost or cannot be kept.
    Column("status", Integer),
    Column("answer", Text),
    Column("created_at", UtcTime, nullable=False, index=True),
)
