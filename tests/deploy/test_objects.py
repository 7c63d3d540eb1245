"""What is rendered: right by the schemas, and right together."""

import json
import re

import pytest
import yaml
from chart import CHART, VALUES, component, rendered
from schemas import faults

pytestmark = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)

WORKLOADS = ("Deployment", "StatefulSet")


def containers(spec):
    return [*spec["containers"], *spec.get("initContainers", [])]


def strings(thing):
    if isinstance(thing, dict):
        for inner in thing.values():
            yield from strings(inner)
    elif isinstance(thing, list):
        for inner in thing:
            yield from strings(inner)
    elif isinstance(thing, str):
        yield thing


def selected(selector, labels):
    return selector.items() <= labels.items()


def test_objects_are_as_the_schemas_say(values):
    assert not [fault for thing in rendered(values).objects for fault in faults(thing)]


def test_names_are_unique_and_labels_complete(values):
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in rendered(values).objects]
    assert len(names) == len(set(names))
    for thing in rendered(values).objects:
        assert {"app.kubernetes.io/name", "app.kubernetes.io/instance", "helm.sh/chart"} <= set(thing["metadata"]["labels"])
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", thing["metadata"]["name"])


def test_selectors_find_what_they_are_for(values):
    chart = rendered(values)
    pods = {component(metadata): metadata["labels"] for metadata, _ in chart.pods()}
    assert {"broker"} <= set(pods)
    for workload in [each for kind in WORKLOADS for each in chart.of(kind)]:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert selected(workload["spec"]["selector"]["matchLabels"], labels)
        assert "app.kubernetes.io/version" not in workload["spec"]["selector"]["matchLabels"], "it cannot change"
    for thing in chart.objects:
        spec, whose = thing.get("spec", {}), component(thing["metadata"])
        selector = {
            "Service": lambda: spec["selector"],
            "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
        }.get(thing["kind"])
        if selector:
            found = {each for each, labels in pods.items() if selected(selector(), labels)}
            assert found == {whose}, thing["metadata"]["name"]
    for spread in chart.broker().get("topologySpreadConstraints", []):
        assert selected(spread["labelSelector"]["matchLabels"], pods["broker"])


