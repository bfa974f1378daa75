"""Required signatures: those that cosign pushes are verified once, in the transaction of their push, or when
a rule is made; a pull looks up what came of it.

A rule counts on a repository, or on all below a namespace. Of the rules on one place one must be met; each
place that has rules must be satisfied. A signature of an index is one of what it lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import re2  # type: ignore[import-untyped]
from sqlalchemy import and_, delete, exists, func, insert, literal, or_, select

from registry.auth.places import counts_in
from registry.db.access import namespaces
from registry.db.content import edges, manifests, repositories, tag_history, tags
from registry.db.engine import hold_epochs
from registry.db.signatures import signature_matches, signature_rules, signatures
from registry.db.types import db_time
from registry.oci.mediatypes import MANIFESTS
from registry.trials.identities import CertificateRefusedError, Trust, identify
from registry.trials.sigstore import (
    Bundle,
    BundleInvalidError,
    is_signed_by,
    parse_bundle,
    parse_statement,
)
from registry.trials.verifying import parse_keys

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.effects import ManifestPushed
    from registry.content.repositories import Repository
    from registry.db.engine import Database

SIGNED = "https://sigstore.dev/cosign/sign/v1"
"""What ``cosign sign`` states: nothing but that somebody signs."""
UNMET_MAX = 100
"""How many signatures of one image are kept that meet no rule, for rules to come: the latest."""
_AT_ONCE = 50
"""How many signatures are verified before others have their turn: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Required:
    """What a repository asks for: for each place the rules, by id, of which one must be met, and their
    names."""

    places: tuple[tuple[str, frozenset[int], tuple[str, ...]], ...]

    @property
    def sentence(self) -> str:
        """What is missing where not all of it is there."""
        said = [f"{' or '.join(sorted(names))} ({place})" for place, _, names in self.places]
        return f"it must be signed by {' and by '.join(said)}"


async def note_signature(connection: AsyncConnection, pushed: ManifestPushed, trust: Trust) -> None:
    """Take a referrer that was just pushed for a signature, if it is one of what it names as its subject."""
    subject = pushed.manifest.subject
    if pushed.bundle is None or subject is None or not pushed.created:
        return
    try:
        bundle = parse_bundle(pushed.bundle)
        statement = parse_statement(bundle.payload)
    except BundleInvalidError:
        return
    if statement.predicate_type != SIGNED or subject.digest not in statement.subjects:
        return
    values: dict[str, Any] = {
        "manifest_id": pushed.manifest_id,
        "repository_id": pushed.repository_id,
        "subject_digest": str(subject.digest),
        "payload": bundle.payload,
        "signature": bundle.signature,
        "issuer": None,
        "subject": None,
    }
    if bundle.certificate is not None:
        now = (await connection.execute(select(db_time()))).scalar_one()
        try:
            identity, key = identify(bundle.certificate, trust, at=now)
        except CertificateRefusedError:
            return
        if not is_signed_by(bundle, key):
            return
        values |= {"issuer": identity.issuer, "subject": identity.subject}
    await connection.execute(insert(signatures).values(values))
    # Whoever makes a rule meets this push here: the one or the other sees both.
    await hold_epochs(connection, "content")
    this = (await connection.execute(_SIGNATURES.where(signatures.c.manifest_id == pushed.manifest_id))).one()
    for rule in await rules_of(connection, pushed.repository_id, pushed.repository):
        if test_of(rule)(this):
            await keep_met(connection, rule.id, [pushed.manifest_id])
    of_it = (
        signatures.c.repository_id == pushed.repository_id,
        signatures.c.subject_digest == str(subject.digest),
        ~exists().where(signature_matches.c.manifest_id == signatures.c.manifest_id),
    )
    unmet = select(signatures.c.manifest_id).where(*of_it).order_by(signatures.c.manifest_id.desc())
    too_many = list((await connection.execute(unmet.offset(UNMET_MAX))).scalars())
    await connection.execute(delete(signatures).where(signatures.c.manifest_id.in_(too_many)))


def test_of(rule: Any) -> Callable[[Row[Any]], bool]:
    """Whether rows of ``signatures`` meet a rule, which is a row or what is wanted; its key is read once."""
    if rule.public_pem is None:
        return lambda one: one.issuer == rule.issuer and is_subject(one.subject, rule.subject)
    keys = parse_keys(rule.public_pem)
    return lambda one: any(
        is_signed_by(Bundle(bytes(one.payload), bytes(one.signature), None), key) for key in keys
    )


