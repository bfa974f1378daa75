"""All pages."""

from __future__ import annotations

from aiohttp import web

from registry.pages import (
    deletedtags,
    managing,
    serving,
    tagging,
    waivers,
    webhooks,
)
from registry.pages.account import (
    change_password,
    create_token,
    end_everything,
    revoke_refresh_token,
    revoke_session,
    revoke_token,
    rotate_token,
    show_password,
    show_rights,
    show_sessions,
    show_tokens,
)
from registry.pages.assets import show_asset, show_robots
from registry.pages.badges import show_badge
from registry.pages.comparing import show_compared
from registry.pages.deciding import DECIDING
from registry.pages.findings import show_findings
from registry.pages.history import confirm_rollback, roll_back, show_tag_history
from registry.pages.home import show_home
from registry.pages.image import (
    block_image,
    show_image,
    show_image_trials,
    unblock_image,
)
from registry.pages.packages import show_packages
from registry.pages.peopletable import PEOPLE
from registry.pages.pulls import show_pulls
from registry.pages.readme import show_readme, write_readme
from registry.pages.referrers import show_referrers
from registry.pages.repository import show_repository
from registry.pages.search import show_search
from registry.pages.servicetable import SERVICE
from registry.pages.serving import NAME, PageRoute
from registry.pages.signing import show_sign_in, sign_in, sign_out
from registry.pages.trials import follow_trial, show_trial, show_trial_log, show_trials, try_again

