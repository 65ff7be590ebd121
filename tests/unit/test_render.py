"""What is rendered keeps to the published schemas, and starts what the local and the docker target start."""

from __future__ import annotations

import builtins
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import jsonschema
import kubernetes_validate
import pytest
import requests
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from typer.testing import CliRunner

from tests.unit.test_trtllm_engine import folder
from tritonlab import ModelRepository, VllmModel
from tritonlab.cli import app
from tritonlab.errors import TritonlabError
from tritonlab.render import Rendered, compose, haproxy, kubernetes, ray
from tritonlab.servers import local
from tritonlab.trtllm import InflightBatcherLlm

CUSTOM = yaml.safe_load(Path(__file__).with_name("custom_resources.yaml").read_text())
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built
HEALTHY = {"ENABLE_VLLM_HEALTH_CHECK": "true", "REPORT_CUSTOM_METRICS": "true"}
WHERE_IT_RUNS = ("--backend-directory", "--http-", "--grpc-", "--metrics-", "--backend-config", "--exit-timeout-secs")


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    made = ModelRepository(tmp_path / "models")
    made.add(VllmModel("gemma", model="google/gemma-2b-it"))
    made.add(VllmModel("watched", model="google/gemma-2b-it", parameters=HEALTHY))
    made.add(VllmModel("large", model="/weights/large", tensor_parallel_size=4))
    return made


def objects(rendered: Rendered) -> list[dict[str, Any]]:
    texts = [text for name, text in rendered.files.items() if name.endswith(".yaml") and "/" not in name]
    return [found for text in texts for found in yaml.load_all(text, Loader=LOADER)]


def one(rendered: Rendered, kind: str) -> dict[str, Any]:
    (found,) = [found for found in objects(rendered) if found["kind"] == kind]
    return found


def container(rendered: Rendered, template: str = "template", kind: str = "Deployment") -> dict[str, Any]:
    spec = one(rendered, kind)["spec"]
    found: dict[str, Any] = spec.get("leaderWorkerTemplate", spec)[template]["spec"]["containers"][0]
    return found


def validate(found: dict[str, Any]) -> None:
    """Against the schema that is published for it; pods of custom resources against that of pods."""
    if found["kind"] not in CUSTOM:
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
        return
    jsonschema.validate(found, CUSTOM[found["kind"]])
    for name, template in found["spec"].get("leaderWorkerTemplate", {}).items():
        if name.endswith("Template"):
            kubernetes_validate.validate(
                {"apiVersion": "v1", "kind": "Pod", **template}, kubernetes_validate.latest_version(), strict=True
            )


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        assert not os.environ.get("CI"), f"CI has to have {name}"
        pytest.skip(f"there is no {name} here")
    return found


def expanded(text: str) -> str:
    """As Kubernetes expands commands and variables' values; names that it does not know stay.

    The rule is that of kubernetes/kubernetes, third_party/forked/golang/expansion.
    """
    return re.sub(r"\$(\$|\([^)]*\))", lambda found: "$" if found[1] == "$" else "<expanded>", text)


