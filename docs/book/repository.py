"""Pages of the book that lie elsewhere in the repository, and links between files of the repository.

Pages are written to be read where they lie, so links are paths of the repository. Here they become links of the book:
to its pages, or to copies of files that are no pages. A link to a file that is not there is warned of, which fails the
build; anchors are looked at by MkDocs itself, but for those that the repository's first page links to.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

log = logging.getLogger("mkdocs.hooks.repository")

ROOT = Path(__file__).resolve().parents[2]

# Files of the repository that are pages of the book, by their place in it.
ELSEWHERE = {
    "GUARANTEES.md": "guarantees.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy/deploy.md",
    "deploy/helm/keybroker/README.md": "deploy/helm.md",
    "deploy/compose/README.md": "deploy/compose.md",
    "client-sdk/python/README.md": "sdk/python.md",
    "client-sdk/go/README.md": "sdk/go.md",
    "client-sdk/js/README.md": "sdk/js.md",
    "client-sdk/rust/README.md": "sdk/rust.md",
    "client-sdk/contract/README.md": "sdk/contract.md",
}
# The first page of the repository is no page of the book, but its links are looked at too.
FIRST = "README.md"

FENCE = re.compile(r"^\s*(```|~~~)")
# Where a link or a picture leads; code between backticks is passed over.
TARGET = re.compile(r"(`+)(?:(?!\1).)*?\1(?!\])|\]\(\s*<?([^)\s>]+)>?\s*\)")
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def rewritten(text: str, change) -> str:
    """A page whose links are changed, but for what stands in code."""
    lines, fence = [], None
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if mark and fence in (None, mark[1]):
            fence = None if fence else mark[1]
        elif fence is None:
            line = TARGET.sub(lambda found: link(found, change), line)
        lines.append(line)
    return "\n".join(lines)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    slug = slugify(case="lower")
    return {slug(line.lstrip("#").replace("`", ""), "-") for line in text.split("\n") if line.startswith("#")}


def link(found: re.Match[str], change) -> str:
    return found[0] if found[2] is None else f"]({change(found[2])})"


class Book:
    """What is in the book, and what of the repository it needs beside its pages."""

    def __init__(self) -> None:
        # The place in the repository of each page, and the page of each place.
        self.places: dict[str, str] = {}
        self.pages: dict[str, str] = {}
        self.copies: set[str] = set()
        self.external: dict[str, str] = {}

    def add(self, page: str, place: str) -> None:
        self.places[page] = place
        self.pages[place] = page

    def lead(self, place: str, target: str) -> str:
        """Where a link in a file of the repository leads within the book."""
        if SCHEME.match(target):
            if target.startswith(("http://", "https://")):
                self.external.setdefault(target.split("#")[0], place)
            return target
        path, _, anchor = target.partition("#")
        if not path:
            return target
        to = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        on_disk = ROOT / to
        if on_disk.is_dir() and (on_disk / "README.md").is_file():
            to = f"{to}/README.md"
        if to.startswith("..") or not (ROOT / to).exists():
            log.warning("%s has a link to %s, which is not there", place, target)
            return target
        if place == FIRST and anchor and anchor not in anchors((ROOT / to).read_text()):
            log.warning("%s has a link to %s, which has no such anchor", place, target)
        if to in self.pages:
            leads = self.pages[to]
        elif to == FIRST:
            leads = "index.md"
        elif to.startswith("docs/"):
            leads = to.removeprefix("docs/")
        elif (ROOT / to).is_file():
            self.copies.add(to)
            leads = f"files/{to}"
        else:
            log.warning("%s has a link to the folder %s: name a file in it", place, target)
            return target
        here = self.pages.get(place, "index.md")
        relative = posixpath.relpath(leads, posixpath.dirname(here) or ".")
        return f"{relative}#{anchor}" if anchor else relative


BOOK = Book()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for file in files.documentation_pages():
        BOOK.add(file.src_uri, f"docs/{file.src_uri}")
    for place, page in ELSEWHERE.items():
        BOOK.add(page, place)
        files.append(File.generated(config, page, content=(ROOT / place).read_text()))
    # All links are looked at once before, since what they lead to has to be in the book.
    for place in [*BOOK.pages, FIRST]:
        rewritten((ROOT / place).read_text(), lambda target, place=place: BOOK.lead(place, target))
    for place in sorted(BOOK.copies):
        files.append(File.generated(config, f"files/{place}", content=(ROOT / place).read_bytes()))
    # For whoever wants to know whether they still lead anywhere: no build asks the network.
    listed = os.environ.get("EXTERNAL_LINKS")
    if listed:
        Path(listed).write_text("".join(f"{url} {place}\n" for url, place in sorted(BOOK.external.items())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    place = BOOK.places[page.file.src_uri]
    return rewritten(markdown, lambda target: BOOK.lead(place, target))
