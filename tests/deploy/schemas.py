"""Schemas of Kubernetes and of custom resources, all strict: an unknown field is a fault."""

import functools
import json
import os
import pathlib
import re

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
CRDS = pathlib.Path(os.environ["CRDS"])
# The oldest that the chart takes, and the newest that there is a schema of.
VERSIONS = ("1.30.0", "1.37.0")


@functools.cache
def _registry(version: str) -> Registry:
    definitions = json.loads((FOLDER / f"v{version}-local-strict/_definitions.json").read_text())
    # They refer to each other by the name of the file.
    return Registry().with_resource("_definitions.json", Resource.from_contents(definitions))


@functools.cache
def _of_kubernetes(version: str, api_version: str, kind: str) -> Draft202012Validator | None:
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    path = FOLDER / f"v{version}-local-strict/{kind.lower()}-{group}.json"
    if not path.exists():
        return None
    return Draft202012Validator(json.loads(path.read_text()), registry=_registry(version))


def _strict(schema: dict) -> dict:
    """A schema of a custom resource, as one that refuses unknown fields."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    strict = dict(schema)
    properties = {name: _strict(inner) for name, inner in schema.get("properties", {}).items()}
    if properties:
        strict["properties"] = properties
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        strict["additionalProperties"] = _strict(schema["additionalProperties"])
    if "items" in schema:
        strict["items"] = _strict(schema["items"])
    if schema.get("nullable"):
        strict = {"anyOf": [strict, {"type": "null"}]}
    return strict


@functools.cache
def _of_operators() -> dict[tuple[str, str], Draft202012Validator]:
    found = {}
    for path in CRDS.glob("*.yaml"):
        definition = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]
        for version in definition["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            api_version = f"{definition['group']}/{version['name']}"
            found[api_version, definition["names"]["kind"]] = Draft202012Validator(schema)
    return found


def faults(thing: dict) -> list[str]:
    """What the schemas have against an object."""
    api_version, kind = thing["apiVersion"], thing["kind"]
    validators = {f"Kubernetes {version}": _of_kubernetes(version, api_version, kind) for version in VERSIONS}
    if not any(validators.values()):
        validators = {api_version: _of_operators().get((api_version, kind))}
    found = []
    for whose, validator in validators.items():
        if validator is None:
            found.append(f"{whose} knows no {kind} of {api_version}")
            continue
        for error in validator.iter_errors(thing):
            found.append(f"{whose}: {kind} {thing['metadata'].get('name')}: {error.json_path}: {error.message}")
    return found
