"""Trajectories of training rounds, with the repairs of their failed calls, kept as `thor show` reads them."""

from collections.abc import Sequence
from random import Random

from thor_tir.eval.transcript import ShownRepair, exhibit, step_segments
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.step import StepPrompt, StepSample
from thor_tir.storage.journal import Journal
from thor_tir.trajectory import Decode


def exhibit_round(number: int, gathered: RoundSamples, journal: Journal, decode: Decode, *, count: int) -> None:
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


def repairs_by_parent(
    groups: Sequence[tuple[StepPrompt, Sequence[StepSample]]], decode: Decode
) -> dict[str, list[ShownRepair]]:
    """Repairs as they are shown, under the trajectory that they were cut from."""
    found: dict[str, list[ShownRepair]] = {}
    for query, repairs in groups:
        for repair in repairs:
            seen = repair.step.observation
            shown = ShownRepair(
                call=query.prefix.call,
                segments=step_segments(repair.step, decode),
                reward=int(repair.reward),
                status=None if seen is None else seen.result.status,
            )
            found.setdefault(query.prefix.parent, []).append(shown)
    return found
