"""Values: what is taken, what is refused and in which words, and whether every value is told of."""

import hashlib
import json
import re

import pytest
import yaml
from chart import CHART, PLACEHOLDER, REFUSED, ROOT, VALUES, helm, rendered, template
from pods import keybroker

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


@pytest.mark.parametrize("example", sorted((CHART / "examples").glob("*.yaml")), **NAMED)
def test_nobody_installs_tokens_of_an_example(example, tmp_path):
    """An example with identities is refused until digests are written, and so is its plain manifest, by the broker."""
    done = template(example)
    asks = PLACEHOLDER in example.read_text()
    assert (done.returncode != 0) == asks == (example.stem != "trial")
    if asks:
        assert f"{PLACEHOLDER} in token_sha256: write the digest that keybroker generate-token prints" in done.stderr
        manifest = (ROOT / "deploy/manifests" / example.name).read_text()
        config = next(each["data"]["keybroker.toml"] for each in yaml.safe_load_all(manifest)
                      if each["kind"] == "ConfigMap" and "keybroker.toml" in each["data"])
        (tmp_path / "keybroker.toml").write_text(config)
        checked = keybroker("config", "check", "--config", tmp_path / "keybroker.toml")
        assert checked.returncode == 2 and "token_sha256[0]: is not the SHA-256 of a token" in checked.stderr


def test_no_digest_that_is_shown_is_of_a_token_that_can_be_guessed():
    guesses = ("", "token", "tokens", "test", "test1", "test2", "worker", "viewer", "operator", "admin", "on-call", "prometheus",
               "nightly-report", "secret", "password", "changeme", "example", "keybroker", "hello", "kbt_", "kbt_test", "kbt_token")
    known = {hashlib.sha256(f"{word}{end}".encode()).hexdigest() for word in guesses for end in ("", "\n")}
    for folder in (ROOT / "deploy", ROOT / "docs"):
        for path in (path for kind in ("*.md", "*.yaml", "*.toml") for path in folder.rglob(kind)):
            shown = set(re.findall(r"\b[0-9a-f]{64}\b", path.read_text()))
            assert not shown & known, path


def replicas(*more: str) -> int | None:
    values = next(path for path in VALUES if path.stem == "production")
    objects = yaml.safe_load_all(template(values, *more).stdout)
    return next(each["spec"].get("replicas") for each in objects if each["kind"] == "Deployment")


def test_an_autoscaled_fleet_begins_with_the_fewest():
    """Where there is a cluster to ask; tests/deploy/apiserver has one, and finds a fleet that runs."""
    assert replicas("--api-versions", "apps/v1/Deployment") == 3
    assert replicas() is None


def egress_ports(values: str, *more: str) -> list[list[int]]:
    path = next(path for path in VALUES if path.stem == values)
    done = template(path, *more)
    assert done.returncode == 0, done.stderr
    policy = next(each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "NetworkPolicy")
    return [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]]


def test_ports_that_brokers_may_call_are_those_of_their_addresses():
    names = [53, 53]
    assert egress_ports("network-ports") == [names, [7000, 7001, 26379, 6379], [443], [8200, 8201]]
    assert egress_ports("production") == [names, [26379, 6379], [4317], [443]]
    of_pods = ("--set", "networkPolicy.redisPorts={6380}", "--set", "networkPolicy.otlpPort=4318")
    assert egress_ports("network-ports", *of_pods) == [names, [6380], [4318], [8200, 8201]]
    for url, ports in {
        "redis://redis": [6379],
        "rediss://redis.data:7000/2": [7000],
        "redis://[fd00::1]:7002": [7002],
        "redis-cluster://a:7000,b:7000,c": [7000, 6379],
    }.items():
        assert egress_ports("network-ports", "--set-string", "redis.url=" + url.replace(",", r"\,"))[1] == ports
    from_a_secret = ("--set-string", "redis.url=", "--set", "redis.urlSecret.name=redis-login")
    assert egress_ports("network-ports", *from_a_secret)[1] == [6379, 26379]
    assert egress_ports("network-ports", "--set", "otlp.endpoint=http://[fd00::1]:4317")[2] == [4317]


def test_a_release_whose_name_is_no_name_of_a_service_is_refused():
    values = next(path for path in VALUES if path.stem == "minimal")
    done = helm("template", "1st", CHART, "--values", values)
    assert "1st-keybroker cannot be the name of a Service" in done.stderr and "set fullnameOverride" in done.stderr
    assert helm("template", "1st", CHART, "--values", values, "--set", "fullnameOverride=first").returncode == 0


def test_it_is_told_what_an_unseen_configuration_must_have():
    values = next(path for path in VALUES if path.stem == "redis-cluster")
    lines = rendered(values).named("ConfigMap", "keybroker")["data"]["keybroker.toml"].splitlines()
    needed = [line for line in lines if line in ("[tls]",) or re.match(r"(cert|key)_file = ", line)]
    assert len(needed) == 3
    readme = (CHART.parent.parent / "README.md").read_text()
    for text in (told()["existingConfigMap"], told()["existingConfigSecret"], readme):
        assert all(line in text for line in needed)


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
        asked = {*re.findall(r"https://([a-z][^:]*):", notes), *re.findall(r"--tls-server-name (\S+)", notes)}
        for certificate in rendered(values).of("Certificate"):
            assert asked and asked <= set(certificate["spec"]["dnsNames"])
            # Of a certificate that somebody made by hand: those that deploy/README.md asks for first.
            assert all("." in name for name in asked)
        insecure = yaml.safe_load(values.read_text()).get("insecure", False)
        assert ("WARNING: insecure" in notes) == insecure
