"""Prompts from a file: what they replace, and what is refused."""

import pytest

from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompt_file import read_prompts
from thor_tir.dialect.prompts import CODE, CRITIC, NO_TOOLS, TOOLS
from thor_tir.errors import UsageError
from tiny_models import tiny_tokenizer

FILE = """
[tools]
system = "Be exact."
user = '{text} Answer in \\boxed{}, sets as {1, 2}.'
[critic]
system = "Rewrite {this}."
"""


def test_a_file_replaces_the_prompts_that_it_names_and_its_braces_are_text(tmp_path):
    (tmp_path / "own.toml").write_text(FILE)
    own = read_prompts(str(tmp_path / "own.toml"))
    assert own.keys() == {TOOLS, CRITIC}
    assert own[TOOLS].runs_programs
    assert (own[CRITIC].system, own[CRITIC].user) == ("Rewrite {this}.", CRITIC.user)
    dialect = Dialect(tiny_tokenizer(), DialectConfig(style=own[TOOLS]))
    text = dialect.decode(dialect.prompt("1 + {x}?", "Be brief.").token_ids)
    assert "Be exact.\n\nBe brief." in text
    assert "1 + {x}? Answer in \\boxed{}, sets as {1, 2}." in text
    assert read_prompts("") == {}
    assert own.get(NO_TOOLS, NO_TOOLS) is NO_TOOLS
    assert not CODE.runs_programs


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[tols]\nsystem = 'a'", "has tables called tools, no-tools, critic, code, code-tools; found tols"),
        ("", "found nothing"),
        ("[tools]\nuser = 'no place'", r"own\.toml, tools: `user` holds no \{text\}, where the question stands"),
        ("[tools]\nsystem = 3", "tools: expected `system` and `user`, or one of them, as strings; found"),
        ("[tools]\nsuffix = 'a'", "expected `system` and `user`"),
        ("tools = 'a'", "expected `system` and `user`"),
        ("[tools", "cannot be read as TOML"),
    ],
)
def test_another_file_is_refused_in_a_sentence(tmp_path, text, complaint):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint):
        read_prompts(str(tmp_path / "own.toml"))
    with pytest.raises(UsageError, match=r"nowhere\.toml cannot be read as TOML \(No such file"):
        read_prompts(str(tmp_path / "nowhere.toml"))
