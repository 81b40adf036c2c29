"""How thoughts are marked, and what an unfinished one answers: nothing."""

from copy import copy

import pytest

from thor_tir.dialect.dialect import Dialect, DialectConfig, Thinking, is_cut_short, thinking_of
from thor_tir.dialect.prompts import NO_TOOLS
from thor_tir.trajectory import Author, Finish, Span, Step, Thought, Trajectory
from tiny_models import tiny_tokenizer

MODEL = Span(token_ids=(2,), author=Author.MODEL)
PROMPT = Span(token_ids=(1,), author=Author.PROMPT)


@pytest.mark.parametrize(
    ("opening", "is_reasoning", "thinking"),
    [
        ("", False, Thinking.NONE),
        ("", True, Thinking.OWN),
        ("<think>\n", True, Thinking.OPENED),
        ("<think>\n", False, Thinking.OPENED),
        ("<think>", False, Thinking.OPENED),
        ("<thought>\n\n", False, Thinking.OPENED),
        ("[THINK]", False, Thinking.OPENED),
        ("<think>\n\n</think>\n\n", False, Thinking.NONE),
        ("{% if enable_thinking %}<think>{% endif %}", False, Thinking.NONE),
    ],
)
def test_the_prompt_that_a_template_makes_tells_how_thoughts_will_be_marked(opening, is_reasoning, thinking, caplog):
    tokenizer = copy(tiny_tokenizer())  # the other is everybody's
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}" + opening
    dialect = Dialect(tokenizer, DialectConfig(style=NO_TOOLS, is_reasoning=is_reasoning))
    assert thinking_of(dialect) is thinking
    opens_unasked = thinking is Thinking.OPENED and not is_reasoning
    assert ("opens the model's thoughts although" in caplog.text) is opens_unasked


@pytest.mark.parametrize(
    ("text", "thinking", "finish", "is_cut"),
    [
        (r"Perhaps \boxed{4}? Or", Thinking.OPENED, Finish.TOKEN_LIMIT, True),
        (r"<think>Perhaps \boxed{4}? Or", Thinking.OWN, Finish.TOKEN_LIMIT, True),
        (r"<think>Perhaps \boxed{4}?", Thinking.OWN, Finish.CALL_LIMIT, True),
        (r"It is 4.</think> So \boxed{4} and", Thinking.OPENED, Finish.TOKEN_LIMIT, False),  # it had begun to answer
        (r"So \boxed{4} and", Thinking.OWN, Finish.TOKEN_LIMIT, False),  # it did not think, although it might
        (r"<think>Perhaps \boxed{4}? Or", Thinking.NONE, Finish.TOKEN_LIMIT, True),  # it thinks although nobody asked
        (r"Perhaps \boxed{4}? Or", Thinking.NONE, Finish.TOKEN_LIMIT, False),
        (r"[THINK]Perhaps \boxed{4}? Or", Thinking.OWN, Finish.TOKEN_LIMIT, True),
        (r"<thought>Is it \boxed{4}? Yes.</thought> \boxed{4} and", Thinking.OWN, Finish.TOKEN_LIMIT, False),
        (r"Is it \boxed{4}?</seed:think> So \boxed{4} and", Thinking.OPENED, Finish.TOKEN_LIMIT, False),
        (r"It is \boxed{4}.", Thinking.OPENED, Finish.ENDED, False),  # it meant to end its turn with this
    ],
)
def test_a_turn_is_cut_short_where_a_limit_ended_it_within_its_thoughts(text, thinking, finish, is_cut):
    steps = (Step(thought=Thought(text=text, span=MODEL)),)
    trajectory = Trajectory(id="a/0", problem_id="a", prompt=PROMPT, steps=steps, finish=finish)
    assert is_cut_short(trajectory, thinking) is is_cut
