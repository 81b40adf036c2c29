"""The forms for other trainers: what a template is given, what a loss covers, and that they are read as they are."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from thor_tir.app.stages.tirgen_data import export_dataset
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS, TOOLS, messages
from thor_tir.engines.loading import load_tokenizer
from thor_tir.engines.openai_api.text_codec import TextTokenizer
from thor_tir.engines.protocol import Sampling
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt
from thor_tir.sft.examples import sft_row
from thor_tir.tirgen.critic import Critic, CriticConfig
from thor_tir.tirgen.dataset import SampleFacts, from_row, to_row
from thor_tir.tirgen.generate import TirgenAgents, TirgenConfig, generate
from thor_tir.tirgen.publish.export import IGNORED, message_row, token_row, turn_row
from thor_tir.trajectory import Author, Completion, Span, StopReason
from tiny_models import tiny_tokenizer
from tirgen_samples import CORRECT, read_lines, write_lines
from told_sandbox import ToldSandbox, printed

PROBLEM = Problem(id="p", question="What is 20 + 57?", answer="77", source="test/sums", extra={"n": [1, "x"]})
PROGRAM = "The sum of both is\n```python\nprint(20 + 57)\n```\n"
ANSWER = "So the answer is \\boxed{77}."


class ByText:
    """An actor that is reached by text alone: a paragraph, then the answer."""

    def __init__(self, *replies: str) -> None:
        self._replies = list(replies)

    def attend(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        codec, text = TextTokenizer(), self._replies.pop(0)
        ids = codec.encode(text, split_special_tokens=True) + ([] if self._replies else [codec.eos_token_id])
        stop = StopReason.STOP if self._replies else StopReason.END
        return Completion(span=Span(token_ids=tuple(ids), author=Author.MODEL), stop=stop)


def generated(actors: Any = None) -> Attempt:
    """A trajectory that Algorithm 1 made, spans and all, in tokens of the actor's tokenizer."""
    tokenizer = tiny_tokenizer()
    actors = actors or tokenizer
    says = ("The sum of both is 20 + 57 = 78.\n\n", ANSWER)
    critic = Critic(
        policy=ScriptedPolicy(tokenizer, [PROGRAM, "NONE"]),
        dialect=Dialect(tokenizer, DialectConfig(style=CRITIC)),
        config=CriticConfig(),
    )
    agents = TirgenAgents(
        actor=ByText(*says) if isinstance(actors, TextTokenizer) else ScriptedPolicy(actors, says),
        dialect=Dialect(actors, DialectConfig(style=NO_TOOLS)),
        critic=critic,
        sandbox=ToldSandbox({"print(20 + 57)": printed("77")}),
    )
    sample = asyncio.run(generate(PROBLEM, agents, TirgenConfig(), id="p/0", seed=5))
    return Attempt(problem=PROBLEM, trajectory=sample.trajectory, verdict=CORRECT)


def row_of(attempt: Attempt) -> dict[str, object]:
    return json.loads(json.dumps(to_row(attempt, SampleFacts(seed=5, provenance="abc"))))


def data_set(folder: Path) -> Path:
    return write_lines(folder / "dataset.jsonl", [row_of(generated())])


def test_rows_of_the_cold_start_made_from_the_file_train_exactly_the_tokens_of_the_trajectory():
    attempt = generated()
    prompt = Dialect(tiny_tokenizer()).prompt(PROBLEM.question)
    read = from_row(row_of(attempt))
    ours, theirs = sft_row(attempt.trajectory, prompt=prompt), sft_row(read.trajectory, prompt=prompt)
    assert (ours.token_ids, ours.trained) == (theirs.token_ids, theirs.trained)
    decode = tiny_tokenizer().decode
    trained = decode([id for id, t in zip(theirs.token_ids, theirs.trained, strict=True) if t])
    assert trained == PROGRAM + ANSWER + tiny_tokenizer().eos_token  # and the output "77" is not among it


def test_one_chat_holds_the_question_as_the_model_is_asked_it_and_the_answer_as_it_was_read_and_written():
    attempt = generated()
    (system, user, answer) = message_row(row_of(attempt))["messages"]
    assert [system, user] == messages(TOOLS, PROBLEM.question)
    assert answer == {"role": "assistant", "content": f"{PROGRAM}```output\n77\n```\n{ANSWER}"}
    ids = [token for step in attempt.trajectory.steps for span in step.spans for token in span.token_ids]
    assert answer["content"] == tiny_tokenizer().decode(ids).removesuffix(tiny_tokenizer().eos_token)


