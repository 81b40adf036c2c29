"""What a person sees of training while it runs: the figures of each round, and a word where too much is lost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thor_tir.rl.config import MonitorConfig
from thor_tir.storage.journal import Journal
from thor_tir.tracking import Tracker, open_trackers, scalars

Say = Callable[[str], None]


def silent(text: str) -> None:
    """Nobody listens."""


@dataclass(slots=True, kw_only=True)
class RoundMonitor:
    """Takes the record of each round."""

    config: MonitorConfig
    """Options of monitoring."""
    metrics: Journal
    """Journal of the rounds' figures."""
    trackers: list[Tracker]
    """Places where curves go."""
    say: Say = silent
    """Function that prints one line for a person."""
    has_warned: bool = field(default=False, init=False)
    """True once the warning about lost samples was given."""

    @classmethod
    def begin(cls, config: MonitorConfig, metrics: Journal, folder: Path, say: Say) -> "RoundMonitor":
        """Raises UsageError where a tracker that was asked for is not installed. Of several processes one draws."""
        trackers = open_trackers(config.report_to, folder, say) if metrics.is_ours else []
        return cls(config=config, metrics=metrics, trackers=trackers, say=say)

    def take(self, number: int, record: Mapping[str, Any]) -> None:
        """Write a round down, unless it stands there from a time that a kill undid."""
        if str(number) in self.metrics:
            return
        self.metrics.add(str(number), dict(record))
        for tracker in self.trackers:
            tracker.log(int(record["step"]), scalars(record))
        self._warn(record)

    def close(self) -> None:
        """No more rounds."""
        self.metrics.close()
        for tracker in self.trackers:
            tracker.close()

    def _warn(self, record: Mapping[str, Any]) -> None:
        share = record["dropped_share"]
        if share <= self.config.warn_dropped_share or self.has_warned:
            return
        self.has_warned = True
        causes = sorted(record["dropped"].items(), key=lambda cause: -cause[1])
        told = ", ".join(f"{cause} {count}" for cause, count in causes)
        self.say(f"round {record['step']}: {100 * share:.0f} % of its samples gave no row ({told}); said once a run")
