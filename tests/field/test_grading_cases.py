"""Every pair, row and vote of the public reports, judged and read by the functions that runs use."""

import json

import pytest

from field_cases import field_cases
from thor_tir.cli import main
from thor_tir.errors import UsageError
from thor_tir.eval.statistics import majority_at_k
from thor_tir.grading.grader import Grader
from thor_tir.grading.references import check_references
from thor_tir.grading.types import Submission, SubmissionKind
from thor_tir.problem import Problem
from thor_tir.problems.sources import load_problems
from thor_tir.verdict import Strictness

PAIRS = field_cases("grading", "grading/data")


@pytest.fixture(scope="module")
def graders():
    with Grader(strictness=Strictness.STRICT) as strict, Grader(strictness=Strictness.LENIENT) as lenient:
        yield {"--strict": strict, "--lenient": lenient}


@pytest.mark.parametrize("row", PAIRS)
def test_a_pair_is_judged_as_a_mathematician_would(row, graders):
    grader = next(each for option, each in graders.items() if option in row["command"].split())
    given = row["input"]
    problem = Problem(id=row["id"], question="", answer=given["gold"], source="")
    submission = Submission(problem=problem, text=given["pred"], kind=SubmissionKind(given["kind"]))
    assert grader.begin(submission).result(timeout=30).verdict.outcome == row["expected"].split()[0]


@pytest.mark.parametrize("strictness", ["--strict", "--lenient"])
def test_the_command_says_the_same(strictness, tmp_path):
    rows = [param.values[0] for param in PAIRS if param.values[0]]
    chosen = [row for row in rows if strictness in row["command"].split()]
    if not chosen:
        pytest.skip("cases.jsonl is not beside the checkout")
    pairs, verdicts = tmp_path / "pairs.jsonl", tmp_path / "verdicts.jsonl"
    pairs.write_text("".join(json.dumps({"id": row["id"], **row["input"]}) + "\n" for row in chosen))
    with pytest.raises(SystemExit, match="0"):
        main(["grade", "--jsonl", str(pairs), "--output", str(verdicts), strictness, "--workers", "1"])
    found = {row["id"]: row["outcome"] for row in map(json.loads, verdicts.read_text().splitlines())}
    assert found == {row["id"]: row["expected"].split()[0] for row in chosen}


FILES = {
    "rows-crlf": b'{"question":"Compute 1+1?","answer":"2"}\r\n',
    "rows-bom": b'\xef\xbb\xbf{"question":"Compute 1+1?","answer":"2"}\n',
    "rows-parquet": b"PAR1\x15\x04\x15\x10\x15\x14L\x15\x02\x15\x00\x12\x00\x00\nPAR1",
    "rows-utf16": '{"question":"a?","answer":"2"}\n'.encode("utf-16"),
    "rows-latin1": '{"question":"Was ergibt 3 × 4? Löse.","answer":"12"}\n'.encode("latin-1"),
}
"""Content of the files that a case describes in words."""
REFUSALS = {
    "rows-parquet": "is Parquet that cannot be read",
    "rows-latin1": "line 1: not UTF-8",
}
"""A piece of the sentence of each file that is refused."""
ANSWERS = {
    "rows-crlf": "2",
    "rows-bom": "2",
    "rows-numbers": "17",
    "rows-null-extra": "0",
    "rows-verl": "17",
    "rows-math": "We get \\boxed{17}.",
    "rows-empty-answer": "",
    "rows-nan": "",
    "rows-duplicate": "1",
    "rows-list": "17",
    "rows-list-json": "1",
    "rows-utf16": "2",
}
"""The answer in each file that is read. The cases ask for a sentence where a file could not be read; the last three are
read since, and so is Parquet that is none of a few bytes."""
COUNTS = {
    "rows-empty-answer": "say nothing (empty, None, nan, N/A), so that every attempt at them stays unscored",
    "rows-nan": "say nothing (empty, None, nan, N/A), so that every attempt at them stays unscored",
    "rows-duplicate": "repeated questions, left out: 1",
}
"""The sentence about each file of which something is left out, or cannot be used."""


@pytest.mark.parametrize("row", [param for param in field_cases("data") if param.id.startswith(("rows", "absent"))])
def test_a_file_of_rows_is_read_or_refused_in_a_sentence_that_helps(row, tmp_path):
    given, path = row["input"], tmp_path / "mine.jsonl"
    rows = given if isinstance(given, list) else [given]
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in rows)
    path.write_bytes(FILES.get(row["id"], text.encode()))
    if row["id"] in REFUSALS:
        with pytest.raises(UsageError, match=REFUSALS[row["id"]]):
            load_problems(str(path))
    else:
        found = load_problems(str(path))
        assert [problem.answer for problem in found.problems] == [ANSWERS[row["id"]]]
        said = (*found.left_out, *(fault.what for fault in check_references(found.problems)))
        assert said == ((COUNTS[row["id"]],) if row["id"] in COUNTS else ())


@pytest.mark.parametrize("row", field_cases("voting"))
def test_a_vote_counts_abstentions_and_ties(row):
    given = row["input"]
    assert majority_at_k(given["answers"], given["correct"], given["k"]) == float(row["expected"])
