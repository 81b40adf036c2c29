"""Run folders of any size, made fast from the rows of a small real run with other ids: an evaluation and a run of RL.

The small runs are made by the commands themselves, on the embedded actor. A folder of a million attempts is their rows
over and over, each under ids of its own, with the records that the commands compare when a run is continued.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from math import gcd
from pathlib import Path
from typing import Any

from thor_tir.problem import Problem, write_problems
from thor_tir.problems.benchmarks import digest_of
from thor_tir.problems.data_set import read_problems
from thor_tir.problems.sources import NANO_FAMILIES, Split, reasoning_gym_problems
from thor_tir.provenance import RUN, input_digests

SAMPLES = 8
"""Attempts at each problem of an evaluation."""
GROUP, QUESTIONS = 8, 8
"""Attempts of a group and groups of a round of RL."""
FILE = "problems.jsonl"
EVAL = ["eval", "--model", "nano/actor", "--problems", FILE, "--samples", str(SAMPLES), "--correct", "--output", "eval"]
_HEAD = re.compile(rb'\{"key": "([^"]*)", "problem_id": "([^"]*)"')


def problems(count: int) -> Iterator[Problem]:
    """Questions of one form, all different."""
    for number in range(count):
        a, b = 12 * (number + 1), 18 * (number + 2)
        question = f"Find the Greatest Common Divisor (GCD) of these numbers: {a}, {b}. Give only the GCD."
        yield Problem(id=f"gcd-{number}", question=question, answer=str(gcd(a, b)), source="made/gcd")


def rl_command(rounds: int) -> list[str]:
    """A run of RL over so many rounds."""
    command = ["rl", "--model", "nano/actor", "--problems", FILE, "--num-rounds", str(rounds), "--problems-per-round"]
    return [*command, str(QUESTIONS), "--output", "rl", *(["--extend"] if rounds > 1 else [])]


def thor(command: list[str], folder: Path) -> None:
    """Run a command in a folder; raises where it fails."""
    subprocess.run([sys.executable, "-m", "thor_tir", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def seed_runs(folder: Path) -> None:
    """The small real runs that rows are taken from, unless they are there."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_problems(folder / FILE, reasoning_gym_problems(NANO_FAMILIES, split=Split.TEST, count=24, seed=0))
    thor(EVAL, folder)
    thor(rl_command(1), folder)
    (folder / "done").touch()


def grown_evaluation(seed: Path, folder: Path, attempts: int) -> None:
    """A finished evaluation of so many attempts, whose own command continues it."""
    folder.mkdir(parents=True, exist_ok=True)
    many = list(problems(attempts // SAMPLES))
    write_problems(folder / FILE, many)
    (folder / "eval" / "attempts").mkdir(parents=True)
    (folder / "eval" / "problems").mkdir()
    asked = read_problems(folder / FILE)
    name = Path(FILE).stem
    write_problems(folder / "eval" / "problems" / FILE, [replace(each, source=name) for each in asked])
    manifest = json.loads((seed / "eval" / "manifest.json").read_text())
    manifest["sets"][0] |= {"n": len(asked), "sha256": digest_of(asked)}
    (folder / "eval" / "manifest.json").write_text(json.dumps(manifest))
    for record in (RUN, "config.json"):
        shutil.copy(seed / "eval" / record, folder / "eval" / record)
        _edit(folder / "eval" / record, len(asked), folder)
    rows = (seed / "eval" / "attempts" / FILE).read_bytes().splitlines(keepends=True)
    ids = ((f"gcd-{n // SAMPLES}/{n % SAMPLES}", f"gcd-{n // SAMPLES}") for n in range(len(asked) * SAMPLES))
    _write(folder / "eval" / "attempts" / FILE, rows, ids)


def grown_rl(seed: Path, folder: Path, attempts: int) -> None:
    """The run of one round, with a ledger of later ones behind it, as a run has that lost its newest checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(seed / FILE, folder)
    shutil.copytree(seed / "rl", folder / "rl")
    rows = (seed / "rl" / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    rows = [row for row in rows if _HEAD.match(row) and b'"query"' not in row]
    size = GROUP * QUESTIONS
    rounds = range(10, 10 + attempts // size)
    ids = (
        (f"round{number}/{place}/{sample}", f"gcd-{place}")
        for number in rounds
        for place in range(QUESTIONS)
        for sample in range(GROUP)
    )
    _write(folder / "rl" / "rollouts.jsonl", rows, ids, mode="ab")
    for name in ("metrics.jsonl", "updates.jsonl"):
        last = json.loads((folder / "rl" / name).read_text().splitlines()[-1])
        with (folder / "rl" / name).open("a") as file:
            for number in rounds:
                own = [f"round{number}/{k // GROUP}/{k % GROUP}" for k in range(size)]
                file.write(json.dumps(last | {"key": str(number), "round": number} | _ledger(last, own)) + "\n")


def _ledger(last: dict[str, Any], rows: list[str]) -> dict[str, Any]:
    return {"rows": rows} if "rows" in last else {"step": int(rows[0].split("/")[0].removeprefix("round"))}


def _write(path: Path, rows: list[bytes], ids: Iterator[tuple[str, str]], mode: str = "wb") -> None:
    """The rows over and over under the ids, a key and a problem's id for each."""
    heads = [_HEAD.match(row) for row in rows]
    olds = [(head[1], head[2]) for head in heads if head is not None]
    with path.open(mode, buffering=2**22) as file:
        for number, (key, problem) in enumerate(ids):
            row, (old, about) = rows[number % len(rows)], olds[number % len(rows)]
            row = row.replace(b'"%s"' % old, b'"%s"' % key.encode())
            file.write(row.replace(b'"problem_id": "%s"' % about, b'"problem_id": "%s"' % problem.encode()))


def _edit(path: Path, count: int, folder: Path) -> None:
    """Set the number of problems and the digest of their file in a record."""
    found = json.loads(path.read_text())
    options = found.get("options", found)
    if "eval" in options:
        options["eval"]["num_problems"] = count
    if "inputs" in found:
        found["inputs"] |= {FILE: input_digests([folder / FILE])[str(folder / FILE)]}
    path.write_text(json.dumps(found))


def data_set(path: Path, rows: int) -> None:
    """A data set of so many problems, in the form that the name says."""
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        columns: dict[str, list[str]] = {"question": [], "answer": []}
        for each in problems(rows):
            columns["question"].append(each.question)
            columns["answer"].append(each.answer)
        parquet.write_table(pyarrow.table(columns), path)
        return
    with path.open("w", encoding="utf-8") as file:
        for each in problems(rows):
            file.write(json.dumps({name: asdict(each)[name] for name in ("question", "answer")}) + "\n")
