"""monitoring/ on the real thing: Prometheus and the blackbox exporter look at a real server, and at real faults."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
import yaml

from tests.integration.conftest import ECHO_CONFIG, ENGINE_ARGUMENTS
from tritonlab import ModelRepository, VllmModel, serve
from tritonlab.engine import Engine
from tritonlab.servers import Server, leftovers, ports

MONITORING = Path(__file__).parents[2] / "monitoring"
PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-blackbox-exporter": "prometheus-blackbox-exporter",
}
MISSING = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
NEEDED = f"apt install {' '.join(MISSING)}"
WAIT_S = 90.0
T = TypeVar("T")
QUESTION = "Why is the sky blue?"
ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        texts = [pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("text_output", text)]) for text in texts]
"""
METRIC = re.compile(r"\b(?:nv_|vllm:|DCGM_FI_|probe_)[a-zA-Z0-9_:]+|\bup\b")

TRITON = "triton-inference-server/server, docs/user_guide/metrics.md"
TRTLLM = (
    "NVIDIA/TensorRT-LLM, triton_backend/inflight_batcher_llm/src/custom_metrics_reporter/custom_metrics_reporter.cc"
)
DCGM = "NVIDIA/dcgm-exporter, etc/default-counters.csv"
# What cannot be on this server, and where it stands that it is on others.
ELSEWHERE = {
    "nv_gpu_memory_total_bytes": f"a GPU; {TRITON}",
    "nv_gpu_memory_used_bytes": f"a GPU; {TRITON}",
    "nv_gpu_power_limit": f"a GPU; {TRITON}",
    "nv_gpu_power_usage": f"a GPU; {TRITON}",
    "nv_gpu_utilization": f"a GPU; {TRITON}",
    "DCGM_FI_DEV_GPU_TEMP": f"a GPU; {DCGM}",
    "DCGM_FI_DEV_XID_ERRORS": f"a GPU; {DCGM}",
    "nv_inference_first_response_histogram_ms_bucket": f"a Triton after 24.10; core#396, {TRITON}",
    "nv_model_load_duration_secs": "a Triton after 24.10; triton-inference-server/core#397",
    "nv_trt_llm_inflight_batcher_metrics": f"TensorRT-LLM; {TRTLLM}",
    "nv_trt_llm_kv_cache_block_metrics": f"TensorRT-LLM; {TRTLLM}",
    "nv_trt_llm_request_metrics": f"TensorRT-LLM; {TRTLLM}",
    "nv_trt_llm_runtime_memory_metrics": f"TensorRT-LLM; {TRTLLM}",
    "vllm:gpu_cache_usage_perc": "vLLM until 2025; vllm-project/vllm#18354",
    "vllm:inter_token_latency_seconds_bucket": "`vllm serve`; vllm/v1/metrics/loggers.py",
    "vllm:num_preemptions_total": "`vllm serve`, NVIDIA's backend; vllm/v1/metrics/loggers.py",
}

pytestmark = pytest.mark.skipif(bool(MISSING) and not os.environ.get("CI"), reason=NEEDED)


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    if MISSING:
        pytest.fail(f"This run was told to have all that it needs (CI). What to do: {NEEDED}.")


