"""Every query of the dashboard and of the alerts, asked of a Prometheus that scrapes brokers at work.

The tests of this file follow one another: at last Redis goes away, and comes back.
"""

import json
import math
import re
import signal

import pytest

from processes import fetch, wait_until
from promql import groupings, results, selectors
from repository import DASHBOARD, ROOT, RULES, panels, queries
from stack import Stack

BROKERS = ("broker-1", "broker-2")
# Labels that Prometheus adds to what it scrapes. A namespace is there only in Kubernetes.
OF_TARGETS = {"job", "instance", "namespace"}
# What Prometheus says of each scrape.
OF_PROMETHEUS = {"up": set(), "scrape_duration_seconds": set(), "scrape_samples_post_metric_relabeling": set()}
# A label that says that there were too many.
OVERFLOW = "otel_metric_overflow"

# Panels whose queries may answer nothing, and why.
MAY_BE_EMPTY = {"Metrics with too many labels": "no metric of these brokers has 2,000 combinations of labels"}
# Series that alerts ask for and these brokers do not show, and why.
NOT_SHOWN = {
    'keybroker_leases_refused_total{reason="overloaded"}': "nobody asks for more than a broker can bear",
    '{job="keybroker", otel_metric_overflow="true"}': "as above: there are few labels",
    'keybroker_ledger_call_duration_seconds_count{outcome="unusable"}': "Redis is as brokers want it",
    'keybroker_ledger_call_duration_seconds_count{outcome="changed"}': "nobody puts another Redis in the place of this one",
    'keybroker_ledger_call_duration_seconds_count{outcome="clock"}': "the clock is this host's, which is the brokers'",
}


def meant(query: str) -> str:
    """A query as Grafana sends it, with everything chosen."""
    for variable in DASHBOARD["templating"]["list"]:
        query = query.replace(f"${variable['name']}", variable.get("allValue", ".+"))
    return query.replace("$__rate_interval", "1m")


def numbers(answer: dict) -> list[float]:
    """The numbers of an answer that are some."""
    values = [float(series["value"][1]) for series in answer["result"]]
    return [value for value in values if not math.isnan(value)]


@pytest.fixture(scope="session")
def at_work(stack: Stack) -> Stack:
    """Brokers of which workers have asked much, and to whom Gemini said no in several ways."""
    faults = [
        {"match": {"method": "generateContent", "project": "project-0001"}, "count": 3, "fault": {"kind": "error", "name": "minute_429"}},
        {"match": {"method": "generateContent", "project": "project-0002"}, "count": 3, "fault": {"kind": "status", "code": 503}},
    ]
    url = stack.url("fake-gemini:8090", "/control")
    assert fetch(f"{url}/faults", json.dumps(faults).encode())[0] == 204
    disabled = [{"key": "fake-key-0003", "disabled_as": "leaked"}, {"key": "fake-key-0004", "disabled_as": "suspended"}]
    assert fetch(f"{url}/keys", json.dumps(disabled).encode())[0] == 204
    stack.start_workers()
    # Workers wait for their turn; whoever does not is refused.
    wait_until("there is more work than quota", lambda: stack.keybroker("lease", "acquire", "--model", "gemini-2.5-flash").returncode == 1)
    return stack


def is_refused(stack: Stack) -> None:
    """Asks for more than a limit holds."""
    refused = stack.keybroker("lease", "acquire", "--model", "gemini-2.5-flash", "--permits", 1000)
    assert "larger than the limit" in refused.stderr, refused


@pytest.fixture(scope="session")
def shown(at_work: Stack) -> dict[str, set[str]]:
    """Each metric that brokers show, with its labels."""
    found: dict[str, set[str]] = {}
    for broker in BROKERS:
        status, text = fetch(at_work.url(f"{broker}:8080", "/metrics"))
        assert status == 200
        for name, labels in re.findall(r"^([a-z]\w*)(\{.*\})? \S+$", text, re.MULTILINE):
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def all_queries() -> list[tuple[str, str]]:
    return queries() + [(name, rule["expr"]) for name, rule in RULES.items()]


@pytest.mark.parametrize("title, query", queries(), ids=[f"{number}-{title}" for number, (title, _) in enumerate(queries())])
def test_a_query_of_the_dashboard_answers(at_work, title, query):
    asked = meant(query)
    assert "$" not in asked
    if title in MAY_BE_EMPTY:
        assert at_work.ask(asked)["result"] == [], f"{title} is no exception any more"
        return

    def answers() -> bool:
        if numbers(at_work.ask(asked)):
            return True
        # A rate needs two samples that differ.
        is_refused(at_work)
        return False

    wait_until(f"{title}: {asked}: some numbers", answers)


@pytest.mark.parametrize("title, query", all_queries(), ids=[f"{number}-{title}" for number, (title, _) in enumerate(all_queries())])
def test_metrics_and_labels_of_a_query_are_those_of_a_broker(at_work, shown, title, query):
    # What comes later, and is counted by metrics that are there from the beginning.
    known = shown | OF_PROMETHEUS
    used = selectors(query)
    assert used, query
    for selector in used:
        labels = {label for label, _, _ in selector.matchers}
        if not selector.metric:
            assert labels <= OF_TARGETS | {OVERFLOW}, selector
            continue
        assert selector.metric in known, f"{title}: no broker shows {selector.metric}"
        wrong = labels - known[selector.metric] - OF_TARGETS
        assert not wrong, f"{title}: {selector.metric} has no label {wrong}"
    for labels, grouped in groupings(query):
        for selector in selectors(grouped):
            wrong = labels - known.get(selector.metric, set()) - OF_TARGETS
            assert not wrong, f"{title}: {selector.metric} cannot be grouped by {wrong}"


