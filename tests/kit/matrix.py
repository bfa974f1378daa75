"""The access matrix as it is written down by hand: who may do what where, and which right each route needs.

A cell has a sign for each place, in the order of :data:`PLACES`: ``+`` allowed (any answer but 401 and
403), ``?`` 401, ``-`` 403, ``0`` 404 as if there were none. ``missing`` is what does not exist, in a
namespace in which everybody has the role that he has in the others: whoever may not pull from the private
one cannot tell it from this.

The routes of a right without a place have one sign.
"""

from __future__ import annotations

PLACES = ("public", "internal", "private", "missing")

_PLACED = """
                pull push trial delete configure administer members namespace trialled pulls log  put  scans
anonymous       +??? ???? ????  ????   ????      ????       ????    ????      +000     ????  ?000 ???? ????
stranger        ++-- ---- ----  ----   ----      ----       ----    ----      ++00     ----  --00 ---- ----
reader          ++++ ---- ----  ----   ----      ----       ----    ++++      +++0     ----  ---0 ---- ---+
writer          ++++ ++++ ++++  ----   ----      ----       ----    ++++      +++0     ----  +++0 ---- ++++
maintainer      ++++ ++++ ++++  ++++   ++++      ----       ----    ++++      +++0     ++++  +++0 +++- ++++
owner           ++++ ++++ ++++  ++++   ++++      ++++       ++++    ++++      +++0     ++++  +++0 ++++ ++++
auditor         ++++ ---- ----  ----   ----      ----       ++++    ++++      +++0     ++++  +++0 ---- ++++
administrator   ++++ ++++ ++++  ++++   ++++      ++++       ++++    ++++      +++0     ++++  +++0 ++++ ++++
robot           +++- --+- --+-  ----   ----      ----       ----    --+-      +++0     ----  --+0 ---- --+-
pull-token      ++++ ---- ----  ----   ----      ----       ----    ++++      +++0     ----  ---0 ---- ---+
elsewhere-token ---- ---- ----  ----   ----      ----       ----    ----      0000     ----  0000 ---- ----
expired-token   ???? ???? ????  ????   ????      ????       ????    ????      ????     ????  ???? ???? ????
revoked-token   ???? ???? ????  ????   ????      ????       ????    ????      ????     ????  ???? ???? ????
narrow-token    ???? ???? ????  ????   ????      ????       ????    ????      0000     ????  0000 ???? ????
empty-token     ???? ???? ????  ????   ????      ????       ????    ????      0000     ????  0000 ???? ????
worker          ???? ???? ????  ????   ????      ????       ????    ????      ????     ????  ???? ???? ????
"""
"""``robot`` writes in ``private``. The tokens are the owner's: for pull everywhere, for all in another
namespace, expired, revoked; and registry tokens: for all in another namespace, and for nothing. ``put``
changes a namespace or makes one."""

_AGAIN = """
                again
anonymous       ?000
stranger        --00
reader          ---0
writer          +++0
maintainer      +++0
owner           +++0
auditor         ---0
administrator   +++0
robot           --+0
pull-token      ---0
elsewhere-token 0000
expired-token   ????
revoked-token   ????
narrow-token    0000
empty-token     0000
worker          ????
"""
"""To try an image again by the page of its trial, which hides as that does."""

_GENERAL = """
                base catalog any user account person rotate audit admin strangers own explain mine
anonymous       ?    ?       +   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
stranger        +    +       +   +    +       +      +      -     -     +         +   +       +
reader          +    +       +   +    +       +      +      -     -     -         -   -       +
writer          +    +       +   +    +       +      +      -     -     -         -   -       +
maintainer      +    +       +   +    +       +      +      -     -     -         -   -       +
owner           +    +       +   +    +       +      +      -     -     -         -   +       +
auditor         +    +       +   +    +       +      +      +     -     +         -   +       +
administrator   +    +       +   +    +       +      +      +     +     +         +   +       +
robot           +    +       +   -    +       -      +      -     -     -         -   -       +
pull-token      +    +       +   +    +       -      +      -     -     -         -   -       +
elsewhere-token +    +       +   +    +       -      +      -     -     -         -   -       +
expired-token   ?    ?       ?   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
revoked-token   ?    ?       ?   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
narrow-token    +    ?       +   +    +       -      -      -     -     -         -   -       +
empty-token     +    ?       +   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
worker          ?    ?       ?   ?    ?       ?      ?      ?     ?     ?         ?   ?       ?
"""
"""``strangers`` and ``own`` are about the stranger: what auditors may look at as well, and what not.
``person`` is for a person with a credential that is not limited."""


