"""Every alert: its words, its runbook, and that promtool sees it fire and not fire."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from repository import FILES, PROMTOOL, ROOT, RULES, sections

CASES = yaml.safe_load(Path(__file__).with_name("alerts_test.yaml").read_text())
RUNBOOKS = "docs/runbooks.md"


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_what_is_wrong_and_where_help_is(name):
    rule = RULES[name]
    assert name.startswith("Keybroker")
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    annotations = rule["annotations"]
    assert annotations["summary"] and "{{" not in annotations["summary"] and not annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".") and "\n" not in annotations["description"]
    page, _, anchor = annotations["runbook_url"].partition("#")
    assert page == RUNBOOKS
    section = sections(ROOT / page).get(anchor)
    assert section is not None, f"{page} has no section {anchor}"
    assert f"`{name}`" in section, f"the section {anchor} of {page} does not name {name}"


def test_the_runbooks_name_no_alert_that_is_not_there():
    for page in ("docs/runbooks.md", "docs/metrics.md"):
        named = {word for word in (ROOT / page).read_text().split("`") if word.startswith("Keybroker") and word.isalnum()}
        assert named == set(RULES), f"{page}: {named ^ set(RULES)}"


def test_promtool_takes_the_rules():
    done = subprocess.run([PROMTOOL, "check", "rules", FILES / "alerts.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_no_templates_of_the_chart():
    # They are taken as they are; what stands in braces is Prometheus' own.
    for word in (".Values", ".Release", "include ", "tpl "):
        for file in ("alerts.yaml", "dashboard.json"):
            assert word not in (FILES / file).read_text(), file


@pytest.mark.parametrize("name", RULES)
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name):
    cases = CASES.get(name, [])
    assert any(case["fires"] for case in cases), f"{name} never fires"
    assert any(not case["fires"] for case in cases), f"{name} always fires"


def test_every_case_is_of_an_alert():
    assert set(CASES) == set(RULES)


def expected(name: str, fires: list[dict]) -> list[dict]:
    """What promtool compares: labels and annotations, of which a case names those that are not fixed."""
    rule = RULES[name]
    return [
        {
            "exp_labels": rule["labels"] | alert["labels"],
            "exp_annotations": rule["annotations"] | {"description": alert["description"]},
        }
        for alert in fires
    ]


@pytest.mark.parametrize("name", RULES)
def test_it_fires_when_it_should_and_only_then(name, tmp_path):
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in case["series"].items()],
            "alert_rule_test": [{"eval_time": case["at"], "alertname": name, "exp_alerts": expected(name, case["fires"])}],
        }
        for case in CASES[name]
    ]
    file = tmp_path / "test.yaml"
    # JSON is YAML.
    file.write_text(json.dumps({"rule_files": [str(FILES / "alerts.yaml")], "evaluation_interval": "30s", "tests": tests}))
    done = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
