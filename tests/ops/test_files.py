"""What operators start from is sound, say the tools of its kind. `make ops-check`; skips where a tool is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
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
NEWER = {".spec.fallback.behavior"}  # KEDA has it since 2.17; the models for Python 3.11 are those of 2.16
ADDITIONS = ((), ("docker/gpu.yml",), ("docker/public.yml",), ("docker/gpu.yml", "docker/public.yml", "docker/s3.yml"))


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
    if "docker/s3.yml" in additions:
        keys["DIFUSO_MODELS_DIR"] = "s3://bucket/models"
    config: dict[str, Any] = yaml.safe_load(
        run("docker", "compose", *files, "--profile", "*", "config", **keys, **environment)
    )
    return config


def manifests(overlay: str | Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(run("kubectl", "kustomize", str(ROOT / "deploy/overlays" / overlay))))


def of_kind(kind: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


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


def test_one_container_alone_fills_the_volume_of_models() -> None:
    mounts = {name: service.get("volumes", []) for name, service in compose()["services"].items()}
    filling = [name for name, each in mounts.items() for m in each if m["source"] == "models" and m["volume"] == {}]
    assert filling == ["api"]
    assert any(m["source"] == "models" for m in mounts["worker"])


def test_api_and_workers_of_compose_share_the_cache_of_an_address() -> None:
    services = compose("docker/s3.yml", AWS_ACCESS_KEY_ID="key")["services"]
    for name in ("api", "worker"):
        environment = services[name]["environment"]
        assert (environment["DIFUSO_MODELS_DIR"], environment["AWS_ACCESS_KEY_ID"]) == ("s3://bucket/models", "key")
        assert environment["REDIS_URL"], "what the service has without the addition"
        assert {mount["source"]: mount["target"] for mount in services[name]["volumes"]}.items() >= {
            "cache": "/var/lib/difuso/cache",
            "results": "/var/lib/difuso/store",
        }.items()


def test_compose_gives_a_worker_more_time_than_its_drain() -> None:
    worker = compose()["services"]["worker"]
    assert worker["stop_grace_period"] == "1m0s"
    assert int(worker["environment"]["DIFUSO_DRAIN_SECONDS"]) + 15 <= 60


def test_a_trainer_comes_with_its_profile_and_gives_way_to_all_others() -> None:
    services = compose(DIFUSO_TRAINING="true")["services"]
    trainer = services["trainer"]
    assert trainer["profiles"] == ["training"]
    assert trainer["cpu_shares"] < 100
    assert services["api"]["environment"]["DIFUSO_TRAINING"] == "true"
    assert compose(DIFUSO_TRAINING=None)["services"]["api"]["environment"]["DIFUSO_TRAINING"] == "false"
    trained = {"trained": "/var/lib/difuso/trained"}
    for name in ("api", "worker", "trainer"):
        mounts = {mount["source"]: mount["target"] for mount in services[name]["volumes"]}
        assert mounts.items() >= trained.items(), name
        assert mounts["results"] == "/var/lib/difuso/store"
    assert compose("docker/gpu.yml")["services"]["trainer"]["image"] == "difuso-trainer:cuda"


def test_promtool_accepts_the_configuration_and_the_alerts_do_as_they_should() -> None:
    run("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    run("promtool", "test", "rules", *map(str, (PROMETHEUS / "tests").glob("*.yml")))


def check(documents: list[dict[str, Any]]) -> set[str]:
    """Kubernetes, or the operator whose object it is, must know every field of each. Returns the operators' kinds."""
    validator = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    models = {
        "keda.sh/v1alpha1": pytest.importorskip("cloudcoil.models.keda.v1alpha1", reason=EXTRA),
        "monitoring.coreos.com/v1": pytest.importorskip("cloudcoil.models.prometheus_operator.v1", reason=EXTRA),
    }
    foreign = set()
    for document in documents:
        if document["apiVersion"] not in models:
            validator.validate(document, KUBERNETES, strict=True)
            continue
        understood = getattr(models[document["apiVersion"]], document["kind"]).model_validate(document)
        kept = understood.model_dump(by_alias=True, exclude_unset=True, mode="json")
        assert set(unknown_keys(document, kept)) <= NEWER
        foreign.add(document["kind"])
    return foreign


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_field_of_the_objects_is_known(overlay: str) -> None:
    assert check(manifests(overlay)) == {"PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"}


