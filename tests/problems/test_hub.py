"""The hub's sets through the real `datasets` package, with folders on this machine in the place of repositories."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thor_tir.cli import main
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems import benchmark_files, benchmarks, code_sources
from thor_tir.problems.benchmark_files import get_benchmark
from thor_tir.problems.benchmarks import BENCHMARKS, HubSet, load_benchmark
from thor_tir.problems.code_sources import code_set
from thor_tir.problems.data_set import read_data_set
from thor_tir.problems.sets import load_set
from thor_tir.problems.sources import local_inputs

pyarrow = pytest.importorskip("pyarrow.parquet", reason="`datasets` is not installed: pip install .[hub]")

ROWS = [
    {"problem": "What is $1 + 1$?", "answer": "2", "subject": "Algebra", "level": 1},
    {"problem": "What is $1 / 2$?", "answer": r"\frac{1}{2}", "subject": "Algebra", "level": 2},
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own: a set that was loaded once is not looked for again."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def repository(folder: Path, rows: list[dict[str, Any]], split: str = "test") -> Path:
    import pyarrow as pa

    (folder / "data").mkdir(parents=True)
    pyarrow.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def known(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    table = {**BENCHMARKS, name: replace(BENCHMARKS[name], **changes)}
    monkeypatch.setattr(benchmarks, "BENCHMARKS", table)


def test_a_parquet_set_is_read_and_held_against_count_and_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubSet(path=str(repository(tmp_path / "math", ROWS)))
    known(monkeypatch, "math500", hub=hub)
    with pytest.raises(UsageError, match="math500 has 500 problems, found 2: not the known math500"):
        load_benchmark("math500")
    known(monkeypatch, "math500", hub=hub, size=2)
    with pytest.raises(UsageError, match=r"SHA-256 of its problems is 96ab71e252c6\.\.\."):
        load_benchmark("math500")
    found = load_benchmark("math500", accept_modified=True)
    assert [(p.answer, p.extra["level"]) for p in found.problems] == [("2", 1), (r"\frac{1}{2}", 2)]
    known(monkeypatch, "math500", hub=hub, size=2, sha256=found.sha256)
    assert load_benchmark("math500").notes == ()


def test_a_wrapped_answer_and_one_behind_a_derivation_are_unwrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository(tmp_path / "olympiad", [{"question": "Which?", "final_answer": ["$7$"]}])
    known(monkeypatch, "olympiadbench", hub=replace(BENCHMARKS["olympiadbench"].hub, path=str(folder)))
    assert load_benchmark("olympiadbench", accept_modified=True).problems[0].answer == "$7$"
    folder = repository(tmp_path / "gsm", [{"question": "How many?", "answer": "2 * 600 = 1,200\n#### 1,200"}])
    known(monkeypatch, "gsm8k", hub=replace(BENCHMARKS["gsm8k"].hub, path=str(folder), config=None))
    assert load_benchmark("gsm8k", accept_modified=True).problems[0].answer == "1200"


@pytest.mark.parametrize(
    ("files", "hub"),
    [
        ({}, {"path": "no/such"}),
        ({"data/test.parquet": b"PAR1 this is no parquet file PAR1"}, {}),
        ({"data/test.jsonl": json.dumps(ROWS[0]).encode()}, {"split": "validation"}),
        ({"data/test.jsonl": json.dumps(ROWS[0]).encode()}, {"config": "other"}),
        ({"data/test.jsonl": b"{not json"}, {}),
    ],
    ids=["missing", "damaged parquet", "no such split", "no such config", "damaged json"],
)
def test_a_set_that_cannot_be_had_is_one_sentence_with_what_to_do(
    files: Mapping[str, bytes], hub: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    wanted: dict[str, Any] = {"path": str(tmp_path / "set"), **hub}
    known(monkeypatch, "amc23", hub=HubSet(**wanted))
    with pytest.raises(UsageError, match=r"cannot be loaded \(.+\); give --data a folder with amc23\.jsonl") as told:
        load_benchmark("amc23")
    assert "\n" not in str(told.value)


def test_code_sets_of_the_hub_are_read_by_their_own_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = "inputs = [[1]]\nresults = [2]\nfor i, (inp, exp) in enumerate(zip(inputs, results)):\n"
    row = {
        "task_id": 2,
        "code": "def double(n):\n    return 2 * n",
        "prompt": "Double a number.",
        "test_imports": [],
        "test_list": ["assert double(1) == 2"],
        "test": check + "    assertion(double(*inp), exp, 0)\n",
    }
    folder = repository(tmp_path / "mbpp", [row])
    plus = code_sources.BENCHMARKS["mbpp_plus"]
    table = {**code_sources.BENCHMARKS, "mbpp_plus": replace(plus, hub=HubSet(path=str(folder)))}
    monkeypatch.setattr(code_sources, "BENCHMARKS", table)
    found = code_set("mbppplus", None)
    assert found.notes == ("mbpp_plus has 378 tasks, found 1",)
    (task,) = found.tasks
    assert (task.id, task.entry_point, task.shown) == ("MBPP/2", "double", "assert double(1) == 2")
    with pytest.raises(UsageError, match="the hub has no copy of mbpp; give --data the file of mbpp, or a folder"):
        code_set("mbpp", None)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the hub: the set OWNER/NAME is the folder of that name in it."""
    import datasets

    load = datasets.load_dataset

    def of_folder(name: str, config: str | None = None, **options: Any) -> Any:
        if not (tmp_path / "hub" / name).is_dir():
            raise ConnectionError(f"Couldn't reach {name!r} on the Hub (LocalEntryNotFoundError)\nand more")
        return load(str(tmp_path / "hub" / name), config, **options)

    monkeypatch.setattr(datasets, "load_dataset", of_folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def test_a_set_of_the_hub_is_read_by_name_configuration_and_split(hub: Path) -> None:
    folder = repository(hub / "me" / "sums", ROWS, split="train")
    pyarrow.write_table(pyarrow.read_table(folder / "data").slice(1), folder / "data" / "test-00000-of-00001.parquet")
    train = read_data_set("me/sums")
    assert [(p.answer, p.source, p.extra["level"]) for p in train.problems] == [
        ("2", "sums", 1),
        (r"\frac{1}{2}", "sums", 2),
    ]
    assert train.taken == "split train of the hub's me/sums, 2 rows; questions from `problem`, answers from `answer`"
    for spec in ("me/sums@test", "hf://datasets/me/sums:default@test"):
        assert [p.answer for p in read_data_set(spec).problems] == [r"\frac{1}{2}"]
    assert len(read_data_set("me/sums@train[:1]").problems) == 1
    asked = load_set("me/sums")
    assert (asked.name, len(asked.problems)) == ("sums", 1)
    assert asked.notes[0].startswith("sums: split test of the hub's me/sums, 1 rows")
    assert local_inputs("me/sums@test") == []


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("me/sums@dev", r"me/sums has no split 'dev' but train; name one, as in me/sums@train"),
        (
            "me/sums:other",
            r"as a data set of the hub it cannot be loaded \(.*other.*\); a configuration",
        ),
        ("me/none", r"no file or folder 'me/none', and as a data set of the hub it cannot be loaded \(Couldn't reach"),
        ("me/none.csv", r"no problems at 'me/none\.csv': expected a file or folder of JSONL"),
    ],
)
def test_a_set_of_the_hub_that_is_not_there_is_one_sentence(spec: str, advice: str, hub: Path) -> None:
    repository(hub / "me" / "sums", ROWS, split="train")
    with pytest.raises(UsageError, match=advice) as told:
        read_data_set(spec)
    assert "\n" not in str(told.value)


