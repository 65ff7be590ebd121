"""The files of monitoring/ agree with each other, with their README and with the course."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"


def load(name: str) -> Any:
    return yaml.safe_load((MONITORING / name).read_text())


RULES = [rule for group in load("alerts.yml")["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboard.json").read_text())
QUERIES = [(panel, target) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_names_of_alerts_are_unique() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_says_what_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert "{{ $labels." in rule["annotations"]["summary"], "which server or model it is"
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    notebooks = re.findall(r"notebooks/[\w.-]+", rule["annotations"]["runbook"])
    assert notebooks or re.search(r"nvidia-smi|dmesg|README|--cache-config", rule["annotations"]["runbook"])
    for path in notebooks:
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_sections_that_runbooks_name_are_there(rule: dict[str, Any]) -> None:
    text = " ".join(rule["annotations"]["runbook"].split())
    for path, section in re.findall(r'(notebooks/[\w-]+\.ipynb), "([^"]+)"', text):
        cells = json.loads((ROOT / path).read_text())["cells"]
        headings = {line.strip() for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"]}
        assert f"## {section}" in headings, f"{path} has no section {section}"


def test_every_alert_has_a_test_that_sees_it_fire_and_wait() -> None:
    cases: dict[str, list[dict[str, Any]]] = {}
    for case in load("alerts.test.yml")["tests"]:
        cases.setdefault(case["name"].split(",")[0], []).append(case)
    for rule in RULES:
        states = {"firing", "pending"} if "for" in rule else {"firing"}
        for case in cases.pop(rule["alert"]):
            wanted = [sample["labels"] for test in case["promql_expr_test"] for sample in test.get("exp_samples", [])]
            assert set(wanted) == {f'{{alertname="{rule["alert"]}", alertstate="{state}"}}' for state in states}
            assert any("exp_samples" not in test for test in case["promql_expr_test"]), "it is silent before"
    assert set(cases) == {"a server that is well", "a server that nobody asks"}


def test_readme_lists_every_alert_with_its_severity() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (critical|warning|info) \|", (MONITORING / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(rows) == sorted((rule["alert"], rule["labels"]["severity"]) for rule in RULES)


def test_probes_use_modules_that_are_there() -> None:
    modules = set(load("blackbox.yml")["modules"])
    used = set()
    for job in load("prometheus.yml")["scrape_configs"]:
        used |= set(job.get("params", {}).get("module", []))
        used |= {static["labels"]["__param_module"] for static in job["static_configs"] if "labels" in static}
    assert used == modules


def test_probes_ask_for_one_token() -> None:
    bodies = {
        name: json.loads(module["http"].get("body", "{}")) for name, module in load("blackbox.yml")["modules"].items()
    }
    assert json.loads(bodies["generate_vllm"]["sampling_parameters"]) == {"max_tokens": 1}
    assert bodies["generate_trtllm"]["max_tokens"] == 1


@pytest.mark.parametrize("path", sorted(MONITORING.rglob("*.*")), ids=lambda path: path.name)
def test_all_is_on_loopback(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text)) <= {"127.0.0.1"}
    assert "localhost" not in text


class TestDashboard:
    def test_ids_are_unique(self) -> None:
        ids = [panel["id"] for panel in DASHBOARD["panels"]]
        assert len(set(ids)) == len(ids)
        assert DASHBOARD["id"] is None

    def test_data_source_is_a_variable(self) -> None:
        first, *others = DASHBOARD["templating"]["list"]
        assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
        assert all(variable["datasource"] == SOURCE for variable in others)
        assert all(panel["datasource"] == SOURCE and target["datasource"] == SOURCE for panel, target in QUERIES)

    def test_variables_that_are_used_are_defined(self) -> None:
        defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | {"__rate_interval"}
        used = {name for _, target in QUERIES for name in re.findall(r"\$\{?(\w+)", target["expr"])}
        assert used <= defined
        assert {"instance", "model"} <= used

    def test_panels_lie_beside_each_other(self) -> None:
        places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        for one, other in combinations(places, 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or below, (one, other)

    def test_each_panel_says_what_it_shows(self) -> None:
        for panel in DASHBOARD["panels"]:
            if panel["type"] == "row":
                continue
            assert panel["title"]
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            names = [target["refId"] for target in panel["targets"]]
            assert len(set(names)) == len(names) > 0

    def test_rows_are_of_both_backends(self) -> None:
        titles = " ".join(panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row")
        assert all(word in titles for word in ("Triton", "vLLM", "TensorRT-LLM", "GPU", "Probes"))

    def test_provisioning_finds_it(self) -> None:
        (provider,) = load("grafana/provisioning/dashboards/triton.yml")["providers"]
        assert provider["options"]["path"] == "$TRITONLAB_DASHBOARDS"
        assert 'TRITONLAB_DASHBOARDS="$PWD/grafana"' in (MONITORING / "README.md").read_text()
        (source,) = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
        assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9090")