@pytest.mark.parametrize("row_of_form", [message_row, turn_row])
def test_a_chat_is_its_question_and_its_answer_which_trl_takes_for_the_part_without_and_with_loss(row_of_form):
    chat = row_of_form(row_of(generated()))
    assert chat["messages"] == [*chat["prompt"], *chat["completion"]]
    assert [turn["role"] for turn in chat["prompt"]] == ["system", "user"]
    assert {turn["role"] for turn in chat["completion"]} <= {"assistant", "tool"}
    assert ANSWER in chat["completion"][-1]["content"]


def test_in_turns_the_output_is_the_tools_and_everything_else_is_the_assistants():
    turns = turn_row(row_of(generated()))["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "tool", "assistant"]
    assert [turn["content"] for turn in turns[2:]] == [PROGRAM, "77", ANSWER]


@pytest.mark.parametrize("form", ["messages", "turns"])
def test_chats_keep_to_the_format_that_ms_swift_documents(tmp_path: Path, form):
    """Its custom data sets: JSONL rows with `messages`, each a role and a text; an optional system message first, then
    a user, then assistant and tool by turns (a tool only after an assistant), the assistant last."""
    (path,) = export_dataset(data_set(tmp_path), tmp_path, [form], model="nano/actor")
    for row in read_lines(path):
        assert row["messages"] == [*row["prompt"], *row["completion"]]
        roles = [message["role"] for message in row["messages"]]
        assert all(set(m) == {"role", "content"} and m["content"].strip() for m in row["messages"])
        assert roles[:2] == ["system", "user"]
        assert roles[2::2] == ["assistant"] * len(roles[2::2])
        assert set(roles[3::2]) <= {"tool"}
        assert roles[-1] == "assistant"


def test_labels_are_the_trained_ids_and_nothing_else():
    row = sft_row(generated().trajectory, prompt=Dialect(tiny_tokenizer()).prompt(PROBLEM.question))
    found = token_row(row)
    assert found["input_ids"] == list(row.token_ids)
    for id, label, trained in zip(found["input_ids"], found["labels"], row.trained, strict=True):
        assert label == (id if trained else IGNORED)


@pytest.mark.parametrize("actors", [TextTokenizer(), tiny_tokenizer()], ids=["text alone", "another tokenizer"])
def test_labels_are_in_the_trained_models_tokens_whatever_the_actors_were(tmp_path: Path, actors):
    attempt = generated(actors)
    write_lines(tmp_path / "dataset.jsonl", [row_of(attempt)])
    export_dataset(tmp_path / "dataset.jsonl", tmp_path, ["tokens", "messages", "turns"], model="nano/actor")
    (row,), (chat,) = read_lines(tmp_path / "tokens.jsonl"), read_lines(tmp_path / "messages.jsonl")
    trained = load_tokenizer("nano/actor")
    prompt = trained.decode(Dialect(trained).prompt(PROBLEM.question).token_ids)
    assert trained.decode(row["input_ids"]) == f"{prompt}{chat['messages'][-1]['content']}{trained.eos_token}"
    learnt = [id for id, label in zip(row["input_ids"], row["labels"], strict=True) if label == id]
    assert trained.decode(learnt) == f"{PROGRAM}{ANSWER}{trained.eos_token}"  # and neither prompt nor output
    assert set(row["labels"]) - set(learnt) == {IGNORED}
    (turns,) = read_lines(tmp_path / "turns.jsonl")
    assert [turn["content"] for turn in turns["messages"][2:]] == [PROGRAM, "77", ANSWER]


def test_parquet_is_loaded_by_datasets_with_every_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it comes with the extra hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (path,) = export_dataset(data_set(tmp_path), tmp_path / "out", ["parquet"], model="nano/actor")
    assert path == tmp_path / "out" / "data" / "train.parquet"
    table = datasets.load_dataset("parquet", data_files=str(path), cache_dir=str(tmp_path / "cache"), split="train")
    (row,) = table
    assert (row["question"], row["source"], row["num_calls"], row["provenance"]) == (
        PROBLEM.question,
        "test/sums",
        1,
        "abc",
    )
    chat = message_row(row_of(generated()))
    assert {name: row[name] for name in chat} == chat
    assert [s["status"] for s in row["segments"]] == [None, None, "ok", None]
    assert json.loads(row["extra"]) == {"n": [1, "x"]}
    assert row["no_tools_samples"] is None


def test_half_a_surrogate_pair_neither_stops_the_table_nor_the_chats(tmp_path: Path):
    row = row_of(generated())
    row["segments"][0]["text"] = "half a pair \ud800\n"
    write_lines(tmp_path / "dataset.jsonl", [row])
    export_dataset(tmp_path / "dataset.jsonl", tmp_path, ["parquet", "messages"], model="nano/actor")
    (chat,) = read_lines(tmp_path / "messages.jsonl")
    assert chat["messages"][2]["content"].startswith("half a pair \ud800\n")


def test_an_empty_or_missing_data_set_is_a_mistake(tmp_path: Path):
    write_lines(tmp_path / "dataset.jsonl", [])
    with pytest.raises(UsageError, match=r"dataset.jsonl holds no samples; funnel.json beside it"):
        export_dataset(tmp_path / "dataset.jsonl", tmp_path, ["messages"], model="nano/actor")
    with pytest.raises(UsageError, match="no data set at"):
        export_dataset(tmp_path / "elsewhere.jsonl", tmp_path, ["messages"], model="nano/actor")
    assert not (tmp_path / "messages.jsonl").exists()


@pytest.mark.reference
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("form", "learnt"),
    [
        ("messages", f"{PROGRAM}```output\n77\n```\n{ANSWER}<|end|>"),  # the whole answer, output included
        ("parquet", f"{PROGRAM}```output\n77\n```\n{ANSWER}<|end|>"),
        ("tokens", f"{PROGRAM}{ANSWER}<|end|>"),
    ],
)
def test_trl_trains_two_steps_on_the_export_as_it_is_and_never_the_question(tmp_path: Path, form, learnt):
    trl = pytest.importorskip("trl", reason="trl is not installed; pip install trl to compare with it")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; it comes with the extra hub")
    from thor_tir.engines.loading import load_model

    (path,) = export_dataset(data_set(tmp_path), tmp_path, [form], model="nano/actor")
    kind = "parquet" if form == "parquet" else "json"
    table = datasets.load_dataset(kind, data_files=str(path), cache_dir=str(tmp_path / "cache"), split="train")
    table = datasets.concatenate_datasets([table] * 4)
    model, tokenizer = load_model("nano/actor")
    before = {name: value.clone() for name, value in model.named_parameters()}
    config = trl.SFTConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        max_length=512,
    )
    trainer = trl.SFTTrainer(model=model, args=config, train_dataset=table, processing_class=tokenizer)
    labels = next(iter(trainer.get_train_dataloader()))["labels"][0].tolist()
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == learnt
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert losses[1] < losses[0]  # the same four rows twice, at a rate that learns them
    assert any(not value.equal(before[name]) for name, value in model.named_parameters())


def test_data_whose_calls_stand_between_tags_are_exported_so_with_the_tools_in_words(tmp_path: Path) -> None:
    (tmp_path / "dialect.json").write_text('{"calls": "tool-call", "tools": ["python"]}')
    export_dataset(data_set(tmp_path), tmp_path, ["messages", "turns", "tokens"], model="nano/actor")
    (chat,), (turns,) = read_lines(tmp_path / "messages.jsonl"), read_lines(tmp_path / "turns.jsonl")
    assert chat == turns  # a call ends the turn: there is no form with the result in it
    system, _, call, result, answer = chat["messages"]
    assert "<tools>" in system["content"]
    assert "```" not in json.dumps(chat)
    assert call["content"].endswith(
        '<tool_call>\n{"name": "python", "arguments": {"code": "print(20 + 57)\\n"}}\n</tool_call>'
    )
    assert (result, answer["content"]) == ({"role": "tool", "content": "77"}, ANSWER)
    (tokens,) = read_lines(tmp_path / "tokens.jsonl")
    assert "<tool_call>" in load_tokenizer("nano/actor").decode(tokens["input_ids"])
