"""Pages of what the registry does by itself, and for whoever runs it."""

from __future__ import annotations

from registry.pages import advisories, quotas, retention, storage, tagrules, workers
from registry.pages.serving import PageRoute

SERVICE: tuple[PageRoute, ...] = (
    PageRoute("GET", "/retention", retention.show_policy),
    PageRoute("POST", "/retention", retention.set_policy),
    PageRoute("POST", "/retention/clear", retention.clear_policy),
    PageRoute("GET", "/retention/preview", retention.preview),
    PageRoute("GET", "/retention/runs", retention.show_runs),
    PageRoute("POST", "/retention/runs", retention.begin_run),
    PageRoute("GET", "/retention/runs/{run_id}", retention.show_run),
    PageRoute("POST", "/retention/runs/{run_id}/undo", retention.undo_run),
    PageRoute("GET", "/tag-rules", tagrules.show_tag_rules),
    PageRoute("POST", "/tag-rules", tagrules.create_tag_rule),
    PageRoute("POST", "/tag-rules/{rule_id}/delete", tagrules.delete_tag_rule),
    PageRoute("GET", "/quota", quotas.show_quota),
    PageRoute("POST", "/quota", quotas.change_quota, "admin"),
    PageRoute("POST", "/quota/clear", quotas.clear_quota, "admin"),
    PageRoute("GET", "/quotas", quotas.list_quotas),
    PageRoute("GET", "/workers", workers.show_workers, "admin"),
    PageRoute("GET", "/workers/{worker}", workers.show_worker, "admin"),
    PageRoute("POST", "/workers/{worker}/bind", workers.bind_worker, "admin"),
    PageRoute("POST", "/workers/{worker}/drain", workers.drain_worker, "admin"),
    PageRoute("POST", "/workers/{worker}/resume", workers.resume_worker, "admin"),
    PageRoute("POST", "/workers/{worker}/revoke", workers.revoke_worker, "admin"),
    PageRoute("GET", "/queue", workers.show_queue, "admin"),
    PageRoute("POST", "/trials/{trial}/cancel", workers.cancel_trial),
    PageRoute("GET", "/advisories", advisories.show_advisories, "account"),
    PageRoute("POST", "/advisories/matchings", advisories.match_again, "admin"),
    PageRoute("GET", "/storage", storage.show_storage, "admin"),
    PageRoute("GET", "/storage/preview", storage.show_candidates, "admin"),
    PageRoute("POST", "/storage/collections", storage.begin_collection, "admin"),
    PageRoute("POST", "/storage/scrubs", storage.begin_scrub, "admin"),
    PageRoute("POST", "/storage/scrubs/{scrub_id}/stop", storage.stop_scrub, "admin"),
)
