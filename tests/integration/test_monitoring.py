"""What the dashboard and the alerts ask for is what the processes measure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from difuso.app.settings import ApiSettings
from difuso.jobs.mirror import Mirror
from difuso.worker.metrics import WorkerMetrics
from tests.app_server import ALICE, keys_file, running

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "docker/grafana/dashboards/difuso.json"
RULES = ROOT / "docker/prometheus/rules"
RUNBOOK = ROOT / "docs/operations.md"
HELP = re.compile(r"^# HELP (\w+) ", re.MULTILINE)
USED = re.compile(r"(?<!:)\b((?:difuso|rq|process)_\w+)(?!\w*:)")


@pytest.fixture
def measured(redis_url: str, models_dir: Path, tmp_path: Path) -> set[str]:
    """Names of all metrics of both processes."""
    worker = CollectorRegistry()
    WorkerMetrics(worker).watch_address(cast(Mirror, SimpleNamespace(trouble=None)))
    settings = ApiSettings(
        redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path), api_keys_file=keys_file(tmp_path)
    )
    with running(settings) as api:
        return set(HELP.findall(api.get("/metrics", headers=ALICE).text + generate_latest(worker).decode()))


def test_dashboard_and_rules_use_metrics_that_exist(measured: set[str]) -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    texts = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    texts += [path.read_text(encoding="utf-8") for path in RULES.glob("*.yml")]
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for text in texts for name in USED.findall(text)}
    assert len(used) > 15
    assert used <= measured


def test_every_alert_names_its_section_of_the_runbook() -> None:
    rules = (RULES / "alerts.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"alert: (\w+)", rules)
    sections = re.findall(r"^### (Difuso\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == alerts
    assert re.findall(r"runbook_url: (.+)", rules) == [f"docs/operations.md#{alert.lower()}" for alert in alerts]
