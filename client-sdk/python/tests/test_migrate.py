"""The programs of docs/migrate.md: before and after, they print the same, and no call is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract import Stage
from support import get

PROGRAMS = Path(__file__).resolve().parent.parent / "examples" / "migrate"
RIVERS = [f"echo: Where does the {river} begin?" for river in ("Nile", "Amazon", "Yangtze")]
PRINTED = {"environment": ["echo: Name three rivers."], "rotator": RIVERS, "file": RIVERS}


def test_each_has_its_other_half() -> None:
    assert {program.stem for program in PROGRAMS.glob("*.py")} == {
        f"{name}_{half}" for name in PRINTED for half in ("before", "after")
    }


@pytest.mark.parametrize("half", ["before", "after"])
@pytest.mark.parametrize("name", PRINTED)
def test_prints_the_same_with_its_own_keys_and_with_leased_ones(name: str, half: str, tmp_path: Path) -> None:
    count = len(PRINTED[name])
    keys = [f"fake-key-{number:04}" for number in range(count)]
    (tmp_path / "keys.txt").write_text("\n".join(keys) + "\n")
    # So little that each key has to take its turn.
    scenario = {"projects": count, "quota": {"rpm": 1}, "pool": {"limits": [{"requests_per_minute": 1}]}}
    story = tmp_path / "scenario.json"
    story.write_text(json.dumps({"name": name, "about": "", "steps": [], **scenario}))
    with Stage(story) as stage:
        own = {"GEMINI_API_KEY": keys[0], "GOOGLE_API_KEY": ""}
        given = {"before": own, "after": {"KEYBROKER_BROKER": stage.brokers[0]}}
        done = subprocess.run(
            [sys.executable, PROGRAMS / f"{name}_{half}.py"],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, "GOOGLE_GEMINI_BASE_URL": stage.gemini, **given[half]},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == PRINTED[name]
        leases = count if half == "after" else 0
        expected = {"calls": count, "refused": 0, "keys_in_url": 0, "granted": leases, "settled": leases}
        seen = stage.take({"stage": "see", "expect": expected})
        assert {what: seen[what] for what in expected} == expected
        once = {hashlib.sha256(key.encode()).hexdigest()[:12]: {"generateContent": 1} for key in keys}
        assert get(f"{stage.gemini}/control/verdict")["keys"] == once
