"""What tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import support
from stub_broker import StubBroker


@pytest.fixture(scope="session")
def shared() -> Iterator[support.Fleet]:
    """A broker with plenty of quota and a fake Gemini, for tests that only pass by."""
    with support.fleet() as fleet:
        yield fleet


@pytest.fixture
def stub() -> Iterator[StubBroker]:
    """A broker made of a few lines."""
    with StubBroker() as broker:
        yield broker
