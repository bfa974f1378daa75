"""Pages of what decides who may pull from a repository."""

from __future__ import annotations

from registry.pages import blocks, gates, policies, runspecs, signatures
from registry.pages.serving import NAME, PageRoute

_OF = f"/r/{NAME}/-"
DECIDING: tuple[PageRoute, ...] = (
    PageRoute("GET", f"{_OF}/run-spec", runspecs.show_run_spec),
    PageRoute("POST", f"{_OF}/run-spec", runspecs.save_run_spec, stands_on=runspecs.show_run_spec),
    PageRoute("POST", f"{_OF}/run-spec/check", runspecs.check_run_spec, stands_on=runspecs.show_run_spec),
    PageRoute("POST", f"{_OF}/run-spec/try", runspecs.try_run_spec, stands_on=runspecs.show_run_spec),
    PageRoute("POST", f"{_OF}/run-spec/clear", runspecs.clear_run_spec, stands_on=runspecs.show_run_spec),
    PageRoute("GET", f"{_OF}/gate", gates.show_gate),
    PageRoute(
        "POST", f"{_OF}/gate", gates.change_gate, stands_on=gates.show_gate, asked=("gate", "visibility")
    ),
    PageRoute("POST", f"{_OF}/gate/pause", gates.pause_gate, stands_on=gates.show_gate),
    PageRoute("POST", f"{_OF}/gate/resume", gates.resume_gate, stands_on=gates.show_gate),
    PageRoute("GET", f"{_OF}/findings-policy", policies.show_policy),
    PageRoute("POST", f"{_OF}/findings-policy", policies.save_policy, stands_on=policies.show_policy),
    PageRoute(
        "POST", f"{_OF}/findings-policy/preview", policies.preview_policy, stands_on=policies.show_policy
    ),
    PageRoute("POST", f"{_OF}/findings-policy/clear", policies.clear_policy, stands_on=policies.show_policy),
    PageRoute("GET", f"{_OF}/signatures", signatures.show_signatures),
    PageRoute(
        "POST", f"{_OF}/signatures", signatures.require_signature, stands_on=signatures.show_signatures
    ),
    PageRoute(
        "POST", f"{_OF}/signatures/remove", signatures.remove_rule, stands_on=signatures.show_signatures
    ),
    PageRoute("GET", f"{_OF}/blocks", blocks.show_blocks),
    PageRoute("POST", f"{_OF}/blocks", blocks.create_block, stands_on=blocks.show_blocks),
    PageRoute("POST", f"{_OF}/blocks/preview", blocks.preview_block, stands_on=blocks.show_blocks),
    PageRoute("POST", f"{_OF}/blocks/lift", blocks.lift_block, stands_on=blocks.show_blocks),
)
