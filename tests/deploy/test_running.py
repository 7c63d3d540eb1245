"""Brokers and the bundled Redis, started as their pods would be: they come up, answer, and end."""

import hashlib
import json
import os
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

from chart import EXAMPLES, component, rendered
from pods import IMAGE, KEYBROKER, environment_of, expanded, free_port, keybroker, value_of

# Of any token; the brokers of the test are given its digest.
TOKEN = "kbt_of-a-test"


@contextmanager
def running(command, environment, log):
    with log.open("w") as written:
        process = subprocess.Popen(command, env=environment, stdout=written, stderr=written)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def probe(url, ca=None, host=None):
    """As the kubelet does it, which looks at no certificate; the test does."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    if context:
        context.check_hostname = False
    try:
        request = urllib.request.Request(url, headers={"host": host} if host else {})
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return None


def comes_up(process, log, port, path, ca=None):
    deadline = time.monotonic() + 60
    while probe(f"{'https' if ca else 'http'}://127.0.0.1:{port}{path}", ca) != 200:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def with_ports(environment):
    """On ports that are free, of all addresses, as in a pod."""
    grpc, http = free_port(), free_port()
    environment["KEYBROKER_GRPC_ADDR"] = re.sub(r"\d+$", str(grpc), environment["KEYBROKER_GRPC_ADDR"])
    environment["KEYBROKER_HTTP_ADDR"] = re.sub(r"\d+$", str(http), environment["KEYBROKER_HTTP_ADDR"])
    return grpc, http


def ends(process, environment):
    process.terminate()
    assert process.wait(int(environment["KEYBROKER_DRAIN_GRACE"]) + 30) == 0


def test_the_trial_runs(tmp_path, certificate):
    values = EXAMPLES / "trial.yaml"
    chart = rendered(values)
    redis = next(spec for metadata, spec in chart.pods() if component(metadata) == "redis")["containers"][0]
    variables = {each["name"]: value_of(each, chart) for each in redis["env"]}
    port = free_port()
    command = [expanded(argument, variables) for argument in redis["args"]]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    environment = environment_of(values, certificate, tmp_path)
    environment["KEYBROKER_REDIS_URL"] = environment["KEYBROKER_REDIS_URL"].replace("keybroker-redis:6379", f"127.0.0.1:{port}")
    with running(command, {**os.environ, **variables}, tmp_path / "redis.log"):
        ping = redis["readinessProbe"]["exec"]["command"]
        deadline = time.monotonic() + 30
        ask = [ping[0], "-p", str(port), *ping[1:]]
        while subprocess.run(ask, env={**os.environ, **variables}, capture_output=True, text=True).stdout != "PONG\n":
            assert time.monotonic() < deadline, (tmp_path / "redis.log").read_text()
            time.sleep(0.1)
        grpc, http = with_ports(environment)
        lease_log = tmp_path / "leases.jsonl"
        environment["KEYBROKER_LEASE_LOG"] = str(lease_log)
        with running([KEYBROKER, "serve"], environment, tmp_path / "log") as broker:
            for path in ("/healthz", "/readyz"):
                comes_up(broker, tmp_path / "log", http, path)
            test = chart.of("Pod")[0]["spec"]["containers"][0]
            asking = {each["name"]: each["value"].replace("keybroker:50051", f"127.0.0.1:{grpc}") for each in test["env"]}
            asking = IMAGE | asking
            told = keybroker(*test["args"], env=asking)
            assert told.returncode == 0, told.stderr
            assert "default" in told.stdout
            lease = ("lease", "acquire", "--model", "gemini-2.5-flash")
            # A container beside the broker copies the lease log and truncates it: it goes on at its beginning.
            for _ in range(2):
                assert keybroker(*lease, env=asking).returncode == 0
                deadline = time.monotonic() + 60
                while not (lease_log.exists() and lease_log.read_bytes().endswith(b"\n")):
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.1)
                line, = lease_log.read_text().splitlines()
                assert json.loads(line)["what"] == "leased" and len(line) < 400
                os.truncate(lease_log, 0)
            # Without identities no name is answered that could be pointed here, but addresses are.
            for path in ("/metrics", "/v1/pools"):
                assert probe(f"http://127.0.0.1:{http}{path}") == 200
                assert probe(f"http://127.0.0.1:{http}{path}", host="keybroker.keybroker:8080") not in (200, None)
            assert probe(f"http://127.0.0.1:{http}/v1/pools", host="keybroker:8080") not in (200, None)
            for path in ("/metrics", "/readyz"):
                assert probe(f"http://127.0.0.1:{http}{path}", host="keybroker:8080") == 200
            assert probe(f"http://127.0.0.1:{http}/readyz", host="keybroker.keybroker:8080") == 200
            ends(broker, environment)


def test_an_embedded_broker_runs_with_tls_and_tokens(tmp_path, certificate):
    values = EXAMPLES / "embedded.yaml"
    environment = environment_of(values, certificate, tmp_path)
    config = tmp_path / "config/keybroker.toml"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    text = re.sub(r'"[0-9a-f]{64}"', f'"{digest}"', config.read_text(), count=1)
    config.write_text(text.replace('"worker"]', '"worker", "viewer"]'))
    environment["KEYBROKER_DATA_DIR"] = str(tmp_path / "data")
    grpc, http = with_ports(environment)
    ca = certificate["ca"]
    asking = {**IMAGE, "KEYBROKER_BROKER": f"https://127.0.0.1:{grpc}", "KEYBROKER_TLS_CA": str(ca),
              "KEYBROKER_TLS_SERVER_NAME": "keybroker"}
    for _ in range(2):
        with running([KEYBROKER, "serve"], environment, tmp_path / "log") as broker:
            # Probes have no token.
            for path in ("/healthz", "/readyz"):
                comes_up(broker, tmp_path / "log", http, path, ca)
            assert probe(f"https://127.0.0.1:{http}/metrics", ca) == 401
            refused = keybroker("status", env=asking)
            assert refused.returncode == 1 and "no credentials" in refused.stderr, refused.stderr
            told = keybroker("status", env={**asking, "KEYBROKER_TOKEN": TOKEN})
            assert told.returncode == 0, told.stderr
            ends(broker, environment)