def run(*words: str) -> str:
    """What a command says; it must succeed."""
    done = subprocess.run(words, cwd=MONITORING, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class TestFiles:
    def test_are_valid(self) -> None:
        run("promtool", "check", "config", "prometheus.yml")
        run("promtool", "check", "rules", "--lint-fatal", "alerts.yml")
        run("prometheus-blackbox-exporter", "--config.file=blackbox.yml", "--config.check")

    def test_every_alert_fires_on_its_case_and_on_no_other(self) -> None:
        assert "SUCCESS" in run("promtool", "test", "rules", "alerts.test.yml")


class Prometheus:
    """A Prometheus that runs, and its HTTP interface."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands before loopback

    def get(self, path: str, **parameters: str) -> Any:
        answer = self._session.get(f"{self._url}/api/v1/{path}", params=parameters, timeout=30).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def is_ready(self) -> bool:
        try:
            return self._session.get(f"{self._url}/-/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    def firing(self, name: str) -> list[dict[str, Any]]:
        """The alerts of that name that fire."""
        alerts = self.get("alerts")["alerts"]
        return [alert for alert in alerts if alert["labels"]["alertname"] == name and alert["state"] == "firing"]


def eventually(look: Callable[[], T], what: str) -> T:
    """The first true answer."""
    deadline = time.monotonic() + WAIT_S
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:g} s"
        time.sleep(0.3)
    return seen


@contextmanager
def running(log: Path, *words: str) -> Iterator[None]:
    """A program that runs as long as the block does."""
    with log.open("wb") as said:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The tutor model with vLLM's metrics, and a model that is cached."""
    folder = tmp_path_factory.mktemp("models")
    repository = ModelRepository(folder)
    repository.add(VllmModel("tutor", parameters={"REPORT_CUSTOM_METRICS": "true"}, **ENGINE_ARGUMENTS))
    (folder / "echo" / "1").mkdir(parents=True)
    (folder / "echo" / "config.pbtxt").write_text(ECHO_CONFIG + "response_cache { enable: true }\n")
    (folder / "echo" / "1" / "model.py").write_text(ECHO)
    caches = Engine.find().tritonserver.parents[1] / "caches"
    arguments = [f"--cache-directory={caches}", "--cache-config=local,size=1048576"]
    with serve(repository, models=["tutor", "echo"], target="local", arguments=arguments) as handle:
        yield handle.wait_ready(quiet=True)


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """The project's own files, with this server's addresses and without the waiting.

    It looks every two seconds, or every five, and the alerts have no `for`: promtool's tests prove those.
    """
    folder = tmp_path_factory.mktemp("prometheus")
    own, blackbox, _ = ports.choose({}).values()
    assert server.metrics_url
    addresses = {
        "127.0.0.1:8000": server.url.removeprefix("http://"),
        "127.0.0.1:8002": server.metrics_url.removeprefix("http://").removesuffix("/metrics"),
        "127.0.0.1:9115": f"127.0.0.1:{blackbox}",
    }
    intervals = {": 15s": ": 2s", ": 1m": ": 5s", ": 30s": ": 5s"}
    config = replaced((MONITORING / "prometheus.yml").read_text(), {**addresses, **intervals})
    (folder / "prometheus.yml").write_text(config)
    (folder / "alerts.yml").write_text(re.sub(r"\n +for: \w+", "", (MONITORING / "alerts.yml").read_text()))
    with ExitStack() as stack:
        stack.enter_context(
            running(
                folder / "blackbox.log",
                "prometheus-blackbox-exporter",
                f"--config.file={MONITORING / 'blackbox.yml'}",
                f"--web.listen-address=127.0.0.1:{blackbox}",
            )
        )
        stack.enter_context(
            running(
                folder / "prometheus.log",
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--web.listen-address=127.0.0.1:{own}",
                f"--storage.tsdb.path={folder / 'data'}",
            )
        )
        found = Prometheus(f"http://127.0.0.1:{own}")
        eventually(found.is_ready, "Prometheus is ready")
        yield found


def replaced(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panel_expressions() -> list[tuple[str, str]]:
    """Title and expression of each query of the dashboard, with its variables as Grafana would fill them in."""
    values = {"$__rate_interval": "1m", "$instance": ".+", "$model": ".+"}
    panels = json.loads((MONITORING / "grafana" / "dashboard.json").read_text())["panels"]
    found = []
    for panel in panels:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in values.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


def test_targets_are_up_and_probes_succeed(prometheus: Prometheus) -> None:
    def health() -> dict[str, set[str]]:
        jobs: dict[str, set[str]] = {}
        for target in prometheus.get("targets", state="active")["activeTargets"]:
            jobs.setdefault(target["labels"]["job"], set()).add(target["health"])
        return jobs

    wanted = {job: {"up"} for job in ("triton", "triton-ready", "triton-generate")}
    eventually(lambda: health() == wanted, "all targets are up")
    probes = {("triton-ready", None), ("triton-ready", "tutor"), ("triton-generate", "tutor")}

    def succeeded() -> set[tuple[str, str | None]]:
        found = prometheus.query("probe_success == 1")
        return {(series["metric"]["job"], series["metric"].get("model")) for series in found}

    eventually(lambda: succeeded() == probes, "all probes succeed")


def test_metrics_that_are_named_exist(prometheus: Prometheus, server: Server) -> None:
    server.client.generate("tutor", QUESTION, max_tokens=8)
    named = {name for rule in rules() for name in METRIC.findall(rule["expr"])}
    named |= {name for _, expression in panel_expressions() for name in METRIC.findall(expression)}
    absent = eventually(
        lambda: (
            missing if (missing := named - set(prometheus.get("label/__name__/values"))) <= set(ELSEWHERE) else None
        ),
        "every metric that this server can have is there",
    )
    assert absent == set(ELSEWHERE)


def test_vllm_of_this_engine_has_the_names_of_its_own_server() -> None:
    source = (Engine.find().site_packages / "vllm" / "v1" / "metrics" / "loggers.py").read_text()
    for name in ("num_preemptions", "inter_token_latency_seconds", "kv_cache_usage_perc"):
        assert f'"vllm:{name}"' in source  # prometheus_client adds _total to a counter


def test_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        found = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return [] if any(rule["health"] == "unknown" for rule in found) else found

    found = eventually(evaluated, "every rule is evaluated")
    assert {rule["name"]: rule.get("lastError", "") for rule in found} == {rule["alert"]: "" for rule in rules()}


def test_every_panel_has_data_or_says_why_not(prometheus: Prometheus) -> None:
    for title, expression in panel_expressions():
        is_here = " or " in expression or not set(METRIC.findall(expression)) & set(ELSEWHERE)
        if is_here:
            eventually(lambda expression=expression: prometheus.query(expression), f"{title}: {expression}")
        else:
            assert prometheus.query(expression) == [], f"{title}: {expression}"


def test_errors_that_triton_counts_as_successes(prometheus: Prometheus, server: Server) -> None:
    before = answered(prometheus)
    for _ in range(20):
        url = f"{server.url}/v2/models/tutor/generate"
        refused = requests.post(url, json={"text_input": "a", "sampling_parameters": '{"tempratur": 1}'}, timeout=30)
        assert refused.status_code == 400
    alerts = eventually(lambda: prometheus.firing("RequestsUnanswered"), "RequestsUnanswered fires")
    assert alerts[0]["labels"]["model"] == "tutor"
    assert "of the requests to tutor never finish" in alerts[0]["annotations"]["summary"]
    eventually(lambda: answered(prometheus) >= before + 20, "Triton has counted them")
    assert prometheus.query('sum(nv_inference_request_failure{model="tutor"})')[0]["value"][1] == "0"


def answered(prometheus: Prometheus) -> float:
    return float(prometheus.query('sum(nv_inference_request_success{model="tutor"})')[0]["value"][1])


def engine(server: Server) -> list[int]:
    """vLLM's processes."""
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] for pid in leftovers.processes(server.id)}
    return [pid for pid, name in names.items() if b"VLLM::" in name]


