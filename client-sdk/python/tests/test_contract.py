"""The scenarios that every client plays, for threads and for asyncio."""

from __future__ import annotations

from pathlib import Path

import pytest

import contract
from support import BIN

FILES = sorted(contract.SCENARIOS.glob("*.json"))


@pytest.fixture(autouse=True)
def _stage() -> None:
    if not (BIN / "contract-stage").exists():
        pytest.skip("contract-stage is not built")


def test_there_are_scenarios() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_with_threads(file: Path) -> None:
    contract.play(file, is_async=False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_with_asyncio(file: Path) -> None:
    contract.play(file, is_async=True)


def test_a_runner_knows_what_it_does_not_know() -> None:
    """A checker is itself checked."""
    with pytest.raises(AssertionError, match="not known"):
        contract.check({}, {"surprise": 1})
    with pytest.raises(AssertionError, match="granted"):
        contract.check({"granted": False}, {"granted": True})
    with pytest.raises(AssertionError):
        contract.check({"events": 4}, {"events": {"min": 1, "max": 3}})
