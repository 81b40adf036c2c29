"""How a trajectory is cut into the pieces that people read."""

from fake_trajectory import CORRECTED, decode
from thor_tir.eval.transcript.segments import SegmentKind, discarded_repairs, exhibit, segments_of
from thor_tir.execution import Status
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome, Verdict


def test_the_segments_follow_the_context_and_the_action_keeps_its_fences() -> None:
    standing = [s for s in segments_of(CORRECTED, decode) if not s.discarded]
    assert [(s.author, s.text) for s in standing] == [
        (SegmentKind.PROMPT, "<|user|>3+4?"),
        (SegmentKind.THOUGHT, "Let us compute."),
        (SegmentKind.ACTION, "```python\nprint(3+4)\n```"),
        (SegmentKind.OBSERVATION, "7"),
        (SegmentKind.THOUGHT, "So 7."),
    ]


def test_discarded_attempts_are_numbered_and_stand_before_the_step_that_replaced_them() -> None:
    labels = [s.discarded for s in segments_of(CORRECTED, decode)]
    # prompt; two failed versions of three segments each; the standing step's three; the last thought
    assert labels == [""] + ["attempt 1 of 2"] * 3 + ["attempt 2 of 2"] * 3 + [""] * 4


def test_discarded_attempts_become_unrewarded_repairs_of_the_call_they_preceded() -> None:
    repairs = list(discarded_repairs(CORRECTED, decode))
    assert [(r.call, r.reward, r.status) for r in repairs] == [(0, 0, Status.RUNTIME)] * 2


def test_an_exhibit_keeps_discarded_attempts_out_of_the_context_and_under_their_call() -> None:
    problem = Problem(id="sum", question="3+4?", answer="7", source="toy/sums")
    verdict = Verdict(outcome=Outcome.CORRECT, extracted="7", reason="")
    row = exhibit(problem, CORRECTED, stage="eval/sft", verdict=verdict, decode=decode)
    assert [s["author"] for s in row["segments"]] == ["prompt", "thought", "action", "observation", "thought"]
    assert [(r["call"], r["status"], r["segments"][2]["text"]) for r in row["repairs"]] == [
        (0, "runtime", "NameError: x")
    ] * 2
