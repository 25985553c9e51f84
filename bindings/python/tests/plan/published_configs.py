# tests/plan/published_configs.py: `rcore check` over every configuration of a Megatron-LM checkout.
"""``python tests/plan/published_configs.py PATH``: parses all and prints how many are fine,
wasteful or wrong.

Not part of the test command: the files are not ours to carry.
"""
from __future__ import annotations

import collections
import pathlib
import sys

from rcore.errors import Error
from rcore.plan.findings import check, verdict
from rcore.plan.megatron import read_settings


def main(root: pathlib.Path) -> int:
    counts: collections.Counter[str] = collections.Counter()
    for path in sorted(root.glob("tests/functional_tests/**/model_config.yaml")):
        try:
            found = check(read_settings(path.read_text(), str(path)))
        except Error as error:
            counts["unreadable"] += 1
            print(f"unreadable: {error}")
            continue
        counts[verdict(found)] += 1
        for finding in found:
            if finding.level != "note":
                print(
                    f"{finding.level}: {path.parent.name}: {finding.field}: {finding.cause} -> "
                    f"{finding.fix}"
                )
    print(dict(counts))
    return int(counts["unreadable"] > 0 or not counts)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
