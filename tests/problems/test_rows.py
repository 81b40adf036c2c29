"""Rows of data files: each form is read, and any other kind of file is refused in a sentence that says what to do."""

import gzip
import json
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.problems.data_set import read_data_set
from thor_tir.problems.rows import read_rows

ROWS = [
    {"question": '3 × 4, "and" then?', "answer": "12"},
    {"question": "one\ntwo\u2028three", "answer": "3"},
]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
ARRAY = json.dumps(ROWS, ensure_ascii=False)
CSV = 'question,answer\r\n"3 × 4, ""and"" then?",12\r\n"one\ntwo\u2028three",3\r\n'
FORMS = {
    "mine.jsonl": JSONL.encode(),
    "mark.jsonl": JSONL.encode("utf-8-sig"),
    "utf16.jsonl": JSONL.encode("utf-16"),
    "utf32.ndjson": JSONL.encode("utf-32"),
    "packed.jsonl.gz": gzip.compress(JSONL.encode()),
    "no_suffix": JSONL.encode(),
    "lines.json": JSONL.encode(),
    "array.json": ARRAY.encode(),
    "array.jsonl": ARRAY.encode(),
    "indented.json": json.dumps(ROWS, indent=2).encode(),
    "data.json": json.dumps({"version": "1.0", "data": ROWS}, indent=1).encode(),
    "rows.json": json.dumps({"rows": ROWS, "count": 2}).encode(),
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in ("question", "answer")}).encode(),
    "mine.csv": CSV.encode(),
    "mark.csv": CSV.encode("utf-8-sig"),
    "utf16.csv": CSV.encode("utf-16"),
    "german.csv": CSV.replace("question,answer", "question;answer").replace('",', '";').encode(),
    "mine.tsv": CSV.replace("question,answer", "question\tanswer").replace('",', '"\t').encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_of_each_form_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    assert [row for _, row in read_rows(tmp_path / name)] == ROWS


def test_a_parquet_and_an_arrow_file_give_the_same_rows(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = arrow.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, tmp_path / "mine.parquet")
    for name, new in (("file.arrow", arrow.ipc.new_file), ("stream.arrow", arrow.ipc.new_stream)):
        with new(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    for path in (tmp_path / "mine.parquet", tmp_path / "file.arrow", tmp_path / "stream.arrow"):
        assert list(read_rows(path)) == [(f"{path}, row {n}", row) for n, row in enumerate(ROWS, 1)]


def test_an_object_that_is_a_problem_is_one_row_and_named_lists_are_chosen(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(json.dumps(ROWS[0], indent=1))
    assert [row for _, row in read_rows(tmp_path / "1.json")] == ROWS[:1]
    chat = {"prompt": [{"role": "user", "content": "a"}], "answer": "2"}
    (tmp_path / "chat.json").write_text(json.dumps(chat))
    assert [row for _, row in read_rows(tmp_path / "chat.json")] == [chat]
    (tmp_path / "both.json").write_text(json.dumps({"train": ROWS, "test": ROWS[:1]}))
    assert [p.answer for p in read_data_set(f"{tmp_path / 'both.json'}@test").problems] == ["12"]
    with pytest.raises(UsageError, match=r"several lists of rows: name one, as in .*both\.json@train"):
        read_data_set(str(tmp_path / "both.json"))
    with pytest.raises(UsageError, match="holds no list 'dev'; it has train, test"):
        read_data_set(f"{tmp_path / 'both.json'}@dev")


def test_a_cell_that_holds_a_chat_or_a_record_is_read_as_such_and_a_list_stays_text(tmp_path: Path) -> None:
    (tmp_path / "verl.csv").write_text(
        "prompt,reward_model,numbers\n"
        '"[{\'role\': \'user\', \'content\': \'1 + 1?\'}]","{""ground_truth"": ""2""}","[1, 2]"\n'
    )
    chat = [{"role": "user", "content": "1 + 1?"}]
    assert [row for _, row in read_rows(tmp_path / "verl.csv")] == [
        {"prompt": chat, "reward_model": {"ground_truth": "2"}, "numbers": "[1, 2]"}
    ]


LATIN = '{"question": "3 × 4?"}'.encode("latin-1")
REFUSED = [
    ("a.parquet", b"PAR1\x15\x04 PAR1", "is Parquet that cannot be read after row 0"),
    ("a.arrow", b"ARROW1\0\0 ", "is Arrow that cannot be read"),
    ("a.jsonl.gz", gzip.compress(JSONL.encode())[:20], "is damaged .*; obtain it again"),
    ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\0", r"packed by zstd; unpack it first: zstd -d a\.jsonl\.zst"),
    ("a.xlsx", b"PK\x03\x04", "a zip archive or a spreadsheet; unpack it, or save it as CSV"),
    ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "git-lfs has not fetched"),
    ("a.jsonl", JSONL.encode("utf-16-le"), r"in UTF-16LE without a byte order mark; .*iconv -f UTF-16LE"),
    ("a.jsonl", b'{"a"\0', r"no text \(it holds NUL bytes\)"),
    ("a.jsonl", JSONL.encode("utf-16")[:-1], "begins as UTF-16 does and is not valid UTF-16"),
    ("a.jsonl", LATIN, r"line 1: not UTF-8 \(byte 0xd7 at column 17\); if it is LATIN1, .* UTF-8 /.*/a\.jsonl > OUT"),
    ("a.csv", "question\n“4”?".encode("cp1252"), "line 2: not UTF-8 .*; if it is WINDOWS-1252"),
    ("a.csv", b"question,answer\n1, 2 and 3?,6\n", r"line 2: 3 cells under a header of 2 \(question, answer\); put"),
    ("a.csv", b'question,answer\n"open,6\nnext?,2\n', "no valid CSV .*; look for a quote that is left open"),
    ("a.csv", b"question,question\n1,2\n", "the header names question more than once"),
    ("a.json", b"[1, 2]", "row 1: expected a JSON object, found int"),
    ("a.json", b"3", "expected rows, found int"),
    ("a.json", b'[\n{"question": "a"},\n]', "line [23]: not valid JSON"),
    ("a.jsonl", b"question,answer\n1?,2\n", r"line 1: not valid JSON .*; a table of comma-separated values is named"),
    ("a.jsonl", b'["a"]\n["b"]\n', r"line 1: expected a JSON object, found list; jq"),
    ("a.jsonl", b'{"question": "1\n{}', r"line 1: not valid JSON \(Unterminated string starting at column 14\)"),
    ("a.jsonl", b"[" * 100_000 + b"\n{}", "line 1: JSON that Python cannot read"),
]


@pytest.mark.parametrize(("name", "blob", "advice"), REFUSED, ids=[advice[:40] for *_, advice in REFUSED])
def test_another_kind_of_file_is_refused_in_a_sentence_that_says_what_to_do(
    name: str, blob: bytes, advice: str, tmp_path: Path
) -> None:
    if name.endswith((".parquet", ".arrow")):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(blob)
    with pytest.raises(UsageError, match=advice):
        list(read_rows(tmp_path / name))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 PAR1")
    with pytest.raises(UsageError, match=r"a\.parquet, which is Parquet, needs pyarrow, .*'\.\[data\]'"):
        list(read_rows(tmp_path / "a.parquet"))


def folder_of(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"question": f"{number}?", "answer": number}))
    return folder


