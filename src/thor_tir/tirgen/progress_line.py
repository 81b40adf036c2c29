"""How a run over questions goes, in one line: for a person who watches, and for the log of one who does not."""

from collections import Counter
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from thor_tir.rollout.sample_many import DROPPED
from thor_tir.tirgen.schedule import AttemptSchedule

FAILED = "failed: "


class ProgressLine:
    """Counts of this process; questions done and solved are the run's."""

    def __init__(self, schedule: AttemptSchedule) -> None:
        self.attempts = 0
        self.critic: Counter[str] = Counter()
        """Fates of steps."""
        self.spent: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._campaign = schedule
        self._began = perf_counter()

    def add(self, row: Mapping[str, Any]) -> None:
        """One more attempt."""
        self.attempts += 1
        if DROPPED in row:
            self.dropped[row[DROPPED]] += 1
            return
        self.critic.update(row["critic"])
        self.spent.update(row["spent"])

    def line(self) -> str:
        """Questions, attempts, tokens by role, what the critic and the sandbox did, time left."""
        seconds = max(perf_counter() - self._began, 1e-9)
        schedule = self._campaign
        done = schedule.num_done
        parts = [f"{done} of {schedule.num_questions} questions, {schedule.num_solved} solved"]
        parts.append(f"{self.attempts / seconds:.1f} attempts/s")
        parts += [f"{role} {self.spent[f'{role} tokens'] / seconds:,.0f} tokens/s" for role in ("actor", "critic")]
        if judged := sum(self.critic.values()):
            parts.append(f"critic {100 * self.critic['rewritten'] / judged:.0f} % accepted")
        failures = {name.removeprefix(FAILED): n for name, n in self.critic.items() if name.startswith(FAILED)}
        if failures:
            parts.append("programs failed: " + ", ".join(f"{n} {name}" for name, n in sorted(failures.items())))
        if self.dropped:
            parts.append("lost: " + ", ".join(f"{n} {name}" for name, n in sorted(self.dropped.items())))
        if (fresh := done - schedule.num_done_before) > 0:
            parts.append(f"{_duration((schedule.num_questions - done) * seconds / fresh)} left")
        return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
