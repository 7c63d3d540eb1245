"""What deploy/README.md says, held to what it speaks of."""

import re
import shutil
import subprocess

import pytest
import yaml
from chart import EXAMPLES, ROOT, rendered, template

README = (ROOT / "deploy/README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_it_lists_the_names_that_a_certificate_needs():
    certificate = rendered(EXAMPLES / "production.yaml").of("Certificate")[0]
    listed = re.search(r"certificate for these names.*?```text\n(.*?)```", README, re.DOTALL)
    assert listed[1].split() == certificate["spec"]["dnsNames"]


def test_its_values_are_taken():
    """Each block of values, over an example that has what it leaves out."""
    found = blocks("yaml")
    assert len(found) >= 3
    for number, text in enumerate(found):
        path = EXAMPLES / f"of-the-readme-{number}"
        path.write_text(text)
        base = EXAMPLES / "production.yaml"
        more = ("--set-string", "jwt.jwks=of-the-cluster") if "issuer:" in text else ()
        done = template(base, "--values", str(path), *more)
        assert done.returncode == 0, f"{text}\n{done.stderr}"


def test_its_balancer_is_the_one_of_the_upgrade_test():
    text, = blocks("haproxy")
    tested = (ROOT / "tests/src/upgrade/balancer.rs").read_text()
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith(("#", "bind ", "server ")):
            assert line in tested, line


def test_its_balancer_is_one(tmp_path):
    text, = blocks("haproxy")
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is missing: make setup")
    names = set(re.findall(r"^ +server \S+ ([^:]+):", text, re.MULTILINE))
    for name in names:
        text = text.replace(f" {name}:", " 127.0.0.1:")
    (tmp_path / "haproxy.cfg").write_text(text)
    done = subprocess.run(["haproxy", "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_lease_log_is_taken_away_by_the_user_who_writes_it():
    """The file is its owner's alone, so a container of another user could neither read nor empty it."""
    values, = [yaml.safe_load(text) for text in blocks("yaml") if "leaseLog" in text]
    container, = values["extraContainers"]
    assert "runAsUser" not in container["securityContext"]
    mount = next(each for each in container["volumeMounts"] if each["name"] == "lease-log")
    assert not mount.get("readOnly") and mount["mountPath"] == "/var/log/keybroker"
