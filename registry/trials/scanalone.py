"""The verdict on an image of which nothing was run, since its run spec asks for the scan alone. Pure."""

from __future__ import annotations

from registry.contract.judge import Judgement
from registry.contract.report import Report
from registry.trials.scanned import Scanned

NOT_RUN = "not run: the run spec asks for the scan alone"


def judge_scan(report: Report, scanned: Scanned | None, *, by_policy: bool = False) -> Judgement:
    """What a report without a run amounts to, where ``scanned`` is what became of the scan: as good as the
    scan is whole, or ``by_policy`` what the repository's findings policy makes of it afterwards. Unknown is
    never ``pass``."""
    if report.error is not None:
        return Judgement("error", f"{report.error.reason}: {report.error.message}")
    if by_policy and scanned is not None and scanned.state == "taken":
        return Judgement("pass", _counted(scanned))
    return judge_scanned(scanned)


def judge_scanned(scanned: Scanned | None) -> Judgement:
    """The same without a policy, of an image that could be looked at."""
    if scanned is None or scanned.state != "taken":
        return Judgement("error", f"{NOT_RUN}, and the worker sent none")
    counted = _counted(scanned)
    if scanned.truncated:
        return Judgement("error", f"{counted}; there was more than a scan may hold")
    if scanned.incomplete:
        return Judgement("error", f"{counted}; {scanned.incomplete} could not be looked at")
    return Judgement("pass", counted)


def _counted(scanned: Scanned) -> str:
    return f"{NOT_RUN}; scanned: {scanned.packages} packages, {scanned.found} found"
