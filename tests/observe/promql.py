"""Which metrics and labels a query uses. Enough of PromQL for that, not more: Prometheus itself says whether a query is one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

WORDS = {"and", "or", "unless", "offset", "bool", "by", "without", "on", "ignoring", "group_left", "group_right", "inf", "nan"}
BRACES = re.compile(r'\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')
MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
SELECTOR = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)?(\x00(\d+)\x00)?")


@dataclass
class Selector:
    """Some series: a metric, perhaps none, and what its labels are to be."""

    metric: str
    matchers: list[tuple[str, str, str]] = field(default_factory=list)
    text: str = ""


def labels_of(clause: str) -> set[str]:
    return {name.strip() for name in clause.split(",") if name.strip()}


def selectors(query: str) -> list[Selector]:
    """All that a query selects."""
    braces: list[str] = []

    def keep(found: re.Match[str]) -> str:
        braces.append(found[0])
        return f"\x00{len(braces) - 1}\x00"

    bare = BRACES.sub(keep, query)
    bare = re.sub(r"\[[^\]]*\]", " ", GROUPING.sub(" ", bare))
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    bare = re.sub(r'"[^"]*"', " ", bare)
    found = []
    for match in SELECTOR.finditer(bare):
        name, inside = match[1] or "", match[3]
        if not name and inside is None:
            continue
        rest = bare[match.end() :].lstrip()
        if inside is None and (name in WORDS or rest.startswith("(")):
            continue
        text = braces[int(inside)] if inside is not None else ""
        found.append(Selector(name, MATCHER.findall(text), name + text))
    return found


def groupings(query: str) -> list[tuple[set[str], str]]:
    """The labels of each `by (...)`, with what they group."""
    found = []
    for match in re.finditer(r"\bby\s*\(([^)]*)\)\s*\(", query):
        depth, end = 1, match.end()
        while depth and end < len(query):
            depth += {"(": 1, ")": -1}.get(query[end], 0)
            end += 1
        found.append((labels_of(match[1]), query[match.end() : end - 1]))
    return found


def results(query: str) -> set[str] | None:
    """The labels that what a query answers has; nothing is said of a query that groups nothing."""
    first = groupings(query)
    return first[0][0] if first else None
