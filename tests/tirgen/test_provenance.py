"""Who made a row: records under names that say the same thing only if they are the same."""

from copy import copy
from pathlib import Path

import pytest

from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC, TOOLS, WORDS, PromptStyle
from thor_tir.faults import UsageError
from thor_tir.tirgen.provenance import prompt_digest, read_provenance, sign, thinking_in, thinking_of, versions
from thor_tir.tirgen.rules import Thinking
from tiny_models import tiny_tokenizer


def test_a_record_is_written_once_under_a_name_of_its_own_and_others_stay(tmp_path: Path):
    path = tmp_path / "provenance.json"
    first, second = sign(path, {"actor": "a", "seed": 0}), sign(path, {"actor": "a", "seed": 1})
    assert first != second
    assert sign(path, {"seed": 0, "actor": "a"}) == first  # the order of the fields does not matter
    assert read_provenance([path]) == {first: {"actor": "a", "seed": 0}, second: {"actor": "a", "seed": 1}}


def test_a_prompt_is_named_by_its_text():
    assert len({prompt_digest(style) for style in (WORDS, TOOLS, CRITIC)}) == 3
    assert prompt_digest(PromptStyle(system=WORDS.system, user=WORDS.user)) == prompt_digest(WORDS)
    assert prompt_digest(PromptStyle(system=WORDS.system, user=WORDS.user + " ")) != prompt_digest(WORDS)


@pytest.mark.parametrize(
    ("opening", "is_reasoning", "thinking"),
    [("", False, Thinking.NONE), ("", True, Thinking.OWN), ("<think>\n", True, Thinking.OPENED)],
)
def test_the_prompt_that_a_template_makes_tells_how_thoughts_will_be_marked(opening, is_reasoning, thinking):
    tokenizer = copy(tiny_tokenizer())  # the other is everybody's
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}" + opening
    dialect = Dialect(tokenizer, DialectConfig(style=WORDS, is_reasoning=is_reasoning))
    assert thinking_of(dialect) is thinking
    assert thinking_in({"thinking": thinking.value}) is thinking


@pytest.mark.parametrize("record", [{}, {"thinking": "aloud"}])
def test_a_record_that_does_not_say_means_no_thinking_turn(record):
    assert thinking_in(record) is Thinking.NONE


def test_versions_name_python_and_what_makes_samples():
    assert {"python", "thor-tir", "torch", "transformers"} <= set(versions())


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": '])
def test_a_damaged_file_is_named(tmp_path: Path, text: str):
    path = tmp_path / "provenance.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"provenance\.json is no file of provenances"):
        read_provenance([path])
    assert read_provenance([tmp_path / "missing.json"]) == {}