class TestKubernetes:
    @pytest.mark.parametrize(
        "settings",
        [
            {"models": ["gemma"]},
            {"models": ["watched", "gemma"], "surge": 0, "scale_on": "waiting", "admin_secret": ""},
            {"models": ["large"], "storage_class": "nfs", "repository_claim": "models"},
            {"models": ["gemma"], "hosts": 2, "gpus": 8, "environment": {"NCCL_DEBUG": "INFO"}},
        ],
        ids=["plain", "several-models", "claim", "group"],
    )
    def test_every_object_keeps_to_its_schema(self, repository: ModelRepository, settings: dict[str, Any]) -> None:
        rendered = kubernetes(repository, **settings)
        for found in objects(rendered):
            validate(found)
        kinds = {found["kind"] for found in objects(rendered)}
        assert {"Service", "HorizontalPodAutoscaler", "PodMonitor", "NetworkPolicy", "PodDisruptionBudget"} <= kinds
        assert ("LeaderWorkerSet" in kinds) == ("hosts" in settings)
        names = {found["metadata"]["namespace"] for found in objects(rendered) if found["kind"] != "Namespace"}
        assert names == {"triton"}

    def test_schema_refuses_what_it_should(self, repository: ModelRepository) -> None:
        """A validator that takes everything would make the test above worthless."""
        wrong = one(kubernetes(repository, ["gemma"]), "Deployment")
        wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
        with pytest.raises(kubernetes_validate.ValidationError):
            validate(wrong)
        monitor = one(kubernetes(repository, ["gemma"]), "PodMonitor")
        monitor["spec"]["endpoints"] = []
        with pytest.raises(jsonschema.ValidationError, match="endpoints"):
            validate(monitor)

    def test_server_gets_the_arguments_of_the_other_targets(self, repository: ModelRepository) -> None:
        engine: Any = SimpleNamespace(backends="/b", tritonserver="tritonserver")
        chosen = {"http": 1, "grpc": 2, "metrics": 3}
        words = local._command(engine, repository.path, ("gemma",), chosen, [], "id")
        here = {word for word in words[1:] if not word.startswith(WHERE_IT_RUNS)}
        pod = container(kubernetes(repository, ["gemma"], admin_secret=""))
        there = {word for word in pod["args"] if not word.startswith(WHERE_IT_RUNS)}
        assert pod["command"] == ["tritonserver"]
        assert {word.partition("=")[0] for word in here} == {word.partition("=")[0] for word in there}
        assert there == {"--model-repository=/models", "--model-control-mode=explicit", "--load-model=gemma"}
        service = yaml.safe_load(compose(repository, ["gemma"])["compose.yaml"])["services"]["triton1"]
        assert service["command"] == [*pod["command"], *pod["args"]]

    def test_own_arguments_replace_ours(self, repository: ModelRepository) -> None:
        rendered = kubernetes(repository, ["gemma"], arguments=["--exit-timeout-secs=90", "--log-verbose=1"])
        arguments = container(rendered)["args"]
        assert [word for word in arguments if "exit-timeout" in word] == ["--exit-timeout-secs=90"]
        assert "--log-verbose=1" in arguments

    def test_probes_ask_the_model(self, repository: ModelRepository) -> None:
        """A dead engine leaves /v2/health at 200; the model's ready tells once the health check unloads it."""
        pod = container(kubernetes(repository, ["gemma"]))
        assert pod["startupProbe"]["httpGet"]["path"] == "/v2/health/ready"
        assert pod["readinessProbe"]["httpGet"]["path"] == "/v2/models/gemma/ready"
        assert pod["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
        ports = {port["name"]: port["containerPort"] for port in pod["ports"]}
        assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}
        assert pod["livenessProbe"]["httpGet"]["port"] == "http"
        watched = container(kubernetes(repository, ["watched"]))
        assert watched["livenessProbe"]["httpGet"]["path"] == "/v2/models/watched/ready"
        both = container(kubernetes(repository, ["gemma", "watched"]))["readinessProbe"]["exec"]["command"]
        assert both[-2:] == [f"http://localhost:8000/v2/models/{name}/ready" for name in ("gemma", "watched")]

    def test_dead_engine_is_told_of(self, repository: ModelRepository) -> None:
        assert any("ENABLE_VLLM_HEALTH_CHECK" in note for note in kubernetes(repository, ["gemma"]).notes)
        assert kubernetes(repository, ["watched"], cache_size="20Gi", memory="24Gi").notes == ()

    def test_sizes_of_a_download_are_to_be_chosen(self, repository: ModelRepository) -> None:
        def told(model: str, **sizes: str) -> list[str]:
            return [note for note in kubernetes(repository, [model], **sizes).notes if "has to hold" in note]

        (note,) = told("watched")
        assert "cache_size is 100Gi" in note
        assert "memory is 16Gi" in note
        assert note in kubernetes(repository, ["watched"])["README.md"]
        assert told("watched", memory="64Gi")
        assert not told("watched", memory="64Gi", cache_size="200Gi")
        assert not told("large")  # a folder
        assert any("200Gi" in note for note in kubernetes(repository, ["large"], cache_size="200Gi").notes)

    def test_pod_has_time_to_end(self, repository: ModelRepository) -> None:
        rendered = kubernetes(repository, ["gemma"])
        spec = one(rendered, "Deployment")["spec"]["template"]["spec"]
        drain = int(container(rendered)["lifecycle"]["preStop"]["exec"]["command"][1])
        exit_timeout = next(word for word in container(rendered)["args"] if word.startswith("--exit-timeout-secs="))
        assert spec["terminationGracePeriodSeconds"] > drain + int(exit_timeout.partition("=")[2])

    def test_update_keeps_the_capacity(self, repository: ModelRepository) -> None:
        def rolling(surge: int) -> Any:
            return one(kubernetes(repository, ["gemma"], surge=surge), "Deployment")["spec"]["strategy"][
                "rollingUpdate"
            ]

        assert rolling(1) == {"maxSurge": 1, "maxUnavailable": 0}
        assert rolling(0) == {"maxSurge": 0, "maxUnavailable": 1}

    def test_gpus_and_shared_memory_follow_the_model(self, repository: ModelRepository) -> None:
        def of(model: str, **more: Any) -> tuple[Any, Any]:
            rendered = kubernetes(repository, [model], **more)
            volumes = one(rendered, "Deployment")["spec"]["template"]["spec"]["volumes"]
            shm = next(volume["emptyDir"] for volume in volumes if volume["name"] == "shm")
            assert shm["medium"] == "Memory"
            assert {"name": "shm", "mountPath": "/dev/shm"} in container(rendered)["volumeMounts"]
            return container(rendered)["resources"]["limits"].get("nvidia.com/gpu"), shm["sizeLimit"]

        assert of("gemma") == ("1", "1Gi")
        assert of("large") == ("4", "8Gi")
        assert of("gemma", gpus=0) == (None, "1Gi")
        assert of("gemma", image="tritonlab/tritonserver-cpu")[0] == "1"
        with pytest.raises(TritonlabError, match="spread over 4 GPUs"):
            kubernetes(repository, ["large"], gpus=2)

    def test_repository_is_mounted_file_by_file(self, repository: ModelRepository) -> None:
        rendered = kubernetes(repository, ["gemma"])
        data = one(rendered, "ConfigMap")["data"]
        mounted = {
            mount["mountPath"]: data[mount["subPath"]]
            for mount in container(rendered)["volumeMounts"]
            if mount["name"] == "repository"
        }
        assert mounted == {
            "/models/gemma/config.pbtxt": repository["gemma"].config_text,
            "/models/gemma/1/model.json": repository["gemma"].model_json_path.read_text(),
        }
        before = one(rendered, "Deployment")["spec"]["template"]["metadata"]["annotations"]
        repository["gemma"].update_model_json(max_model_len=512)
        after = one(kubernetes(repository, ["gemma"]), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        assert before != after

    def test_names_that_fall_together_stay_apart(self, repository: ModelRepository) -> None:
        for name in ("a_1", "a"):
            repository.add(VllmModel(name, model="m"))
        (repository.path / "a" / "1_model.json").write_text("x")
        rendered = kubernetes(repository, ["a", "a_1"])
        assert len(one(rendered, "ConfigMap")["data"]) == 5

    def test_bytes_and_large_files(self, repository: ModelRepository) -> None:
        path = repository["gemma"].path / "1" / "blob"
        path.write_bytes(b"\xff\x00")
        assert list(one(kubernetes(repository, ["gemma"]), "ConfigMap")["binaryData"].values()) == ["/wA="]
        path.write_bytes(b"\xff" * 2_000_000)
        with pytest.raises(TritonlabError, match="repository_claim"):
            kubernetes(repository, ["gemma"])
        assert not any(
            o["kind"] == "ConfigMap" for o in objects(kubernetes(repository, ["gemma"], repository_claim="c"))
        )

    def test_weights_lie_where_the_model_says(self, repository: ModelRepository) -> None:
        rendered = kubernetes(repository, ["large"])
        mount = next(m for m in container(rendered)["volumeMounts"] if m["name"] == "weights")
        assert (mount["mountPath"], mount["subPath"]) == ("/weights/large", "weights/large")
        assert not any(variable["name"] == "HF_TOKEN" for variable in container(rendered)["env"])
        assert any("/weights/large" in note for note in rendered.notes)

    def test_secrets_are_named_and_never_written(
        self, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_thesecretitself")
        rendered = kubernetes(repository, ["gemma"])
        assert "thesecretitself" not in "".join(rendered.files.values())
        variables = {variable["name"]: variable for variable in container(rendered)["env"]}
        assert variables["HF_TOKEN"]["valueFrom"]["secretKeyRef"] == {
            "name": "hf-token", "key": "HF_TOKEN", "optional": True,
        }  # fmt: skip
        assert variables["TRITON_ADMIN_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "triton-admin"
        restricted = next(word for word in container(rendered)["args"] if word.startswith("--http-restricted-api="))
        assert restricted.endswith(":admin-key=$(TRITON_ADMIN_KEY)")
        assert "model-repository" in restricted
        assert "health" not in restricted

    def test_pods_keep_to_the_restricted_standard(self, repository: ModelRepository) -> None:
        """Kubernetes' Pod Security Standard "restricted", which the namespace enforces."""
        for rendered, kind, templates in (
            (kubernetes(repository, ["gemma"]), "Deployment", ["template"]),
            (kubernetes(repository, ["gemma"], hosts=2), "LeaderWorkerSet", ["leaderTemplate", "workerTemplate"]),
        ):
            spec = one(rendered, kind)["spec"]
            for template in templates:
                pod = spec.get("leaderWorkerTemplate", spec)[template]["spec"]
                assert pod["securityContext"]["runAsNonRoot"]
                assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
                assert pod["containers"][0]["securityContext"] == {
                    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                }  # fmt: skip
                kept = {"configMap", "emptyDir", "persistentVolumeClaim"}
                assert all(set(volume) <= {"name", *kept} for volume in pod["volumes"])
                assert pod["enableServiceLinks"] is False
        labels = one(kubernetes(repository, ["gemma"]), "Namespace")["metadata"]["labels"]
        assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}

    def test_everything_selects_the_same_pods(self, repository: ModelRepository) -> None:
        for hosts in (1, 2):
            rendered = kubernetes(repository, ["gemma"], hosts=hosts)
            spec = one(rendered, "LeaderWorkerSet" if hosts > 1 else "Deployment")["spec"]
            template = spec["leaderWorkerTemplate"]["leaderTemplate"] if hosts > 1 else spec["template"]
            labels = template["metadata"]["labels"].items()
            selectors = [
                one(rendered, "Service")["spec"]["selector"],
                one(rendered, "PodMonitor")["spec"]["selector"]["matchLabels"],
                one(rendered, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
                one(rendered, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
            ]
            assert all(selector.items() <= labels for selector in selectors)
            if hosts > 1:  # the others have no server in them
                worker = spec["leaderWorkerTemplate"]["workerTemplate"]["metadata"]["labels"].items()
                assert not any(selector.items() <= worker for selector in selectors[:3])

    def test_clients_are_of_its_own_namespace(self, repository: ModelRepository) -> None:
        rendered = kubernetes(repository, ["gemma"], namespace="here")
        (peer,) = one(rendered, "NetworkPolicy")["spec"]["ingress"][0]["from"]
        assert peer == {"podSelector": {"matchLabels": {"tritonlab/client": "true"}}}
        guide = rendered["README.md"]
        assert "pods in this namespace, here, with the label `tritonlab/client=true`" in guide
        assert "they reach http://gemma:8000." in guide
        assert "namespaceSelector" in guide

    def test_autoscaler_asks_for_what_the_adapter_gives(self, repository: ModelRepository) -> None:
        for scale_on, series in (
            ("", "first_token"), ("waiting", "requests_waiting"), ("queue", "queue_duration_us"), ("batch", "trt_llm"),
        ):  # fmt: skip
            rendered = kubernetes(repository, ["gemma"], scale_on=scale_on, replicas=3)
            spec = one(rendered, "HorizontalPodAutoscaler")["spec"]
            (rule,) = yaml.safe_load(rendered["prometheus-adapter/values.yaml"])["rules"]["custom"]
            assert rule["name"]["as"] == spec["metrics"][0]["pods"]["metric"]["name"]
            assert series in rule["seriesQuery"]
            assert "<<.LabelMatchers>>" in rule["metricsQuery"]
            assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 6)
            assert spec["scaleTargetRef"]["kind"] == "Deployment"

    def test_busiest_model_counts(self, repository: ModelRepository, tmp_path: Path) -> None:
        """Two models, of which one is waited for, as Prometheus itself computes it."""
        rates = {
            "vllm:time_to_first_token_seconds_sum": ("0+180x9", "0+6x9"),
            "vllm:time_to_first_token_seconds_count": ("0+60x9", "0+60x9"),
            "nv_inference_queue_duration_us": ("0+12e7x9", "0+0x9"),
            "nv_inference_request_success": ("0+60x9", "0+600x9"),
            'nv_trt_llm_request_metrics|request_type="active"': ("48x9", "1x9"),
            'nv_trt_llm_request_metrics|request_type="max"': ("64x9", "64x9"),
        }
        wanted = {"first-token": 3, "queue": 2, "batch": 0.75}
        series = [
            {"series": f'{name}{{namespace="n",pod="p",model="{model}",{label}}}', "values": value}
            for (name, _, label), values in ((key.partition("|"), value) for key, value in rates.items())
            for model, value in zip(("busy", "idle"), values, strict=True)
        ]
        cases = []
        for signal, value in wanted.items():
            adapter = kubernetes(repository, ["gemma"], scale_on=signal)["prometheus-adapter/values.yaml"]
            query = yaml.safe_load(adapter)["rules"]["custom"][0]["metricsQuery"]
            query = query.replace("<<.LabelMatchers>>", 'namespace="n",pod=~"p|q"').replace("<<.GroupBy>>", "pod")
            cases.append({"expr": query, "eval_time": "8m", "exp_samples": [{"labels": '{pod="p"}', "value": value}]})
        path = tmp_path / "queries.yaml"
        path.write_text(
            yaml.safe_dump({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": cases}]})
        )
        done = subprocess.run(
            [program("promtool"), "test", "rules", path], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def test_group_of_hosts_runs_ray(self, repository: ModelRepository) -> None:
        rendered = kubernetes(repository, ["gemma"], hosts=2, gpus=4)
        spec = one(rendered, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
        assert spec["size"] == 2
        leader = container(rendered, "leaderTemplate", "LeaderWorkerSet")
        worker = container(rendered, "workerTemplate", "LeaderWorkerSet")
        assert leader["args"][0] == "tritonserver"
        assert "ray start --head" in leader["command"][2]
        assert "$$(python3" in leader["command"][2]
        assert ray(repository, ["gemma"], hosts=["10.0.0.1", "10.0.0.2"])["head.sh"].removeprefix(
            "#!/bin/bash\n"
        ) in expanded(leader["command"][2])
        assert "args" not in worker
        assert "readinessProbe" not in worker
        assert not any(variable["name"] == "TRITON_ADMIN_KEY" for variable in worker["env"])
        arguments = json.loads(one(rendered, "ConfigMap")["data"]["gemma_1_model.json"])
        assert arguments == {
            "model": "google/gemma-2b-it",
            "tensor_parallel_size": 4,
            "pipeline_parallel_size": 2,
            "distributed_executor_backend": "ray",
        }
        assert "tensor_parallel_size" not in repository["gemma"].model_json

    def test_dollars_stay(self, repository: ModelRepository) -> None:
        """Only where Kubernetes expands: in what is started and in variables, not in the ConfigMap."""
        price = "5$$ of $(HOME) and $HOME"
        repository["gemma"].update_model_json(note=price)
        rendered = kubernetes(
            repository, ["gemma"], environment={"PRICE": price}, arguments=[f"--log-file={price}"], admin_secret="admin"
        )
        pod = container(rendered)
        (written,) = [variable["value"] for variable in pod["env"] if variable["name"] == "PRICE"]
        assert expanded(written) == price
        assert f"--log-file={price}" in map(expanded, pod["args"])
        assert "admin-key=$(TRITON_ADMIN_KEY)" in "".join(pod["args"])
        assert json.loads(one(rendered, "ConfigMap")["data"]["gemma_1_model.json"])["note"] == price

    def test_every_version_folder_is_there(self, tmp_path: Path) -> None:
        """An ensemble's is empty, and Triton loads no model without one."""
        repository = ModelRepository(tmp_path / "models")
        for model in InflightBatcherLlm("/tokenizer", engine=str(folder(tmp_path))):
            repository.add(model)
        rendered = kubernetes(repository)
        mounted = [Path(mount["mountPath"]) for mount in container(rendered)["volumeMounts"]]
        versions = [Path("/models", *version.parts[-2:]) for version in repository.path.glob("*/[0-9]*")]
        assert len(versions) == 5
        for version in versions:
            assert any(path.is_relative_to(version) for path in mounted), version
        assert {"name": "empty", "emptyDir": {}} in one(rendered, "Deployment")["spec"]["template"]["spec"]["volumes"]
        assert mounted.count(Path("/models/ensemble/1")) == 1
        for found in objects(rendered):
            validate(found)
        claimed = container(kubernetes(repository, repository_claim="c"))["volumeMounts"]
        assert not any(mount["name"] == "empty" for mount in claimed)

    def test_compiled_engine_of_several_gpus_runs_under_mpirun(self, tmp_path: Path) -> None:
        engine = folder(tmp_path)  # for two
        repository = ModelRepository(tmp_path / "models")
        for model in InflightBatcherLlm("/tokenizer", engine=str(engine)):
            repository.add(model)
        rendered = kubernetes(repository, ["ensemble"])
        words = container(rendered)["command"] + container(rendered)["args"]
        assert words[0] == "mpirun"
        first, second = "\n".join(words).split("\n:\n")
        assert "--http-restricted-api" in first
        assert "--http-restricted-api" not in second
        assert "--load-model=tensorrt_llm" in second
        assert container(rendered)["resources"]["limits"]["nvidia.com/gpu"] == "2"
        assert "trtllm-python-py3" in container(rendered)["image"]
        (metric,) = one(rendered, "HorizontalPodAutoscaler")["spec"]["metrics"]
        assert metric["pods"]["metric"]["name"] == "triton_batch_share"
        for found in objects(rendered):
            validate(found)
        with pytest.raises(TritonlabError, match="only vLLM is spread over hosts"):
            kubernetes(repository, ["ensemble"], hosts=2)

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"replicas": 0}, "replicas is 0"),
            ({"replicas": True}, "replicas is True"),
            ({"replicas": 3, "max_replicas": 2}, "max_replicas is 2"),
            ({"gpus": -1}, "gpus is -1"),
            ({"hosts": 0}, "hosts is 0"),
            ({"name": "My_Model"}, "name is 'My_Model', which Kubernetes takes for no name"),
            ({"name": "a" * 60}, "leaves no room"),
            ({"namespace": "-a"}, "namespace is '-a'"),
            ({"token_secret": "hf_abcdefgh"}, "looks like a token"),
            ({"admin_secret": "Key"}, "admin_secret is 'Key'"),
            ({"environment": {"HF_TOKEN": "hf_abc"}}, "The value of HF_TOKEN would stand in the files"),
            ({"environment": {"A-B": "1"}}, "'A-B' cannot be a variable's name"),
            ({"scale_on": "luck"}, "no signal 'luck'"),
            ({"cache_size": "big"}, "cache_size is 'big'"),
            ({"memory": "much"}, "memory is 'much'"),
            ({"cpu": "0x1"}, "cpu is '0x1'"),
            ({"models": ["nobody"]}, "no model 'nobody'"),
            ({"models": []}, "No model of"),
            ({"image": "not an image"}, "cannot be an image"),
            ({"arguments": ["--http-port=1"]}, "cannot be given as an argument"),
            ({"arguments": ["--http-restricted-api=trace:key=hf_abc"]}, "The key of --http-restricted-api would stand"),
            ({"arguments": ["--grpc-restricted-protocol", "trace:k=hf_abc"]}, "takes admin_secret"),
            ({"arguments": ["--http-r=trace:key=hf_abc"]}, "takes admin_secret"),
            ({"hosts": 2, "repository_claim": "c"}, "rewritten for Ray"),
        ],
    )
    def test_what_cannot_be_is_a_sentence(
        self, repository: ModelRepository, settings: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(TritonlabError) as error:
            kubernetes(repository, **{"models": ["gemma"], **settings})
        assert told in str(error.value)
        assert "hf_abc" not in str(error.value)

    def test_one_gpu_kind_is_not_spread(self, tmp_path: Path) -> None:
        repository = ModelRepository(tmp_path / "models")
        repository.add(VllmModel("gemma", model="m", kind="KIND_GPU"))
        with pytest.raises(TritonlabError, match="KIND_GPU"):
            kubernetes(repository, hosts=2)

    def test_without_the_extra_it_says_so(self, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = builtins.__import__

        def absent(name: str, *arguments: Any, **more: Any) -> Any:
            if name.startswith("kubernetes"):
                raise ImportError(name)
            return kept(name, *arguments, **more)

        monkeypatch.setattr(builtins, "__import__", absent)
        with pytest.raises(TritonlabError, match=r"tritonlab\[kubernetes\]"):
            kubernetes(repository, ["gemma"])
        assert compose(repository, ["gemma"]).files


class TestCompose:
    @pytest.mark.parametrize(
        "settings", [{"models": ["gemma"]}, {"models": ["large"]}, {"models": ["gemma"], "gpus": 0}]
    )
    def test_it_keeps_to_the_compose_specification(self, repository: ModelRepository, settings: dict[str, Any]) -> None:
        found = yaml.safe_load(compose(repository, replicas=3, **settings)["compose.yaml"])
        jsonschema.validate(found, get_builtin_schema("vendor.compose-spec"))
        assert list(found["services"]) == ["triton1", "triton2", "triton3", "haproxy"]

    def test_each_replica_has_gpus_of_its_own_and_no_port(self, repository: ModelRepository) -> None:
        services = yaml.safe_load(compose(repository, ["large"], port=9000)["compose.yaml"])["services"]
        devices = [
            services[name]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
            for name in ("triton1", "triton2")
        ]
        assert devices == [["0", "1", "2", "3"], ["4", "5", "6", "7"]]
        assert not any("ports" in services[name] for name in ("triton1", "triton2"))
        assert services["haproxy"]["ports"] == ["127.0.0.1:9000:8000"]
        assert (
            "deploy"
            not in yaml.safe_load(compose(repository, ["gemma"], gpus=0)["compose.yaml"])["services"]["triton1"]
        )

    def test_token_goes_by_its_name(self, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_thesecretitself")
        rendered = compose(repository, ["gemma"], environment={"PRICE": "5$"})
        assert "thesecretitself" not in "".join(rendered.files.values())
        service = yaml.safe_load(rendered["compose.yaml"])["services"]["triton1"]
        assert service["environment"] == ["HF_TOKEN", "PRICE=5$$"]  # compose makes one dollar of two

    def test_keys_are_refused(self, repository: ModelRepository) -> None:
        for render in (compose, partial(ray, hosts=["10.0.0.1", "10.0.0.2"])):
            with pytest.raises(TritonlabError, match="admin_secret") as error:
                render(repository, ["gemma"], arguments=["--grpc-restricted-protocol=trace:key=topsecret"])
            assert "topsecret" not in str(error.value)

    def test_balancer_knows_the_services(self, repository: ModelRepository) -> None:
        text = compose(repository, ["gemma"])["haproxy.cfg"]
        assert "server triton2 triton2:8000 resolvers names init-addr last,libc,none" in text
        assert "bind *:8000" in text


class TestRay:
    def test_scripts_and_files(self, repository: ModelRepository, tmp_path: Path) -> None:
        rendered = ray(repository, ["gemma"], hosts=["10.0.0.1", "10.0.0.2", "10.0.0.3"], gpus=8)
        assert [name for name in rendered.files if name.startswith("start")] == [f"start-{i}.sh" for i in (1, 2, 3)]
        assert "tritonserver --model-repository=/models" in rendered["start-1.sh"]
        assert "tritonserver --model" not in rendered["start-2.sh"]
        assert "--env RAY_HEAD=10.0.0.1" in rendered["start-3.sh"]
        assert "--env VLLM_HOST_IP=10.0.0.3" in rendered["start-3.sh"]
        assert "--shm-size 8g" in rendered["start-1.sh"]
        arguments = json.loads(rendered["model_repository/gemma/1/model.json"])
        assert (arguments["tensor_parallel_size"], arguments["pipeline_parallel_size"]) == (8, 3)
        for path in rendered.write(tmp_path / "out"):
            if path.suffix == ".sh":
                assert os.access(path, os.X_OK)
                subprocess.run(["bash", "-n", path], check=True)
        problems = ModelRepository(tmp_path / "out" / "model_repository").validate()
        assert [problem for problem in problems if problem.severity == "error"] == []

    @pytest.mark.parametrize(
        ("hosts", "told"),
        [
            (["10.0.0.1"], "two hosts or more"),
            ("10.0.0.1", "two hosts or more"),
            (["10.0.0.1", "10.0.0.1"], "twice"),
            (["10.0.0.1", "b; rm"], "IP addresses"),
        ],
    )
    def test_addresses_are_checked(self, repository: ModelRepository, hosts: Any, told: str) -> None:
        with pytest.raises(TritonlabError, match=told):
            ray(repository, ["gemma"], hosts=hosts)

    def test_head_waits_for_every_host(self, repository: ModelRepository, tmp_path: Path) -> None:
        """With programs of the names `ray` and `python3` that only write down what they were asked."""
        rendered = ray(repository, ["gemma"], hosts=["10.0.0.1", "10.0.0.2"])
        (head,) = [path for path in rendered.write(tmp_path) if path.name == "head.sh"]
        for name, script in (("ray", 'echo "ray $*"'), ("python3", "echo chatter; echo 2")):
            program = tmp_path / name
            program.write_text(f"#!/bin/bash\n{script}\n")
            program.chmod(0o755)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VLLM_HOST_IP": "10.0.0.1", "RAY_PORT": "6379"}
        done = subprocess.run(
            [head, "echo", "a b", "$HOME"], env={**environment, "RAY_HOSTS": "2"}, capture_output=True, text=True,
            check=True, timeout=30,
        )  # fmt: skip
        assert done.stdout.splitlines() == [
            "ray start --head --node-ip-address=10.0.0.1 --port=6379 --include-dashboard=false",
            "a b $HOME",
        ]

    def test_worker_ends_when_it_is_told_to(self, repository: ModelRepository, tmp_path: Path) -> None:
        """With a `ray` that stays until `ray stop`, as the real one does with --block."""
        rendered = ray(repository, ["gemma"], hosts=["10.0.0.1", "10.0.0.2"])
        (worker,) = [path for path in rendered.write(tmp_path) if path.name == "worker.sh"]
        fake = tmp_path / "ray"
        fake.write_text(
            '#!/bin/bash\necho "ray $*"\ncd "$(dirname "$0")"\n[ "$1" != stop ] || { touch stopped; exit; }\n'
            "for _ in {1..600}; do [ ! -e stopped ] || exit 1; sleep 0.05; done\n"
        )
        fake.chmod(0o755)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VLLM_HOST_IP": "10.0.0.2"}
        process = subprocess.Popen(
            [worker], env={**environment, "RAY_HEAD": "10.0.0.1", "RAY_PORT": "6379"}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            started = "ray start --address=10.0.0.1:6379 --node-ip-address=10.0.0.2 --block\n"
            assert process.stdout.readline() == started
            process.terminate()
            assert process.wait(20) == 0
            assert process.stdout.read() == "ray stop\n"


# Servers that fail as Triton may, for HAProxy to go round.


class Replica(ThreadingHTTPServer):
    """A server that is ready, and whose answer to a request is chosen: "answer", "hang up", "exiting", "break off"."""

    daemon_threads = True

    def __init__(self, way: str, *, ready: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.way, self.ready, self.asked = way, ready, 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Replica
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say(self.server.ready if "/models/" in self.path else 200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        if self.server.way == "answer":
            self._say(200, body)
        elif self.server.way == "exiting":
            self._say(503, b"")
        elif self.server.way == "break off":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.wfile.flush()
        if self.server.way != "answer":
            self.close_connection = True

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Not to stderr."""


class Echo(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(name="program")
def find_haproxy() -> str:
    return program("haproxy")


@contextmanager
def balanced(program: str, folder: Path, *replicas: Replica | str, **settings: Any) -> Iterator[str]:
    """HAProxy before some replicas; its URL."""
    port = free_port()
    addresses = [replica if isinstance(replica, str) else replica.address for replica in replicas]
    (path,) = haproxy(addresses, port=port, **settings).write(folder)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program, "-db", "-f", str(path)], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            threading.Event().wait(0.05)
        yield f"http://127.0.0.1:{port}/v2/models/tutor/generate"
    finally:
        process.terminate()
        process.wait(10)
        for replica in replicas:
            if isinstance(replica, Replica):
                replica.shutdown()
                replica.server_close()


class TestHaproxy:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"model": ["a", "b"], "silence_s": 60, "retries": 0},
            {"grpc": {"x": "127.0.0.1:8001", "y": "[::1]:8011"}, "model": "tutor"},
            {"resolver": "127.0.0.11:53", "address": "*"},
        ],
    )
    def test_haproxy_reads_it(self, program: str, tmp_path: Path, settings: dict[str, Any]) -> None:
        (path,) = haproxy({"x": "127.0.0.1:8000", "y": "[::1]:8010"}, **settings).write(tmp_path)
        done = subprocess.run([program, "-c", "-f", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr

    @pytest.mark.parametrize("way", ["hang up", "exiting", "refuse"])
    def test_request_without_an_answer_goes_to_another(self, program: str, tmp_path: Path, way: str) -> None:
        bad: Replica | str = f"127.0.0.1:{free_port()}" if way == "refuse" else Replica(way)
        body = b"x" * 50_000  # more than HAProxy's own buffer holds
        with balanced(program, tmp_path, bad, Replica("answer"), model="tutor") as url:
            answers = [requests.post(url, data=body, timeout=20) for _ in range(8)]
            assert [(answer.status_code, answer.content == body) for answer in answers] == [(200, True)] * 8
            assert isinstance(bad, str) or bad.asked

    def test_stream_that_has_begun_is_not_sent_twice(self, program: str, tmp_path: Path) -> None:
        broken = [Replica("break off"), Replica("break off")]
        with balanced(program, tmp_path, *broken) as url:
            with requests.post(url, data=b"x", timeout=20, stream=True) as answer:
                pieces = answer.iter_content(None)
                assert next(pieces) == b"first"
                with pytest.raises(requests.exceptions.ChunkedEncodingError):
                    next(pieces)
            assert sum(replica.asked for replica in broken) == 1

    def test_server_whose_model_is_not_ready_gets_nothing(self, program: str, tmp_path: Path) -> None:
        unready, good = Replica("answer", ready=400), Replica("answer")
        with balanced(program, tmp_path, unready, good, model="tutor") as url:
            log = tmp_path / "haproxy.log"
            for _ in range(200):
                if "DOWN" in log.read_text():
                    break
                threading.Event().wait(0.05)
            assert all(requests.post(url, data=b"x", timeout=20).ok for _ in range(4))
            assert (unready.asked, good.asked) == (0, 4)

    def test_loading_through_it_is_refused(self, program: str, tmp_path: Path) -> None:
        replica = Replica("answer")
        with balanced(program, tmp_path, replica) as url:
            base = url.partition("/v2")[0]
            for way in (
                "models/tutor/unload",
                "models/tutor/load",
                "any/models/tutor/unload",
                "models/models/models/load",
            ):
                assert requests.post(f"{base}/v2/repository/{way}", data=b"", timeout=20).status_code == 403, way
            assert requests.post(f"{base}/v2/repository/index", data=b"{}", timeout=20).status_code == 200
            assert replica.asked == 1

    def test_loading_over_grpc_is_refused(self, program: str, tmp_path: Path) -> None:
        """With a gRPC server that answers every method with what it was sent."""
        server, health = grpc.server(ThreadPoolExecutor(1)), Replica("answer")
        server.add_generic_rpc_handlers([Echo()])
        address, port = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", free_port()
        server.start()
        settings = {"grpc": [address], "grpc_port": port}
        try:
            with balanced(program, tmp_path, health, **settings), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

                def call(method: str) -> Any:
                    asked = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
                    return asked(b"x", timeout=20, wait_for_ready=True)

                assert call("RepositoryIndex") == b"x"
                for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
                    with pytest.raises(grpc.RpcError) as refused:
                        call(method)
                    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        finally:
            server.stop(None).wait(10)

    def test_it_listens_on_loopback(self) -> None:
        assert "bind 127.0.0.1:8080" in haproxy(["10.0.0.1:8000"])["haproxy.cfg"]

    @pytest.mark.parametrize(
        ("servers", "settings", "told"),
        [
            ([], {}, "no server"),
            ("127.0.0.1:8000", {}, "is the text"),
            (["127.0.0.1"], {}, "no address of a server"),
            (["a b:8000"], {}, "no address of a server"),
            (["a:8000\n    server x evil:1"], {}, "no address of a server"),
            (["a:99999"], {}, "no address of a server"),
            (["a:8000", "http://a:8000/"], {}, "stands twice"),
            ({"a b": "a:8000"}, {}, "cannot be a server's name"),
            (["a:8000"], {"port": 0}, "is no port"),
            (["a:8000"], {"model": "a b"}, "cannot be a model's name"),
            (["a:8000"], {"grpc": {"other": "a:8001"}}, "Give both"),
            (["a:8000"], {"address": "here please"}, "no address to listen on"),
            (["a:8000"], {"silence_s": 0}, "silence_s is 0"),
            (["a:8000"], {"bufsize": 1}, "bufsize is 1"),
        ],
    )
    def test_what_cannot_be_is_a_sentence(self, servers: Any, settings: dict[str, Any], told: str) -> None:
        with pytest.raises(TritonlabError) as error:
            haproxy(servers, **settings)
        assert told in str(error.value)


class TestRendered:
    def test_it_shows_itself(self) -> None:
        rendered = Rendered({"a.cfg": "<x>\n"}, ("Mind the <step>.",))
        assert repr(rendered) == "Rendered files (lines):\n  a.cfg (1)\nnote: Mind the <step>."
        page = rendered._repr_html_()
        assert "&lt;x&gt;" in page
        assert "<details open>" in page
        assert "Mind the &lt;step&gt;." in page
        assert repr(rendered["a.cfg"]) == "<x>\n"
        with pytest.raises(TritonlabError, match=r"There are: a\.cfg"):
            rendered["b"]

    def test_what_cannot_be_written_is_a_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(TritonlabError, match="cannot be written"):
            Rendered({"a": "b"}).write(tmp_path / "file")


def test_command_line(repository: ModelRepository, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["render", *words])

    out = tmp_path / "out"
    done = run("kubernetes", str(repository.path), "--model", "gemma", "--replicas", "3", "--output", str(out))
    assert done.exit_code == 0, done.output
    assert {path.name: path.read_text() for path in out.glob("*.yaml")} == {
        name: text for name, text in kubernetes(repository, ["gemma"], replicas=3).files.items() if "0" in name
    }
    sized = run("kubernetes", str(repository.path), "--model", "gemma", "--cache-size", "300Gi", "--monitoring", "eyes")
    assert "storage: 300Gi" in sized.stdout
    assert "kubernetes.io/metadata.name: eyes" in sized.stdout
    assert yaml.safe_load((out / "03-server.yaml").read_text())["spec"]["replicas"] == 3
    assert "03-server.yaml" in done.stdout
    assert "ENABLE_VLLM_HEALTH_CHECK" in done.stderr
    shown = run("haproxy", "127.0.0.1:8000", "127.0.0.1:8010", "--model", "tutor")
    assert shown.stdout.rstrip() == haproxy(["127.0.0.1:8000", "127.0.0.1:8010"], model="tutor")["haproxy.cfg"].rstrip()
    for words in (["compose", str(repository.path)], ["ray", str(repository.path), *("--host", "10.0.0.1") * 1]):
        refused = run(*words, "--model", "nobody", *(["--host", "10.0.0.2"] if words[0] == "ray" else []))
        assert isinstance(refused.exception, TritonlabError)
        assert "nobody" in str(refused.exception)