def test_a_rule_for_the_operator_is_the_rule_of_prometheus() -> None:
    rules = of_kind("PrometheusRule", manifests("cpu"))
    files = {f"difuso-{path.stem}": yaml.safe_load(path.read_text("utf-8")) for path in PROMETHEUS.glob("rules/*.yml")}
    assert {name: rule["spec"] for name, rule in rules.items()} == files, "run `make rules`"


def test_workers_scale_by_seconds_of_work_and_stay_while_nobody_knows_them(tmp_path: Path) -> None:
    spec = of_kind("ScaledObject", manifests("cpu"))["difuso-worker"]["spec"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert spec["minReplicaCount"] >= 1, "seconds are known only while a worker lives"
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    series = {  # two workers need 3 s for the backlog of one model; nobody serves the other; then Redis is away
        'difuso_backlog_seconds{model="quick", instance="a"}': "3x10 stale",
        'difuso_backlog_seconds{model="quick", instance="b"}': "3x10 stale",
        'difuso_backlog_seconds{model="slow", instance="a"}': "10x10 stale",
        'difuso_workers{model="quick", instance="a"}': "2x10 stale",
        'difuso_workers{model="slow", instance="a"}': "2x10 stale",
        'difuso_workers{model="unserved", instance="a"}': "0x10 stale",
    }
    ask = {"expr": trigger["metadata"]["query"]}
    test = {
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {**ask, "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": 26}]},
            {**ask, "eval_time": "12m", "exp_samples": []},
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"tests": [test]}))
    run("promtool", "test", "rules", str(tmp_path / "tests.yml"))


def changed(overlay: str, folder: Path, change: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """The objects of an overlay whose kustomization is changed; every field of them must be known."""
    for part in ("deploy", "docker"):
        shutil.copytree(ROOT / part, folder / part, dirs_exist_ok=True)
    file = folder / f"deploy/overlays/{overlay}/kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text("utf-8"))
    change(kustomization)
    file.write_text(yaml.safe_dump(kustomization))
    documents = manifests(file.parent)
    check(documents)
    return documents


@pytest.fixture(params=OVERLAYS)
def with_trainer(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, Any]]:
    """The objects of an overlay to which the component trainer is added."""
    return changed(request.param, tmp_path, lambda it: it["components"].insert(0, "../../components/trainer"))


def test_a_trainer_has_what_api_and_workers_share_with_it(with_trainer: list[dict[str, Any]]) -> None:
    deployments = of_kind("Deployment", with_trainer)
    pods = {name: each["spec"]["template"]["spec"] for name, each in deployments.items()}
    for name, pod in pods.items():
        (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "trained")
        assert mount["mountPath"] == "/var/lib/difuso/trained"
        assert mount.get("readOnly", False) == (name != "difuso-trainer")
    trainer = pods["difuso-trainer"]
    assert trainer["securityContext"] == pods["difuso-worker"]["securityContext"]
    assert trainer["containers"][0]["securityContext"] == pods["difuso-worker"]["containers"][0]["securityContext"]
    for place in ("limits", "envFrom"):
        shared = [pods[name]["containers"][0] for name in ("difuso-worker", "difuso-trainer")]
        has = [("nvidia.com/gpu" if place == "limits" else "difuso-s3") in str(each) for each in shared]
        assert has[0] == has[1], "a GPU, and the bucket, if the workers have them"
    assert any(each.get("data", {}).get("DIFUSO_TRAINING") == "true" for each in with_trainer)
    reached = of_kind("NetworkPolicy", with_trainer)["redis"]["spec"]["ingress"][0]["from"][0]["podSelector"]
    assert "difuso-trainer" in reached["matchExpressions"][0]["values"]


def test_there_is_a_trainer_for_each_training_and_none_without(
    with_trainer: list[dict[str, Any]], tmp_path: Path
) -> None:
    spec = of_kind("ScaledObject", with_trainer)["difuso-trainer"]["spec"]
    (trigger,) = spec["triggers"]
    assert (spec["minReplicaCount"], trigger["metadata"]["threshold"]) == (0, "1")
    series = {  # two APIs, each of which reports everything
        **{f'difuso_trainings{{state="queued", instance="{each}"}}': "2x10 0x10 stale" for each in "ab"},
        **{f'difuso_trainings{{state="running", instance="{each}"}}': "1x10 0x10 stale" for each in "ab"},
        'difuso_trainings{state="paused", instance="a"}': "3x20 stale",
    }
    ask = {"expr": trigger["metadata"]["query"]}
    test = {
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {**ask, "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": 3}]},
            {**ask, "eval_time": "15m", "exp_samples": [{"labels": "{}", "value": 0}]},
            {**ask, "eval_time": "25m", "exp_samples": []},
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"tests": [test]}))
    run("promtool", "test", "rules", str(tmp_path / "tests.yml"))


