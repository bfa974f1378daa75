"""``seatrial attention``: what somebody should look at."""

from __future__ import annotations

from registry.cli.client import DEFAULT_SERVER as SERVER
from registry.cli.client import JsonOption, ServerOption, TokenOption, connect
from registry.cli.output import print_list

_COLUMNS = ("kind", "place", "subject", "id", "at")


def command(
    *, server: ServerOption = SERVER, token_file: TokenOption = None, as_json: JsonOption = False
) -> None:
    """List what you should look at, and may do something about.

    Webhooks that fail, workers that are gone, old advisories, quotas that are nearly full, damaged blobs,
    waivers that are asked for, trials that went wrong.
    """
    found = connect(server, token_file).get("/attention")
    print_list(found, _COLUMNS, as_json=as_json)
