"""The small model that calls between tags: its chats say what its tool answers, in turns that its template has."""

import asyncio
import json
from itertools import pairwise
from pathlib import Path

from calling_model import units
from calling_model.conversions import NUM_CHATS, write_files
from scripted_agent import FakeSandbox
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.engines.loading import load_tokenizer
from thor_tir.rollout.toolbox import Toolbox
from thor_tir.tools.loading import load_tools
from thor_tir.trajectory import Action, Author, Span

FOLDER = Path(units.__file__).parent


def test_the_tool_answers_as_the_chats_say(tmp_path):
    write_files(tmp_path)
    chats = [json.loads(line)["messages"] for line in (tmp_path / "chats.jsonl").read_text().splitlines()]
    toolbox = Toolbox(load_tools([f"{FOLDER / 'units.py'}:Units"]))
    assert len(chats) == NUM_CHATS
    for messages in chats[:40]:
        for asked, answered in pairwise(messages):
            for call in asked.get("tool_calls", ()):
                code = json.dumps(call["function"]["arguments"])
                action = Action(code=code, span=Span(token_ids=(), author=Author.MODEL), tool="units")
                result = asyncio.run(toolbox.run(action, FakeSandbox()))
                assert (result.stdout or "BadArguments") in answered["content"]


def test_its_template_has_turns_of_the_tool():
    tokenizer = load_tokenizer("nano/actor", chat_template=str(FOLDER / "template.jinja"))
    dialect = Dialect(tokenizer, DialectConfig(calls="tool-call"))
    assert dialect.about["results_in"] == "tool"
