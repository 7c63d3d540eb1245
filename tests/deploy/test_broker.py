"""The broker's own look at what its pod would be given."""

import json
import re

import pytest
from chart import VALUES, rendered
from pods import environment_of, free_port, keybroker

@pytest.fixture(scope="session")
def known_variables():
    helps = [keybroker(*command, "--help").stdout for command in (("serve",), ("status",), ("config", "check"))]
    return [set(re.findall(r"\bKEYBROKER_[A-Z_]+", text)) for text in helps]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_a_broker_could_start_with_what_its_pod_has(values, certificate, tmp_path):
    if {"existingConfigMap", "existingConfigSecret"} & {name for name, value in rendered(values).values.items() if value}:
        pytest.skip("the configuration is one that the chart does not see")
    folder = tmp_path / "mounted"
    folder.mkdir()
    environment = environment_of(values, certificate, folder)
    # Others may listen on this host.
    for name in ("KEYBROKER_GRPC_ADDR", "KEYBROKER_HTTP_ADDR"):
        environment[name] = re.sub(r"\d+$", str(free_port()), environment[name])
    if "KEYBROKER_DATA_DIR" in environment:
        environment["KEYBROKER_DATA_DIR"] = str(tmp_path / "data")
    environment.pop("KEYBROKER_LEASE_LOG", None)
    checked = keybroker("config", "check", env=environment)
    assert checked.returncode == 0, checked.stderr
    done = keybroker("doctor", "--offline", "--json", env=environment)
    assert done.returncode != 2, done.stderr
    errors = [finding for finding in json.loads(done.stdout)["findings"] if finding["severity"] == "error"]
    # There is no Redis here. Anything else would keep the pod from starting.
    assert {finding["id"] for finding in errors} <= {"redis-unreachable"}, errors
    assert ("redis-unreachable" in {finding["id"] for finding in errors}) == ("KEYBROKER_REDIS_URL" in environment)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_every_variable_is_one_that_its_command_knows(values, known_variables):
    serve, status, config = known_variables
    assert len(serve) > 15 and len(status) > 4
    for _, spec in rendered(values).pods():
        for container in spec["containers"]:
            known = {"serve": serve | config, "status": status}.get(container.get("args", [""])[0], set())
            variables = {each["name"] for each in container.get("env", [])}
            unknown = {name for name in variables if name.startswith("KEYBROKER_")} - known
            assert not unknown, unknown


def test_the_test_pod_asks_the_service():
    asked = 0
    for values in VALUES:
        chart = rendered(values)
        for pod in chart.of("Pod"):
            environment = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
            scheme, host, port = re.fullmatch(r"(https?)://([^:]+):(\d+)", environment["KEYBROKER_BROKER"]).groups()
            service = chart.named("Service", host)
            assert int(port) in {each["port"] for each in service["spec"]["ports"]}
            assert (scheme == "https") == chart.values.get("tls", {}).get("enabled", False)
            asked += 1
    assert asked > 3
