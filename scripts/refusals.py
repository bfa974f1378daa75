"""What docs/reference says about how clients print that they are refused.

The lines are in ``refusals.json``, which a test of the clients writes and holds; the rest is here.
"""

from __future__ import annotations

import json
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "refusals.json"
ADVICE = {
    "no login, pull": "sign in to pull",
    "no login, push": "sign in to",
    "expired token": "make a new one and sign in with it",
    "no push right": "or an administrator can give",
    "no right at all": "or an administrator can give",
    "gate: failed": "(see http",
    "gate: pending": "try again in",
    "read-only": "try again when its operator has ended that",
    "quota": "or ask an administrator to raise the quota",
    "disk full": "push again when the registry's operator has made room",
    "too large": "make it smaller, or ask the registry's operator",
    "wrong password": "sign in again",
}
"""Per refusal, the words that tell a person what to do. The order is that of the page."""
_NO_WORDS = "it prints `unauthorized` for every 401, whatever the registry says"
_STATUS_ONLY = "it tries again in chunks, and prints only the status when that fails too"
_NO_BODY = "it asks with HEAD, whose answer has no body, and drops the status line"
_DENIED = "it has words of its own for a 401 after a token; those of the registry are dropped"
_OWN_WORDS = "its `login` has words of its own for a 401"
NOTES = {
    ("no login, pull", "regctl"): _NO_WORDS,
    ("no login, pull", "notation"): _NO_BODY,
    ("no login, pull", "ctr"): _DENIED,
    ("no login, pull", "nerdctl"): _DENIED,
    ("no login, pull", "docker"): _DENIED,
    ("no login, pull", "buildctl"): _DENIED,
    ("no login, push", "regctl"): _NO_WORDS,
    ("no login, push", "notation"): _NO_BODY,
    ("expired token", "regctl"): _NO_WORDS,
    ("no right at all", "notation"): _NO_BODY,
    ("gate: failed", "notation"): _NO_BODY,
    ("gate: pending", "notation"): _NO_BODY,
    ("quota", "regctl"): _STATUS_ONLY,
    ("too large", "regctl"): _STATUS_ONLY,
    ("wrong password", "podman"): _OWN_WORDS,
    ("wrong password", "skopeo"): _OWN_WORDS,
    ("wrong password", "buildah"): _OWN_WORDS,
    ("wrong password", "regctl"): _NO_WORDS,
}
"""Where a client swallows the registry's sentence, and what becomes of it."""
INTRODUCTION = """\
The last line on the screen when the registry refuses, for each client. A test runs them all, makes the table
and holds it; ports, digests, times and identifiers are replaced. The versions are podman 4.3.1, skopeo 1.9.3,
buildah 1.28.2, crane 0.22.1, regctl 0.11.7, oras 1.3.6, helm 4.3.1, cosign 3.1.3, notation 1.3.2,
containerd 1.6.20 (`ctr`), nerdctl 2.0.4, docker 20.10.24, BuildKit 0.34.2 (`buildctl`).

The registry's sentence is in the body of the answer and, for clients that read nothing else, in the status
line. nginx passes the status line on, and HTTP/2 has none: over it containerd prints the number alone, and so
do podman, skopeo and buildah when the disk is full.

- crane and cosign ask nothing when they sign in: a wrong password shows at the first pull. `ctr` and
  `buildctl` have no login of their own.
- For the gate helm asks for an image here; charts are never tried, and so never refused by it.
- A push of containerd 1.6 may hang when a blob is refused before it was read, as those beyond a limit are: it
  waits for somebody to take the rest. End it, and look at what another client says.
- podman and buildah try three times before they give up on 413 and 507, and docker five times, for most of a
  minute."""


HANGS = frozenset({("quota", "ctr"), ("too large", "ctr")})
"""What is not run, since nothing may come of it."""
SLOW = frozenset({("disk full", "docker"), ("too large", "docker")})
"""What only ``make refusals`` runs: 50 seconds each."""


def read_table() -> dict[str, dict[str, str]]:
    """Refusal -> client -> last line on the screen."""
    table: dict[str, dict[str, str]] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    return table


def refusals_page() -> str:
    """The table, one section for each refusal."""
    table = read_table()
    lines = ["# What clients print when they are refused", "", INTRODUCTION, ""]
    for refusal in ADVICE:
        lines += [f"## {refusal}", "", "| client | last line |", "|---|---|"]
        for client, said in table.get(refusal, {}).items():
            note = NOTES.get((refusal, client))
            shown = "``" + said.replace("|", "\\|") + "``"
            lines.append(f"| {client} | {shown}{f' ({note})' if note else ''} |")
        lines += [
            f"| {client} | the sentence behind the status, unless it hangs (see above) |"
            for name, client in HANGS
            if name == refusal
        ]
        lines.append("")
    return "\n".join(lines)