def test_ports_have_names_that_exist(values):
    chart = rendered(values)
    ports = {}
    for metadata, spec in chart.pods():
        declared = [port for each in containers(spec) for port in each.get("ports", [])]
        ports[component(metadata)] = {port["name"]: port["containerPort"] for port in declared}
        for container in containers(spec):
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in ports[component(metadata)]
    for service in chart.of("Service"):
        for port in service["spec"]["ports"]:
            assert ports[component(service["metadata"])][port["targetPort"]] == port["port"]
    for policy in chart.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= set(ports[component(policy["metadata"])])
    for monitor in chart.of("ServiceMonitor"):
        matching = [each for each in chart.of("Service")
                    if selected(monitor["spec"]["selector"]["matchLabels"], each["metadata"]["labels"])]
        assert len(matching) == 1, "each broker is scraped once"
        offered = {port["name"] for port in matching[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= offered


def test_what_is_referred_to_is_there_or_was_said_to_exist(values):
    chart = rendered(values)
    said = set(strings(chart.values))
    made = {each["spec"]["target"]["name"] for each in chart.of("ExternalSecret")}
    made |= {each["spec"]["secretName"] for each in chart.of("Certificate")}

    def look(kind, name, key=None):
        thing = chart.named(kind, name)
        if thing is None:
            assert name in made or name in said, f"{kind} {name} is nowhere"
        elif key is not None:
            assert key in {**thing.get("data", {}), **thing.get("stringData", {})}, f"{kind} {name} has no {key}"

    for _, spec in chart.pods():
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        claims = {claim["metadata"]["name"] for each in chart.of("StatefulSet")
                  for claim in each["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for each in containers(spec) for mount in each.get("volumeMounts", [])}
        assert mounted <= set(volumes) | claims
        assert set(volumes) <= mounted, "a volume that nobody mounts"
        for volume in volumes.values():
            if "secret" in volume:
                look("Secret", volume["secret"]["secretName"])
                assert volume["secret"]["defaultMode"] == 0o440
            if "configMap" in volume:
                look("ConfigMap", volume["configMap"]["name"])
        for container in containers(spec):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(paths) == len(set(paths))
            for variable in container.get("env", []):
                source = variable.get("valueFrom", {})
                if "secretKeyRef" in source:
                    look("Secret", source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
        account = spec.get("serviceAccountName")
        assert account is None or chart.named("ServiceAccount", account) or account in said
    for scaler in chart.of("HorizontalPodAutoscaler"):
        target = chart.named("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"], "applied again, it would undo what the autoscaler did"
    for workload in chart.of("StatefulSet"):
        assert chart.named("Service", workload["spec"]["serviceName"])


def test_numbers_are_written_in_digits(values):
    for thing in rendered(values).objects:
        floats = [text for text in strings(thing) if re.fullmatch(r"[\d.]+e[-+]\d+", text)]
        assert not floats, thing["metadata"]["name"]


def test_variables_are_known_before_they_are_used(values):
    for _, spec in rendered(values).pods():
        for container in containers(spec):
            before = set()
            for variable in container.get("env", []):
                used = set(re.findall(r"\$\((\w+)\)", variable.get("value", "")))
                assert used <= before, variable["name"]
                assert variable["name"] not in before
                before.add(variable["name"])
            used = set(re.findall(r"\$\((\w+)\)", " ".join(container.get("args", []))))
            assert used <= before


def test_no_secret_stands_in_what_many_can_read(values):
    chart = rendered(values)
    secrets = {text for each in chart.of("Secret") for text in each["stringData"].values()}
    secrets = {line for text in secrets for line in text.split()}
    for thing in chart.objects:
        if thing["kind"] != "Secret":
            text = json.dumps(thing)
            assert not any(secret in text for secret in secrets), thing["kind"]
            assert "AIza" not in text


def test_pods_may_do_nothing_but_run(values):
    for _, spec in rendered(values).pods():
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False, "else KEYBROKER_PORT and the like are in the environment"
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"]
    for account in rendered(values).of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_brokers_end_and_come_up_in_order(values):
    chart = rendered(values)
    spec = chart.broker()
    broker = spec["containers"][0]
    environment = {each["name"]: each.get("value") for each in broker["env"]}
    sleep = broker.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert spec["terminationGracePeriodSeconds"] > sleep + int(environment["KEYBROKER_DRAIN_GRACE"])
    probes = {name: broker[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    assert [probe["httpGet"]["path"] for probe in probes.values()] == ["/healthz", "/healthz", "/readyz"]
    encrypted = chart.values.get("tls", {}).get("enabled", False)
    assert {probe["httpGet"]["scheme"] for probe in probes.values()} == {"HTTPS" if encrypted else "HTTP"}
    # Redis has ten seconds to come up before the broker gives up.
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] > 10
    for deployment in chart.of("Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_nobody_is_let_in_unasked(values):
    chart = rendered(values)
    environment = {each["name"]: each.get("value") for each in chart.broker()["containers"][0]["env"]}
    assert (environment.get("KEYBROKER_INSECURE") == "true") == chart.values.get("insecure", False)
    for service in chart.of("Service"):
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            assert "KEYBROKER_INSECURE" not in environment
            assert [port["name"] for port in service["spec"]["ports"]] == ["grpc"], "HTTP is for the cluster"


def test_one_broker_has_the_embedded_ledger(values):
    chart = rendered(values)
    embedded = chart.values.get("embedded", {}).get("enabled", False)
    environment = {each["name"]: each for each in chart.broker()["containers"][0]["env"]}
    assert ("KEYBROKER_DATA_DIR" in environment) == embedded
    assert ("KEYBROKER_REDIS_URL" in environment) != embedded
    brokers = [each for kind in WORKLOADS for each in chart.of(kind) if component(each["metadata"]) == "broker"]
    assert len(brokers) == 1
    assert (brokers[0]["kind"] == "StatefulSet") == embedded
    if embedded:
        assert brokers[0]["spec"]["replicas"] == 1
        assert not chart.of("HorizontalPodAutoscaler") and not chart.of("PodDisruptionBudget")
        assert environment["KEYBROKER_DATA_DIR"]["value"].startswith("/var/lib/keybroker")


def test_certificates_are_for_the_names_that_clients_use(values):
    chart = rendered(values)
    for certificate in chart.of("Certificate"):
        names = certificate["spec"]["dnsNames"]
        for service in chart.of("Service"):
            if component(service["metadata"]) == "broker":
                name = service["metadata"]["name"]
                assert {name, f"{name}.keybroker", f"{name}.keybroker.svc"} <= set(names)
        for monitor in chart.of("ServiceMonitor"):
            assert monitor["spec"]["endpoints"][0]["tlsConfig"]["serverName"] in names


def test_brokers_are_scraped_under_the_job_that_alerts_look_for(values):
    looked_for = set(re.findall(r'job="([^"]+)"', (CHART / "files/alerts.yaml").read_text()))
    assert len(looked_for) == 1
    for monitor in rendered(values).of("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            jobs = {each["replacement"] for each in endpoint["relabelings"] if each["targetLabel"] == "job" and each["action"] == "replace"}
            assert jobs == looked_for


def test_the_bundled_redis_refuses_before_it_is_ended(values):
    for workload in rendered(values).of("StatefulSet"):
        container = workload["spec"]["template"]["spec"]["containers"][0]
        if container["name"] == "redis":
            number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", container["resources"]["limits"]["memory"]).groups()
            limit = int(number) << {"Mi": 20, "Gi": 30}[unit]
            most = int(container["args"][container["args"].index("--maxmemory") + 1])
            assert limit / 2 < most < limit


def test_alerts_and_dashboard_are_as_their_files(values):
    chart = rendered(values)
    for rule in chart.of("PrometheusRule"):
        assert rule["spec"] == yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    for dashboard in chart.of("ConfigMap"):
        for name, text in dashboard["data"].items():
            if name == "keybroker.json":
                assert json.loads(text) == json.loads((CHART / "files/dashboard.json").read_text())