def test_every_pod_reads_the_models_of_the_volume() -> None:
    for deployment in of_kind("Deployment", manifests("cpu")).values():
        pod = deployment["spec"]["template"]["spec"]
        (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "models")
        assert mount == {"name": "models", "mountPath": "/var/lib/difuso/models", "readOnly": True}
        (fills,) = pod["initContainers"]
        assert {"name": "models", "mountPath": fills["command"][-1]} in fills["volumeMounts"]


def test_a_volume_of_models_is_filled_once_by_however_many_pods(tmp_path: Path) -> None:
    image, volume = tmp_path / "image", tmp_path / "volume"
    names = {"one", "two"}
    for name in names:
        (image / name / "deeper").mkdir(parents=True)
        (image / name / "deeper/weights").write_text(name)
    volume.mkdir()
    fill = ["sh", str(ROOT / "deploy/components/models/fill.sh"), str(image), str(volume)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: subprocess.run(fill, check=True), range(8)))
    assert {path.name for path in volume.iterdir()} == {".filled", *names}
    for name in names:
        assert [path.name for path in (volume / name).iterdir()] == ["deeper"]
        assert (volume / name / "deeper/weights").read_text() == name
    shutil.rmtree(volume / "one")
    (volume / "two/deeper/weights").write_text("newer")
    subprocess.run(fill, check=True)
    assert not (volume / "one").exists(), "whoever removed a model wants it gone"
    assert (volume / "two/deeper/weights").read_text() == "newer"


