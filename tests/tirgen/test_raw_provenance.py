"""Who made a row: records under names that say the same thing only if they are the same."""

from pathlib import Path

import pytest

from thor_tir.dialect.dialect import Thinking
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS, TOOLS, PromptStyle
from thor_tir.errors import UsageError
from thor_tir.provenance import versions
from thor_tir.tirgen.raw_rows import prompt_digest, read_provenance, sign, thinking_in


def test_a_record_is_written_once_under_a_name_of_its_own_and_others_stay(tmp_path: Path):
    path = tmp_path / "provenance.json"
    first, second = sign(path, {"actor": "a", "seed": 0}), sign(path, {"actor": "a", "seed": 1})
    assert first != second
    assert sign(path, {"seed": 0, "actor": "a"}) == first  # the order of the fields does not matter
    assert read_provenance([path]) == {first: {"actor": "a", "seed": 0}, second: {"actor": "a", "seed": 1}}


def test_a_prompt_is_named_by_its_text():
    assert len({prompt_digest(style) for style in (NO_TOOLS, TOOLS, CRITIC)}) == 3
    assert prompt_digest(PromptStyle(system=NO_TOOLS.system, user=NO_TOOLS.user)) == prompt_digest(NO_TOOLS)
    assert prompt_digest(PromptStyle(system=NO_TOOLS.system, user=NO_TOOLS.user + " ")) != prompt_digest(NO_TOOLS)


@pytest.mark.parametrize("thinking", Thinking)
def test_a_record_says_how_thoughts_were_marked(thinking):
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
