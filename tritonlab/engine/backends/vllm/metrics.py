"""vLLM's figures in Triton's /metrics, when config.pbtxt sets REPORT_CUSTOM_METRICS."""

import triton_python_backend_utils as pb_utils
from compat import StatLoggerBase

_COUNTERS = (
    ("prompt_tokens", "vllm:prompt_tokens_total", "Number of prefill tokens processed."),
    ("generation_tokens", "vllm:generation_tokens_total", "Number of generation tokens processed."),
)
_GAUGES = (
    ("running", "vllm:num_requests_running", "Number of requests in execution."),
    ("waiting", "vllm:num_requests_waiting", "Number of requests waiting for room in a batch."),
    ("kv_cache", "vllm:kv_cache_usage_perc", "Share of the KV cache in use; 1 is all of it."),
)
_SECONDS = [1, 2.5, 5, 10, 15, 20, 30, 40, 50, 60]
_HISTOGRAMS = (
    (
        "first_token",
        "vllm:time_to_first_token_seconds",
        "Time to first token in seconds.",
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0],
    ),
    (
        "per_token",
        "vllm:time_per_output_token_seconds",
        "Time per output token in seconds.",
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5],
    ),
    ("latency", "vllm:e2e_request_latency_seconds", "End to end latency in seconds.", _SECONDS),
    (
        "prompt_length",
        "vllm:request_prompt_tokens",
        "Number of prefill tokens of a request.",
        [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000],
    ),
    (
        "generation_length",
        "vllm:request_generation_tokens",
        "Number of generation tokens of a request.",
        [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000],
    ),
    ("n", "vllm:request_params_n", "The n of a request.", [1, 2, 5, 10, 20]),
)


class TritonMetrics:
    """The metric families of one model. Triton forgets them when this object goes."""

    def __init__(self, model, version):
        labels = {"model": model, "version": version}
        self._families = []
        for attribute, name, text in _COUNTERS:
            setattr(self, attribute, self._metric(name, text, pb_utils.MetricFamily.COUNTER, labels))
        for attribute, name, text in _GAUGES:
            setattr(self, attribute, self._metric(name, text, pb_utils.MetricFamily.GAUGE, labels))
        for attribute, name, text, buckets in _HISTOGRAMS:
            kind = pb_utils.MetricFamily.HISTOGRAM
            setattr(self, attribute, self._metric(name, text, kind, labels, buckets=buckets))

    def _metric(self, name, text, kind, labels, **more):
        family = pb_utils.MetricFamily(name=name, description=text, kind=kind)
        self._families.append(family)
        return family.Metric(labels=labels, **more)

    def logger_class(self):
        """A stat logger for vLLM that writes to these metrics."""
        metrics = self

        class TritonStatLogger(StatLoggerBase):
            def __init__(self, vllm_config, engine_index=0):
                pass

            def record(self, scheduler_stats, iteration_stats, *_, **__):
                if scheduler_stats is not None:
                    metrics.running.set(scheduler_stats.num_running_reqs)
                    metrics.waiting.set(scheduler_stats.num_waiting_reqs)
                    metrics.kv_cache.set(scheduler_stats.kv_cache_usage)
                if iteration_stats is not None:
                    metrics.observe(iteration_stats)

            def log_engine_initialized(self):
                pass

        return TritonStatLogger

    def idle(self):
        """No request is in the engine."""
        self.running.set(0)
        self.waiting.set(0)

    def observe(self, stats):
        """One step of the engine."""
        self.prompt_tokens.increment(stats.num_prompt_tokens)
        self.generation_tokens.increment(stats.num_generation_tokens)
        for seconds in stats.time_to_first_tokens_iter:
            self.first_token.observe(seconds)
        for seconds in stats.inter_token_latencies_iter:
            self.per_token.observe(seconds)
        for n in stats.n_params_iter:
            self.n.observe(n)
        for request in stats.finished_requests:
            self.latency.observe(request.e2e_latency)
            self.prompt_length.observe(request.num_prompt_tokens)
            self.generation_length.observe(request.num_generation_tokens)