_APART = """
                open token worker own-page signed
anonymous       +    +     ?      -        ?
stranger        +    +     ?      -        ?
reader          +    +     ?      -        ?
writer          +    +     ?      -        ?
maintainer      +    +     ?      -        ?
owner           +    +     ?      -        ?
auditor         +    +     ?      -        ?
administrator   +    +     ?      -        ?
robot           +    +     ?      -        ?
pull-token      +    +     ?      -        ?
elsewhere-token +    +     ?      -        ?
expired-token   +    ?     ?      -        ?
revoked-token   +    ?     ?      -        ?
narrow-token    +    ?     ?      -        ?
empty-token     +    ?     ?      -        ?
worker          +    ?     +      -        ?
"""
"""``own-page``: what only a page of ours may do, in a session."""


def _cells(text: str) -> dict[str, dict[str, str]]:
    """Right, actor, cell."""
    (first, *rows) = (line.split() for line in text.splitlines() if line.strip())
    return {right: {row[0]: row[number + 1] for row in rows} for number, right in enumerate(first)}


PLACED = {**_cells(_PLACED), **_cells(_AGAIN)}
GENERAL = _cells(_GENERAL) | _cells(_APART)
ACTORS = tuple(PLACED["pull"])

V2 = {
    "GET base": "base",
    "HEAD base": "base",
    "GET catalog": "catalog",
    "HEAD catalog": "catalog",
    "GET tags": "pull",
    "HEAD tags": "pull",
    "GET referrers": "pull",
    "HEAD referrers": "pull",
    "GET extensions": "base",
    "HEAD extensions": "base",
    "GET repository-extensions": "pull",
    "HEAD repository-extensions": "pull",
    "GET tag-history": "pull",
    "HEAD tag-history": "pull",
    "GET manifests": "pull",
    "HEAD manifests": "pull",
    "PUT manifests": "push",
    "DELETE manifests": "delete",
    "GET blobs": "pull",
    "HEAD blobs": "pull",
    "DELETE blobs": "delete",
    "POST uploads": "push",
    "GET upload": "push",
    "HEAD upload": "push",
    "PATCH upload": "push",
    "PUT upload": "push",
    "DELETE upload": "push",
}

LAYOUT = {
    f"{method} {file}": "pull" for file in ("", "oci-layout", "index.json") for method in ("GET", "HEAD")
}
"""Files of a layout, after ``/layout/NAME/``; of its content see the tests of layouts."""

