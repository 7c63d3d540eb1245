"""The chart, rendered with each set of values, and ways to look at what came out."""

import functools
import hashlib
import itertools
import os
import pathlib
import re
import subprocess
import tempfile
from dataclasses import dataclass

import yaml

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
CHART = ROOT / "deploy/helm/keybroker"
NAMESPACE = "keybroker"
HELM = os.environ["HELM"]

# What the examples have in place of digests, which everybody has to make.
PLACEHOLDER = "REPLACE_WITH_THE_DIGEST_OF_A_TOKEN"


def filled_in(text: str) -> str:
    """An example with digests, each of a token of its own."""
    numbers = itertools.count()
    return re.sub(PLACEHOLDER, lambda _: hashlib.sha256(f"kbt_of-a-test-{next(numbers)}".encode()).hexdigest(), text)


_copies = tempfile.TemporaryDirectory(prefix="keybroker-examples")
EXAMPLES = pathlib.Path(_copies.name)
for example in (CHART / "examples").glob("*.yaml"):
    (EXAMPLES / example.name).write_text(filled_in(example.read_text()))

VALUES = sorted([*(HERE / "values").glob("*.yaml"), *EXAMPLES.glob("*.yaml")], key=lambda path: path.stem)
REFUSED = sorted((HERE / "refused").glob("*.yaml"))


def helm(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run([HELM, *map(str, arguments)], capture_output=True, text=True)


@functools.cache
def template(values: pathlib.Path, *more: str) -> subprocess.CompletedProcess:
    return helm("template", "keybroker", CHART, "--namespace", NAMESPACE, "--values", values, *more)


class OneOfEachKey(yaml.CSafeLoader):
    """Reads YAML, and refuses a key that is there twice, of which others take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"line {node.start_mark.line}: {twice} twice"
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Rendered:
    values: dict
    objects: list[dict]

    def of(self, kind: str) -> list[dict]:
        return [each for each in self.objects if each["kind"] == kind]

    def named(self, kind: str, name: str) -> dict | None:
        return next((each for each in self.of(kind) if each["metadata"]["name"] == name), None)

    def pods(self) -> list[tuple[dict, dict]]:
        """Metadata and spec of every pod: of workloads, and the test's."""
        workloads = [*self.of("Deployment"), *self.of("StatefulSet")]
        templates = [each["spec"]["template"] for each in workloads]
        return [(each["metadata"], each["spec"]) for each in [*templates, *self.of("Pod")]]

    def broker(self) -> dict:
        """Spec of the brokers' pods."""
        return next(spec for metadata, spec in self.pods() if component(metadata) == "broker")


def component(metadata: dict) -> str:
    return metadata["labels"]["app.kubernetes.io/component"]


@functools.cache
def rendered(values: pathlib.Path) -> Rendered:
    done = template(values)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.load_all(done.stdout, OneOfEachKey) if each]
    return Rendered(yaml.load(values.read_text(), OneOfEachKey) or {}, objects)
