"""What sign-in by other issuers needs, made once for each process."""

from __future__ import annotations

from dataclasses import dataclass

from registry.auth.oidc.directory import Directory
from registry.auth.oidc.turns import Turns
from registry.auth.secretkey import SecretKey
from registry.db.engine import Database
from registry.net.guarded import GuardedClient
from registry.settings import Settings


@dataclass(frozen=True, slots=True, repr=False)
class Oidc:
    """The issuers' rows, what they say of themselves, and the key that wraps our secrets at them."""

    database: Database
    directory: Directory
    client: GuardedClient
    secret_key: SecretKey
    turns: Turns
    tokens_per_rule: int


def open_oidc(settings: Settings, database: Database, client: GuardedClient, secret_key: SecretKey) -> Oidc:
    """For one process."""
    return Oidc(database, Directory(client), client, secret_key, Turns(), settings.job_tokens_per_rule)
