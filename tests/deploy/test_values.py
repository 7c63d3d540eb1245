"""Values: what is taken, what is refused and in which words, and whether every value is told of."""

import json
import re

import pytest
import yaml
from chart import CHART, REFUSED, VALUES, helm, template

NAMED = {"ids": lambda path: path.stem}


@pytest.mark.parametrize("values", VALUES, **NAMED)
def test_helm_finds_nothing_wrong(values):
    done = helm("lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("values", REFUSED, **NAMED)
def test_a_contradiction_is_refused_and_named(values):
    expected = values.read_text().splitlines()[0].removeprefix("# ")
    done = template(values)
    assert done.returncode != 0, "it is not refused"
    for words in expected.split(" | "):
        assert words in done.stderr
    assert "nil pointer" not in done.stderr


@pytest.mark.parametrize("values", REFUSED, **NAMED)
def test_nothing_is_refused_only_because_of_something_else(values):
    """Each has one fault, so that it cannot be another one that is found. `nothing` has all."""
    done = template(values)
    by_template = re.findall(r"^- (.*)$", done.stderr, re.MULTILINE) if "cannot be installed" in done.stderr else []
    assert values.stem == "nothing" or len(by_template) <= 1, by_template


def test_values_that_are_refused_by_the_schema_are_refused_without_it():
    """Helm can be told to skip the schema; what is dangerous is refused all the same."""
    for name in ("embedded-replicas", "embedded-autoscaling", "embedded-and-redis", "bundled-and-url",
                 "replicas-and-autoscaling", "public-and-insecure", "public-without-tls", "public-without-identities"):
        values = CHART.parent.parent.parent / "tests/deploy/refused" / f"{name}.yaml"
        done = template(values, "--skip-schema-validation")
        assert "cannot be installed like this" in done.stderr, name


def leaves(values: dict, path: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        found += leaves(value, here) if isinstance(value, dict) and value else [here]
    return found


def told() -> dict[str, tuple[str, object]]:
    """What values.yaml says of each value, by the path that its indentation gives."""
    found, path, comment = {}, [], None
    for line in (CHART / "values.yaml").read_text().splitlines():
        said = re.match(r"^ *# -- (.*)$", line)
        entry = re.match(r"^( *)([A-Za-z_]+):(.*)$", line)
        if said:
            comment = said[1]
        elif entry:
            path = [*path[: len(entry[1]) // 2], entry[2]]
            if comment is not None:
                found[".".join(path)] = comment
            comment = None
    return found


def test_every_value_is_told_of():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    comments = told()
    untold = [leaf for leaf in leaves(values) if not any(leaf == path or leaf.startswith(f"{path}.") for path in comments)]
    assert not untold


def test_the_schema_knows_the_values_and_no_others():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values, schema, path):
        assert schema.get("additionalProperties") is False, f"{path} takes unknown values"
        # `global` is Helm's own.
        assert set(values) <= set(schema["properties"]) - {"global"}, path
        for name, inner in values.items():
            below = schema["properties"][name]
            if isinstance(inner, dict) and "properties" in below:
                compare(inner, below, f"{path}.{name}")

    compare(values, schema, "")


def test_the_readme_lists_the_values_as_they_are():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = []
    for path, comment in told().items():
        default = values
        for part in path.split("."):
            default = default[part]
        rows.append(f"| `{path}` | `{json.dumps(default)}` | {comment} |")
    expected = "\n".join(["| value | default | what |", "|---|---|---|", *rows])
    readme = (CHART / "README.md").read_text()
    table = re.search(r"<!-- from values.yaml -->\n\n(.*?)\n\n<!-- end -->", readme, re.DOTALL)
    assert table, "the table is gone"
    assert table[1] == expected, f"the table in README.md should be:\n\n{expected}"


def test_notes_say_where_the_brokers_are():
    """Helm shows them only when it installs: client-side, it needs no cluster."""
    for values in VALUES:
        done = helm("install", "keybroker", CHART, "--namespace", "keybroker", "--values", values, "--dry-run=client")
        assert done.returncode == 0, done.stderr
        notes = done.stdout.split("NOTES:")[1]
        assert "-headless.keybroker:" in notes
        insecure = yaml.safe_load(values.read_text()).get("insecure", False)
        assert ("WARNING: insecure" in notes) == insecure
