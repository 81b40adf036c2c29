"""The grader against plain math-verify, in one run on one machine: rate, p50, p99 and worst case on three mixes.

    python benchmarks/grading.py [--count 400] [--data ../shared/data] [--out grading.json]

Both sides use one process on one core at a time. math-verify runs in a process of its own with its default time-outs,
as its documentation shows: `verify(parse(boxed gold), parse(boxed answer))`. The mixes:

  ordinary   reference answers of benchmark files, each against itself or against another one of its file
  rl         integers and short fractions in groups of eight attempts, of which some agree and some are wrong
  hostile    strings that make computer algebra hang
"""

import json
import random
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from thor_tir.grading.grader import Grader
from thor_tir.grading.types import grader_version, pair
from thor_tir.verdict import Verdict

Pair = tuple[str, str]

OTHER = r"""
import json, sys, time
from math_verify import parse, verify
from math_verify.errors import TimeoutException
def judged(gold, answer):
    try:
        return verify(parse("\\boxed{%s}" % gold), parse("\\boxed{%s}" % answer))
    except (Exception, TimeoutException):
        return False
judged("x+1", "1+x")
for line in sys.stdin:
    began = time.perf_counter()
    result = judged(*json.loads(line))
    print(json.dumps([bool(result), time.perf_counter() - began]), flush=True)
"""
HOSTILE = (
    "10^{10^{10^{10}}}",
    "123456789!",
    r"\sum_{n=1}^{10^{8}} \frac{1}{n^3}",
    r"\binom{10^9}{5\cdot 10^8}",
    r"\prod_{k=1}^{10^7} (x+k)",
    "(x+y+z)^{5000}",
    r"\int_0^1 \sin(\sin(\sin(\sin(x^{x^x})))) dx",
    r"\sqrt{" * 200 + "2" + "}" * 200,
    r"\frac{1}{" * 300 + "2" + "}" * 300,
    "().__class__.__bases__[0].__subclasses__()",
    "(" * 5000 + "2" + ")" * 5000,
    "7" * 100_000,
    r"\boxed{" * 2000,
    r"\begin{pmatrix}" + r"\\".join(["&".join("1" * 40)] * 40) + r"\end{pmatrix}^{999}",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the grader beside math-verify."""

    count: int = 400
    """Pairs of the ordinary mix; the RL mix takes four times as many."""
    data: Path = Path("../shared/data")
    """Folder with bench/*.jsonl and grader/hostile_dev.jsonl; without it ordinary pairs are generated."""
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""
    seed: int = 0
    """Of the choice and order of pairs."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One grader on one mix."""

    mix: str
    grader: str
    count: int
    accepted: int
    per_second: float
    p50_ms: float
    p99_ms: float
    worst_s: float


def measured(mix: str, grader: str, results: list[tuple[bool, float]]) -> Measured:
    """Summarise verdicts and their seconds."""
    seconds = sorted(s for _, s in results)
    return Measured(
        mix=mix,
        grader=grader,
        count=len(results),
        accepted=sum(accepted for accepted, _ in results),
        per_second=len(results) / sum(seconds),
        p50_ms=1e3 * statistics.median(seconds),
        p99_ms=1e3 * seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))],
        worst_s=seconds[-1],
    )


def ordinary_pairs(count: int, data: Path, draw: random.Random) -> list[Pair]:
    """Half of them equal. Without files, sums and fractions in two spellings."""
    files = [p for p in sorted(data.glob("bench/*.jsonl")) if p.stem in {"math500", "minerva_math", "olympiadbench"}]
    pools = [[json.loads(line)["answer"] for line in p.read_text(encoding="utf-8").splitlines()] for p in files]
    if not pools:
        pools = [[rf"\frac{{{a}}}{{{b}}}x^{a % 5}+{b}" for a in range(1, 40) for b in range(2, 12)]]
    pairs = []
    for number in range(count):
        pool = draw.choice(pools)
        gold = str(draw.choice(pool))
        pairs.append((gold, gold.replace(r"\frac", r"\dfrac") + " " if number % 2 else str(draw.choice(pool))))
    return pairs


def rl_pairs(count: int, draw: random.Random) -> list[Pair]:
    """Groups of eight attempts at one problem: about half are right, the wrong ones often agree."""
    pairs: list[Pair] = []
    while len(pairs) < count:
        above, below = draw.randint(1, 999), draw.choice([1, 1, 1, draw.randint(2, 60)])
        gold = str(above) if below == 1 else rf"\frac{{{above}}}{{{below}}}"
        wrong = str(above + draw.randint(1, 9))
        right = gold if below == 1 else draw.choice([gold, f"{above}/{below}", rf"\dfrac{{{above}}}{{{below}}}"])
        pairs += [(gold, draw.choice([right, right, wrong, str(draw.randint(1, 999))])) for _ in range(8)]
    return pairs[:count]


def hostile_pairs(data: Path) -> list[Pair]:
    """Answers that no grader should accept, nor be stopped by."""
    path = data / "grader" / "hostile_dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [("1", text) for text in HOSTILE] + [(row["gold"], row["pred"]) for row in rows]


def by_math_verify(pairs: list[Pair]) -> list[tuple[bool, float]]:
    """Verdicts and seconds of math-verify."""
    results: list[tuple[bool, float]] = []
    while len(results) < len(pairs):
        command = [sys.executable, "-W", "ignore", "-c", OTHER]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for gold, answer in pairs[len(results) :]:
                began = perf_counter()
                process.stdin.write(json.dumps([gold, answer]) + "\n")
                process.stdin.flush()
                if not (line := process.stdout.readline()):
                    results.append((False, perf_counter() - began))  # it died over this one
                    break
                accepted, seconds = json.loads(line)
                results.append((accepted, seconds))
    return results


def verdict_on(grader: Grader, reference: str, answer: str) -> Verdict:
    """The verdict on a final answer, waited for in this thread."""
    return grader.begin(pair(reference, answer)).result().verdict


def by_us(pairs: list[Pair]) -> list[tuple[bool, float]]:
    """Verdicts and the seconds a caller waits, one pair after another."""
    results = []
    with Grader() as grader:
        verdict_on(grader, "x+1", "1+x")  # as for math-verify, the imports are not counted
        for gold, answer in pairs:
            began = perf_counter()
            verdict = verdict_on(grader, gold, answer)
            results.append((verdict.outcome == "correct", perf_counter() - began))
    return results


def table(rows: list[Measured]) -> Table:
    """The numbers, and how many times faster we are."""
    shown = Table(title=f"Grading ({grader_version()})", title_justify="left", box=SIMPLE)
    for name in ("mix", "grader", "pairs", "accepted", "answers/s", "p50 ms", "p99 ms", "worst s"):
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(
            *(row.mix, row.grader, str(row.count), str(row.accepted), f"{row.per_second:,.0f}"),
            *(f"{row.p50_ms:.3f}", f"{row.p99_ms:.1f}", f"{row.worst_s:.2f}"),
        )
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        ratio = ours.per_second / theirs.per_second
        shown.add_row(ours.mix, "ratio", "", "", f"{ratio:.1f}x", "", f"{theirs.p99_ms / ours.p99_ms:.1f}x", "")
    return shown


def main(options: Options) -> None:
    """Measure all mixes and print."""
    draw = random.Random(options.seed)
    mixes = {
        "ordinary": ordinary_pairs(options.count, options.data, draw),
        "rl": rl_pairs(4 * options.count, draw),
        "hostile": hostile_pairs(options.data),
    }
    rows = []
    for mix, pairs in mixes.items():
        rows += [measured(mix, "thor", by_us(pairs)), measured(mix, "math-verify", by_math_verify(pairs))]
    Console(width=140).print(table(rows))
    if options.out is not None:
        options.out.write_text(json.dumps({"grader": grader_version(), "rows": [asdict(r) for r in rows]}, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Options))
