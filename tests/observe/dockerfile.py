"""deploy/Dockerfile: its stages, and what an image of it is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "deploy/Dockerfile"


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, in their order, with the first line `FROM`."""
    found: dict[str, list[str]] = {}
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    name = ""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("FROM "):
            name = line.split(" AS ")[1]
            found[name] = []
        found.setdefault(name, []).append(line)
    return found


STAGES = stages()


def of(name: str) -> list[str]:
    """The instructions of an image, with those of the stages below it."""
    below = STAGES[name][0].split()[1]
    return (of(below) if below in STAGES else []) + STAGES[name]


def environment() -> dict[str, str]:
    """The variables that a container of the last stage has where nobody says anything."""
    lines = [line.removeprefix("ENV ") for line in of(list(STAGES)[-1]) if line.startswith("ENV ")]
    return dict(word.split("=", 1) for line in lines for word in shlex.split(line))
