"""The critic's corpus: programs for what a step says, its words up to the result, and nothing that is not there."""

import json
from pathlib import Path

import pytest

from nano_models.corpus import NOTHING_TO_COMPUTE
from real_model.critic_corpus import actor_pairs, write_corpus
from real_model.labels import rewritten
from thor_tir.dialect.fences import first_block
from thor_tir.tirgen.critic import CriticConfig, IsolatedStep, compared
from worked_cases import shown


def program_of(answer: str) -> str:
    block = first_block(answer)
    assert block is not None
    return block.code


STEPS = {
    "Now we add 9 to the result, 17 + 25 = 32. So 41.": ("Now we add 9 to the result, 17 + 25", "42"),
    "The cost is 3 * (4 + 1) = 20 dollars.": ("The cost is 3 * (4 + 1)", "15"),
    "To find the product, multiply 63 by 35. This gives 1812.": ("To find the product, multiply 63 by 35.", "2205"),
    "First we subtract 5 from 12, which is 8.": ("First we subtract 5 from 12,", "7"),
    "To find the GCD of 911 and 563, we list the factors.": ("To find the GCD of 911 and 563,", "1"),
    "The least common multiple of 76, 68 is 40.": ("The least common multiple of 76, 68 is 40.", "1292"),
    "We need the prime factorization of 959 first.\n": ("We need the prime factorization of 959 first.", "7 × 137"),
    "We simplify 38/855 to get 3/5": ("We simplify 38/855 to get 3/5", "2/45"),
    "38/855 = 1/20": ("38/855", "2/45"),
    "The binary representation of 42 has 5 ones.": ("The binary representation of 42 has 5 ones.", "3"),
    "We convert base-12 number ab3 to base-9.": ("We convert base-12 number ab3 to base-9.", "2140"),
    "Solve 16*k + 112 = 336 for k.": ("Solve 16*k + 112 = 336", "14"),
    "Add (-12.0 - 15.0i) + (10.0 - 9.0i).": ("Add (-12.0 - 15.0i) + (10.0 - 9.0i)", "-2.0 - 24.0i"),
    "We have 10 scorpions, 12 dogs.": ("We have 10 scorpions, 12 dogs.", "128"),
}
"""A step, its words that stay, and what the program prints."""


@pytest.mark.parametrize(("step", "expected"), STEPS.items())
def test_a_step_keeps_its_words_up_to_the_result_and_gets_a_program_that_prints_it(step, expected):
    answer = rewritten(step)
    words, printed = expected
    assert answer.partition("\n```python")[0] == words
    assert shown(program_of(answer)) == printed


@pytest.mark.parametrize("step", STEPS)
def test_what_the_critic_learns_passes_the_checks_that_its_replies_are_put_to(step):
    words = rewritten(step).partition("```")[0]
    if words != NOTHING_TO_COMPUTE:
        assert compared(IsolatedStep(step), [words]).refusal(CriticConfig()) is None


@pytest.mark.parametrize(
    "step", ["The answer is 24.", "So k = 16", "We look at the sum of both.", "2 = x", "Add 16.0 and 16.0i, then", ""]
)
def test_a_step_without_a_computation_that_is_stated_whole_has_nothing_to_compute(step):
    assert rewritten(step) == NOTHING_TO_COMPUTE


def attempts(folder: Path, *texts: str) -> Path:
    lines = [json.dumps({"trajectory": {"steps": [{"thought": {"text": text}}]}}) for text in texts]
    path = folder / "attempts.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_actors_answers_are_read_paragraph_by_paragraph_and_the_seed_alone_decides_the_corpus(tmp_path):
    path = attempts(tmp_path, "First 2 + 3 = 6.\n\nSo it is 6.", "```python\nprint(1)\n```\n\nDone.", "4 * 5 = 20")
    assert [step for step, _ in actor_pairs(path)] == ["First 2 + 3 = 6.\n\n", "So it is 6.", "Done.", "4 * 5 = 20"]
    for name in ("a", "b"):
        write_corpus(tmp_path / name, path, count=12, seed=3)
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()
    chats = [json.loads(line)["messages"] for line in (tmp_path / "a").read_text().splitlines()]
    assert len(chats) == 12
    assert all([turn["role"] for turn in chat] == ["system", "user", "assistant"] for chat in chats)
    asked = [chat[1]["content"] for chat in chats]
    assert {"First 2 + 3 = 6.\n\n", "4 * 5 = 20"} <= set(asked)
