"""Where things lie in the repository, and what stands in its files."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy/compose"
FILES = ROOT / "deploy/helm/keybroker/files"
BIN = Path(os.environ["KEYBROKER_BIN"])
PROMETHEUS_BIN = Path(os.environ["PROMETHEUS_BIN"])
PROMTOOL = PROMETHEUS_BIN / "promtool"

DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
ALERTS = yaml.safe_load((FILES / "alerts.yaml").read_text())
RULES = {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"]}
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def panels() -> list[dict]:
    """All panels but the headings of rows."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    """Every query of the dashboard, with the title of its panel."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def sections(page: Path) -> dict[str, str]:
    """The sections of a page by the anchors of their headings, as the book makes them."""
    found: dict[str, str] = {}
    fenced, anchor = False, ""
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if line.startswith("#") and not fenced:
            heading = line.lstrip("#").strip().lower()
            anchor = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        found[anchor] = found.get(anchor, "") + line + "\n"
    return found
