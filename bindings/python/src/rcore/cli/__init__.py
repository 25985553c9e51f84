# rcore/cli/__init__.py: the command `rcore`: plan, explain, check.
"""For people who never link the library."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rcore.cli import check, explain, plan
from rcore.cli.options import in_options
from rcore.errors import Error

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """Bad input is one line and exit code 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"rcore: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point. Returns the exit code: 0, 1 where `check` finds settings that are wrong,
    2 for bad input."""
    parser = _Parser(
        prog="rcore",
        description="Plans what to keep, recompute and offload in transformer training.",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    for command in (plan, explain, check):
        command.add_parser(commands)
    options = argparse.Namespace()
    try:
        parser.parse_args(arguments, options)
        return options.run(options)
    except SystemExit as stop:
        return int(stop.code or 0)
    except Error as error:
        print(f"rcore: error: {in_options(error, options)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