_OF = f"/r/{NAME}/-"
PAGES: tuple[PageRoute, ...] = (
    PageRoute("GET", "/", show_home),
    PageRoute("GET", "/sign-in", show_sign_in),
    PageRoute("POST", "/sign-in", sign_in, asks_who=False),
    PageRoute("POST", "/sign-out", sign_out, asks_who=False),
    PageRoute("GET", "/search", show_search),
    PageRoute("GET", "/account", show_tokens, "account"),
    PageRoute("POST", "/account/tokens", create_token, "account", stands_on=show_tokens),
    PageRoute("POST", "/account/tokens/{token_id}/rotate", rotate_token, "account", stands_on=show_tokens),
    PageRoute("POST", "/account/tokens/{token_id}/revoke", revoke_token, "account", stands_on=show_tokens),
    PageRoute("GET", "/account/rights", show_rights, "account"),
    PageRoute("GET", "/account/sessions", show_sessions, "user"),
    PageRoute(
        "POST", "/account/sessions/{session_id}/revoke", revoke_session, "user", stands_on=show_sessions
    ),
    PageRoute(
        "POST",
        "/account/refresh-tokens/{token_id}/revoke",
        revoke_refresh_token,
        "user",
        stands_on=show_sessions,
    ),
    PageRoute("POST", "/account/end", end_everything, "user", stands_on=show_sessions),
    PageRoute("GET", "/account/password", show_password, "user"),
    PageRoute("POST", "/account/password", change_password, "user", stands_on=show_password),
    PageRoute("GET", "/robots.txt", show_robots, asks_who=False),
    PageRoute("GET", "/assets/{version}/{file}", show_asset, asks_who=False),
    PageRoute("GET", f"/r/{NAME}", show_repository),
    PageRoute("GET", f"{_OF}/readme", show_readme),
    PageRoute("POST", f"{_OF}/readme", write_readme, stands_on=show_readme),
    PageRoute("GET", f"{_OF}/compare", show_compared),
    PageRoute("GET", f"{_OF}/tags/{{tag}}", show_image),
    PageRoute("GET", f"{_OF}/images/{{digest}}", show_image),
    PageRoute("POST", f"{_OF}/images/{{digest}}/block", block_image, stands_on=show_image),
    PageRoute("POST", f"{_OF}/images/{{digest}}/unblock", unblock_image, stands_on=show_image),
    PageRoute("POST", f"{_OF}/images/{{digest}}/try", tagging.try_image, stands_on=show_image),
    PageRoute("POST", f"{_OF}/tags/{{tag}}/copy", tagging.copy_tag, stands_on=show_image),
    PageRoute("POST", f"{_OF}/tags/{{tag}}/move", tagging.move_tag, stands_on=show_image),
    PageRoute("GET", f"{_OF}/images/{{digest}}/findings", show_findings),
    PageRoute("GET", f"{_OF}/images/{{digest}}/packages", show_packages),
    PageRoute("GET", f"{_OF}/images/{{digest}}/pulls", show_pulls),
    PageRoute("GET", f"{_OF}/images/{{digest}}/referrers", show_referrers),
    PageRoute("GET", f"{_OF}/images/{{digest}}/trials", show_image_trials),
    PageRoute("GET", f"{_OF}/settings", managing.show_settings),
    PageRoute("POST", f"{_OF}/settings", managing.change_settings, stands_on=managing.show_settings),
    PageRoute("POST", f"{_OF}/settings/trials", managing.change_trials, stands_on=managing.show_settings),
    PageRoute(
        "POST", f"{_OF}/settings/keeping", managing.change_keeping, "admin", stands_on=managing.show_settings
    ),
    PageRoute("POST", f"{_OF}/rename", managing.rename_repository, stands_on=managing.show_settings),
    PageRoute("POST", f"{_OF}/delete", managing.delete_repository, stands_on=managing.show_settings),
    PageRoute("GET", f"{_OF}/members", managing.show_members),
    PageRoute("POST", f"{_OF}/members", managing.give_role, stands_on=managing.show_members),
    PageRoute("POST", f"{_OF}/members/take", managing.take_role, stands_on=managing.show_members),
    PageRoute("GET", f"{_OF}/waivers", waivers.show_waivers),
    PageRoute("POST", f"{_OF}/waivers", waivers.request_waiver, stands_on=waivers.show_waivers),
    PageRoute("POST", "/waivers/{waiver_id}/grant", waivers.grant_waiver),
    PageRoute("POST", "/waivers/{waiver_id}/revoke", waivers.revoke_waiver),
    *DECIDING,
    PageRoute("GET", f"{_OF}/webhooks", webhooks.show_webhooks),
    PageRoute("POST", f"{_OF}/webhooks", webhooks.create_webhook, stands_on=webhooks.show_webhooks),
    PageRoute("GET", "/webhooks", webhooks.show_webhooks_on, "account"),
    PageRoute(
        "POST",
        "/webhooks",
        webhooks.create_webhook_on,
        "account",
        stands_on=webhooks.show_webhooks_on,
        asked=("on",),
    ),
    PageRoute("GET", "/webhooks/{webhook_id}", webhooks.show_webhook, "account"),
    PageRoute(
        "POST", "/webhooks/{webhook_id}/test", webhooks.send_test, "account", stands_on=webhooks.show_webhook
    ),
    PageRoute(
        "POST",
        "/webhooks/{webhook_id}/redeliver",
        webhooks.redeliver_since,
        "account",
        stands_on=webhooks.show_webhook,
    ),
    PageRoute(
        "POST",
        "/webhooks/{webhook_id}/change",
        webhooks.change_webhook,
        "account",
        stands_on=webhooks.show_webhook,
    ),
    PageRoute(
        "POST",
        "/webhooks/{webhook_id}/rotate",
        webhooks.rotate_webhook,
        "account",
        stands_on=webhooks.show_webhook,
    ),
    PageRoute(
        "POST",
        "/webhooks/{webhook_id}/switch",
        webhooks.switch_webhook,
        "account",
        stands_on=webhooks.show_webhook,
    ),
    PageRoute(
        "POST",
        "/webhooks/{webhook_id}/delete",
        webhooks.delete_webhook,
        "account",
        stands_on=webhooks.show_webhook,
    ),
    PageRoute(
        "POST",
        "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
        webhooks.redeliver,
        "account",
        stands_on=webhooks.show_webhook,
    ),
    PageRoute("GET", f"{_OF}/tags/{{tag}}/delete", deletedtags.confirm_deletion),
    PageRoute(
        "POST", f"{_OF}/tags/{{tag}}/delete", deletedtags.delete_tag, stands_on=deletedtags.confirm_deletion
    ),
    PageRoute("GET", f"{_OF}/deleted", deletedtags.show_deleted_tags),
    PageRoute(
        "POST", f"{_OF}/deleted/restore", deletedtags.restore_tag, stands_on=deletedtags.show_deleted_tags
    ),
    PageRoute("GET", f"{_OF}/history/{{tag}}", show_tag_history),
    PageRoute("GET", f"{_OF}/history/{{tag}}/rollback", confirm_rollback),
    PageRoute(
        "POST", f"{_OF}/history/{{tag}}/rollback", roll_back, stands_on=confirm_rollback, asked=("to",)
    ),
    PageRoute("GET", "/trials", show_trials),
    PageRoute("GET", "/trials/{trial}", show_trial),
    PageRoute("GET", "/trials/{trial}/log", show_trial_log),
    PageRoute("GET", "/trials/{trial}/live", follow_trial),
    PageRoute("POST", "/trials/{trial}/again", try_again, stands_on=show_trial),
    *PEOPLE,
    *SERVICE,
    PageRoute("GET", f"{_OF}/badges/{{tag}}.svg", show_badge),
)


def add_routes(app: web.Application) -> None:
    """Serve them."""
    serving.add_routes(app, PAGES)