def test_traces_may_leave_where_their_component_is_added(tmp_path: Path) -> None:
    documents = changed("cpu", tmp_path, lambda it: it["components"].append("../../components/traces"))
    (endpoint,) = (
        each["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"] for each in documents if "REDIS_URL" in each.get("data", {})
    )
    host, _, port = endpoint.removeprefix("http://").partition(":")
    (rule,) = of_kind("NetworkPolicy", documents)["traces"]["spec"]["egress"]
    assert rule["ports"] == [{"port": int(port)}]
    (peer,) = rule["to"]
    assert list(peer["namespaceSelector"]["matchLabels"].values()) == [host.partition(".")[2]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_fetch_the_models_of_an_address_where_its_component_is_added(tmp_path: Path, overlay: str) -> None:
    def fetch(it: dict[str, Any]) -> None:
        it["components"] = [each.replace("/models", "/address") for each in it["components"]]

    documents = changed(overlay, tmp_path, fetch)
    assert any(each.get("data", {}).get("DIFUSO_MODELS_DIR") == "s3://difuso/models" for each in documents)
    for deployment in of_kind("Deployment", documents).values():
        pod = deployment["spec"]["template"]["spec"]
        (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "cache")
        assert mount["mountPath"] == "/var/lib/difuso/cache"
        assert {"secretRef": {"name": "difuso-s3"}} in pod["containers"][0]["envFrom"]
        assert "emptyDir" in next(each for each in pod["volumes"] if each["name"] == "cache")


def test_a_worker_with_a_gpu_lies_where_one_is_and_goes_when_the_next_is_ready() -> None:
    documents = manifests("gpu")
    assert any(each.get("data", {}).get("DIFUSO_MODELS_DIR", "").startswith("s3://") for each in documents)
    assert not of_kind("PersistentVolumeClaim", documents), "models and results lie in a bucket"
    worker = of_kind("Deployment", documents)["difuso-worker"]["spec"]
    assert worker["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    pod = worker["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= worker["template"]["metadata"]["labels"].items()


MODELS = ("cifar10", "faces64.v2")


@pytest.fixture(params=OVERLAYS)
def with_pools(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, Any]]:
    """The objects of an overlay with the pool that docs/operations.md shows, a second one, a trainer and traces."""
    section = (ROOT / "docs/operations.md").read_text("utf-8").split("### Pools\n")[1].split("\n### ")[0]
    _, pool, added = (dedent(block) for block in re.findall(r"(?:^    .+\n)+", section, re.MULTILINE))

    def with_both(it: dict[str, Any]) -> None:
        for name in MODELS:
            file = tmp_path / f"deploy/overlays/{request.param}/{name}/kustomization.yaml"
            file.parent.mkdir()
            file.write_text(pool.replace("cifar10", name))
        it |= yaml.safe_load(added.replace("=cifar10", f"={','.join(MODELS)}"))
        it["resources"].append(MODELS[1])
        it["components"] = ["../../components/trainer", *it["components"], "../../components/traces"]

    return changed(request.param, tmp_path, with_both)


def test_a_pool_is_workers_of_one_model_and_else_like_all(with_pools: list[dict[str, Any]]) -> None:
    deployments, scaled = of_kind("Deployment", with_pools), of_kind("ScaledObject", with_pools)
    usual = deployments["difuso-worker"]["spec"]["template"]
    for model in MODELS:
        name = f"difuso-worker-{model}"
        spec = deployments[name]["spec"]
        pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
        assert pod["containers"][0]["env"].pop() == {"name": "DIFUSO_MODELS", "value": model}
        assert pod == usual["spec"], "with all that components give workers"
        chosen = spec["selector"]["matchLabels"]
        assert chosen.items() <= labels.items()
        assert chosen["app.kubernetes.io/name"] != usual["metadata"]["labels"]["app.kubernetes.io/name"]
        assert labels["app.kubernetes.io/part-of"] == "difuso"
        assert of_kind("PodDisruptionBudget", with_pools)[name]["spec"]["selector"]["matchLabels"] == chosen
        assert scaled[name]["spec"]["scaleTargetRef"] == {"name": name}
    assert any(each.get("data", {}).get("DIFUSO_POOLS") == ",".join(MODELS) for each in with_pools)
    for kind in ("NetworkPolicy", "PodMonitor"):
        for each in of_kind(kind, with_pools).values():
            text = str(each["spec"])
            assert ("difuso-worker" in text) == ("difuso-pool" in text), each["metadata"]["name"]


def test_a_pool_starts_for_jobs_that_no_worker_measures_and_sleeps_without_any(
    with_pools: list[dict[str, Any]], tmp_path: Path
) -> None:
    spec = of_kind("ScaledObject", with_pools)["difuso-worker-cifar10"]["spec"]
    (trigger,) = spec["triggers"]
    assert (spec["minReplicaCount"], trigger["metadata"]["ignoreNullValues"]) == (0, "false")
    series = {  # no jobs; jobs without a worker; 4 s of them for two workers; the last of them; none; Redis is away
        "difuso_backlog_image_steps": "0x9 900x9 600x9 1x9 0x9 stale",
        "difuso_backlog_seconds": "0x9 _x10 4x9 0.01x9 0x9 stale",
        "difuso_workers": "0x19 2x19 1x9 stale",
    }
    expected = {5: 0, 15: 3, 25: 8, 35: 0.02, 45: 0, 56: None}
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f'{name}{{model="cifar10", instance="{instance}"}}', "values": values}
            for name, values in series.items()
            for instance in "ab"
        ]
        + [{"series": 'difuso_backlog_image_steps{model="other", instance="a"}', "values": "7000x60"}],
        "promql_expr_test": [
            {
                "expr": trigger["metadata"]["query"],
                "eval_time": f"{minute}m",
                "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
            }
            for minute, value in expected.items()
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"tests": [test]}))
    run("promtool", "test", "rules", str(tmp_path / "tests.yml"))
    assert trigger["metadata"]["threshold"] == str(expected[15]), "one worker"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_ingress_has_the_host_of_the_api_and_is_the_only_way_to_it(tmp_path: Path, overlay: str) -> None:
    def open_up(it: dict[str, Any]) -> None:
        hosts = "DIFUSO_ALLOWED_HOSTS=difuso-api,localhost,pics.example"
        it["configMapGenerator"] = [{"name": "difuso-api", "behavior": "merge", "literals": [hosts]}]
        it["components"].append("../../components/ingress")

    documents = changed(overlay, tmp_path, open_up)
    spec = of_kind("Ingress", documents)["difuso"]["spec"]
    (rule,), (tls,) = spec["rules"], spec["tls"]
    assert [rule["host"], *tls["hosts"]] == ["pics.example"] * 2
    service = rule["http"]["paths"][0]["backend"]["service"]
    ports = of_kind("Service", documents)[service["name"]]["spec"]["ports"]
    assert service["port"]["name"] in [port["name"] for port in ports]
    (let_in,) = of_kind("NetworkPolicy", documents)["api"]["spec"]["ingress"]
    assert let_in == {
        "ports": [{"port": "http"}],
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
    }


def test_the_pod_that_changes_models_is_allowed_and_mounts_their_volume() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason=EXTRA)
    editor = yaml.safe_load((ROOT / "deploy/components/models/editor.yaml").read_text("utf-8"))
    validator.validate(editor, KUBERNETES, strict=True)
    (volume,) = editor["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] in of_kind("PersistentVolumeClaim", manifests("cpu"))


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
