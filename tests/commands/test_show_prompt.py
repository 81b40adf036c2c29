"""`thor data show-prompt`: the very ids that a rollout begins with."""

import json

import pytest

from thor_tir.cli import main
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import NO_TOOLS, TOOLS
from thor_tir.engines.loading import load_tokenizer


def shown(capsys, *words: str) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(["data", "show-prompt", *words])
    return capsys.readouterr().out


def test_ids_and_text_are_those_of_a_rollout_with_tools_and_without(tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"{n} + 1?", "answer": n + 1, "system": "Be brief."} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.toml").write_text("[no-tools]\nuser = 'Only this: {text}'")
    out = shown(capsys, "--problems", str(path), "--first", "3", "--prompts", str(tmp_path / "own.toml"))
    tokenizer = load_tokenizer("nano/actor")
    for number in range(3):
        ids = Dialect(tokenizer).prompt(f"{number} + 1?", "Be brief.").token_ids
        assert f"tools: {len(ids)} tokens\n{tokenizer.decode(ids)}\n--- ids: {' '.join(map(str, ids))}\n" in out
    assert out.count("--- ids:") == 6
    assert "Only this: 2 + 1?" in out
    assert "3 + 1?" not in out
    assert "questions from `prompt`, answers from `answer`, system messages from `system`" in out
    assert f"{path}: the first 3 of 4 problems are used" in out


def test_generated_problems_and_a_packaged_template_are_shown_too(capsys):
    out = shown(
        capsys, "--problems", "reasoning_gym:gcd", "--first", "1", "--styles", "tools", "--chat-template", "plain"
    )
    dialect = Dialect(load_tokenizer("nano/actor", chat_template="plain"), DialectConfig(style=TOOLS))
    assert TOOLS.system in out
    assert out.count("--- ids:") == 1
    assert dialect.decode(dialect.prompt("x").token_ids).split("x")[0] in out
    assert NO_TOOLS.system + "\n\n" not in out
