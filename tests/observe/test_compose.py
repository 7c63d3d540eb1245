"""deploy/compose: that Docker Compose takes it, that its parts fit together, and that it holds what it promises."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import tomllib
import yaml

from processes import fetch
from repository import BIN, COMPOSE, FILES, PROMTOOL, ROOT, VERSION
from stack import DEMO, Stack, model

FILE = COMPOSE / "compose.yaml"
PLAIN = {"broker-1", "broker-2", "redis", "prometheus", "grafana"}
CONFIGURATIONS = {"plain": model(), "demo": model(DEMO)}
# Of both, so that nothing is looked at in one alone.
SERVICES = [(kind, name) for kind, project in CONFIGURATIONS.items() for name in project["services"]]


def service(kind: str, name: str) -> dict:
    return CONFIGURATIONS[kind]["services"][name]


def mounts(kind: str, name: str) -> dict[str, Path]:
    """What is mounted from the repository, by where it is seen."""
    bound = [mount for mount in service(kind, name).get("volumes", []) if mount["type"] == "bind"]
    return {mount["target"]: Path(mount["source"]) for mount in bound}


def test_docker_compose_takes_it_and_the_demo_is_a_profile():
    assert set(CONFIGURATIONS["plain"]["services"]) == PLAIN
    assert set(CONFIGURATIONS["demo"]["services"]) == PLAIN | {"fake-gemini", "workers"}


def test_what_does_not_conform_is_refused(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("read_only: true", "readonly: true"))
    with pytest.raises(ValueError, match="readonly"):
        model(file=wrong)


@pytest.mark.parametrize("kind, name", SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(kind, name):
    told = service(kind, name)
    assert told["read_only"] is True and told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert told["restart"] == "unless-stopped"
    assert re.fullmatch(r"[1-9]\d*:\d+", told["user"])
    assert not told.get("privileged") and not told.get("cap_add")
    for port in told.get("ports", []):
        assert port["host_ip"] == "127.0.0.1", port
    for mount in told.get("volumes", []):
        assert mount["type"] == "volume" or mount["read_only"], mount


@pytest.mark.parametrize("kind, name", SERVICES)
def test_an_image_has_a_version(kind, name):
    image, _, tag = service(kind, name)["image"].rpartition(":")
    assert re.match(r"v?\d", tag), tag
    if image.startswith("keybroker"):
        assert tag == VERSION
    # No registry of the project's is named.
    assert "." not in image


@pytest.mark.parametrize("kind, name", SERVICES)
def test_what_is_mounted_is_there(kind, name):
    for target, source in mounts(kind, name).items():
        assert source.exists(), f"{target}: {source}"


def test_secrets_are_files_and_those_of_the_demo_are_there():
    for secret in CONFIGURATIONS["demo"]["secrets"].values():
        assert Path(secret["file"]).read_text().strip()
    # The others are whoever's who runs it, and are never part of the repository.
    for secret in CONFIGURATIONS["plain"]["secrets"].values():
        ignored = subprocess.run(["git", "check-ignore", "-q", secret["file"]], cwd=ROOT)
        assert ignored.returncode == 0, secret


def test_redis_is_reached_by_brokers_alone():
    services = CONFIGURATIONS["demo"]["services"]
    assert CONFIGURATIONS["demo"]["networks"]["ledger"]["internal"] is True
    assert set(services["redis"]["networks"]) == {"ledger"} and "ports" not in services["redis"]
    assert {name for name, told in services.items() if "ledger" in told["networks"]} == {"redis", "broker-1", "broker-2"}


def test_both_brokers_are_told_the_same():
    first, second = (dict(service("plain", name)) for name in ("broker-1", "broker-2"))
    ports = [{port["published"] for port in told.pop("ports")} for told in (first, second)]
    assert first == second and not ports[0] & ports[1]
    # Longer than calls under way may take, which is 20 s.
    assert int(first["stop_grace_period"].removesuffix("s")) > 20


def test_the_example_of_variables_has_them_all_with_their_defaults():
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", FILE.read_text()))
    assert set(re.findall(r"\$\{(\w+)", FILE.read_text())) == set(used), "a variable has no default"
    shown = dict(re.findall(r"^#(\w+)=(.*)$", (COMPOSE / ".env.example").read_text(), re.MULTILINE))
    of_demo = dict(re.findall(r"^#(\w+)=(.*)$", DEMO.read_text(), re.MULTILINE))
    assert shown | of_demo == used and not set(shown) & set(of_demo)
    told = dict(re.findall(r"^(\w+)=(.*)$", DEMO.read_text(), re.MULTILINE))
    assert set(told) - {"COMPOSE_PROFILES"} <= set(used)


def test_the_dashboard_and_the_alerts_are_those_of_the_chart():
    assert mounts("plain", "grafana")["/etc/grafana/dashboards/keybroker.json"] == FILES / "dashboard.json"
    assert mounts("plain", "prometheus")["/etc/prometheus/alerts.yaml"] == FILES / "alerts.yaml"


def test_prometheus_takes_its_configuration_and_asks_both_brokers(tmp_path):
    text = (COMPOSE / "prometheus.yml").read_text()
    told = yaml.safe_load(text)
    for target, source in mounts("plain", "prometheus").items():
        text = text.replace(target, str(source))
    (tmp_path / "prometheus.yml").write_text(text)
    done = subprocess.run([PROMTOOL, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
    [job] = told["scrape_configs"]
    # The name that alerts look for.
    assert job["job_name"] == "keybroker"
    assert job["static_configs"] == [{"targets": ["broker-1:8080", "broker-2:8080"]}]
    assert service("plain", "prometheus")["command"][0] == "--config.file=/etc/prometheus/prometheus.yml"


def test_grafana_is_given_its_data_source_and_the_dashboard():
    folders = mounts("plain", "grafana")
    sources = yaml.safe_load((folders["/etc/grafana/provisioning/datasources"] / "prometheus.yaml").read_text())
    [source] = sources["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    interval = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    providers = yaml.safe_load((folders["/etc/grafana/provisioning/dashboards"] / "keybroker.yaml").read_text())
    [provider] = providers["providers"]
    path = service("plain", "grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert path in folders and Path(path).parent == Path(provider["options"]["path"])


def test_the_stand_in_for_gemini_knows_the_keys_of_the_demo_and_grants_what_is_configured():
    command = service("demo", "fake-gemini")["command"]
    told = dict(zip(command[::2], command[1::2], strict=True))
    keys = [line for line in (COMPOSE / "demo/secrets/gemini_keys").read_text().splitlines() if not line.startswith("#")]
    assert keys == [f"{told['--key-prefix']}{number:04}" for number in range(int(told["--projects"]))]
    configured = tomllib.loads((COMPOSE / "demo/config/keybroker.toml").read_text())
    assert configured["pools"][0]["limits"][0]["requests_per_minute"] == int(told["--rpm"])
    assert configured["probing"]["base_url"].removeprefix("http://") == "fake-gemini:" + told["--addr"].rpartition(":")[2]


def checked(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "keybroker", "config", "check"], capture_output=True, text=True, env=env)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_broker_takes_its_configuration(kind, tmp_path):
    env = dict(service(kind, "broker-1")["environment"])
    folder = mounts(kind, "broker-1")["/etc/keybroker"]
    (tmp_path / "gemini_keys").write_text("fake-key-0000\nfake-key-0001\n")
    (tmp_path / "master_key").write_text("07" * 32)
    for name, value in env.items():
        env[name] = value.replace("/etc/keybroker", str(folder)).replace("/run/secrets", str(tmp_path))
    done = checked(env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 keys" in done.stdout, done.stdout
    # What lies where the compose file says is what is read.
    (tmp_path / "gemini_keys").unlink()
    assert checked(env).returncode == 2


def test_redis_keeps_what_it_counts(stack: Stack):
    def told(name: str) -> str:
        command = ["redis-cli", "-p", stack.port("redis:6379"), "config", "get", name]
        return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[1]

    assert told("maxmemory-policy") == "noeviction"
    assert told("appendonly") == "yes" and told("appendfsync") == "everysec"
    assert int(told("maxmemory")) > 0


def test_doctor_finds_nothing_wrong_with_a_broker_of_it(stack: Stack):
    env = stack.broker_env("broker-1") | {"KEYBROKER_BROKER": stack.addresses["broker-1:50051"], "PATH": "/usr/bin:/bin"}
    done = subprocess.run([BIN / "keybroker", "doctor", "--offline", "--json"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {finding["id"] for finding in json.loads(done.stdout)["findings"] if finding["severity"] != "ok"}
    # Others are of this host, or of a demo: that its keys have not Google's form, and go to a stand-in in plain text.
    assert not [name for name in found if re.match("redis-|pool-|master-|config-fault", name)], found


@pytest.mark.parametrize("name", ["broker-1", "broker-2"])
def test_the_health_check_of_a_broker_is_a_command_of_it(stack: Stack, name):
    kind, *words = stack.services[name]["healthcheck"]["test"]
    assert kind == "CMD" and words[0] == "keybroker"
    done = subprocess.run([BIN / words[0], *words[1:]], capture_output=True, text=True, env=stack.broker_env(name))
    assert done.returncode == 0, done.stderr
    # In its container it listens on every address, and is asked on one.
    everywhere = stack.broker_env(name) | {"KEYBROKER_HTTP_ADDR": "0.0.0.0:" + stack.port(f"{name}:8080")}
    assert subprocess.run([BIN / words[0], *words[1:]], env=everywhere, capture_output=True).returncode == 0
    nowhere = stack.broker_env(name) | {"KEYBROKER_HTTP_ADDR": "127.0.0.1:1"}
    assert subprocess.run([BIN / words[0], *words[1:]], env=nowhere, capture_output=True).returncode == 1


def test_prometheus_may_look_at_brokers_by_their_names(stack: Stack):
    # REST answers to no name where nobody has to say who they are; metrics do, since nothing is changed by them.
    named = {"host": "broker-1:8080"}
    assert fetch(stack.url("broker-1:8080", "/metrics"), headers=named)[0] == 200
    assert fetch(stack.url("broker-1:8080", "/v1/pools"), headers=named)[0] == 403
