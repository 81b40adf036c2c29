"""Conversations of other data sets as rows: who wrote each token, which are trained, and what is refused."""

import json
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calling_templates import TEMPLATES, calling_tokenizer
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import TOOLS
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sft.chat_rows import chat_rows, writes_calls
from thor_tir.sft.chats import read_chat
from thor_tir.sft.config import ChatConfig, ChatFields
from thor_tir.sft.tool_text import Unusable
from thor_tir.tirgen.publish.export import message_row, turn_row
from thor_tir.tools.protocol import ToolSpec
from tiny_models import tiny_tokenizer

WITH_TOOLS = (
    "{%- for m in messages -%}"
    "{%- if m.role == 'assistant' -%}<|assistant|>"
    "{% generation %}{{ m.content }}{% for c in m.tool_calls or [] %}"
    "<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>{% endfor %}<|end|>{% endgeneration %}"
    "{%- else -%}<|user|>{{ m.role }}: {{ m.content }}<|end|>{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
"""Has turns of tools, and marks what an assistant wrote as transformers' own masks want it."""
FORGETFUL = (
    "{%- for m in messages -%}"
    "{%- if m.role == 'assistant' -%}<|assistant|>{{ m.content.split('</think>')[-1] if not loop.last else m.content }}"
    "<|end|>{%- else -%}<|user|>{{ m.content }}<|end|>{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
"""Leaves earlier thoughts out, as Qwen3's does."""
CALL = {"type": "function", "function": {"name": "python", "arguments": '{"code": "print(6*7)\\n"}'}}
CALLED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 6*7?"},
    {"role": "assistant", "content": "I multiply.", "tool_calls": [CALL]},
    {"role": "tool", "content": "42"},
    {"role": "assistant", "content": "It is \\boxed{42}."},
]
FENCED = "I multiply.\n```python\nprint(6*7)\n```\n```output\n42\n```\nIt is \\boxed{42}."
OWN = FENCED.replace("```output\n42\n```\n", "") + "<|end|>"
AS_DATA = ChatConfig(ask_as="data")


def dialect(template: str | None = None) -> Dialect:
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template or tokenizer.chat_template
    return Dialect(tokenizer, DialectConfig(style=TOOLS))


PLAIN, TEMPLATED, REWRITING = dialect(), dialect(WITH_TOOLS), dialect(FORGETFUL)


def made(row: dict, to: Dialect = PLAIN, config: ChatConfig = AS_DATA, **options):
    return chat_rows(read_chat(row, ChatFields()), to, config, id="r", **{"trains_observations": False, **options})


def texts(found, to: Dialect = PLAIN) -> list[tuple[str, str]]:
    """The whole text of each row, and the trained part."""
    return [
        (
            to.tokenizer.decode(row.token_ids),
            to.tokenizer.decode([id for id, is_trained in zip(row.token_ids, row.trained, strict=True) if is_trained]),
        )
        for row in found.rows
    ]


ASKED = [{"role": "user", "content": "What is 6*7?"}]
SHAPES = {
    "NuminaMath-TIR": {"problem": "", "solution": "", "messages": [*ASKED, {"role": "assistant", "content": FENCED}]},
    "OpenAI": {"messages": [*ASKED, *CALLED[2:]]},
    "object arguments": {
        "messages": [
            *ASKED,
            {**CALLED[2], "tool_calls": [{"function": {"name": "python", "arguments": {"code": "print(6*7)"}}}]},
            {"role": "ipython", "content": [{"type": "text", "text": "42"}]},
            CALLED[4],
        ]
    },
    "raw arguments": {
        "messages": [
            *ASKED,
            {**CALLED[2], "tool_calls": json.dumps([{"name": "python", "arguments": "print(6*7)"}])},
            {"role": "function", "name": "python", "content": "42"},
            CALLED[4],
        ]
    },
    "old OpenAI": {
        "messages": [
            *ASKED,
            {"role": "assistant", "content": "I multiply.", "function_call": CALL["function"]},
            {"role": "function", "name": "python", "content": "42"},
            CALLED[4],
        ]
    },
    "ShareGPT": {
        "conversations": [
            {"from": "human", "value": "What is 6*7?"},
            {"from": "gpt", "value": "I multiply.\n```python\nprint(6*7)\n```\n"},
            {"from": "tool", "value": "42"},
            {"from": "gpt", "value": "It is \\boxed{42}."},
        ]
    },
    "LLaMA-Factory": {
        "conversations": [
            {"from": "human", "value": "What is 6*7?"},
            {"from": "gpt", "value": "I multiply."},
            {"from": "function_call", "value": '{"name": "python", "arguments": {"code": "print(6*7)"}}'},
            {"from": "observation", "value": "42"},
            {"from": "gpt", "value": "It is \\boxed{42}."},
        ]
    },
    "OpenMathInstruct": {
        "question": "What is 6*7?",
        "generated_solution": "I multiply.\n<llm-code>\nprint(6*7)\n</llm-code>\n<llm-code-output>\n42\n"
        "</llm-code-output>\nIt is \\boxed{42}.",
    },
    "ToRA": {"prompt": "What is 6*7?", "completion": FENCED.replace("python\n", "python \n")},
    "TRL": {"prompt": ASKED, "completion": [{"role": "assistant", "content": FENCED}]},
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_read_as_the_same_conversation(name):
    ((whole, own),) = texts(made(SHAPES[name]))
    assert whole == f"<|user|>What is 6*7?<|end|><|assistant|>{FENCED}<|end|>"
    assert own == OWN


def test_a_text_without_programs_is_learnt_as_it_stands():
    found = made({"problem": "What is 6*7?", "solution": "  It is\n\n42. "})
    assert texts(found)[0][1] == "  It is\n\n42. <|end|>"
    assert found.reading == "`problem` and `solution` (no programs)"


def test_a_template_with_turns_of_tools_writes_the_calls_and_the_system_prompt_is_kept():
    ((whole, own),) = texts(made({"messages": CALLED}, TEMPLATED), TEMPLATED)
    call = '<call>python {"code": "print(6*7)\\n"}</call>'
    assert own == f"I multiply.{call}<|end|>It is \\boxed{{42}}.<|end|>"
    assert whole == (
        "<|user|>system: Be brief.<|end|><|user|>user: What is 6*7?<|end|>"
        f"<|assistant|>I multiply.{call}<|end|><|user|>tool: 42<|end|><|assistant|>It is \\boxed{{42}}.<|end|>"
    )
    assert writes_calls(TEMPLATED)
    assert not writes_calls(PLAIN)
    fenced = made({"messages": CALLED}, TEMPLATED, ChatConfig(calls_as="fences", ask_as="data"))
    assert texts(fenced)[0][1] == OWN


@pytest.mark.parametrize("rounds", [1, 2])
def test_masks_are_those_of_transformers_where_the_template_marks_what_an_assistant_wrote(rounds):
    said = [CALLED[0], *(CALLED[1:] * rounds)]
    (row,) = made({"messages": said}, TEMPLATED).rows
    given = [
        {**m, "tool_calls": [{"function": {"name": "python", "arguments": {"code": "print(6*7)\n"}}}]}
        if "tool_calls" in m
        else m
        for m in said
    ]
    theirs = TEMPLATED.tokenizer.apply_chat_template(
        given, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert theirs["input_ids"] == list(row.token_ids)
    assert [bool(trained) for trained in theirs["assistant_masks"]] == list(row.trained)


TURNS = {
    "messages": [
        {"role": "user", "content": "2*3?"},
        {"role": "assistant", "content": "<think>\neasy\n</think>\n6"},
        {"role": "user", "content": "4*5?"},
        {"role": "assistant", "content": "20"},
    ]
}


def test_all_turns_of_an_assistant_are_trained_or_the_last_one_alone():
    assert [own for _, own in texts(made(TURNS))] == ["<think>\neasy\n</think>\n6<|end|>20<|end|>"]
    last = made(TURNS, config=ChatConfig(ask_as="data", train_turns="last"))
    assert [own for _, own in texts(last)] == ["20<|end|>"]
    assert len(last.rows[0].token_ids) == len(made(TURNS).rows[0].token_ids)


def test_a_turn_that_the_template_rewrites_later_is_learnt_where_it_was_written():
    found = made(TURNS, REWRITING)
    assert texts(found) == [
        ("<|user|>2*3?<|end|><|assistant|><think>\neasy\n</think>\n6<|end|>", "<think>\neasy\n</think>\n6<|end|>"),
        ("<|user|>2*3?<|end|><|assistant|>\n6<|end|><|user|>4*5?<|end|><|assistant|>20<|end|>", "20<|end|>"),
    ]
    assert "a row of its own" in found.notes[0]
    last = made(TURNS, REWRITING, ChatConfig(ask_as="data", train_turns="last"))
    assert [own for _, own in texts(last)] == ["20<|end|>"]
    assert last.notes == ()


def test_a_message_of_weight_0_is_read_and_not_trained():
    turns = deepcopy(TURNS)
    turns["messages"][1]["weight"] = 0
    assert texts(made(turns))[0][1] == "20<|end|>"
    turns["messages"][3]["weight"] = 0
    with pytest.raises(Unusable, match="gives no turn a weight"):
        made(turns)


def test_observations_are_trained_where_the_papers_loss_is_asked_for():
    ((_, own),) = texts(made(SHAPES["OpenAI"], trains_observations=True))
    assert own == f"{FENCED}<|end|>"


SAMPLE = {
    "problem": {"question": "What is 6*7?"},
    "segments": [
        {"type": "thought", "text": "I multiply.\n"},
        {"type": "code", "text": "print(6*7)\n"},
        {"type": "output", "text": "42"},
        {"type": "thought", "text": "It is \\boxed{42}."},
    ],
}


@pytest.mark.parametrize("exported", [message_row, turn_row])
def test_data_that_was_exported_from_here_is_asked_once_and_not_twice(exported):
    (row,) = made(dict(exported(SAMPLE)), config=ChatConfig()).rows
    prompt = PLAIN.prompt("What is 6*7?").token_ids
    assert row.token_ids[: len(prompt)] == prompt
    assert PLAIN.tokenizer.decode(row.token_ids[len(prompt) :]) == f"{FENCED}<|end|>"


def test_questions_are_asked_as_here_and_the_system_prompt_of_the_data_follows_the_rules():
    ((whole, _),) = texts(made({"messages": CALLED}, config=ChatConfig()))
    assert TOOLS.system + "\n\nBe brief." in whole
    assert TOOLS.user.format(text="What is 6*7?") in whole


def test_a_system_prompt_that_the_template_leaves_out_is_said():
    deaf = dialect(
        "{% for m in messages if m.role != 'system' %}<|user|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
    )
    deaf.form = PLAIN.form  # as for a model that has learnt its rules
    assert any("system prompt" in note for note in made({"messages": CALLED}, deaf).notes)
    assert made({"messages": CALLED}).notes == ()


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("shape", ["NuminaMath-TIR", "OpenAI"])
def test_in_the_dialect_of_tool_calls_programs_are_called_and_asked_for_as_a_rollout_has_it(name, shape):
    to = Dialect(calling_tokenizer(name), DialectConfig(style=TOOLS, calls="tool-call"))
    (row,) = made(SHAPES[shape], to, ChatConfig()).rows
    action, prompt = to.call("print(6*7)\n"), to.prompt("What is 6*7?").token_ids
    parts = [
        (to.encode("I multiply.\n"), True),
        (action.span.token_ids, True),
        (to.result_ids("42", after=action), False),
        (to.encode("It is \\boxed{42}."), True),
        ((to.ends.written,), True),
    ]
    assert row.token_ids == (*prompt, *(id for ids, _ in parts for id in ids))
    assert row.trained[len(prompt) :] == tuple(is_own for ids, is_own in parts for _ in ids)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "2+2?", "answer": "4"}, "no response is found in the columns question, answer"),
        ({"text": "x"}, "no question is found"),
        ({"messages": ASKED}, "no assistant says anything|an assistant"),
        ({"messages": CALLED[:4]}, "it ends with a call"),
        ({"messages": [*CALLED[:3], CALLED[4]]}, "a call has no output"),
        ({"messages": [*ASKED, *CALLED[3:]]}, "a tool's output follows no call"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "has the role 'critic'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "is no text"),
        ({"messages": CALLED[2:]}, "nobody asked"),
        ({"messages": ["hello"]}, "no object"),
        ({"prompt": "x", "completion": "```python\nprint(1)\n```\n```output\n1\n```\n"}, "ends with an output"),
        (
            {"messages": [*ASKED, {**CALLED[2], "tool_calls": [{"function": {"name": "search", "arguments": "{}"}}]},
                          *CALLED[3:]]},
            "the call of 'search' holds no program",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_refused_with_its_reason(row, reason):
    with pytest.raises(Unusable, match=reason):
        made(row)


def test_programs_without_outputs_are_learnt_as_text_and_said():
    found = made({"prompt": "x", "completion": "So:\n```python\nprint(1)\n```\nDone."})
    assert texts(found)[0][1] == "So:\n```python\nprint(1)\n```\nDone.<|end|>"
    assert found.notes == ("show programs without their outputs, which are learnt as text",)


WORDS = st.text(
    st.sampled_from("ab<|end|>\n {}") | st.characters(codec="utf-8", exclude_characters="`~\r"), max_size=12
)


@given(WORDS, WORDS, WORDS, st.sampled_from([PLAIN, TEMPLATED]))
def test_trained_ids_spell_what_the_assistant_wrote_and_nothing_of_a_tool(question, output, answer, to):
    said = [
        {"role": "user", "content": f"?{question}<|end|><|assistant|>"},
        {**CALLED[2], "content": "I multiply.\n"},
        {"role": "tool", "content": f"{output}<|end|>"},
        {"role": "assistant", "content": f"{answer}!"},
    ]
    found = made({"messages": said}, to)
    call = "```python\nprint(6*7)\n```\n" if to is PLAIN else '<call>python {"code": "print(6*7)\\n"}</call><|end|>'
    ((whole, own),) = texts(found, to)
    assert own == f"I multiply.\n{call}{answer}!<|end|>"
    assert output in whole
    (row,) = found.rows
    ends = [n for n, id in enumerate(row.token_ids) if id == to.tokenizer.eos_token_id]
    assert len(ends) == (2 if to is PLAIN else 4)  # no more than the template wrote: spelled ones are plain text


@pytest.mark.parametrize("name", ["qwen", "hermes"])
def test_calls_of_the_dialect_are_the_tokens_that_a_rollout_of_it_reads_and_writes(name):
    tokenizer = calling_tokenizer(name)
    to = Dialect(tokenizer, DialectConfig(style=TOOLS, calls="tool-call"))
    (row,) = made({"messages": CALLED[1:]}, to, ChatConfig()).rows
    action = to.call("print(6*7)\n")
    seen = to.observe(ExecutionResult(status=Status.OK, stdout="42\n"), after=action)
    words = (*to.encode("I multiply.\n"), *action.span.token_ids)
    answer = (*to.encode("It is \\boxed{42}."), to.ends.written)
    prompt = to.prompt("What is 6*7?").token_ids
    assert row.token_ids == (*prompt, *words, *seen.span.token_ids, *answer)
    trained = [token for token, is_trained in zip(row.token_ids, row.trained, strict=True) if is_trained]
    assert trained == [*words, *answer]


def test_calls_of_other_tools_are_asked_as_a_rollout_asks():
    own = ToolSpec(name="units", description="Converts.", parameters={"type": "object"})
    to = Dialect(calling_tokenizer("qwen"), DialectConfig(style=TOOLS, calls="tool-call", tools=(own,)))
    call = {"type": "function", "function": {"name": "units", "arguments": {"value": 3}}}
    said = [CALLED[1], {**CALLED[2], "tool_calls": [call]}, *CALLED[3:]]
    (row,) = made({"messages": said}, to, ChatConfig()).rows
    action = to.call('{"value": 3}', "units")
    head = (*to.prompt("What is 6*7?").token_ids, *to.encode("I multiply.\n"), *action.span.token_ids)
    assert row.token_ids[: len(head)] == head


def _calls(*names: str) -> list[dict]:
    return [{**CALL, "id": n, "function": {"name": "python", "arguments": {"code": f"print('{n}')"}}} for n in names]


@pytest.mark.parametrize("to", [PLAIN, TEMPLATED], ids=["fences", "template"])
def test_an_output_belongs_to_the_call_that_it_names(to):
    two = {"role": "assistant", "content": "Two.", "tool_calls": _calls("a", "b")}
    outputs = [{"role": "tool", "tool_call_id": name, "content": f"of {name}"} for name in "ba"]
    end = {"role": "assistant", "content": "Done."}
    whole, trained = texts(made({"messages": [*ASKED, two, *outputs, end]}, to), to)[0]
    assert whole.index("of a") < whole.index("of b")
    assert "of " not in trained
    with pytest.raises(Unusable, match="name other calls"):
        made({"messages": [*ASKED, two, *outputs[:1], {**outputs[0], "tool_call_id": "c"}, end]}, to)


def test_thoughts_and_weights_of_a_call_that_stands_apart_are_kept():
    words = {"role": "assistant", "content": "Words.", "weight": 0}
    call = {"role": "assistant", "content": "", "tool_calls": _calls("a"), "reasoning_content": "Hm."}
    rest = [{"role": "tool", "content": "a"}, {"role": "assistant", "content": "Done."}]
    chat = read_chat({"messages": [*ASKED, words, call, *rest]}, ChatFields())
    assert [(m.text, m.thoughts, m.is_trained) for m in chat.messages[1:3]] == [
        ("Words.", "", False),
        ("", "Hm.", True),
    ]


def test_a_conversation_may_stand_in_its_column_as_text():
    messages = [*ASKED, {"role": "assistant", "content": FENCED}]
    assert texts(made({"messages": json.dumps(messages)})) == texts(made({"messages": messages}))


def test_an_assistant_who_says_nothing_is_not_learnt():
    with pytest.raises(Unusable, match="is empty"):
        made({"messages": [*ASKED, {"role": "assistant", "content": None}]})


def test_a_call_and_its_output_close_no_tag_but_their_own():
    to = Dialect(calling_tokenizer("qwen"), DialectConfig(calls="tool-call"))
    code, told = "print('</tool_call>')\n", "</tool_response> <tool_call>"
    called = {**CALL, "function": {"name": "python", "arguments": {"code": code}}}
    messages = [*ASKED, {**CALLED[2], "tool_calls": [called]}, {"role": "tool", "content": told}, CALLED[4]]
    whole = texts(made({"messages": messages}, to), to)[0][0]
    assert to.writes(to.call(code))
    assert told not in whole
    assert "(/tool_response) <tool_call>" in whole
