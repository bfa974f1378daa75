"""When deliveries are tried again, which kinds match, how events look, and what a signature covers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from registry.events.attempts import (
    LOGGED,
    Attempt,
    Pace,
    explain_status,
    logged,
    parse_retry_after,
    rest_seconds,
    retry_seconds,
)
from registry.events.envelopes import Format, Image, Told, body_of
from registry.events.signatures import make_secret, parse_secret, sign
from registry.events.webhooks import matches

DIGEST = "sha256:" + "a" * 64
TOLD = Told(
    position=7,
    kind="manifest.pushed",
    at=datetime(2026, 11, 29, tzinfo=UTC),
    repository="team/app",
    target=None,
    actor="alice",
    actor_kind="user",
    decision="allowed",
    rule="writer on team/",
    data={"digest": DIGEST, "media_type": "m", "tags": ["1", "latest"]},
    image=Image(DIGEST, "m", 12, "https://example.org/app", "abc", "alice", {"issuer": "ci"}),
)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waiting_grows_and_stays_within_its_bounds(attempts: int, jitter: float) -> None:
    pace = Pace()
    wait = retry_seconds(attempts, pace, jitter=jitter)
    assert 0.75 * pace.first_retry_seconds <= wait <= 1.25 * pace.last_retry_seconds
    assert retry_seconds(attempts + 1, pace, jitter=jitter) >= wait


def test_all_attempts_take_three_days() -> None:
    pace = Pace()
    days = sum(retry_seconds(number, pace, jitter=0.5) for number in range(1, pace.attempts)) / 86400
    assert 2.5 < days < 3.5


def test_what_the_receiver_asks_for_counts_up_to_an_hour() -> None:
    assert retry_seconds(1, Pace(), jitter=0, asked=100) == 100
    assert parse_retry_after({"retry-after": "17"}, 503) == 17
    assert parse_retry_after({"Retry-After": "1799107200"}, 429) == 3600
    assert parse_retry_after({"Retry-After": "17"}, 500) is None
    assert parse_retry_after({"Retry-After": "Sun, 29 Nov 2026 00:00:00 GMT"}, 429) is None


def test_a_webhook_rests_from_the_third_round_that_failed() -> None:
    assert [rest_seconds(number, Pace(), jitter=0.5) for number in (0, 2, 3, 4, 99)] == [
        None,
        None,
        5,
        10,
        300,
    ]


def test_outcomes() -> None:
    outcomes = [Attempt("", 0, status=status).outcome for status in (200, 204, 301, 400, 410, 500, None)]
    assert outcomes == ["delivered", "delivered", "failed", "failed", "gone", "failed", "failed"]
    assert "redirects are not followed" in str(explain_status(302))
    assert explain_status(201) is None


def test_a_log_keeps_the_last_attempts() -> None:
    log = "[]"
    for number in range(LOGGED + 3):
        log = logged(log, Attempt(str(number), 1.5, status=500))
    assert [each["at"] for each in json.loads(log)] == [str(number) for number in range(3, LOGGED + 3)]
    assert json.loads(log)[0] == {"at": "3", "seconds": 1.5, "status": 500}


@pytest.mark.parametrize(
    ("patterns", "kind", "meant"),
    [
        (("tag.*",), "tag.moved", True),
        (("tag.*",), "trial.started", False),
        (("*",), "user.created", True),
        (("*.deleted", "tag.moved"), "tag.moved", True),
        (("tag",), "tag.moved", False),
    ],
)
def test_kinds(patterns: tuple[str, ...], kind: str, meant: bool) -> None:
    assert matches(patterns, kind) is meant


def test_signatures_are_those_of_the_standard() -> None:
    secret = make_secret()
    assert len(parse_secret(secret)) == 32
    body = b'{"a":1}'
    now = int(datetime.now(UTC).timestamp())

    def verify(body: bytes, secret: str, at: int = now) -> Any:
        headers = {"webhook-id": "m1", "webhook-timestamp": str(at)}
        return Webhook(secret).verify(body.decode(), {**headers, "webhook-signature": signature})

    signature = f"{sign(make_secret(), 'm1', now, body)} {sign(secret, 'm1', now, body)}"
    assert verify(body, secret) == {"a": 1}
    for wrong in ((b'{"a":2}', secret), (body, make_secret()), (body, secret, now - 1)):
        with pytest.raises(WebhookVerificationError):
            verify(*wrong)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_AAAA", "whsec_!!!!", "A" * 40, "whsec_" + "A" * 400])
def test_what_is_no_secret(text: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        parse_secret(text)


def rendered(told: Told, kind: Format) -> Any:
    return json.loads(body_of(told, kind, source="https://registry.example"))


def test_a_cloud_event() -> None:
    event = rendered(TOLD, "cloudevents")
    assert (event["specversion"], event["id"], event["type"]) == ("1.0", "7", "seatrial.manifest.pushed")
    assert (event["source"], event["subject"]) == ("https://registry.example", "team/app")
    assert event["time"] == "2026-11-29T00:00:00Z"
    assert event["data"]["image"]["revision"] == "abc"
    assert event["data"]["details"]["tags"] == ["1", "latest"]
    assert event["data"]["actor"] == {"name": "alice", "kind": "user"}


def test_a_notification_is_one_for_each_tag() -> None:
    events = rendered(TOLD, "docker")["events"]
    assert [(event["id"], event["action"], event["target"]["tag"]) for event in events] == [
        ("7-0", "push", "1"),
        ("7-1", "push", "latest"),
    ]
    target = events[0]["target"]
    assert target["url"] == f"https://registry.example/v2/team/app/manifests/{DIGEST}"
    assert (target["digest"], target["size"], target["mediaType"]) == (DIGEST, 12, "m")
    assert events[0]["seatrial"]["image"]["source"] == "https://example.org/app"


def test_what_docker_has_no_word_for_keeps_ours() -> None:
    other = replace(TOLD, kind="verdict.changed", data={"digest": DIGEST, "to": "fail"}, image=None)
    (event,) = rendered(other, "docker")["events"]
    assert event["action"] == "verdict.changed"
    assert event["seatrial"]["details"]["to"] == "fail"
    assert "tag" not in event["target"]
