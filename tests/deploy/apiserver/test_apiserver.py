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
from chart import CHART, NAMESPACE, ROOT, VALUES, helm, rendered, template  # noqa: E402
from pods import free_port  # noqa: E402

CRDS = pathlib.Path(os.environ["CRDS"])
NAMED = {"ids": lambda path: path.stem}


class Cluster:
    """An etcd and a kube-apiserver on this host, without nodes or controllers: nothing is run, all is checked."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def start_up(self):
        folder = self.folder
        client, peer, secure = free_port(), free_port(), free_port()
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


def example(name):
    return next(path for path in VALUES if path.stem == name)


class Release:
    """What deploy/README.md does with one, in a namespace of its own, without waiting for pods that no node runs."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    def helm(self, *command):
        return helm(*command, "--kubeconfig", self.cluster.folder / "kubeconfig", "--namespace", self.namespace)

    def install(self, values, *more):
        done = self.helm("install", "keybroker", CHART, "--create-namespace", "--values", values, *more)
        assert done.returncode == 0, done.stderr

    def upgrade(self, values, *more):
        return self.helm("upgrade", "keybroker", CHART, "--values", values, *more)

    def kubectl(self, *command):
        return self.cluster.kubectl(*command, "--namespace", self.namespace)

    def of(self, kind, path):
        found = self.kubectl("get", kind, "keybroker", "-o", f"jsonpath={{{path}}}")
        return found.stdout if found.returncode == 0 else None


IMAGE = ".spec.template.spec.containers[0].image"


def test_helm_installs_upgrades_and_removes_a_trial(cluster):
    release = Release(cluster, "trial")
    release.install(example("trial"))
    assert release.of("deployment", ".spec.replicas") == "2"
    done = release.upgrade(example("trial"), "--set=redis.bundled.password=another-of-a-trial")
    assert done.returncode == 0, done.stderr
    done = release.helm("uninstall", "keybroker")
    assert done.returncode == 0, done.stderr
    assert release.of("deployment", ".spec.replicas") is None


def test_helm_upgrades_production_and_rolls_it_back(cluster):
    release = Release(cluster, "production")
    release.install(example("production"))
    assert release.of("deployment", ".spec.replicas") == "3", "an install begins with the fewest"
    # As the autoscaler does it.
    assert release.kubectl("scale", "deployment/keybroker", "--replicas=7").returncode == 0
    done = release.upgrade(example("production"), "--set=image.tag=0.2.0")
    assert done.returncode == 0, done.stderr
    assert release.of("deployment", IMAGE) == "keybroker:0.2.0"
    assert release.of("deployment", ".spec.replicas") == "7", "an upgrade would undo what the autoscaler did"
    # Back by an upgrade, which keeps the number; a rollback sets that of its release, and says so.
    done = release.upgrade(example("production"), "--set=image.tag=0.1.0")
    assert done.returncode == 0, done.stderr
    assert (release.of("deployment", IMAGE), release.of("deployment", ".spec.replicas")) == ("keybroker:0.1.0", "7")
    done = release.helm("rollback", "keybroker", "1")
    assert done.returncode != 0 and ".spec.replicas" in done.stderr
    done = release.helm("rollback", "keybroker", "1", "--force-conflicts")
    assert done.returncode == 0, done.stderr
    assert release.of("deployment", ".spec.replicas") == "3"


def test_a_running_fleet_keeps_its_number_when_autoscaling_is_turned_on(cluster):
    release = Release(cluster, "fleet")
    release.install(example("production"), "--set=autoscaling.enabled=false", "--set=replicas=8")
    for _ in range(2):
        done = release.upgrade(example("production"))
        assert done.returncode == 0, done.stderr
        assert release.of("deployment", ".spec.replicas") == "8"
    done = release.helm("rollback", "keybroker", "1")
    assert done.returncode == 0, done.stderr
    assert release.of("horizontalpodautoscaler", ".spec.minReplicas") is None


def test_a_single_broker_is_upgraded_after_a_copy_of_its_ledger(cluster):
    release = Release(cluster, "embedded")
    release.install(example("embedded"))
    for count in ("0", "1"):
        assert release.kubectl("scale", "statefulset/keybroker", f"--replicas={count}").returncode == 0
    done = release.upgrade(example("embedded"), "--set=image.tag=0.2.0")
    assert done.returncode == 0, done.stderr
    assert release.of("statefulset", IMAGE) == "keybroker:0.2.0"


def test_a_larger_volume_needs_another_statefulset(cluster):
    """What the README of the chart says of `embedded.size`."""
    release = Release(cluster, "larger")
    release.install(example("embedded"))
    done = release.upgrade(example("embedded"), "--set=embedded.size=5Gi")
    assert done.returncode != 0 and "spec: Forbidden: updates to statefulset spec" in done.stderr, done.stderr
    done = release.kubectl("delete", "statefulset", "keybroker", "--cascade=orphan", "--wait=false")
    assert done.returncode == 0, done.stderr
    # A controller would do it, once pods and claims are nobody's.
    assert release.kubectl("patch", "statefulset", "keybroker", "--patch", '{"metadata": {"finalizers": null}}').returncode == 0
    done = release.upgrade(example("embedded"), "--set=embedded.size=5Gi")
    assert done.returncode == 0, done.stderr
    assert release.of("statefulset", ".spec.volumeClaimTemplates[0].spec.resources.requests.storage") == "5Gi"


def test_secrets_and_plain_manifests_are_made_by_hand(cluster, certificate, tmp_path):
    """By the commands of deploy/README.md."""
    for name, text in {"tls.crt": certificate["cert"], "tls.key": certificate["key"], "a1.key": "fake-key-one\n"}.items():
        (tmp_path / name).write_text(text)
    secrets = (["tls", "keybroker-tls", f"--cert={tmp_path}/tls.crt", f"--key={tmp_path}/tls.key"],
               ["generic", "gemini-keys", f"--from-file=a1={tmp_path}/a1.key"])
    for manifest in sorted((ROOT / "deploy/manifests").glob("*.yaml")):
        release = Release(cluster, f"plain-{manifest.stem}")
        done = cluster.kubectl("create", "namespace", release.namespace)
        assert done.returncode == 0, done.stderr
        for secret in secrets:
            done = release.kubectl("create", "secret", *secret)
            assert done.returncode == 0, done.stderr
        # As it is, and once more.
        for _ in range(2):
            done = release.kubectl("apply", "--filename", manifest)
            assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    keys = cluster.kubectl("get", "--raw", "/openid/v1/jwks")
    assert json.loads(keys.stdout)["keys"], keys.stderr


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
