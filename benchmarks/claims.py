"""Every claim about speed: what is run for it, how the answer is read, its goal, and what stops it where missed."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Read = Callable[[Any], float]
"""Function from what a run found to the number of a claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One process that measures, and answers several claims."""

    script: str
    """File of this folder, or `-m` and a module."""
    words: tuple[str, ...] = ()
    """Its options."""
    quick: tuple[str, ...] = ()
    """Options that make it shorter."""
    needs: str = ""
    """Module that it compares with."""
    place: str = ""
    """File or folder that must be there, from the repository."""
    saves: bool = True
    """True where it takes `--out`; else its seconds and its last line are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One row of the table."""

    title: str
    """What is claimed."""
    work: str
    """Name of the work that answers it."""
    read: Read
    """Function from what that found to the number."""
    most: float | None = None
    """Goal, where less is better."""
    least: float | None = None
    """Goal, where more is better."""
    unit: str = ""
    """Unit of the number, behind it."""
    peer: str = ""
    """What is compared with."""
    why: str = ""
    """What stops it where the goal is missed."""

    @property
    def goal(self) -> str:
        """The goal as it is printed."""
        number, sign = (self.least, "≥") if self.most is None else (self.most, "≤")
        return f"{sign}{number:,g}{self.unit}"

    def is_met(self, number: float) -> bool:
        """True where the goal is reached."""
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)


def _ratio(found: Any) -> float:
    return float(found["rows"][0]["ratio"])


def _rl_mix(field: str) -> Read:
    return lambda found: next(
        float(row[field]) for row in found["rows"] if (row["mix"], row["grader"]) == ("rl", "thor")
    )


def _share(name: str, *, of_both: bool = False) -> Read:
    """Share of the limit by products, or of products and memory in turns, in percent."""

    def read(found: Any) -> float:
        row = next(row for row in found["reached"] if row["name"] == name)
        both = row["memory"] is not None and of_both
        limit = 1 / (1 / row["product"] + 1 / row["memory"]) if both else row["product"]
        return 100 * float(row["rate"]) / float(limit)

    return read


def _sandbox(claim: str) -> Read:
    return lambda found: float(found["ratios"][claim])


def _start(name: str, clock: str) -> Read:
    return lambda found: max(float(s[clock]) for s in found["starts"] if name in s["name"])


def _tenfold(name: str) -> Read:
    """Processor time at the largest size over that at a tenth of it."""

    def read(found: Any) -> float:
        small, large = list(found["costs"][name].values())[-2:]
        return float(large["user"] / small["user"])

    return read


def _bytes(name: str) -> Read:
    """Growth of the peak of memory between the two largest sizes, in bytes a row."""

    def read(found: Any) -> float:
        (few, small), (many, large) = list(found["costs"][name].items())[-2:]
        return float(large["peak_mb"] - small["peak_mb"]) * 2**20 / (int(many) - int(few))

    return read


def _passed(found: Any) -> float:
    return float(found["passed"] if not found["failed"] else -found["failed"])


_REAL = "models/smollm2-135m"
"""Where `thor model get smollm2-135m` puts it."""
_VLLM = ".venv-vllm/bin/python"
"""Where `make test-vllm` puts it."""
_QUICK_ROUNDS = ("--rounds", "1")
_ONE_THREAD = ("--batches", "64", "--clock", "cpu")
_PYTEST = ("-m", "pytest", "-q", "-n0")
WORKS: Mapping[str, Work] = {
    "rollout": Work(script="rollout_vs_hf.py", quick=_QUICK_ROUNDS),
    "trl": Work(script="step_vs_trl.py", quick=_QUICK_ROUNDS, needs="trl"),
    "overlap": Work(script="tool_overlap.py", quick=_QUICK_ROUNDS),
    "limits": Work(script="limits.py", words=_ONE_THREAD, quick=_QUICK_ROUNDS),
    "limits-30M": Work(script="limits.py", words=("--model", "30M", *_ONE_THREAD), quick=_QUICK_ROUNDS),
    "limits-135M": Work(
        script="limits.py", words=("--model", f"../{_REAL}", *_ONE_THREAD), quick=_QUICK_ROUNDS, place=_REAL
    ),
    **{
        f"vllm-{size}": Work(
            script="rollout_vs_vllm.py",
            words=("--model", model, "--python", f"../{_VLLM}"),
            quick=_QUICK_ROUNDS,
            place=_VLLM,
        )
        for size, model in (("0.94M", "nano/actor"), ("30M", "30M"), ("135M", f"../{_REAL}"))
    },
    "quickstart": Work(
        script="", words=("-m", "thor_tir", "quickstart", "--output", "runs/benchmarks/quickstart"), saves=False
    ),
    "grading": Work(script="grading.py", quick=("--count", "100"), needs="math_verify"),
    "sandbox": Work(script="sandbox.py", quick=("--bursts", "2")),
    "tirgen": Work(script="tirgen_overhead.py", words=("--memory-attempts", "0"), quick=("--attempts", "640")),
    "startup": Work(script="startup.py", quick=_QUICK_ROUNDS),
    "growth": Work(script="growth.py", quick=("--sizes", "1000", "10000")),
    "hostile": Work(script="", words=(*_PYTEST, "tests/sandbox/test_hostile.py"), saves=False),
    "kills": Work(script="", words=(*_PYTEST, "-m", "slow", "tests/rl/test_kills.py"), saves=False),
    "equal-trl": Work(script="", words=(*_PYTEST, "tests/learner/test_against_trl.py"), saves=False, needs="trl"),
    "waiting": Work(script="", words=(*_PYTEST, "tests/engines/local/test_no_waiting.py"), saves=False),
}
"""What is run, by the name that `--only` takes."""
_LIMITS = "[limits](limits.md)"
_LINEAR = 12.0
"""Ratio for a tenfold that still counts as linear: caches of the processor are smaller than the rows."""

CLAIMS: tuple[Claim, ...] = (
    Claim(
        title="tokens/s of 64 trajectories with two calls each",
        work="rollout",
        read=_ratio,
        least=3,
        unit="×",
        peer="a loop around `generate`",
    ),
    Claim(title="RL steps/s", work="trl", read=_ratio, least=3, unit="×", peer="TRL's GRPOTrainer"),
    Claim(
        title="seconds for 8 trajectories with a tool of 0.25 s",
        work="overlap",
        read=lambda found: 1 / float(found["rows"][0]["rates"][0]),
        most=0.5,
        unit=" s",
        peer="one after the other: 2 s",
    ),
    Claim(
        title="decoding 64 rows at 0.94 M, of products and memory in turns",
        work="limits",
        read=_share("decode, 64 rows", of_both=True),
        least=60,
        unit=" %",
        peer="the machine",
        why=_LIMITS,
    ),
    Claim(
        title="decoding 64 rows at 30 M, of products",
        work="limits-30M",
        read=_share("decode, 64 rows"),
        least=50,
        unit=" %",
        peer="the machine",
        why=_LIMITS,
    ),
    Claim(
        title="decoding 64 rows at 135 M, of products",
        work="limits-135M",
        read=_share("decode, 64 rows"),
        least=50,
        unit=" %",
        peer="the machine",
        why=_LIMITS,
    ),
    *(
        Claim(
            title=f"tokens/s of the same trajectories at {size}",
            work=f"vllm-{size.replace(' ', '')}",
            read=_ratio,
            least=1.5,
            unit="×",
            peer="vLLM 0.32 on the CPU",
            why="[limits](limits.md)",
        )
        for size in ("0.94 M", "30 M", "135 M")
    ),
    Claim(
        title="training at 0.94 M, of products",
        work="limits",
        read=_share("train, rows of 128"),
        least=55,
        unit=" %",
        peer="the machine",
        why=_LIMITS,
    ),
    Claim(
        title="training at 30 M, of products",
        work="limits-30M",
        read=_share("train, rows of 128"),
        least=70,
        unit=" %",
        peer="the machine",
        why=_LIMITS,
    ),
    Claim(
        title="training at 135 M, of products",
        work="limits-135M",
        read=_share("train, rows of 128"),
        least=70,
        unit=" %",
        peer="the machine",
        why=_LIMITS,
    ),
    Claim(
        title="the quickstart on two cores",
        work="quickstart",
        read=lambda found: float(found["seconds"]) / 60,
        most=6,
        unit=" minutes",
    ),
    Claim(title="answers graded a second on one core, RL mix", work="grading", read=_rl_mix("per_second"), least=1000),
    Claim(title="p99 of a verdict, RL mix", work="grading", read=_rl_mix("p99_ms"), most=50, unit=" ms"),
    Claim(
        title="sympy programs a second",
        work="sandbox",
        read=_sandbox("sympy: programs a second over a cold interpreter"),
        least=80,
        unit="×",
        peer="a cold interpreter",
        why="[87 on quiet cores](sandbox_figures.md)",
    ),
    Claim(
        title="p50 of a print",
        work="sandbox",
        read=_sandbox("print: p50 over a bare fork"),
        most=1.7,
        unit="×",
        peer="a bare fork of the same template",
        why="[the jail](sandbox_figures.md)",
    ),
    Claim(
        title="fork of the template with scipy and pandas",
        work="sandbox",
        read=_sandbox("bare fork: heavy template over lean"),
        most=1.5,
        unit="×",
        peer="a fork of the lean one",
        why="[mappings](sandbox_figures.md)",
    ),
    Claim(
        title="TIRGen's attempts a second",
        work="tirgen",
        read=lambda found: float(found["ratio"]),
        least=0.95,
        peer="the ideal schedule",
        why="64 replies come at once; with 8 in flight 0.96",
    ),
    Claim(title="slowest `--help`", work="startup", read=_start("--help", "cpu"), most=1, unit=" s"),
    Claim(title="`thor grade` of five pairs", work="startup", read=_start("grade of five", "cpu"), most=0.5, unit=" s"),
    Claim(
        title="sandbox ready and a program run", work="startup", read=_start("sandbox ready", "cpu"), most=1, unit=" s"
    ),
    Claim(
        title="`thor solve` on nano, to its first token",
        work="startup",
        read=_start("first token", "cpu"),
        most=4,
        unit=" s",
        why="imports of torch and transformers alone take 2.8",
    ),
    *(
        Claim(title=f"{name}, ten times the rows", work="growth", read=_tenfold(name), most=_LINEAR, unit="×")
        for name in ("journal: open", "show: the list", "view: export", "rl: one more round", "data set: JSONL")
    ),
    *(
        Claim(title=f"{name}, memory", work="growth", read=_bytes(name), most=most, unit=" bytes/row")
        for name, most in (
            ("journal: open", 300),
            ("show: the list", 2000),
            ("view: export", 2000),
            ("rl: one more round", 2000),
            ("data set: JSONL", 2000),
        )
    ),
    Claim(title="hostile programs that end as they must: tests", work="hostile", read=_passed, least=1),
    Claim(title="kills at thirty points, same rows and weights: tests", work="kills", read=_passed, least=1),
    Claim(title="loss and gradient equal TRL's: tests", work="equal-trl", read=_passed, least=1, peer="TRL"),
    Claim(title="no waiting for a device within a step: tests", work="waiting", read=_passed, least=1),
)
"""All rows, in the order of the table."""


def command(work: Work, out: str, *, quick: bool) -> list[str]:
    """The command line of a work."""
    script = [] if not work.script else [work.script]
    more = work.quick if quick else ()
    return [sys.executable, *script, *work.words, *more, *(["--out", out] if work.saves else [])]