@pytest.mark.parametrize(
    ("names", "spec", "answers", "clause"),
    [
        (("b.jsonl", "a.jsonl", ".hidden.jsonl", "README.md"), "", ["1", "0"], "2 JSONL files"),
        (("algebra/1.json", "algebra/2.json", "dataset_info.json"), "", ["0", "1"], "2 JSON files"),
        (("d/train-0.jsonl", "d/train-1.jsonl", "d/test-0.jsonl"), "", ["0", "1"], "2 JSONL files of the split train"),
        (("data/train-0.jsonl", "data/test-0.jsonl"), "@test", ["1"], "1 JSONL file of the split test"),
        (("train/a.jsonl", "dev/a.jsonl"), "@validation", ["1"], "1 JSONL file of the split validation"),
    ],
)
def test_a_folder_is_read_file_by_file_and_one_split_of_it(
    names: tuple[str, ...], spec: str, answers: list[str], clause: str, tmp_path: Path
) -> None:
    found = read_data_set(f"{folder_of(tmp_path / 'set', *names)}{spec}")
    assert [p.answer for p in found.problems] == answers
    assert found.taken.startswith(f"{clause}; questions from `question`")


@pytest.mark.parametrize(
    ("names", "spec", "advice"),
    [
        ((), "", "holds no data files; expected JSONL"),
        (("a.csv", "a.jsonl"), "", r"files of several forms \(1 CSV, 1 JSONL\); name a file"),
        (("test.jsonl", "dev.jsonl"), "", r"has no split 'train' but test, validation; name one, as in .*set@test"),
        (("test.jsonl",), "@dev", "has no split 'dev' but test"),
    ],
)
def test_a_folder_that_leaves_a_choice_is_refused_with_the_choices(
    names: tuple[str, ...], spec: str, advice: str, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(UsageError, match=advice):
        read_data_set(f"{folder_of(tmp_path / 'set', *names)}{spec}")


def test_a_name_that_stands_twice_in_a_row_is_refused(tmp_path):
    twice = '{"question": "1?", "answer": "1", "answer": "2"}'
    for name, text in {"a.jsonl": f"{twice}\n{twice}", "b.json": f"[\n{twice}\n]", "c.json": f"{twice}"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match="an object names answer twice"):
            list(read_rows(tmp_path / name))


def test_columns_of_one_name_in_a_table_are_refused(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.Table.from_arrays([arrow.array(["1"])] * 3, names=["question", "answer", "answer"])
    parquet.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(UsageError, match="the columns answer are there more than once"):
        list(read_rows(tmp_path / "twice.parquet"))
