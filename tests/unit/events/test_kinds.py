"""Kinds of events: each can be asked for by its name, of a webhook and of the feed."""

from __future__ import annotations

import json
from typing import get_args

from registry.db.eventkinds import EventKind
from registry.events.webhooks import Wanted, new_values
from registry.http.api.events import EventsQuery
from registry.net.guarded import GuardedClient


def test_each_kind_can_be_asked_for() -> None:
    client = GuardedClient()
    for kind in get_args(EventKind):
        assert EventsQuery(kind=kind).kind == kind
        wanted = Wanted(url="https://example.com/", kinds=[kind])
        assert json.loads(new_values(client, wanted)["kinds"]) == [kind]
