# rcore/cli/check.py: `rcore check`: every rule on a file of Megatron's settings, and the table of
# failures.
"""Findings with symptom, cause and fix."""
from __future__ import annotations

import argparse
import collections
import json
import re
from typing import Any

from rcore.cli.table import table
from rcore.plan.findings import Finding, check, verdict
from rcore.plan.megatron import read_settings
from rcore.plan.models import read_file
from rcore.plan.rules import FAILURES

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Adds the arguments of ``rcore check``."""
    p = commands.add_parser(
        "check",
        help="what is wrong or wasteful in Megatron's settings; without FILE the failure table",
    )
    p.add_argument(
        "file",
        nargs="*",
        metavar="FILE",
        help="YAML, a shell script, an argument list, or flags in quotes",
    )
    p.add_argument("--hardware", default="h100", metavar="NAME")
    p.add_argument("--json", action="store_true", help="findings as JSON")
    p.add_argument(
        "--summary", action="store_true", help="how many files are fine, wasteful or wrong, and why"
    )
    p.set_defaults(run=run)


def _read(name: str) -> tuple[str, str]:
    if name.lstrip().startswith("--"):
        return name, "arguments"
    return read_file(name), name


def _show(finding: Finding) -> str:
    lines = [f"  {finding.level}: {finding.field}" if finding.field else f"  {finding.level}"]
    for what in ("symptom", "cause", "fix"):
        if getattr(finding, what):
            lines.append(f"    {what:8}{getattr(finding, what)}")
    if finding.rule:
        lines[0] += f" [{finding.rule}]"
    return "\n".join(lines)


def _summary(results: list[dict[str, Any]]) -> str:
    """Files by verdict, then the findings behind it by how many files have them."""
    verdicts = collections.Counter(r["verdict"] for r in results)
    causes: collections.Counter[tuple[str, str, str]] = collections.Counter()
    for result in results:
        causes.update(
            {
                (
                    f["level"],
                    re.sub(r"/\d+$", "", f["field"]),
                    re.sub(r"\d+(\.\d+)?", "N", f["symptom"]),
                )
                for f in result["findings"]
                if f["level"] != "note"
            }
        )
    counts = ", ".join(f"{verdicts[v]} {v}" for v in ("fine", "wasteful", "wrong"))
    rows = [[str(n), level, field, symptom] for (level, field, symptom), n in causes.most_common()]
    return f"{len(results)} files: {counts}" + (
        "\n\n" + table(["files", "verdict", "setting", "symptom"], rows) if rows else ""
    )


def run(options: argparse.Namespace) -> int:
    """Prints the findings; 1 where settings are wrong."""
    if not options.file:
        print(table(["symptom", "cause", "what helps"], FAILURES))
        return 0
    results = []
    for name in options.file:
        text, source = _read(name)
        found = check(read_settings(text, source), options.hardware)
        results.append(
            {"file": source, "verdict": verdict(found), "findings": [vars(f) for f in found]}
        )
        if not options.json and not options.summary:
            print(f"{source}: {verdict(found)}")
            for finding in found:
                print(_show(finding))
    if options.summary and not options.json:
        print(_summary(results))
    if options.json:
        print(json.dumps(results, indent=1))
    return 1 if any(r["verdict"] == "wrong" for r in results) else 0
