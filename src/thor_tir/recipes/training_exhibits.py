"""Trajectories of training rounds, with the repairs of their failed calls, kept as `thor show` reads them."""

from collections.abc import Callable, Sequence
from random import Random

from thor_tir.eval.segments import Repair, exhibit, step_segments
from thor_tir.journal import Journal
from thor_tir.rl.record import Gathered
from thor_tir.rl.step import Query, Repaired

Decode = Callable[[Sequence[int]], str]


def exhibit_round(number: int, gathered: Gathered, journal: Journal, decode: Decode, *, count: int) -> None:
    """Write a draw of a round's trajectories, half of it with repairs where there are so many; what is there stays."""
    repairs = repairs_by_parent(gathered.repairs, decode)
    rng = Random(f"exhibits {number}")
    attempts = rng.sample(gathered.attempts, len(gathered.attempts))
    mended = [a for a in attempts if a.trajectory.id in repairs][: (count + 1) // 2]
    others = [a for a in attempts if a.trajectory.id not in repairs]
    for attempt in [*mended, *others][:count]:
        id = attempt.trajectory.id
        if id not in journal:
            line = exhibit(
                attempt.problem,
                attempt.trajectory,
                stage=f"RL round {number + 1}",
                verdict=attempt.verdict,
                decode=decode,
                repairs=repairs.get(id, ()),
            )
            journal.add(id, line)
    journal.commit()


def repairs_by_parent(groups: Sequence[tuple[Query, Sequence[Repaired]]], decode: Decode) -> dict[str, list[Repair]]:
    """Repairs as they are shown, under the trajectory that they were cut from."""
    found: dict[str, list[Repair]] = {}
    for query, repairs in groups:
        for repair in repairs:
            seen = repair.step.observation
            shown = Repair(
                call=query.prefix.call,
                segments=step_segments(repair.step, decode),
                reward=int(repair.reward),
                status=None if seen is None else seen.result.status,
            )
            found.setdefault(query.prefix.parent, []).append(shown)
    return found
