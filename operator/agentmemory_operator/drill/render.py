"""A report as Markdown and as JSON."""

import json
from dataclasses import asdict

from agentmemory_operator.drill.evaluate import Report


def as_json(report: Report) -> str:
    """All of it, and ``passed``."""
    return json.dumps(asdict(report) | {"passed": report.passed}, indent=2, ensure_ascii=False)


def as_markdown(report: Report) -> str:
    """A page for people."""
    fault = report.fault
    where = f" of {fault.region}" if fault.region else ""
    parts = [
        f"# Drill: {fault.kind}{where}: {'passed' if report.passed else 'FAILED'}",
        f"The fault lasted {fault.healed_s - fault.began_s:.1f} s, with regions {', '.join(report.regions)}."
        + (f" {fault.detail}" if fault.detail else ""),
        _table(["Demand", "Found", "Demanded", ""], [
            [check.name, check.found, check.demanded, "ok" if check.passed else "**failed**"] for check in report.checks
        ]),
        _table(["Writer", "Session", "Turns acknowledged", "Recovery (s)", "Longest gap (s)"], [
            [line.writer, line.session, line.acknowledged,
             "never" if line.recovery_s is None else f"{line.recovery_s:.1f}", f"{line.longest_gap_s:.1f}"]
            for line in report.lines
        ]),
        _table(["Measured", ""], [
            ["turns acknowledged", report.acknowledged],
            ["attempts refused", _counts(report.refused)],
            ["attempts without an answer", _counts(report.lost)],
            ["turns answered with their stored reply", report.replayed],
            ["acknowledged before the fault, not yet known elsewhere at failover",
             f"{len(report.unseen)} (oldest {report.unseen_window_s:.1f} s)"],
            ["saved though their answer was lost", len(report.unacknowledged)],
            ["values that conflicts keep", report.conflicting],
        ]),
    ]  # fmt: skip
    wrong = [
        f"- {what} in {region}: {', '.join(notes)}"
        for what, found in (("missing", report.missing), ("twice", report.twice))
        for region, notes in found.items()
        if notes
    ]
    wrong += [f"- clashing value lost: {mark}" for mark in report.lost_marks]
    return "\n\n".join(parts + (["\n".join(wrong)] if wrong else [])) + "\n"


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(found.items())) or "0"


def _table(head: list[str], rows: list[list[object]]) -> str:
    lines = [map(str, head), ["---"] * len(head), *(map(str, row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
