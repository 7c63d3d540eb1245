"""The shape of the dashboard: what Grafana draws, and how it reads."""

import itertools
import json

from repository import DASHBOARD, FILES, panels

# Those of Grafana that the dashboard needs; a misspelt unit would be drawn as text behind the number.
UNITS = {"none", "short", "percentunit", "s", "cps"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def everything():
    return DASHBOARD["panels"] + [inner for panel in DASHBOARD["panels"] for inner in panel.get("panels", [])]


def test_ids_are_unique():
    ids = [panel["id"] for panel in everything()]
    assert len(ids) == len(set(ids))


def test_titles_are_unique_within_their_row():
    seen, row = set(), None
    for panel in DASHBOARD["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        assert (row, panel["title"], panel["type"]) not in seen, panel["title"]
        seen.add((row, panel["title"], panel["type"]))


def test_no_panel_covers_another_or_leaves_the_grid():
    places = [(panel["title"], panel["gridPos"]) for panel in DASHBOARD["panels"]]
    for title, place in places:
        assert place["x"] >= 0 and place["w"] > 0 and place["h"] > 0 and place["x"] + place["w"] <= 24, title
    for (first, a), (second, b) in itertools.combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart, f"{first} and {second}"


def test_every_panel_says_what_it_shows():
    for panel in panels():
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), panel["title"]


def test_everything_asks_the_data_source_that_is_chosen():
    for panel in panels():
        assert panel["datasource"] == SOURCE, panel["title"]
        assert all(target["datasource"] == SOURCE for target in panel["targets"]), panel["title"]
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    for name in ("namespace", "job", "pool", "instance"):
        assert variables[name]["datasource"] == SOURCE and variables[name]["includeAll"], name


def test_every_query_is_narrowed_to_what_is_chosen():
    for panel in panels():
        for target in panel["targets"]:
            assert 'namespace=~"$namespace"' in target["expr"] and 'job=~"$job"' in target["expr"], panel["title"]


def test_it_is_a_dashboard_of_grafana_that_can_be_found_again():
    assert DASHBOARD["uid"] == "keybroker" and "id" not in DASHBOARD
    assert DASHBOARD["schemaVersion"] >= 41
    # Written as it would be exported, so that changes are seen line by line.
    text = (FILES / "dashboard.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
