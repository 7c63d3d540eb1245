"""What tests share: one stack at work."""

from collections.abc import Iterator

import pytest

from stack import Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Everything of deploy/compose, with the profile demo, at work."""
    stack = Stack()
    try:
        stack.start()
        yield stack
    finally:
        stack.end()
