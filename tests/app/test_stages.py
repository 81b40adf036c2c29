"""The cold start as a stage: what it is given, whatever tokens the data set is in."""

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from test_tirgen_export import data_set, generated, row_of

from thor_tir.app.stages.sft import fine_tune
from thor_tir.app.stages.sft_data import SftSource
from thor_tir.console import ConsoleReporter
from thor_tir.engines.loading import load_model, load_tokenizer
from thor_tir.engines.openai_api.text_codec import TextTokenizer
from thor_tir.errors import UsageError
from thor_tir.sft.config import SftConfig
from tirgen_samples import write_lines


def losses(folder: Path, dataset: Path) -> tuple[list[float], str]:
    said = StringIO()
    config = SftConfig(num_train_epochs=2, train_batch_size=1, learning_rate=1e-3)
    fine_tune(
        "nano/actor", SftSource(data=str(dataset)), config, folder, ConsoleReporter(Console(file=said, width=200))
    )
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines], said.getvalue()


def test_a_data_set_of_an_actor_that_was_reached_by_text_alone_trains_as_one_in_other_tokens_does(tmp_path: Path):
    text = write_lines(tmp_path / "text.jsonl", [row_of(generated(TextTokenizer()))])
    by_text, said = losses(tmp_path / "text", text)
    by_tokens, _ = losses(tmp_path / "tokens", data_set(tmp_path))
    assert "1 of 1 samples are not in nano/actor's own tokens: their text is encoded anew" in said
    assert by_text == by_tokens
    assert by_text[1] < by_text[0]


def tuned(folder: Path, said: list[str] | None = None, *, model: str = "nano/actor", rows: int = 1, **options) -> Path:
    """The model that the cold start leaves on `rows` equal samples with ids of their own."""
    folder.mkdir(exist_ok=True)
    row = row_of(generated(load_tokenizer("nano/actor")))
    data = write_lines(folder / "data.jsonl", [{**row, "id": f"p/{n}"} for n in range(rows)])
    console = Console(file=StringIO(), width=200)
    config = SftConfig(train_batch_size=1, learning_rate=1e-3, **options)
    path = fine_tune(model, SftSource(data=str(data)), config, folder / "run", ConsoleReporter(console))
    if said is not None:
        said.append(console.file.getvalue())
    return path


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def stored_as(folder: Path, dtype: torch.dtype, *, says: bool = True) -> str:
    """The nano actor in another type; `says` leaves the type in its configuration."""
    model, tokenizer = load_model("nano/actor", dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    if not says:
        del config["dtype"]
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("dtype", "says", "save_dtype", "expected"),
    [
        (torch.bfloat16, True, "loaded", torch.bfloat16),
        (torch.bfloat16, False, "loaded", torch.bfloat16),  # the weights themselves say it
        (torch.float16, True, "loaded", torch.float16),
        (torch.float32, True, "loaded", torch.float32),
        (torch.float32, False, "loaded", torch.float32),
        (torch.bfloat16, True, "float32", torch.float32),
    ],
)
def test_a_model_is_written_in_the_type_that_was_loaded_unless_float32_is_asked_for(
    tmp_path, dtype, says, save_dtype, expected
):
    name = stored_as(tmp_path / "from", dtype, says=says)
    folder = tuned(tmp_path, model=name, save_dtype=save_dtype)
    assert {tensor.dtype for tensor in weights_of(folder).values()} == {expected}
    assert json.loads((folder / "config.json").read_text())["dtype"] == str(expected).removeprefix("torch.")


def test_the_bfloat16_of_a_written_model_is_the_float32_rounded_once(tmp_path):
    rounded, exact = (weights_of(tuned(tmp_path / kind, save_dtype=kind)) for kind in ("loaded", "float32"))
    assert all(torch.equal(rounded[name], exact[name].to(torch.bfloat16)) for name in exact)


@pytest.mark.parametrize("harm", ["cut", "gone", "changed"])
def test_a_damaged_file_of_a_finished_run_is_written_again_and_named(tmp_path, harm):
    said: list[str] = []
    folder = tuned(tmp_path)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-1000] if harm == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    (folder / "notes.txt").write_text("mine")
    assert tuned(tmp_path, said) == folder
    assert file.read_bytes() == whole
    assert (folder / "notes.txt").read_text() == "mine"
    assert "model.safetensors in" in said[0]
    assert "did not hold what is trained now, and is written again" in said[0]
    assert not list(folder.parent.glob(".model*"))


