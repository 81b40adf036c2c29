"""Programs of public reports through `thor sandbox run`: each ends as plain Python would, or says why it does not."""

import json
from pathlib import Path
from typing import Any

import pytest

from field_cases import field_cases
from thor_tir import cli

CASES = field_cases("sandbox")
OK, PRINTED = (
    "ok",
    {
        "heavy-from": "1.732051",
        "heavy-networkx": "4",
        "heavy-pandas": "3",
        "heavy-two-in-one": "15",
        "heavy-in-try": "7",
        "heavy-hidden-import": "15",
        "heavy-numpy": "1.0",
        "heavy-matplotlib": "done",
        "program-stdin-race": "''",
        "program-threads": "[0, 1, 4, 9, 16]",
        "program-main-guard": "42",
        "program-nested-output-json": "4",
        "program-unicode": "2",
        "program-asyncio": "3",
    },
)
"""Standard output of those that end well."""
ENDS = {
    "program-input": ("runtime", "EOFError", "EOF when reading a line"),
    "program-last-expression": ("ok_no_output", None, ""),
    "program-infinite-generator": ("timeout", None, ""),
    "program-huge-print": ("output_limit", None, ""),
    "program-pool": ("denied", "PermissionError", "processes are not allowed here"),
}
"""Status, error, and what stands on standard error, of the others."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Lines of the output by id: of one command for the program that never ends, and of one for all others."""
    rows = [case.values[0] for case in CASES if case.values[0]]
    endless = [row for row in rows if row["id"] == "program-infinite-generator"]
    others = [row for row in rows if row not in endless]
    made = tmp_path_factory.mktemp
    return run(others, made("field"), timeout_s=8) | run(endless, made("endless"), timeout_s=1)


def run(rows: list[dict[str, Any]], folder: Path, *, timeout_s: int) -> dict[str, dict[str, Any]]:
    programs = "".join(json.dumps({"id": row["id"], "code": row["input"]["code"]}) + "\n" for row in rows)
    (folder / "programs.jsonl").write_text(programs, encoding="utf-8")
    source, target = str(folder / "programs.jsonl"), str(folder / "results.jsonl")
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["sandbox", "run", "--jsonl", source, "--output", target, "--workers", "1", "--timeout-s", str(timeout_s)]
        )
    assert ended.value.code == 0
    written = [json.loads(line) for line in Path(target).read_text(encoding="utf-8").splitlines()]
    return {line["id"]: line for line in written}


@pytest.mark.parametrize("case", CASES)
def test_a_reported_program_ends_as_it_should(case: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    got = results[case["id"]]
    if case["id"] in PRINTED:
        assert (got["status"], got["stdout"]) == (OK, f"{PRINTED[case['id']]}\n"), got["stderr"]
    else:
        status, error, said = ENDS[case["id"]]
        assert (got["status"], got["error"]) == (status, error)
        assert said in got["stderr"]