API = {
    "GET /run-spec.schema.json": "any",
    "GET /openapi.json": "any",
    "GET /version": "user",
    "GET /whoami": "account",
    "GET /advisories": "account",
    "POST /advisories/matchings": "admin",
    "POST /users": "admin",
    "GET /users": "audit",
    "GET /users/{name}": "strangers",
    "PUT /users/{name}": "admin",
    "PATCH /users/{name}": "admin",
    "DELETE /users/{name}": "admin",
    "POST /users/{name}/password": "admin",
    "GET /users/{name}/grants": "strangers",
    "GET /robots": "members",
    "GET /robots/{name}": "members",
    "PUT /robots/{name}": "administer",
    "DELETE /robots/{name}": "administer",
    "GET /robots/{name}/grants": "members",
    "GET /groups": "audit",
    "GET /groups/{name}": "audit",
    "PUT /groups/{name}": "admin",
    "DELETE /groups/{name}": "admin",
    "GET /groups/{name}/members": "audit",
    "PUT /groups/{name}/members/{user}": "admin",
    "DELETE /groups/{name}/members/{user}": "admin",
    "GET /groups/{name}/grants": "audit",
    "GET /repositories/{name}/members": "members",
    "PUT /repositories/{name}/members/{member}": "administer",
    "DELETE /repositories/{name}/members/{member}": "administer",
    "GET /namespaces/{name}/members": "members",
    "PUT /namespaces/{name}/members/{member}": "administer",
    "DELETE /namespaces/{name}/members/{member}": "administer",
    "GET /access/explain": "explain",
    "POST /tokens": "account",
    "GET /tokens": "account",
    "GET /tokens/{token_id}": "account",
    "PATCH /tokens/{token_id}": "account",
    "POST /tokens/{token_id}/rotate": "rotate",
    "DELETE /tokens/{token_id}": "account",
    "POST /tokens/revoke": "admin",
    "POST /sessions": "open",
    "GET /sessions": "own",
    "DELETE /sessions/current": "own-page",
    "DELETE /sessions/{session_id}": "person",
    "DELETE /sessions": "own",
    "GET /refresh-tokens": "own",
    "DELETE /refresh-tokens/{token_id}": "person",
    "GET /keys": "any",
    "POST /keys/rotate": "admin",
    "GET /workers": "admin",
    "GET /workers/{name}": "admin",
    "PATCH /workers/{name}": "admin",
    "PUT /workers/{name}/drain": "admin",
    "DELETE /workers/{name}/drain": "admin",
    "POST /workers/{name}/revoke": "admin",
    "POST /htpasswd-imports": "admin",
    "POST /issuers": "admin",
    "GET /issuers": "admin",
    "GET /issuers/{name}": "admin",
    "PATCH /issuers/{name}": "admin",
    "DELETE /issuers/{name}": "admin",
    "POST /issuers/{name}/check": "admin",
    "POST /issuers/{name}/identities": "admin",
    "GET /issuers/{name}/identities": "admin",
    "DELETE /issuers/{name}/identities/{subject}": "admin",
    "POST /workload-rules": "admin",
    "GET /workload-rules": "admin",
    "POST /workload-explanations": "admin",
    "GET /workload-rules/{name}": "admin",
    "PATCH /workload-rules/{name}": "admin",
    "DELETE /workload-rules/{name}": "admin",
    "POST /namespaces": "administer",
    "GET /namespaces": "any",
    "GET /namespaces/{name}": "namespace",
    "PUT /namespaces/{name}": "put",
    "PATCH /namespaces/{name}": "configure",
    "POST /namespaces/{name}/rename": "administer",
    "DELETE /namespaces/{name}": "administer",
    "POST /repositories": "configure",
    "GET /repositories": "any",
    "GET /repositories/{name}": "pull",
    "PUT /repositories/{name}": "configure",
    "PATCH /repositories/{name}": "configure",
    "POST /repositories/{name}/rename": "administer",
    "POST /repositories/{name}/transfer": "administer",
    "DELETE /repositories/{name}": "administer",
    "GET /repositories/{name}/readme": "pull",
    "PUT /repositories/{name}/readme": "push",
    "DELETE /repositories/{name}/readme": "push",
    "GET /repositories/{name}/tags": "pull",
    "GET /repositories/{name}/deleted-tags": "pull",
    "GET /repositories/{name}/tags/{tag}": "pull",
    "DELETE /repositories/{name}/tags/{tag}": "delete",
    "GET /repositories/{name}/tags/{tag}/history": "pull",
    "POST /repositories/{name}/tags/{tag}/rollback": "push",
    "POST /repositories/{name}/tags/{tag}/restore": "push",
    "POST /repositories/{name}/tags/{tag}/move": "push",
    "POST /repositories/{name}/tags/{tag}/copy": "push",
    "GET /tag-rules": "pull",
    "POST /tag-rules": "configure",
    "DELETE /tag-rules/{rule_id}": "any",
    "GET /retention": "pull",
    "PUT /retention": "configure",
    "DELETE /retention": "configure",
    "GET /retention/policies": "pull",
    "POST /retention/preview": "configure",
    "POST /retention/runs": "configure",
    "GET /retention/runs": "pull",
    "GET /retention/runs/{run_id}": "any",
    "GET /retention/runs/{run_id}/items": "any",
    "POST /retention/runs/{run_id}/undo": "any",
    "GET /quotas": "audit",
    "GET /quota": "pull",
    "PATCH /quota": "admin",
    "DELETE /quota": "admin",
    "POST /promotions": "push",
    "POST /promotions/preview": "push",
    "GET /promotions": "pull",
    "GET /promotions/{promotion_id}": "any",
    "POST /promotions/{promotion_id}/grant": "any",
    "POST /promotions/{promotion_id}/end": "any",
    "POST /promotions/{promotion_id}/undo": "any",
    "GET /trials": "any",
    "POST /trials": "trial",
    "GET /trials/{trial_id}": "trialled",
    "GET /trials/{trial_id}/export": "trialled",
    "POST /trials/{trial_id}/cancel": "again",
    "GET /trials/{trial_id}/log": "log",
    "GET /queue": "admin",
    "GET /attention": "account",
    "GET /repositories/{name}/trials": "pull",
    "GET /trials/{trial_id}/log/live": "log",
    "GET /repositories/{name}/scans/{digest}": "scans",
    "GET /repositories/{name}/scans/{digest}/packages": "scans",
    "GET /repositories/{name}/scans/{digest}/found": "scans",
    "GET /repositories/{name}/scans/{digest}/vulnerabilities": "scans",
    "GET /repositories/{name}/scans/{digest}/reported": "scans",
    "GET /repositories/{name}/scans/{digest}/incomplete": "scans",
    "GET /repositories/{name}/scans/{digest}/licences": "scans",
    "GET /repositories/{name}/scans/{digest}/report": "scans",
    "GET /packages": "any",
    "GET /images": "any",
    "GET /repositories/{name}/bases/{digest}": "pull",
    "GET /repositories/{name}/children/{digest}": "pull",
    "GET /repositories/{name}/comparison": "pull",
    "GET /gate": "pull",
    "GET /gate/preview": "pulls",
    "POST /gate/block": "configure",
    "POST /gate/unblock": "configure",
    "POST /gate/blocks": "configure",
    "POST /gate/blocks/preview": "pulls",
    "GET /gate/blocks": "pulls",
    "DELETE /gate/blocks/{block_id}": "any",
    "POST /gate/pauses": "configure",
    "GET /gate/pauses": "namespace",
    "DELETE /gate/pauses/{name}": "configure",
    "GET /repositories/{name}/visibility/preview": "pulls",
    "GET /repositories/{name}/referrers/{digest}": "pull",
    "GET /repositories/{name}/attestations": "pull",
    "GET /repositories/{name}/attestations/differences": "pull",
    "GET /repositories/{name}/documents/{digest}": "pull",
    "POST /waivers": "push",
    "GET /waivers": "pull",
    "GET /waivers/{waiver_id}": "any",
    "POST /waivers/{waiver_id}/grant": "any",
    "POST /waivers/{waiver_id}/revoke": "any",
    "GET /schedules": "pull",
    "POST /schedules": "configure",
    "DELETE /schedules/{schedule_id}": "any",
    "GET /signature-rules": "pull",
    "POST /signature-rules": "configure",
    "DELETE /signature-rules/{rule_id}": "any",
    "GET /repositories/{name}/signatures": "pull",
    "GET /findings-policy": "pull",
    "PUT /findings-policy": "configure",
    "POST /findings-policy/preview": "pulls",
    "DELETE /findings-policy": "configure",
    "GET /scanners": "pull",
    "PUT /scanners": "configure",
    "DELETE /scanners": "configure",
    "GET /audit": "audit",
    "GET /audit/export": "audit",
    "GET /audit/pulls": "pulls",
    "GET /events": "audit",
    "POST /webhooks": "configure",
    "GET /webhooks": "configure",
    "GET /webhooks/{webhook_id}": "mine",
    "PATCH /webhooks/{webhook_id}": "mine",
    "DELETE /webhooks/{webhook_id}": "mine",
    "POST /webhooks/{webhook_id}/rotate": "mine",
    "POST /webhooks/{webhook_id}/test": "mine",
    "POST /webhooks/{webhook_id}/redeliver": "mine",
    "GET /webhooks/{webhook_id}/deliveries": "mine",
    "GET /webhooks/{webhook_id}/deliveries/{delivery_id}": "mine",
    "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver": "mine",
    "POST /hooks": "configure",
    "GET /hooks": "configure",
    "GET /hooks/{name}": "mine",
    "DELETE /hooks/{name}": "mine",
    "POST /hooks/{name}/rotate": "mine",
    "POST /secrets": "configure",
    "GET /secrets": "configure",
    "POST /secrets/{secret_id}/rotate": "mine",
    "DELETE /secrets/{secret_id}": "mine",
    "POST /upstreams": "configure",
    "GET /upstreams": "trial",
    "GET /upstreams/{name}": "mine",
    "PATCH /upstreams/{name}": "mine",
    "DELETE /upstreams/{name}": "mine",
    "GET /collections": "admin",
    "POST /collections": "admin",
    "GET /collections/preview": "admin",
    "GET /collections/{collection_id}": "admin",
    "GET /scrubs": "admin",
    "POST /scrubs": "admin",
    "GET /scrubs/damaged": "admin",
    "GET /scrubs/{scrub_id}": "admin",
    "POST /scrubs/{scrub_id}/stop": "admin",
}