def test_a_finished_run_that_is_whole_says_nothing_of_its_files(tmp_path):
    said: list[str] = []
    tuned(tmp_path)
    tuned(tmp_path, said)
    assert "written again" not in said[0]


def test_samples_that_are_too_long_are_counted_where_one_looks_and_in_the_record(tmp_path):
    said: list[str] = []
    short = row_of(generated(load_tokenizer("nano/actor")))
    long = json.loads(json.dumps(short))
    long["segments"][0] |= {"text": short["segments"][0]["text"] * 40, "ids": short["segments"][0]["ids"] * 40}
    data = write_lines(tmp_path / "data.jsonl", [{**short, "id": "a"}, {**long, "id": "b"}, {**long, "id": "c"}])
    console = Console(file=StringIO(), width=200)
    config = SftConfig(train_batch_size=1, max_length=300)
    fine_tune("nano/actor", SftSource(data=str(data)), config, tmp_path / "run", ConsoleReporter(console))
    said.append(console.file.getvalue())
    record = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (record["samples"], record["too_long"], record["trained"]) == (3, 2, 1)
    assert "2 of 3 samples are longer than 300 tokens (--max-length) and are left out" in said[0]
    assert f"the longest has {record['longest']:,}" in said[0]
    few = write_lines(tmp_path / "few.jsonl", [{**long, "id": "b"}, {**long, "id": "c"}])
    with pytest.raises(UsageError, match=r"2 of 2 samples are longer than 300 tokens .* nothing is left to train on"):
        fine_tune("nano/actor", SftSource(data=str(few)), config, tmp_path / "none", ConsoleReporter(console))


def test_samples_beyond_the_models_context_are_left_out_whatever_the_option_allows(tmp_path):
    short = row_of(generated(load_tokenizer("nano/actor")))
    long = json.loads(json.dumps(short))
    times = 1 + 3000 // len(short["segments"][0]["ids"])
    long["segments"][0] |= {"text": short["segments"][0]["text"] * times, "ids": short["segments"][0]["ids"] * times}
    data = write_lines(tmp_path / "data.jsonl", [{**short, "id": "a"}, {**long, "id": "b"}])
    console = Console(file=StringIO(), width=200)
    config = SftConfig(train_batch_size=1, max_length=100_000)
    fine_tune("nano/actor", SftSource(data=str(data)), config, tmp_path / "run", ConsoleReporter(console))
    assert "(the model's context) and are left out" in console.file.getvalue()
    assert json.loads((tmp_path / "run" / "data.json").read_text())["too_long"] == 1


CHAT = [
    {"role": "user", "content": "What is 6 * 7?"},
    {"role": "assistant", "content": "I multiply.\n```python\nprint(6*7)\n```\n```output\n42\n```\nIt is \\boxed{42}."},
]


def chats_as(form: str, folder: Path) -> str:
    """Two conversations and a row that holds none, in one form of file."""
    rows: list[dict] = [{"messages": CHAT}, {"messages": CHAT}, {"messages": CHAT[:1]}]
    if form == "jsonl":
        return str(write_lines(folder / "chats.jsonl", rows))
    if form == "json":
        (folder / "chats.json").write_text(json.dumps(rows))
        return str(folder / "chats.json")
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (folder / "data").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-0.parquet")
    parquet.write_table(pa.Table.from_pylist(rows), folder / "data" / "test-0.parquet")
    return str(folder / "data")


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_conversations_in_any_file_are_learnt_and_the_record_and_one_line_say_by_which_reading(tmp_path, form):
    console = Console(file=StringIO(), width=200)
    source = SftSource(data=chats_as(form, tmp_path))
    config = SftConfig(train_batch_size=2, learning_rate=1e-3)
    fine_tune("nano/actor", source, config, tmp_path / "run", ConsoleReporter(console))
    said = console.file.getvalue()
    part = "1 Parquet file of the split train, " if form == "parquet" else ""
    assert f"{source.data}: {part}3 samples, read from `messages` (programs in the text): 2" in said
    assert "1 of 3 samples are left out: no assistant says anything: 1" in said
    record = json.loads((tmp_path / "run" / "data.json").read_text())
    assert record["readings"] == {"`messages` (programs in the text)": 2}
    assert record["unusable"] == {"no assistant says anything": 1}
    assert (record["samples"], record["trained"]) == (3, 2)