def words(file: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / file).read_text()))


def test_values_of_labels_are_those_that_a_broker_has():
    page = (ROOT / "docs/metrics.md").read_text()
    reasons = set(re.findall(r"`(\w+)`", page[page.index("Reasons of refusals:") :].split("\n\n")[0]))
    ledger, states = (
        set(re.findall(r"`(\w+)`", next(line for line in page.splitlines() if line.startswith(f"| `{metric}`"))))
        for metric in ("keybroker_ledger_call_duration_seconds", "keybroker_ledger_state")
    )
    outcomes = words("broker/src/gemini/signal.rs", r'Self::\w+ => "(\w+)"')
    allowed = {
        ("keybroker_leases_refused_total", "reason"): reasons,
        ("keybroker_leases_settled_total", "outcome"): outcomes,
        ("keybroker_acquire_duration_seconds", "outcome"): {"granted", "refused"},
        ("keybroker_ledger_call_duration_seconds", "outcome"): ledger,
        ("keybroker_ledger_state", "state"): states,
        ("keybroker_tokens_total", "kind"): {"reserved", "used"},
    }
    seen = 0
    for title, query in all_queries():
        for selector in selectors(query):
            metric = re.sub(r"_(bucket|count|sum)$", "", selector.metric)
            for label, _, value in selector.matchers:
                values = allowed.get((metric, label))
                if values is None:
                    assert label in OF_TARGETS | {OVERFLOW, "pool", "status"}, f"{title}: {label} of {metric}"
                    continue
                seen += 1
                assert set(value.split("|")) <= values, f"{title}: {metric} has no {label} {set(value.split('|')) - values}"
    assert seen > 10


def test_words_in_braces_are_labels_of_what_is_asked(shown):
    known = shown | OF_PROMETHEUS
    written = [(panel["title"], target["expr"], target["legendFormat"]) for panel in panels() for target in panel["targets"]]
    written += [(name, rule["expr"], rule["annotations"]["description"]) for name, rule in RULES.items()]
    for title, query, text in written:
        named = set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text))
        of_all = set().union(*(known.get(selector.metric, set()) for selector in selectors(query)))
        there = results(query) or of_all | OF_TARGETS
        # A query that takes what is absent has the labels that it was asked for.
        assert named <= there, f"{title}: {named - there}"


def test_prometheus_has_evaluated_every_alert(at_work):
    def rules() -> list[dict]:
        _, text = fetch(at_work.url("prometheus:9090", "/api/v1/rules?type=alert"))
        return [rule for group in json.loads(text)["data"]["groups"] for rule in group["rules"]]

    wait_until("all alerts were evaluated", lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert {rule["name"] for rule in rules()} == set(RULES)
    assert [rule["lastError"] for rule in rules() if rule["health"] != "ok"] == []
    # Google said so, and a first time is enough.
    for name, label in (("KeybrokerKeyLeaked", "project"), ("KeybrokerKeysRefused", "outcome")):
        wait_until(f"{name} fires", lambda name=name: at_work.ask(f'ALERTS{{alertname="{name}", alertstate="firing"}}')["result"] != [])
        assert at_work.ask(f'ALERTS{{alertname="{name}"}}')["result"][0]["metric"][label]


def test_redis_goes_away_and_comes_back(at_work):
    at_work.processes.end("redis", signal.SIGKILL)
    wait_until("brokers say so", lambda: numbers(at_work.ask('min(keybroker_ledger_state{state="unreachable"})')) == [1])
    wait_until("no broker is ready", lambda: numbers(at_work.ask('max(keybroker_ready{job="keybroker"})')) == [0])
    for name in ("KeybrokerNoneReady", "KeybrokerLedgerUnavailable"):
        wait_until(f"{name} waits for its time", lambda name=name: at_work.ask(f'ALERTS{{alertname="{name}"}}')["result"] != [])
    at_work.start_redis()
    wait_until("brokers are ready", lambda: numbers(at_work.ask('min(keybroker_ready{job="keybroker"})')) == [1])
    wait_until("it is open", lambda: numbers(at_work.ask('min(keybroker_ledger_state{state="open"})')) == [1])
    # What brokers remembered was put back first, unless all of it was there.
    held = 'max_over_time(keybroker_ledger_call_duration_seconds_count{outcome=~"holding|unavailable"}[10m])'
    assert at_work.ask(held)["result"] != []


def test_series_that_alerts_ask_for_are_there(at_work):
    empty = set()
    for name, rule in RULES.items():
        for selector in selectors(rule["expr"]):
            if at_work.ask(f"last_over_time({selector.text}[10m])")["result"] == []:
                empty.add(selector.text)
    assert empty == set(NOT_SHOWN)


def test_nothing_was_sent_over_the_quota(at_work):
    _, text = fetch(at_work.url("fake-gemini:8090", "/control/verdict"))
    verdict = json.loads(text)
    assert verdict["exact"] is True, verdict