PAGES = {
    "GET /n/{name}": "namespace",
    "GET /n/{name}/-/members": "members",
    "POST /n/{name}/-/members": "administer",
    "POST /n/{name}/-/members/take": "administer",
    "GET /n/{name}/-/settings": "configure",
    "POST /n/{name}/-/settings": "configure",
    "POST /n/{name}/-/rename": "administer",
    "POST /n/{name}/-/delete": "administer",
    "GET /n/{name}/-/robots": "members",
    "POST /n/{name}/-/robots": "administer",
    "GET /n/{name}/-/robots/{robot}": "members",
    "POST /n/{name}/-/robots/{robot}/switch": "administer",
    "POST /n/{name}/-/robots/{robot}/delete": "administer",
    "POST /n/{name}/-/robots/{robot}/tokens": "administer",
    "POST /n/{name}/-/robots/{robot}/tokens/{token_id}/rotate": "administer",
    "POST /n/{name}/-/robots/{robot}/tokens/{token_id}/revoke": "administer",
    "GET /r/{name}": "pull",
    "GET /r/{name}/-/readme": "pull",
    "POST /r/{name}/-/readme": "push",
    "GET /r/{name}/-/compare": "pull",
    "GET /r/{name}/-/tags/{tag}": "pull",
    "GET /r/{name}/-/images/{digest}": "pull",
    "POST /r/{name}/-/images/{digest}/block": "configure",
    "POST /r/{name}/-/images/{digest}/unblock": "configure",
    "GET /r/{name}/-/images/{digest}/findings": "scans",
    "GET /r/{name}/-/images/{digest}/packages": "scans",
    "GET /r/{name}/-/images/{digest}/pulls": "pulls",
    "GET /r/{name}/-/images/{digest}/referrers": "pull",
    "GET /r/{name}/-/images/{digest}/trials": "pull",
    "GET /r/{name}/-/settings": "configure",
    "POST /r/{name}/-/settings": "configure",
    "POST /r/{name}/-/settings/trials": "configure",
    "POST /r/{name}/-/rename": "administer",
    "POST /r/{name}/-/delete": "administer",
    "GET /r/{name}/-/members": "members",
    "POST /r/{name}/-/members": "administer",
    "POST /r/{name}/-/members/take": "administer",
    "GET /r/{name}/-/waivers": "pull",
    "POST /r/{name}/-/waivers": "push",
    "GET /r/{name}/-/run-spec": "pull",
    "POST /r/{name}/-/run-spec": "configure",
    "POST /r/{name}/-/run-spec/check": "trial",
    "POST /r/{name}/-/run-spec/try": "trial",
    "POST /r/{name}/-/run-spec/clear": "configure",
    "GET /r/{name}/-/gate": "configure",
    "POST /r/{name}/-/gate": "configure",
    "POST /r/{name}/-/gate/pause": "configure",
    "POST /r/{name}/-/gate/resume": "configure",
    "GET /r/{name}/-/findings-policy": "pull",
    "POST /r/{name}/-/findings-policy": "configure",
    "POST /r/{name}/-/findings-policy/preview": "pulls",
    "POST /r/{name}/-/findings-policy/clear": "configure",
    "GET /r/{name}/-/signatures": "pull",
    "POST /r/{name}/-/signatures": "configure",
    "POST /r/{name}/-/signatures/remove": "configure",
    "GET /r/{name}/-/blocks": "pulls",
    "POST /r/{name}/-/blocks": "configure",
    "POST /r/{name}/-/blocks/preview": "pulls",
    "POST /r/{name}/-/blocks/lift": "configure",
    "GET /r/{name}/-/webhooks": "configure",
    "POST /r/{name}/-/webhooks": "configure",
    "GET /r/{name}/-/tags/{tag}/delete": "delete",
    "POST /r/{name}/-/tags/{tag}/delete": "delete",
    "GET /r/{name}/-/deleted": "pull",
    "POST /r/{name}/-/deleted/restore": "push",
    "GET /r/{name}/-/history/{tag}": "pull",
    "GET /r/{name}/-/history/{tag}/rollback": "push",
    "POST /r/{name}/-/history/{tag}/rollback": "push",
    "GET /trials/{trial}": "trialled",
    "GET /trials/{trial}/log": "log",
    "GET /trials/{trial}/live": "log",
    "POST /trials/{trial}/again": "again",
    "POST /trials/{trial}/cancel": "again",
    "GET /r/{name}/-/badges/{tag}.svg": "pull",
    "GET /retention": "pull",
    "POST /retention": "configure",
    "POST /retention/clear": "configure",
    "GET /retention/preview": "configure",
    "GET /retention/runs": "pull",
    "POST /retention/runs": "configure",
    "GET /tag-rules": "pull",
    "POST /tag-rules": "configure",
    "GET /quota": "pull",
    "GET /schedules": "pull",
    "POST /schedules": "configure",
    "GET /trial-hooks": "configure",
    "POST /trial-hooks": "configure",
    "GET /promotions": "pull",
}
"""Pages about a repository or a namespace."""
ON: dict[str, dict[str, str]] = {
    "GET /retention": {},
    "POST /retention": {},
    "POST /retention/clear": {},
    "GET /retention/preview": {},
    "GET /retention/runs": {},
    "POST /retention/runs": {},
    "GET /tag-rules": {},
    "POST /tag-rules": {"pattern": "("},
    "GET /quota": {},
    "GET /schedules": {},
    "POST /schedules": {},
    "GET /trial-hooks": {},
    "POST /trial-hooks": {"name": "made", "scheme": "github"},
    "GET /promotions": {},
}
"""Those of them that are told in a parameter, or a field, which one (``on``); and what else they are sent."""

