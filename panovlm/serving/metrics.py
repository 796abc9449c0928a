"""Figures for Prometheus, by the names that vLLM's server uses."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from panovlm.inference.answers import Answer

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000)
HISTOGRAMS = {
    "time_to_first_token_seconds": _SECONDS,
    "request_queue_time_seconds": _SECONDS,
    "request_time_per_output_token_seconds": (0.001, 0.0025, 0.005, *_SECONDS),
    "e2e_request_latency_seconds": _SECONDS,
    "request_prompt_tokens": _TOKENS,
    "request_generation_tokens": _TOKENS,
}
"""Observed of each whole answer."""


class Metrics:
    """Counts answers and their times."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._registry, self._model = registry, model
        self._histograms = {
            name: Histogram(
                f"vllm:{name}",
                name.replace("_", " "),
                ["model_name"],
                buckets=buckets,
                registry=registry,
            )
            for name, buckets in HISTOGRAMS.items()
        }
        self._tokens = {
            kind: Counter(f"vllm:{kind}_tokens", "Tokens.", ["model_name"], registry=registry)
            for kind in ("prompt", "generation")
        }
        self._success = Counter(
            "vllm:request_success",
            "Whole answers.",
            ["model_name", "finished_reason"],
            registry=registry,
        )

    def gauge(self, name: str, description: str, count: Callable[[], int]) -> None:
        """Show a count that changes."""
        gauge = Gauge(name, description, ["model_name"], registry=self._registry)
        gauge.labels(self._model).set_function(count)

    def observe(self, num_prompt_tokens: int, answer: Answer, times: dict[str, float]) -> None:
        """Count a whole answer, and when it arrived, was started, had a token and ended."""
        took = times["ended"] - times["first"]
        found = {
            "time_to_first_token_seconds": times["first"] - times["arrived"],
            "request_queue_time_seconds": times["started"] - times["arrived"],
            "request_time_per_output_token_seconds": took / max(answer.num_tokens - 1, 1),
            "e2e_request_latency_seconds": times["ended"] - times["arrived"],
            "request_prompt_tokens": num_prompt_tokens,
            "request_generation_tokens": answer.num_tokens,
        }
        for name, value in found.items():
            self._histograms[name].labels(self._model).observe(value)
        self._tokens["prompt"].labels(self._model).inc(num_prompt_tokens)
        self._tokens["generation"].labels(self._model).inc(answer.num_tokens)
        self._success.labels(self._model, answer.finish_reason).inc()
