"""The examples run, and what is generated is up to date."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT, Fleet, fleet

HERE = Path(__file__).resolve().parent.parent


def run(program: str, shared: Fleet, *arguments: str) -> str:
    """What an example prints."""
    command = [sys.executable, str(HERE / "examples" / program), "--broker", shared.broker.address]
    command += ["--gemini", shared.gemini.url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "fake-key" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["asyncio", "threads"])
def test_a_fleet_over_its_quota_sends_nothing_that_is_refused(mode: str) -> None:
    with fleet("[{ requests_per_minute = 40, in_flight = 20 }]", projects=2, fake=["--rpm", "40"]) as small:
        out = json.loads(run("fleet.py", small, "--seconds", "2", "--workers", "50", "--mode", mode))
        verdict = small.gemini.verdict()
        assert out["ok"] == 80
        assert out["failed"] == {}
        assert verdict["exact"]
        assert verdict["quota_refusals"] == 0
        # Every place is free again: a lease for all of them can be had but for the quota of the minute.
        assert verdict["calls"] == 80


def test_overhead_is_measured(shared: Fleet) -> None:
    out = json.loads(run("overhead.py", shared, "-n", "5"))
    assert set(out) == {"direct_p50_ms", "leased_p50_ms", "rpc_p50_ms"}
    assert 0 < out["direct_p50_ms"] < out["leased_p50_ms"]


@pytest.mark.parametrize("program", ["batch_threads.py", "batch_asyncio.py"])
def test_batches(shared: Fleet, program: str) -> None:
    pytest.importorskip("tqdm")
    assert "30 of 30 answered" in run(program, shared, "--prompts", "30")


def test_plain_requests(shared: Fleet) -> None:
    assert run("plain_requests.py", shared).split() == ["requests:", "200", "httpx:", "200", "by", "hand:", "200"]


def test_generating_again_changes_nothing() -> None:
    script = HERE / "scripts" / "generate"
    tools = re.search(r'TOOLS = "(.+)"', script.read_text())
    assert tools is not None
    cache = Path(os.environ.get("KEYBROKER_CACHE") or ROOT / "target")
    has_tools = (cache / f"python-generate-{tools.group(1)}" / "ready").exists()
    if not has_tools and importlib.util.find_spec("grpc_tools") is None:
        pytest.skip(f"grpcio-tools {tools.group(1)} is not installed")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_runs(shared: Fleet) -> None:
    """Each block of Python of the README, one after another, against the fake."""
    blocks = re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        code = block.replace("127.0.0.1:50051", shared.broker.address)
        code = code.replace("https://generativelanguage.googleapis.com", shared.gemini.url)
        environment = {**os.environ, "GOOGLE_GEMINI_BASE_URL": shared.gemini.url}
        done = subprocess.run(
            [sys.executable, "-W", "error::SyntaxWarning", "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