def test_a_set_of_the_hub_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match=r"and asking the hub for it needs datasets, .*'\.\[hub\]'"):
        read_data_set("me/sums")


def registered(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Take the two problems of the stand-in for those that are known by that name."""
    problems = [Problem(id="", question=str(r["problem"]), answer=str(r["answer"]), source="") for r in ROWS]
    changed = replace(BENCHMARKS[name], size=2, sha256=benchmarks.digest_of(problems))
    monkeypatch.setitem(BENCHMARKS, name, changed)  # type: ignore[arg-type]


def test_a_benchmark_is_fetched_checked_and_found_by_data_and_then_it_is_there(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(monkeypatch, "math500")
    repository(hub / "HuggingFaceH4" / "MATH-500", ROWS)
    for how in ("fetched", "there already"):
        with pytest.raises(SystemExit, match="0"):
            main(["data", "get", "math500", "--output", "bench"])
        said = capsys.readouterr().out
        assert f"math500: bench/math500.jsonl, {how}: 2 problems, the registered set, SHA-256" in said
        assert "use: thor eval --problems math500 --data bench" in said
    found = load_benchmark("math500", Path("bench"))
    assert [(p.answer, p.extra["level"]) for p in found.problems] == [("2", 1), (r"\frac{1}{2}", 2)]


def test_without_a_hub_it_is_said_what_to_put_where_and_other_data_are_refused(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(monkeypatch, "math500")
    with pytest.raises(UsageError, match=r"Couldn't reach .*\); by hand: put math500\.jsonl into bench, 2") as told:
        get_benchmark("math500", Path("bench"))
    assert BENCHMARKS["math500"].sha256 in str(told.value)
    assert "MIT (hendrycks/math)" in str(told.value)
    Path("bench").mkdir(exist_ok=True)
    Path("bench/math500.jsonl").write_text(json.dumps(ROWS[0]))
    with pytest.raises(UsageError, match="math500 has 2 problems, found 1: not the known math500"):
        get_benchmark("math500", Path("bench"))
    assert get_benchmark("math500", Path("bench"), accept_modified=True).notes == ("math500 has 2 problems, found 1",)
    monkeypatch.setattr(benchmark_files, "release_files", offline)
    with pytest.raises(UsageError, match=r"livecodebench_v2 .*put test\.jsonl, test2\.jsonl into bench, 511 tasks as"):
        get_benchmark("livecodebench_v2", Path("bench"))
    with pytest.raises(SystemExit, match="2"):
        main(["data", "get", "math500", "mbpp", "--output", "none"])
    out, err = capsys.readouterr()
    assert "mbpp: the hub has no copy of mbpp" in out
    assert "2 of 2 sets could not be had: math500, mbpp" in err
    with pytest.raises(UsageError, match=r"unknown benchmark 'math5000'; known: math500, .*and six"):
        get_benchmark("math5000", Path("bench"))


def offline(release: int, data: Path | None) -> list[Path]:
    raise UsageError(f"livecodebench_v{release} cannot be loaded (no network)")


def test_a_benchmark_of_programs_is_fetched_row_by_row(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"task_id": "HumanEval/0", "prompt": "def f():\n", "entry_point": "f", "canonical_solution": "    return 1\n"}
    repository(hub / "openai" / "openai_humaneval", [{**row, "test": "def check(f):\n    assert f() == 1\n"}])
    with pytest.raises(UsageError, match=r"humaneval has 164 tasks, found 1: the hub's copy is not the known"):
        get_benchmark("HumanEval", Path("bench"))
    found = get_benchmark("HumanEval", Path("bench"), accept_modified=True)
    assert (found.name, found.paths, found.size) == ("humaneval", (Path("bench/humaneval.jsonl"),), 1)


def test_without_a_name_every_set_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["data", "get"])
    said = capsys.readouterr().out
    assert all(name in said for name in (*BENCHMARKS, *code_sources.BENCHMARKS))