async def find_met(
    connection: AsyncConnection,
    test: Callable[[Row[Any]], bool],
    within: ColumnElement[bool],
    *,
    looked: set[int],
) -> list[int]:
    """The signatures in these repositories that pass the test, by their manifests, without those ``looked``
    at, to which the others are added."""
    query = select(signatures.c.manifest_id).join(
        repositories, repositories.c.id == signatures.c.repository_id
    )
    wanted = sorted({*(await connection.execute(query.where(within))).scalars()} - looked)
    met: list[int] = []
    for start in range(0, len(wanted), _AT_ONCE):
        batch = wanted[start : start + _AT_ONCE]
        found = (await connection.execute(_SIGNATURES.where(signatures.c.manifest_id.in_(batch)))).all()
        met += [one.manifest_id for one in found if test(one)]
    looked.update(wanted)
    return met


async def keep_met(connection: AsyncConnection, rule_id: int, manifest_ids: Sequence[int]) -> None:
    """Write down that these signatures meet a rule, as far as they are still there."""
    columns = [signatures.c[name] for name in ("manifest_id", "repository_id", "subject_digest")]
    for start in range(0, len(manifest_ids), _AT_ONCE):
        new = select(literal(rule_id).label("rule_id"), *columns).where(
            signatures.c.manifest_id.in_(manifest_ids[start : start + _AT_ONCE]),
            ~exists().where(
                signature_matches.c.rule_id == rule_id,
                signature_matches.c.manifest_id == signatures.c.manifest_id,
            ),
        )
        names = ["rule_id", *(column.name for column in columns)]
        await connection.execute(insert(signature_matches).from_select(names, new))


async def match_moved(connection: AsyncConnection, within: ColumnElement[bool]) -> None:
    """Find the signatures in these repositories that meet the rules above the place where they lie now. The
    caller holds their locks and holds the epochs."""
    signed = exists().where(signatures.c.repository_id == repositories.c.id)
    moved = await connection.execute(select(repositories.c.id, repositories.c.name).where(within, signed))
    for repository in moved.all():
        for rule in await rules_of(connection, repository.id, repository.name):
            here = repositories.c.id == repository.id
            met = await find_met(connection, test_of(rule), here, looked=set())
            await keep_met(connection, rule.id, met)


async def required_in(database: Database, repository: Repository) -> Required | None:
    """What signatures a repository asks for; ``None``: none."""
    async with database.read_once() as connection:
        return await _required(connection, repository)


async def lacks_signatures(connection: AsyncConnection, repository: Repository, digest: str) -> str:
    """What an image lacks that a tag of the repository is to name, in words; empty where it is nothing."""
    required = await _required(connection, repository)
    if required is None:
        return ""
    here = (manifests.c.repository_id == repository.id, manifests.c.digest == digest)
    query = select(manifests.c.id).where(*here, _has_all(required))
    return "" if (await connection.execute(query)).first() is not None else required.sentence


async def _required(connection: AsyncConnection, repository: Repository) -> Required | None:
    rules = await rules_of(connection, repository.id, repository.name)
    if not rules:
        return None
    places: dict[str, list[Row[Any]]] = {}
    for rule in rules:
        places.setdefault(rule.place or repository.name, []).append(rule)
    return Required(
        tuple(
            (place, frozenset(rule.id for rule in of_it), tuple(rule.name for rule in of_it))
            for place, of_it in sorted(places.items())
        )
    )


def is_signed(required: Required) -> ColumnElement[bool]:
    """Whether a row of ``manifests`` has all the signatures that are required. Referrers need none, as long
    as no tag names them: a subject is easily said, also of a chart that people pull."""
    return or_(_is_referrer(), _has_all(required))


