"""What Prometheus reads at /metrics. A registry of its own, so that several apps can live in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ragpool.types import Answer, Judgement

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one server. Labels have few values: no ids, no texts."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.requests = Counter(
            "ragpool_http_requests_total", "Requests", ["route", "method", "status"], registry=r
        )
        self.latency = Histogram(
            "ragpool_http_request_seconds", "From the request to the end of its answer", ["route"],
            buckets=_SECONDS, registry=r,
        )  # fmt: skip
        self.queued = Histogram(
            "ragpool_queue_seconds", "How long a question waited", buckets=_SECONDS, registry=r
        )
        self.first_event = Histogram(
            "ragpool_first_event_seconds", "From the start of the work to its first event", buckets=_SECONDS, registry=r
        )  # fmt: skip
        self.first_evidence = Histogram(
            "ragpool_first_evidence_seconds", "From the request to the first passages", buckets=_SECONDS, registry=r
        )  # fmt: skip
        self.first_token = Histogram(
            "ragpool_first_token_seconds", "From the request to the answer's first piece", buckets=_SECONDS, registry=r
        )  # fmt: skip
        self.answers = Counter(
            "ragpool_answers_total", "Answers", ["status", "stop_reason", "effort"], registry=r
        )
        self.failures = Counter("ragpool_failures_total", "Questions that ended in an error", registry=r)
        self.rejected = Counter("ragpool_rejected_total", "Requests refused", ["reason"], registry=r)
        self.rounds = Histogram(
            "ragpool_rounds", "Rounds of an answer", buckets=(1, 2, 3, 4, 5, 6, 8, 12), registry=r
        )
        self.tokens = Counter("ragpool_tokens_total", "Tokens of the models", ["kind"], registry=r)
        self.model_calls = Counter("ragpool_model_calls_total", "Calls of the models", registry=r)
        self.verdicts = Counter("ragpool_judge_verdicts_total", "Judgements", ["verdict"], registry=r)
        self.waiting = Gauge("ragpool_queue_waiting", "Questions that wait", registry=r)
        self.running = Gauge("ragpool_queue_running", "Questions in work", registry=r)
        self.documents = Counter("ragpool_documents_total", "Uploads", ["result"], registry=r)

    def judged(self, judgement: Judgement) -> None:
        self.verdicts.labels("sufficient" if judgement.sufficient else "insufficient").inc()

    def answered(self, answer: Answer, effort: str) -> None:
        self.answers.labels(answer.status.value, answer.stop_reason.value, effort).inc()
        self.rounds.observe(answer.rounds)
        self.tokens.labels("prompt").inc(answer.usage.prompt_tokens)
        self.tokens.labels("completion").inc(answer.usage.completion_tokens)
        self.model_calls.inc(answer.usage.llm_calls)

    def text(self) -> bytes:
        return generate_latest(self.registry)
