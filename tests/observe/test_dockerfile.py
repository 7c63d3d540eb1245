"""deploy/Dockerfile, as far as it can be looked at without an engine."""

import os
import re
import subprocess

import tomllib

from dockerfile import FILE, STAGES, environment, of
from processes import Processes, free_port
from repository import BIN, ROOT, VERSION
from stack import DEMO, model

CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text())


def test_hadolint_has_nothing_to_say():
    done = subprocess.run([os.environ["HADOLINT"], FILE], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


def test_the_image_is_static_and_small_and_without_rights():
    image = of("keybroker")
    assert list(STAGES)[-1] == "keybroker", "what is built where nothing is said"
    assert image[0].startswith("FROM scratch")
    assert [line for line in image if line.startswith("USER ")] == ["USER 65532:65532"]
    assert "STOPSIGNAL SIGTERM" in image and 'ENTRYPOINT ["keybroker"]' in image and 'CMD ["serve"]' in image
    assert any(line.startswith("HEALTHCHECK ") and line.endswith('CMD ["keybroker", "health"]') for line in image)
    copied = [line.split()[-2:] for line in image if line.startswith("COPY ")]
    assert [source for source, _ in copied] == ["/etc/ssl/certs/ca-certificates.crt", "/out/bin/keybroker", "/out/root/"]


def test_its_variables_go_with_either_ledger():
    told = environment()
    assert told["PATH"] == "/usr/local/bin" and told["KEYBROKER_HTTP_ADDR"] == "0.0.0.0:8080"
    for ledger in ({"KEYBROKER_REDIS_URL": "redis://127.0.0.1:1"}, {}):
        given = told | {"GEMINI_API_KEY": "fake-key-of-an-image", "KEYBROKER_INSECURE": "true"} | ledger
        done = subprocess.run([BIN / "keybroker", "doctor", "--offline", "--json"], capture_output=True, text=True, env=given)
        assert done.returncode != 2, done.stdout + done.stderr


def test_an_embedded_ledger_lies_in_the_folder_that_is_the_brokers(tmp_path):
    told = environment()
    folder = told["XDG_STATE_HOME"]
    assert any(line.startswith("RUN ") and f"/out/root{folder} " in line for line in STAGES["build"])
    assert "COPY --from=build --chown=65532:65532 /out/root/ /" in STAGES["keybroker"]
    addresses = {name: f"127.0.0.1:{free_port()}" for name in ("KEYBROKER_GRPC_ADDR", "KEYBROKER_HTTP_ADDR")}
    given = told | addresses | {"GEMINI_API_KEY": "fake-key-of-an-image", "XDG_STATE_HOME": str(tmp_path / "state")}
    processes = Processes(tmp_path)
    try:
        processes.start("broker", BIN / "keybroker", "serve", env=given)
        processes.wait_for("broker", f"http://{addresses['KEYBROKER_HTTP_ADDR']}/readyz")
        assert processes.end("broker") == 0
    finally:
        processes.end_all()
    assert list((tmp_path / "state/keybroker").glob("*.redb"))


def test_versions_are_those_of_the_repository():
    text = FILE.read_text()
    assert f"ARG VERSION={VERSION}\n" in text
    rust = re.search(r"^ARG RUST_VERSION=(\d+)\.(\d+)$", text, re.MULTILINE)
    least = CARGO["workspace"]["package"]["rust-version"].split(".")
    assert [int(part) for part in rust.groups()] >= [int(part) for part in least[:2]]


def test_what_is_built_is_there():
    text = FILE.read_text()
    assert set(re.findall(r"--profile (\w+)", text)) == {"dist"} and "dist" in CARGO["profile"]
    packages = {tomllib.loads((ROOT / member / "Cargo.toml").read_text())["package"]["name"] for member in CARGO["workspace"]["members"]}
    assert set(re.findall(r"--package ([\w-]+)", text)) <= packages
    assert (ROOT / "tests/src/bin/fake-gemini.rs").is_file() and (ROOT / "client-sdk/rust/examples/fleet.rs").is_file()
    for name, told in model(DEMO)["services"].items():
        if "build" in told:
            assert told["build"]["target"] in STAGES, name
            assert (ROOT / told["build"]["dockerfile"]).is_file()


def test_the_context_has_all_crates_and_no_secrets():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "nothing is in it but what is named"
    named = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for path in named:
        assert (ROOT / path).exists(), path
    for needed in ["Cargo.toml", "Cargo.lock", "tests/Cargo.toml", "tests/src", *CARGO["workspace"]["members"]]:
        assert needed == "tests" or any(needed == path or needed.startswith(f"{path}/") for path in named), needed
    assert not any(path.startswith("deploy") for path in named)
