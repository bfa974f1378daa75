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
    PageRoute("POST", "/administration/users", users.create_user, "admin"),
    PageRoute("POST", "/administration/htpasswd-imports", users.import_users, "admin"),
    PageRoute("GET", _USER, users.show_user, "user"),
    PageRoute("POST", f"{_USER}/change", users.change_user, "admin"),
    PageRoute("POST", f"{_USER}/switch", users.switch_user, "admin"),
    PageRoute("POST", f"{_USER}/password", users.reset_password, "admin"),
    PageRoute("POST", f"{_USER}/sessions/end", users.end_sessions, "admin"),
    PageRoute("POST", f"{_USER}/delete", users.delete_user, "admin"),
    PageRoute("GET", "/administration/groups", groups.show_groups, "user"),
    PageRoute("POST", "/administration/groups", groups.create_group, "admin"),
    PageRoute("GET", _GROUP, groups.show_group, "user"),
    PageRoute("POST", f"{_GROUP}/members", groups.add_member, "admin"),
    PageRoute("POST", f"{_GROUP}/members/remove", groups.remove_member, "admin"),
    PageRoute("POST", f"{_GROUP}/delete", groups.delete_group, "admin"),
    PageRoute("GET", "/administration/issuers", issuers.show_issuers, "admin"),
    PageRoute("POST", "/administration/issuers", issuers.create_issuer, "admin"),
    PageRoute("GET", _ISSUER, issuers.show_issuer, "admin"),
    PageRoute("POST", f"{_ISSUER}/check", issuers.check_issuer, "admin"),
    PageRoute("POST", f"{_ISSUER}/change", issuers.change_issuer, "admin"),
    PageRoute("POST", f"{_ISSUER}/move", issuers.move_issuer, "admin"),
    PageRoute("POST", f"{_ISSUER}/delete", issuers.delete_issuer, "admin"),
    PageRoute("POST", f"{_ISSUER}/mapping", issuers.map_value, "admin"),
    PageRoute("POST", f"{_ISSUER}/mapping/remove", issuers.unmap_value, "admin"),
    PageRoute("POST", f"{_ISSUER}/people", issuers.link_person, "admin"),
    PageRoute("POST", f"{_ISSUER}/people/remove", issuers.unlink_person, "admin"),
    PageRoute("GET", "/administration/workload-rules", workloadrules.show_rules, "admin"),
    PageRoute("POST", "/administration/workload-rules", workloadrules.create_rule, "admin"),
    PageRoute("POST", "/administration/workload-explanations", workloadrules.explain_token, "admin"),
    PageRoute("GET", _RULE, workloadrules.show_rule, "admin"),
    PageRoute("POST", f"{_RULE}/change", workloadrules.change_rule, "admin"),
    PageRoute("POST", f"{_RULE}/delete", workloadrules.delete_rule, "admin"),
    PageRoute("GET", "/administration/settings", settings.show_settings, "admin"),
    PageRoute("GET", "/administration/keys", keys.show_keys, "admin"),
    PageRoute("POST", "/administration/keys/rotate", keys.rotate_keys, "admin"),
    PageRoute("POST", "/administration/keys/replace", keys.replace_keys, "admin"),
    PageRoute("GET", "/administration/tokens", alltokens.show_tokens, "admin"),
    PageRoute("POST", "/administration/tokens/revoke", alltokens.revoke_of_account, "admin"),
    PageRoute("POST", "/administration/tokens/revoke-everybody", alltokens.revoke_of_everybody, "admin"),
    PageRoute("POST", "/administration/tokens/{token_id}/revoke", alltokens.revoke_token, "admin"),
    PageRoute("GET", "/administration/audit", show_audit),
    PageRoute("GET", "/access", show_access, "account"),
    PageRoute("GET", "/namespaces", namespaces.show_namespaces),
    PageRoute("POST", "/namespaces", namespaces.create_namespace, "account"),
    PageRoute("GET", f"/n/{NAME}", namespaces.show_namespace),
    PageRoute("GET", f"{_BELOW}/members", managing.show_members_below),
    PageRoute("POST", f"{_BELOW}/members", managing.give_role_below),
    PageRoute("POST", f"{_BELOW}/members/take", managing.take_role_below),
    PageRoute("GET", f"{_BELOW}/settings", namespaces.show_settings),
    PageRoute("POST", f"{_BELOW}/settings", namespaces.change_settings),
    PageRoute("POST", f"{_BELOW}/rename", namespaces.rename_namespace),
    PageRoute("POST", f"{_BELOW}/delete", namespaces.delete_namespace),
    PageRoute("GET", f"{_BELOW}/robots", robots.show_robots),
    PageRoute("POST", f"{_BELOW}/robots", robots.create_robot),
    PageRoute("GET", _ROBOT, robots.show_robot),
    PageRoute("POST", f"{_ROBOT}/switch", robots.switch_robot),
    PageRoute("POST", f"{_ROBOT}/delete", robots.delete_robot),
    PageRoute("POST", f"{_ROBOT}/tokens", robots.create_token),
    PageRoute("POST", f"{_ROBOT}/tokens/{{token_id}}/rotate", robots.rotate_token),
    PageRoute("POST", f"{_ROBOT}/tokens/{{token_id}}/revoke", robots.revoke_token),
    PageRoute("GET", "/tokens/{token_id}", tokens.show_token, "account"),
    PageRoute("POST", "/tokens/{token_id}/change", tokens.change_token, "account"),
    PageRoute("POST", "/tokens/{token_id}/rotate", tokens.rotate_token, "account"),
    PageRoute("POST", "/tokens/{token_id}/revoke", tokens.revoke_token, "account"),
    PageRoute("GET", "/repositories/new", managing.show_new, "account"),
    PageRoute("POST", "/repositories", managing.create_repository, "account"),
)
