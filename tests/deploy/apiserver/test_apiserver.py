"""What a real kube-apiserver says of all that the chart renders, and whether PodSecurity admits its pods."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from chart import CHART, NAMESPACE, VALUES, helm, rendered, template  # noqa: E402
from pods import a_port  # noqa: E402

CRDS = pathlib.Path(os.environ["CRDS"])
NAMED = {"ids": lambda path: path.stem}


class Cluster:
    """An etcd and a kube-apiserver on this host, without nodes or controllers: nothing is run, all is checked."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def start_up(self):
        folder = self.folder
        client, peer, secure = a_port(), a_port(), a_port()
        etcd = f"http://127.0.0.1:{client}"
        self.start("etcd", os.environ["ETCD"], "--data-dir", folder / "etcd", "--listen-client-urls", etcd,
                   "--advertise-client-urls", etcd, "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--unsafe-no-fsync")
        (folder / "tokens.csv").write_text('admin-of-the-test,admin,1,"system:masters"\n')
        subprocess.run(["openssl", "genrsa", "-out", folder / "accounts.key", "2048"], check=True, capture_output=True)
        self.start("apiserver", os.environ["APISERVER"], "--etcd-servers", etcd, "--secure-port", str(secure),
                   "--bind-address", "127.0.0.1", "--cert-dir", folder / "certificates", "--token-auth-file", folder / "tokens.csv",
                   "--authorization-mode", "RBAC", "--service-account-issuer", "https://kubernetes.default.svc",
                   "--service-account-key-file", folder / "accounts.key", "--service-account-signing-key-file", folder / "accounts.key",
                   "--service-cluster-ip-range", "10.0.0.0/16,fd00::/108")
        server = {"server": f"https://127.0.0.1:{secure}", "insecure-skip-tls-verify": True}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "test",
                  "clusters": [{"name": "test", "cluster": server}],
                  "users": [{"name": "test", "user": {"token": "admin-of-the-test"}}],
                  "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]}
        (folder / "kubeconfig").write_text(json.dumps(config))
        deadline = time.monotonic() + 300
        while self.kubectl("get", "--raw", "/readyz").returncode != 0:
            for name, process in self.processes:
                assert process.poll() is None, (folder / f"{name}.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "apiserver.log").read_text()[-2000:]
            time.sleep(0.5)

    def start(self, name, *command):
        log = (self.folder / f"{name}.log").open("w")
        self.processes.append((name, subprocess.Popen([str(each) for each in command], stdout=log, stderr=log)))

    def kubectl(self, *arguments, text=None):
        command = [os.environ["KUBECTL"], "--kubeconfig", self.folder / "kubeconfig", *arguments]
        return subprocess.run([str(each) for each in command], input=text, capture_output=True, text=True)

    def end(self):
        for _, process in reversed(self.processes):
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start_up()
        for crd in sorted(CRDS.glob("*.yaml")):
            # Definitions of that size fit into no annotation, so the server keeps who set what.
            done = cluster.kubectl("apply", "--server-side", "-f", crd)
            assert done.returncode == 0, done.stderr
        done = cluster.kubectl("wait", "--for=condition=Established", "--timeout=120s", "crd", "--all")
        assert done.returncode == 0, done.stderr
        restricted = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {
            f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "warn", "audit")}}}
        done = cluster.kubectl("apply", "-f", "-", text=json.dumps(restricted))
        assert done.returncode == 0, done.stderr
        # A controller would make it.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}}
        shared = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "shared", "namespace": NAMESPACE}}
        priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000}
        for thing in (account, shared, priority):
            done = cluster.kubectl("apply", "-f", "-", text=json.dumps(thing))
            assert done.returncode == 0, done.stderr
        yield cluster
    finally:
        cluster.end()


@pytest.mark.parametrize("values", VALUES, **NAMED)
def test_the_server_takes_all_that_is_rendered(cluster, values):
    text = template(values).stdout
    done = cluster.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "--namespace", NAMESPACE,
                           "-f", "-", text=text)
    assert done.returncode == 0, done.stderr
    # PodSecurity warns of a Deployment or StatefulSet whose pods it would not admit; it also warns of what is deprecated.
    assert "Warning" not in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == len(rendered(values).objects)


@pytest.mark.parametrize("values", VALUES, **NAMED)
def test_pods_are_admitted_where_they_are_restricted(cluster, values):
    """No controller makes pods here, so they are made from the templates."""
    chart = rendered(values)
    for thing in chart.of("ServiceAccount"):
        done = cluster.kubectl("apply", "--namespace", NAMESPACE, "-f", "-", text=json.dumps(thing))
        assert done.returncode == 0, done.stderr
    for number, (metadata, spec) in enumerate(chart.pods()):
        claims = [{"name": claim["metadata"]["name"], "emptyDir": {}} for each in chart.of("StatefulSet")
                  for claim in each["spec"].get("volumeClaimTemplates", [])]
        mounted = {mount["name"] for each in spec["containers"] for mount in each.get("volumeMounts", [])}
        volumes = spec.get("volumes", [])
        volumes = [*volumes, *(claim for claim in claims if claim["name"] in mounted - {each["name"] for each in volumes})]
        name = f"{values.stem}-{number}"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": metadata["labels"]},
               "spec": {**spec, "volumes": volumes}}
        done = cluster.kubectl("create", "--namespace", NAMESPACE, "-f", "-", text=json.dumps(pod))
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        made = json.loads(cluster.kubectl("get", "pod", name, "--namespace", NAMESPACE, "-o", "json").stdout)
        mounts = [mount["mountPath"] for each in made["spec"]["containers"] for mount in each.get("volumeMounts", [])]
        assert not [path for path in mounts if "serviceaccount" in path], "it has a token"


def test_helm_installs_upgrades_and_removes_it(cluster):
    """What deploy/README.md says for a trial, without waiting for pods that no node runs."""
    where = ("--kubeconfig", cluster.folder / "kubeconfig", "--namespace", "trial")
    values = next(path for path in VALUES if path.stem == "trial")
    given = ("keybroker", CHART, "--values", values, *where)
    password = "--set=redis.bundled.password=another-of-a-trial"
    commands = (["install", *given, "--create-namespace"], ["upgrade", *given, password], ["uninstall", "keybroker", *where])
    for command in commands:
        done = helm(*command)
        assert done.returncode == 0, done.stderr
        found = cluster.kubectl("get", "deployment", "keybroker", "--namespace", "trial", "-o", "json")
        assert (found.returncode == 0) == (command[0] != "uninstall"), found.stderr


def test_the_server_would_say_so(cluster):
    """An unknown field is refused, and so is a pod that may do more."""
    thing = next(each for each in rendered(VALUES[0]).objects if each["kind"] == "Service")
    wrong = {**thing, "spec": {**thing["spec"], "loadBalancerRanges": []}}
    done = cluster.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "--namespace", NAMESPACE,
                           "-f", "-", text=yaml.safe_dump(wrong))
    assert done.returncode != 0 and "loadBalancerRanges" in done.stderr
    metadata, spec = rendered(VALUES[0]).pods()[0]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "free"}, "spec": {
        "containers": [{"name": "free", "image": "example/free:1"}]}}
    done = cluster.kubectl("create", "--namespace", NAMESPACE, "-f", "-", text=json.dumps(pod))
    assert done.returncode != 0 and "violates PodSecurity" in done.stderr
