# tests/plan/conftest.py: the command line as a function.
from __future__ import annotations

import dataclasses
import pathlib

import pytest

from rcore.cli import main


@dataclasses.dataclass
class Run:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]):
    """Runs ``rcore`` with these arguments."""

    def run(*arguments: str | pathlib.Path) -> Run:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run


@pytest.fixture
def fixtures() -> pathlib.Path:
    return pathlib.Path(__file__).parent / "fixtures"
