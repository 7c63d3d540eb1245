"""Which project made a file, a cache or a batch: a request that names one can be served by that project only."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Affinity"]

# Collections of the API whose members belong to the project that made them.
_NAME = re.compile(
    r"(?<![\w-])((?:files|cachedContents|batches|tunedModels|fileSearchStores|corpora|generatedFiles|interactions"
    r"|operations)/[\w-]+)"
)
LONGEST_NAME = 512
# Interactions name each other by bare ids.
_ID_FIELDS = ("previous_interaction_id", "previousInteractionId")


class Affinity:
    """Remembers up to `size` names of resources, and forgets the least used."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._projects: OrderedDict[str, str] = OrderedDict()

    def remember(self, name: str, project: str) -> None:
        """Notes that a resource, such as `files/abc` or its URI, belongs to a project."""
        found = _NAME.search(name)
        with self._lock:
            self._projects[found.group(1) if found else name] = project
            while len(self._projects) > self._size:
                self._projects.popitem(last=False)

    def project_of(self, name: str) -> str:
        """The project of a resource; empty if it is not known."""
        found = _NAME.search(name)
        key = found.group(1) if found else name
        with self._lock:
            project = self._projects.get(key, "")
            if project:
                self._projects.move_to_end(key)
            return project

    def of_request(self, url: str, body: Any) -> str:
        """The project that a request needs, by the first resource in it that is known."""
        if not self._projects:
            return ""
        parts = urlsplit(url)
        upload = parse_qs(parts.query).get("upload_id", [""])[0]
        for name in (f"upload {upload}" if upload else "", *_NAME.findall(parts.path), *_named(body)):
            project = self.project_of(name) if name else ""
            if project:
                return project
        return ""

    def learn(self, project: str, path: str, answer: Any, upload_url: str = "") -> None:
        """Takes up what an answer says was made: a resource with a name or a URI, or an upload under way."""
        if upload_url:
            upload = parse_qs(urlsplit(upload_url).query).get("upload_id", [""])[0]
            if upload:
                self.remember(f"upload {upload}", project)
        if not isinstance(answer, Mapping):
            return
        for resource in (answer, *(one for one in answer.values() if isinstance(one, Mapping))):
            for field in ("name", "uri"):
                value = resource.get(field)
                if isinstance(value, str) and _NAME.search(value):
                    self.remember(value, project)
        identity = answer.get("id")
        if "interactions" in path and isinstance(identity, str) and identity:
            self.remember(f"interactions/{identity}", project)


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) <= LONGEST_NAME:
            yield from _NAME.findall(value)
    elif isinstance(value, Mapping):
        for field, inner in value.items():
            if field in _ID_FIELDS and isinstance(inner, str):
                yield f"interactions/{inner}"
            else:
                yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)