OTHERS = {
    "GET /": "any",
    "GET /sign-in": "any",
    "POST /sign-in": "open",
    "POST /sign-out": "own-page",
    "GET /trials": "any",
    "GET /search": "any",
    "GET /account": "account",
    "POST /account/tokens": "account",
    "POST /account/tokens/{token_id}/rotate": "rotate",
    "POST /account/tokens/{token_id}/revoke": "account",
    "GET /account/sessions": "person",
    "POST /account/sessions/{session_id}/revoke": "person",
    "POST /account/refresh-tokens/{token_id}/revoke": "person",
    "GET /account/password": "user",
    "POST /account/password": "user",
    "POST /waivers/{waiver_id}/grant": "any",
    "POST /waivers/{waiver_id}/revoke": "any",
    "GET /webhooks/{webhook_id}": "mine",
    "POST /webhooks/{webhook_id}/test": "mine",
    "POST /webhooks/{webhook_id}/switch": "mine",
    "POST /webhooks/{webhook_id}/delete": "mine",
    "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver": "mine",
    "GET /administration": "audit",
    "GET /administration/robots": "audit",
    "GET /administration/users": "audit",
    "POST /administration/users": "admin",
    "GET /administration/users/{user}": "audit",
    "POST /administration/users/{user}/change": "admin",
    "POST /administration/users/{user}/switch": "admin",
    "POST /administration/users/{user}/password": "admin",
    "POST /administration/users/{user}/sessions/end": "admin",
    "POST /administration/users/{user}/delete": "admin",
    "GET /administration/groups": "audit",
    "POST /administration/groups": "admin",
    "GET /administration/groups/{group}": "audit",
    "POST /administration/groups/{group}/members": "admin",
    "POST /administration/groups/{group}/members/remove": "admin",
    "POST /administration/groups/{group}/delete": "admin",
    "GET /administration/issuers": "admin",
    "GET /administration/issuers/{issuer}": "admin",
    "POST /administration/issuers/{issuer}/check": "admin",
    "POST /administration/issuers/{issuer}/mapping": "admin",
    "POST /administration/issuers/{issuer}/mapping/remove": "admin",
    "POST /administration/issuers/{issuer}/people": "admin",
    "POST /administration/issuers/{issuer}/people/remove": "admin",
    "GET /administration/tokens": "admin",
    "POST /administration/tokens/revoke": "admin",
    "POST /administration/tokens/revoke-everybody": "admin",
    "POST /administration/tokens/{token_id}/revoke": "admin",
    "GET /administration/audit": "audit",
    "GET /access": "account",
    "GET /namespaces": "any",
    "POST /namespaces": "account",
    "GET /repositories/new": "account",
    "POST /repositories": "account",
    "GET /retention/runs/{run_id}": "any",
    "POST /retention/runs/{run_id}/undo": "any",
    "POST /tag-rules/{rule_id}/delete": "any",
    "POST /quota": "admin",
    "POST /quota/clear": "admin",
    "GET /quotas": "audit",
    "GET /workers": "admin",
    "GET /workers/{worker}": "admin",
    "POST /workers/{worker}/bind": "admin",
    "POST /workers/{worker}/drain": "admin",
    "POST /workers/{worker}/resume": "admin",
    "POST /workers/{worker}/revoke": "admin",
    "GET /queue": "admin",
    "GET /advisories": "account",
    "POST /advisories/matchings": "admin",
    "GET /storage": "admin",
    "GET /storage/preview": "admin",
    "POST /storage/collections": "admin",
    "POST /storage/scrubs": "admin",
    "POST /storage/scrubs/{scrub_id}/stop": "admin",
    "POST /schedules/{schedule_id}/delete": "any",
    "POST /trial-hooks/{hook}/rotate": "any",
    "POST /trial-hooks/{hook}/delete": "any",
    "GET /upstreams": "any",
    "POST /upstreams": "any",
    "POST /upstreams/{upstream}/credential": "any",
    "POST /upstreams/{upstream}/delete": "any",
    "POST /promotions": "any",
    "GET /promotions/preview": "any",
    "POST /promotions/{promotion_id}/grant": "any",
    "POST /promotions/{promotion_id}/end": "any",
    "POST /promotions/{promotion_id}/undo": "any",
    "GET /robots.txt": "open",
    "GET /assets/{version}/{file}": "open",
    "GET /healthz": "open",
    "GET /readyz": "open",
    "GET /metrics": "audit",
    "GET /token": "token",
    "POST /token": "open",
    "GET /token/keys": "open",
    "GET /oauth/login": "open",
    "GET /oauth/callback/{issuer}": "open",
    "POST /worker/v1/claim": "worker",
    "POST /worker/v1/renew": "worker",
    "POST /worker/v1/log": "worker",
    "POST /worker/v1/scan": "worker",
    "POST /worker/v1/report": "worker",
    "POST /hooks/{name}": "signed",
}