def is_unsigned() -> ColumnElement[bool]:
    """Whether a row of ``manifests``, joined with its repository, lacks a signature that is required where
    it lies: the opposite of :func:`is_signed` for many repositories at once."""
    rule, other = signature_rules.alias("rule"), signature_rules.alias("other")
    place = namespaces.alias("place")
    start = func.substr(repositories.c.name, 1, func.length(place.c.name) + 1)
    listed, index = edges.alias("listed"), manifests.alias("index")
    listing = (
        select(index.c.digest)
        .join(listed, listed.c.manifest_id == index.c.id)
        .where(
            index.c.repository_id == manifests.c.repository_id,
            listed.c.digest == manifests.c.digest,
            listed.c.kind == "child",
        )
        .correlate(manifests)
    )
    counts = or_(rule.c.repository_id == manifests.c.repository_id, start == place.c.name + "/")
    met = (
        select(signature_matches.c.rule_id)
        .join(other, other.c.id == signature_matches.c.rule_id)
        .where(
            signature_matches.c.repository_id == manifests.c.repository_id,
            other.c.repository_id.is_not_distinct_from(rule.c.repository_id),
            other.c.namespace_id.is_not_distinct_from(rule.c.namespace_id),
            or_(
                signature_matches.c.subject_digest == manifests.c.digest,
                signature_matches.c.subject_digest.in_(listing),
            ),
        )
        .correlate(manifests, rule)
        .exists()
    )
    lacking = (
        select(rule.c.id)
        .outerjoin(place, place.c.id == rule.c.namespace_id)
        .where(counts, ~met)
        .correlate(manifests, repositories)
        .exists()
    )
    return and_(~_is_referrer(), lacking)


def _is_referrer() -> ColumnElement[bool]:
    named = select(tags.c.name).where(tags.c.manifest_id == manifests.c.id).correlate(manifests)
    return and_(
        manifests.c.subject_digest.is_not(None),
        manifests.c.runnable.is_(False),
        manifests.c.media_type.in_(sorted(MANIFESTS)),
        ~named.exists(),
    )


async def has_signatures(database: Database, manifest_id: int, required: Required) -> bool:
    """Whether a manifest has all the signatures that are required."""
    query = select(manifests.c.id).where(manifests.c.id == manifest_id, is_signed(required))
    async with database.read_once() as connection:
        return (await connection.execute(query)).first() is not None


async def signed_of_tag(
    database: Database, repository_id: int, tag: str, required: Required
) -> frozenset[str]:
    """Of all that a tag has ever pointed to, what has the signatures that are required. That is no referrer,
    also where no tag names it now."""
    query = (
        select(manifests.c.digest)
        .join(tag_history, tag_history.c.new_digest == manifests.c.digest)
        .where(
            manifests.c.repository_id == repository_id,
            tag_history.c.repository_id == repository_id,
            tag_history.c.name == tag,
            _has_all(required),
        )
        .distinct()
    )
    async with database.read_once() as connection:
        return frozenset((await connection.execute(query)).scalars())


def is_subject(subject: str, pattern: str) -> bool:
    """Whether a rule means this subject: ``*`` stands for anything but a line's end."""
    # Of linear time: the one is a stranger's, and the other has as many stars as somebody likes.
    wanted = ".*".join(re2.escape(part) for part in pattern.split("*"))
    return re2.fullmatch(wanted, subject) is not None


def _has_all(required: Required) -> ColumnElement[bool]:
    return and_(*(_has_one_of(ids) for _, ids, _ in required.places))


def _has_one_of(rule_ids: frozenset[int]) -> ColumnElement[bool]:
    here = (
        signature_matches.c.repository_id == manifests.c.repository_id,
        signature_matches.c.rule_id.in_(sorted(rule_ids)),
    )
    listed, index = edges.alias("listed"), manifests.alias("index")
    return or_(
        exists().where(*here, signature_matches.c.subject_digest == manifests.c.digest),
        exists().where(
            *here,
            listed.c.digest == manifests.c.digest,
            listed.c.kind == "child",
            index.c.id == listed.c.manifest_id,
            index.c.repository_id == manifests.c.repository_id,
            signature_matches.c.subject_digest == index.c.digest,
        ),
    )


async def rules_of(connection: AsyncConnection, repository_id: int, name: str) -> Sequence[Row[Any]]:
    """The rules that count in a repository of that name."""
    query = (
        select(signature_rules, (namespaces.c.name + "/").label("place"))
        .outerjoin(namespaces, namespaces.c.id == signature_rules.c.namespace_id)
        .where(counts_in(signature_rules, repository_id, name))
        .order_by(signature_rules.c.id)
    )
    return (await connection.execute(query)).all()


_SIGNATURES = select(signatures)
