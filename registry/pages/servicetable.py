"""Pages of what the registry does by itself, and for whoever runs it."""

from __future__ import annotations

from registry.pages import (
    advisories,
    automating,
    promotions,
    quotas,
    retention,
    scanners,
    secrets,
    storage,
    tagrules,
    trials,
    workers,
)
from registry.pages.serving import PageRoute

SERVICE: tuple[PageRoute, ...] = (
    PageRoute("GET", "/retention", retention.show_policy),
    PageRoute("POST", "/retention", retention.set_policy, stands_on=retention.show_policy, asked=("on",)),
    PageRoute(
        "POST", "/retention/clear", retention.clear_policy, stands_on=retention.show_policy, asked=("on",)
    ),
    PageRoute("GET", "/retention/preview", retention.preview, stands_on=retention.show_policy, asked=("on",)),
    PageRoute("GET", "/retention/runs", retention.show_runs),
    PageRoute("POST", "/retention/runs", retention.begin_run, stands_on=retention.preview, asked=("on",)),
    PageRoute("GET", "/retention/runs/{run_id}", retention.show_run),
    PageRoute("POST", "/retention/runs/{run_id}/undo", retention.undo_run, stands_on=retention.show_run),
    PageRoute("GET", "/tag-rules", tagrules.show_tag_rules, stands_on=tagrules.show_tag_rules, asked=("on",)),
    PageRoute(
        "POST", "/tag-rules", tagrules.create_tag_rule, stands_on=tagrules.show_tag_rules, asked=("on",)
    ),
    PageRoute(
        "POST",
        "/tag-rules/{rule_id}/delete",
        tagrules.delete_tag_rule,
        stands_on=tagrules.show_tag_rules,
        asked=("on",),
    ),
    PageRoute("GET", "/quota", quotas.show_quota),
    PageRoute("POST", "/quota", quotas.change_quota, "admin", stands_on=quotas.show_quota, asked=("on",)),
    PageRoute(
        "POST", "/quota/clear", quotas.clear_quota, "admin", stands_on=quotas.show_quota, asked=("on",)
    ),
    PageRoute("GET", "/quotas", quotas.list_quotas),
    PageRoute("GET", "/workers", workers.show_workers, "admin"),
    PageRoute("POST", "/workers", workers.create_worker, "admin", stands_on=workers.show_workers),
    PageRoute("GET", "/workers/{worker}", workers.show_worker, "admin"),
    PageRoute("POST", "/workers/{worker}/bind", workers.bind_worker, "admin", stands_on=workers.show_worker),
    PageRoute(
        "POST", "/workers/{worker}/drain", workers.drain_worker, "admin", stands_on=workers.show_worker
    ),
    PageRoute(
        "POST", "/workers/{worker}/resume", workers.resume_worker, "admin", stands_on=workers.show_worker
    ),
    PageRoute(
        "POST", "/workers/{worker}/revoke", workers.revoke_worker, "admin", stands_on=workers.show_worker
    ),
    PageRoute("GET", "/queue", workers.show_queue, "admin"),
    PageRoute("POST", "/trials/{trial}/cancel", workers.cancel_trial, stands_on=trials.show_trial),
    PageRoute("GET", "/advisories", advisories.show_advisories, "account"),
    PageRoute(
        "POST", "/advisories/matchings", advisories.match_again, "admin", stands_on=advisories.show_advisories
    ),
    PageRoute("GET", "/storage", storage.show_storage, "admin"),
    PageRoute("GET", "/storage/preview", storage.show_candidates, "admin"),
    PageRoute(
        "POST", "/storage/collections", storage.begin_collection, "admin", stands_on=storage.show_storage
    ),
    PageRoute("POST", "/storage/scrubs", storage.begin_scrub, "admin", stands_on=storage.show_storage),
    PageRoute("GET", "/schedules", automating.show_schedules),
    PageRoute(
        "POST", "/schedules", automating.create_schedule, stands_on=automating.show_schedules, asked=("on",)
    ),
    PageRoute(
        "POST",
        "/schedules/{schedule_id}/delete",
        automating.delete_schedule,
        stands_on=automating.show_schedules,
        asked=("on",),
    ),
    PageRoute("GET", "/trial-hooks", automating.show_hooks),
    PageRoute("POST", "/trial-hooks", automating.create_hook, stands_on=automating.show_hooks, asked=("on",)),
    PageRoute(
        "POST",
        "/trial-hooks/{hook}/rotate",
        automating.rotate_hook,
        stands_on=automating.show_hooks,
        asked=("on",),
    ),
    PageRoute(
        "POST",
        "/trial-hooks/{hook}/delete",
        automating.delete_hook,
        stands_on=automating.show_hooks,
        asked=("on",),
    ),
    PageRoute("GET", "/secrets", secrets.show_secrets),
    PageRoute("POST", "/secrets", secrets.create_secret, stands_on=secrets.show_secrets, asked=("on",)),
    PageRoute(
        "POST",
        "/secrets/{secret_id}/rotate",
        secrets.rotate_secret,
        "account",
        stands_on=secrets.show_secrets,
        asked=("on",),
    ),
    PageRoute(
        "POST",
        "/secrets/{secret_id}/delete",
        secrets.delete_secret,
        "account",
        stands_on=secrets.show_secrets,
        asked=("on",),
    ),
    PageRoute("GET", "/scanners", scanners.show_scanners),
    PageRoute("POST", "/scanners", scanners.set_scanner, stands_on=scanners.show_scanners, asked=("on",)),
    PageRoute(
        "POST", "/scanners/preview", scanners.preview_scanner, stands_on=scanners.show_scanners, asked=("on",)
    ),
    PageRoute(
        "POST", "/scanners/remove", scanners.remove_scanner, stands_on=scanners.show_scanners, asked=("on",)
    ),
    PageRoute("GET", "/upstreams", automating.show_upstreams),
    PageRoute(
        "POST", "/upstreams", automating.add_upstream, stands_on=automating.show_upstreams, asked=("on",)
    ),
    PageRoute(
        "POST",
        "/upstreams/{upstream}/try",
        automating.try_upstream,
        stands_on=automating.show_upstreams,
        asked=("on",),
    ),
    PageRoute(
        "POST",
        "/upstreams/{upstream}/credential",
        automating.replace_credential,
        stands_on=automating.show_upstreams,
        asked=("on",),
    ),
    PageRoute(
        "POST",
        "/upstreams/{upstream}/delete",
        automating.delete_upstream,
        stands_on=automating.show_upstreams,
        asked=("on",),
    ),
    PageRoute("GET", "/promotions", promotions.show_promotions),
    PageRoute(
        "POST",
        "/promotions",
        promotions.promote,
        stands_on=promotions.preview_promotion,
        asked=("on", "source", "tag", "reason"),
    ),
    PageRoute(
        "GET",
        "/promotions/preview",
        promotions.preview_promotion,
        stands_on=promotions.show_promotions,
        asked=("on",),
    ),
    PageRoute("POST", "/promotions/{promotion_id}/grant", promotions.grant_promotion),
    PageRoute("POST", "/promotions/{promotion_id}/end", promotions.end_promotion),
    PageRoute("POST", "/promotions/{promotion_id}/undo", promotions.undo_promotion),
    PageRoute(
        "POST", "/storage/scrubs/{scrub_id}/stop", storage.stop_scrub, "admin", stands_on=storage.show_storage
    ),
)
