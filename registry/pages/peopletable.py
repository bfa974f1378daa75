"""Pages about who may do what: administration, namespaces, robots, users, groups, tokens, the audit trail."""

from __future__ import annotations

from registry.pages import (
    alltokens,
    groups,
    issuers,
    keys,
    managing,
    namespaces,
    robots,
    settings,
    tokens,
    users,
    workloadrules,
)
from registry.pages.access import show_access
from registry.pages.administration import show_administration
from registry.pages.audit import show_audit
from registry.pages.serving import ACCOUNT, NAME, PageRoute

_BELOW = f"/n/{NAME}/-"
_ROBOT = f"{_BELOW}/robots/{{robot:{ACCOUNT}}}"
_USER = f"/administration/users/{{user:{ACCOUNT}}}"
_GROUP = f"/administration/groups/{{group:{ACCOUNT}}}"
_RULE = f"/administration/workload-rules/{{rule:{ACCOUNT}}}"
_ISSUER = f"/administration/issuers/{{issuer:{ACCOUNT}}}"

PEOPLE: tuple[PageRoute, ...] = (
    PageRoute("GET", "/administration", show_administration),
    PageRoute("GET", "/administration/robots", robots.show_all_robots),
    PageRoute("GET", "/administration/users", users.show_users, "user"),
    PageRoute("POST", "/administration/users", users.create_user, "admin", stands_on=users.show_users),
    PageRoute(
        "POST", "/administration/htpasswd-imports", users.import_users, "admin", stands_on=users.show_users
    ),
    PageRoute("GET", _USER, users.show_user, "user"),
    PageRoute("POST", f"{_USER}/change", users.change_user, "admin", stands_on=users.show_user),
    PageRoute("POST", f"{_USER}/switch", users.switch_user, "admin", stands_on=users.show_user),
    PageRoute("POST", f"{_USER}/password", users.reset_password, "admin", stands_on=users.show_user),
    PageRoute("POST", f"{_USER}/sessions/end", users.end_sessions, "admin", stands_on=users.show_user),
    PageRoute("POST", f"{_USER}/delete", users.delete_user, "admin", stands_on=users.show_user),
    PageRoute("GET", "/administration/groups", groups.show_groups, "user"),
    PageRoute("POST", "/administration/groups", groups.create_group, "admin", stands_on=groups.show_groups),
    PageRoute("GET", _GROUP, groups.show_group, "user"),
    PageRoute("POST", f"{_GROUP}/members", groups.add_member, "admin", stands_on=groups.show_group),
    PageRoute("POST", f"{_GROUP}/members/remove", groups.remove_member, "admin", stands_on=groups.show_group),
    PageRoute("POST", f"{_GROUP}/delete", groups.delete_group, "admin", stands_on=groups.show_group),
    PageRoute("GET", "/administration/issuers", issuers.show_issuers, "admin"),
    PageRoute(
        "POST", "/administration/issuers", issuers.create_issuer, "admin", stands_on=issuers.show_issuers
    ),
    PageRoute("GET", _ISSUER, issuers.show_issuer, "admin"),
    PageRoute("POST", f"{_ISSUER}/check", issuers.check_issuer, "admin", stands_on=issuers.show_issuer),
    PageRoute("POST", f"{_ISSUER}/change", issuers.change_issuer, "admin", stands_on=issuers.show_issuer),
    PageRoute("POST", f"{_ISSUER}/move", issuers.move_issuer, "admin", stands_on=issuers.show_issuer),
    PageRoute("POST", f"{_ISSUER}/delete", issuers.delete_issuer, "admin", stands_on=issuers.show_issuer),
    PageRoute("POST", f"{_ISSUER}/mapping", issuers.map_value, "admin", stands_on=issuers.show_issuer),
    PageRoute(
        "POST", f"{_ISSUER}/mapping/remove", issuers.unmap_value, "admin", stands_on=issuers.show_issuer
    ),
    PageRoute("POST", f"{_ISSUER}/people", issuers.link_person, "admin", stands_on=issuers.show_issuer),
    PageRoute(
        "POST", f"{_ISSUER}/people/remove", issuers.unlink_person, "admin", stands_on=issuers.show_issuer
    ),
    PageRoute("GET", "/administration/workload-rules", workloadrules.show_rules, "admin"),
    PageRoute(
        "POST",
        "/administration/workload-rules",
        workloadrules.create_rule,
        "admin",
        stands_on=workloadrules.show_rules,
    ),
    PageRoute(
        "POST",
        "/administration/workload-explanations",
        workloadrules.explain_token,
        "admin",
        stands_on=workloadrules.show_rules,
    ),
    PageRoute("GET", _RULE, workloadrules.show_rule, "admin"),
    PageRoute(
        "POST", f"{_RULE}/change", workloadrules.change_rule, "admin", stands_on=workloadrules.show_rule
    ),
    PageRoute(
        "POST", f"{_RULE}/delete", workloadrules.delete_rule, "admin", stands_on=workloadrules.show_rule
    ),
    PageRoute("GET", "/administration/settings", settings.show_settings, "admin"),
    PageRoute("GET", "/administration/keys", keys.show_keys, "admin"),
    PageRoute("POST", "/administration/keys/rotate", keys.rotate_keys, "admin", stands_on=keys.show_keys),
    PageRoute("POST", "/administration/keys/replace", keys.replace_keys, "admin", stands_on=keys.show_keys),
    PageRoute("GET", "/administration/tokens", alltokens.show_tokens, "admin"),
    PageRoute(
        "POST",
        "/administration/tokens/revoke",
        alltokens.revoke_of_account,
        "admin",
        stands_on=alltokens.show_tokens,
    ),
    PageRoute(
        "POST",
        "/administration/tokens/revoke-everybody",
        alltokens.revoke_of_everybody,
        "admin",
        stands_on=alltokens.show_tokens,
    ),
    PageRoute(
        "POST",
        "/administration/tokens/{token_id}/revoke",
        alltokens.revoke_token,
        "admin",
        stands_on=alltokens.show_tokens,
    ),
    PageRoute("GET", "/administration/audit", show_audit),
    PageRoute("GET", "/access", show_access, "account"),
    PageRoute("GET", "/namespaces", namespaces.show_namespaces),
    PageRoute(
        "POST", "/namespaces", namespaces.create_namespace, "account", stands_on=namespaces.show_namespaces
    ),
    PageRoute("GET", f"/n/{NAME}", namespaces.show_namespace),
    PageRoute("GET", f"{_BELOW}/members", managing.show_members_below),
    PageRoute("POST", f"{_BELOW}/members", managing.give_role_below, stands_on=managing.show_members_below),
    PageRoute(
        "POST", f"{_BELOW}/members/take", managing.take_role_below, stands_on=managing.show_members_below
    ),
    PageRoute("GET", f"{_BELOW}/settings", namespaces.show_settings),
    PageRoute("POST", f"{_BELOW}/settings", namespaces.change_settings, stands_on=namespaces.show_settings),
    PageRoute("POST", f"{_BELOW}/rename", namespaces.rename_namespace, stands_on=namespaces.show_settings),
    PageRoute("POST", f"{_BELOW}/delete", namespaces.delete_namespace, stands_on=namespaces.show_settings),
    PageRoute("GET", f"{_BELOW}/robots", robots.show_robots),
    PageRoute("POST", f"{_BELOW}/robots", robots.create_robot, stands_on=robots.show_robots),
    PageRoute("GET", _ROBOT, robots.show_robot),
    PageRoute("POST", f"{_ROBOT}/switch", robots.switch_robot, stands_on=robots.show_robot),
    PageRoute("POST", f"{_ROBOT}/delete", robots.delete_robot, stands_on=robots.show_robot),
    PageRoute("POST", f"{_ROBOT}/tokens", robots.create_token, stands_on=robots.show_robot),
    PageRoute(
        "POST", f"{_ROBOT}/tokens/{{token_id}}/rotate", robots.rotate_token, stands_on=robots.show_robot
    ),
    PageRoute(
        "POST", f"{_ROBOT}/tokens/{{token_id}}/revoke", robots.revoke_token, stands_on=robots.show_robot
    ),
    PageRoute("GET", "/tokens/{token_id}", tokens.show_token, "account"),
    PageRoute(
        "POST", "/tokens/{token_id}/change", tokens.change_token, "account", stands_on=tokens.show_token
    ),
    PageRoute(
        "POST", "/tokens/{token_id}/rotate", tokens.rotate_token, "account", stands_on=tokens.show_token
    ),
    PageRoute(
        "POST", "/tokens/{token_id}/revoke", tokens.revoke_token, "account", stands_on=tokens.show_token
    ),
    PageRoute("GET", "/repositories/new", managing.show_new, "account"),
    PageRoute("POST", "/repositories", managing.create_repository, "account", stands_on=managing.show_new),
)