def test_engine_that_hangs_while_the_model_says_ready(prometheus: Prometheus, server: Server) -> None:
    assert engine(server)
    for pid in engine(server):
        os.kill(pid, signal.SIGSTOP)
    try:
        alerts = eventually(lambda: prometheus.firing("ReadyButFailing"), "ReadyButFailing fires")
        assert server.client.ready()
        assert server.client.model_ready("tutor")
    finally:
        for pid in engine(server):
            os.kill(pid, signal.SIGCONT)
    assert alerts[0]["labels"]["severity"] == "critical"
    assert "tutor" in alerts[0]["annotations"]["summary"]
    eventually(lambda: not prometheus.firing("ReadyButFailing"), "ReadyButFailing is over")


def test_engine_that_dies(prometheus: Prometheus, server: Server) -> None:
    for pid in engine(server):
        os.kill(pid, signal.SIGKILL)
    alerts = eventually(lambda: prometheus.firing("ModelNotReady"), "ModelNotReady fires")
    assert [alert["labels"]["model"] for alert in alerts] == ["tutor"]
    # While the model is unloaded the server may say for a moment that it is not ready either.
    eventually(lambda: not prometheus.firing("TritonNotReady"), "the server is ready")
    assert server.client.ready()
    assert prometheus.firing("ModelNotReady")


def test_server_that_ends(prometheus: Prometheus, server: Server) -> None:
    server.stop()
    eventually(lambda: prometheus.firing("TritonDown") and prometheus.firing("TritonNotReady"), "TritonDown fires")
    wrong = [alert["annotations"] for alert in prometheus.get("alerts")["alerts"] if "<error" in str(alert)]
    assert wrong == []
