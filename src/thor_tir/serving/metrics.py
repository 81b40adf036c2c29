"""The numbers that `/metrics` shows to Prometheus. Names of keys and all text stay out of them."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from thor_tir.inference.answering import Answer
from thor_tir.rollout.overheard import Event, Happening
from thor_tir.storage.journal import JsonObject

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)


class Metrics:
    """Counters in a registry of their own."""

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        """`gauges` are numbers that are asked for when they are shown: title and function by name."""
        self.registry = CollectorRegistry()
        kinds: JsonObject = {"registry": self.registry}
        self.requests = Counter("thor_serve_requests", "Requests by route and status", ["route", "status"], **kinds)
        self.seconds = Histogram(
            "thor_serve_request_seconds", "Time of whole requests", ["route"], buckets=_SECONDS, **kinds
        )
        self.first_text = Histogram(
            "thor_serve_first_text_seconds", "Time to the first text of an answer", buckets=_SECONDS, **kinds
        )
        self.tokens = Counter("thor_serve_tokens", "Tokens read (prompt) and written (model)", ["kind"], **kinds)
        self.programs = Counter("thor_serve_programs", "Programs by how they ended", ["status"], **kinds)
        self.repairs = Counter("thor_serve_repairs", "Failed calls by what became of them", ["outcome"], **kinds)
        self.answers = Counter("thor_serve_answers", "Answers by how the attempt ended", ["finish"], **kinds)
        for name, (title, ask) in gauges.items():
            Gauge(name, title, **kinds).set_function(ask)

    def note(self, event: Event) -> None:
        """Count what happens within an attempt."""
        if event.kind is Happening.OUTPUT and event.result is not None:
            self.programs.labels(event.result.status.value).inc()
        elif event.kind in (Happening.REPAIRED, Happening.GIVEN_UP, Happening.DROPPED):
            self.repairs.labels(event.kind.value).inc()

    def note_answer(self, answer: Answer) -> None:
        """Count an answer."""
        self.answers.labels(answer.chosen.trajectory.finish.value).inc()
        self.note_tokens({"model": answer.num_tokens, "prompt": len(answer.chosen.trajectory.prompt)})

    def note_tokens(self, spent: Mapping[str, int]) -> None:
        """Count tokens by kind."""
        for kind, count in spent.items():
            self.tokens.labels(kind).inc(count)

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self.registry)
