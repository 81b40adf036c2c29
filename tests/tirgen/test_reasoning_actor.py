"""Algorithm 1 on an actor that thinks first: windows of whole lines, until thinking ends."""

import asyncio
from collections import Counter

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS
from thor_tir.engines.protocol import ContextFull
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.problem import Problem
from thor_tir.tirgen.critic import Critic, CriticConfig
from thor_tir.tirgen.generate import RawSample, ThinkingConfig, TirgenAgents, TirgenConfig, generate
from thor_tir.tirgen.reasoning_actor import think
from thor_tir.trajectory import Finish
from tiny_models import ASSISTANT, CHAT_TEMPLATE, END, PAD, USER, tiny_tokenizer
from told_sandbox import ToldSandbox, printed, raised

PROBLEM = Problem(id="p", question="What is 20 + 57, twice?", answer="154", source="test")
FIRST = "We add: 20 + 57 = 78.\n"
SECOND = "Twice that is 2 * 78 = 156.\n"
FIRST_REWRITTEN = "We add:\n```python\nprint(20 + 57)\n```\n"
SECOND_REWRITTEN = "Twice that is\n```python\nprint(2 * 77)\n```\n"
ANSWER = "</think>The answer is \\boxed{154}."
OUTPUTS = {"print(20 + 57)": printed("77"), "print(2 * 77)": printed("154")}


class Stage:
    """Everything one attempt needs, and what it did with it."""

    def __init__(self, actor: list[str], critic: list[str], tokenizer=None, **results) -> None:
        self.tokenizer = tokenizer = tokenizer or tiny_tokenizer()
        self.actor, self.critic = ScriptedPolicy(tokenizer, actor), ScriptedPolicy(tokenizer, critic)
        self.sandbox = ToldSandbox({**OUTPUTS, **results})

    def run(self, *, max_repairs: int = 1, **thinking) -> RawSample:
        tokenizer = self.tokenizer
        critic = Critic(
            policy=self.critic,
            dialect=Dialect(tokenizer, DialectConfig(style=CRITIC)),
            config=CriticConfig(min_kept=0.7),
        )
        dialect = Dialect(tokenizer, DialectConfig(style=NO_TOOLS, is_reasoning=True))
        agents = TirgenAgents(actor=self.actor, dialect=dialect, critic=critic, sandbox=self.sandbox)
        config = TirgenConfig(max_repairs=max_repairs, thinking=ThinkingConfig(**{"min_window_tokens": 1, **thinking}))
        return asyncio.run(generate(PROBLEM, agents, config, id="p/0", seed=5, form=think))


def text_of(sample: RawSample, tokenizer=None) -> str:
    ids = [token for span in list(sample.trajectory.spans)[1:] for token in span.token_ids]
    tokenizer = tokenizer or tiny_tokenizer()
    return tokenizer.decode(ids).removesuffix(tokenizer.eos_token)


def thinking_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Tokenizers as families have them: where the tag is a token, where it is text, and where the prompt writes it."""
    lines = ["<think>\nOkay, we add:\n</think>\n\nThe answer is", "```python\nprint(20 + 57)\n```\n", "Twice that is"]
    opened = {"opened": "<think>\n", "opened tightly": "<think>"}.get(kind, "")
    tokenizer = Tokenizer(models.BPE())
    # as the patterns of Qwen and Llama 3 do, line breaks join the sign before them: `>` and the break are one token
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")
    split, level = pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, USER, ASSISTANT, END, *(["<think>", "</think>"] if kind == "a token" else [])]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(lines, trainer)
    template = CHAT_TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|>" + opened + "{% endif %}")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, chat_template=template)


@pytest.mark.parametrize("critics_blanks", ["", "\n", "\n\n"])
@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("a token", "<think>\n"),  # Qwen3
        ("a token", "<think>"),
        ("a token", "<think>\n\n"),
        ("text", "<think>\n"),  # `>` and the line break are one token
        ("text", "<think>\r\n"),
        ("text", "\n<think>\n"),
        ("opened", ""),  # DeepSeek-R1: tag and line break stand in the prompt
        ("opened tightly", "\n"),  # the tag stands in the prompt, the break is the model's
        ("opened tightly", "\n\n  "),
    ],
)
def test_a_first_window_keeps_the_tag_and_the_blanks_that_the_model_begins_its_thoughts_with(
    kind, head, critics_blanks
):
    tokenizer = thinking_tokenizer(kind)
    stage = Stage([f"{head}{FIRST}{ANSWER}", ANSWER], [critics_blanks + FIRST_REWRITTEN, ""], tokenizer)
    sample = stage.run()
    assert text_of(sample, tokenizer) == f"{head}{FIRST_REWRITTEN}```output\n77\n```\n{ANSWER}"
    assert sample.trajectory.steps[0].thought.text == head + "We add:\n"


def test_a_later_window_keeps_the_blanks_that_it_begins_with():
    dropped = "Twice that is what we look for, so let us see about it again and again."
    opened = len(tiny_tokenizer().encode(f"<think>{FIRST}{dropped}"))
    rewritten = "Thus\n```python\nprint(2 * 77)\n```\n"
    second = f"\n  Thus 2 * 78 = 156.\n{ANSWER}"
    stage = Stage([f"<think>{FIRST}{dropped}", second, ANSWER], [FIRST_REWRITTEN, "", rewritten, ""])
    sample = stage.run(window_tokens=opened)
    assert text_of(sample) == (
        f"<think>{FIRST_REWRITTEN}```output\n77\n```\n\n  {rewritten}```output\n154\n```\n{ANSWER}"
    )


def test_the_critic_rewrites_a_whole_window_with_several_programs_and_reads_each_true_output():
    # the actor's turn is cut at </think>; after the rewriting it ends its thinking once more and answers
    stage = Stage(
        [f"<think>{FIRST}{SECOND}{ANSWER}", ANSWER],
        [FIRST_REWRITTEN, SECOND_REWRITTEN, ""],
    )
    sample = stage.run()
    first, second = FIRST_REWRITTEN + "```output\n77\n```\n", SECOND_REWRITTEN + "```output\n154\n```\n"
    assert text_of(sample) == f"<think>{first}{second}{ANSWER}"
    assert stage.critic.asked[1].text.endswith(first)  # it read the true output before it wrote on
    assert sample.critic == Counter({"rewritten": 1})
    assert sample.trajectory.finish is Finish.ENDED
    assert sample.spent.calls["critic"] == 3
    (replaced,) = sample.replaced
    assert (replaced.step, replaced.num_steps, replaced.text) == (0, 2, FIRST + SECOND)


def test_the_critic_sees_neither_tags_nor_question_nor_the_answer_after_thinking():
    stage = Stage([f"<think>{FIRST}{ANSWER}", ANSWER], [FIRST_REWRITTEN, ""])
    stage.run()
    assert len(stage.actor.asked) == 2
    for asked in stage.critic.asked:
        assert "think>" not in asked.text
        assert "154" not in asked.text
        assert PROBLEM.question not in asked.text


def test_a_window_that_stays_in_words_keeps_its_end_and_the_answer_follows_it():
    stage = Stage([f"<think>{FIRST}{ANSWER}", ANSWER.removeprefix("</think>")], ["NONE"])
    sample = stage.run()
    assert text_of(sample) == f"<think>{FIRST}{ANSWER}"
    assert sample.critic == Counter({"nothing to compute": 1})
    assert len(stage.critic.asked) == 1  # thinking is over: nothing more is refined


def test_what_follows_the_last_whole_line_of_a_window_is_dropped_with_its_rewriting():
    opened = len(tiny_tokenizer().encode(f"<think>{FIRST}Twice th"))
    # "</think>" alone ends the actor's second turn, and leaves the critic nothing to see
    stage = Stage([f"<think>{FIRST}Twice that is 156.", ANSWER, ANSWER.removeprefix("</think>")], [FIRST_REWRITTEN, ""])
    sample = stage.run(window_tokens=opened)
    assert text_of(sample) == f"<think>{FIRST_REWRITTEN}```output\n77\n```\n{ANSWER}"
    assert "Twice" not in stage.critic.asked[0].text


def test_a_short_piece_waits_for_more_before_the_critic_sees_it():
    half = len(tiny_tokenizer().encode(FIRST)) // 2
    stage = Stage([FIRST, FIRST[-5:], SECOND + ANSWER, ANSWER.removeprefix("</think>")], ["NONE"] * 9)
    stage.run(window_tokens=10 * half, min_window_tokens=9 * half)
    assert len(stage.critic.asked) <= 1


def test_a_program_that_fails_makes_the_critic_begin_the_window_again():
    bad = FIRST_REWRITTEN.replace("20", "x")
    stage = Stage(
        [f"<think>{FIRST}{ANSWER}", ANSWER],
        [bad, FIRST_REWRITTEN, ""],
        **{"print(x + 57)": raised()},
    )
    sample = stage.run()
    assert text_of(sample) == f"<think>{FIRST_REWRITTEN}```output\n77\n```\n{ANSWER}"
    assert sample.critic == Counter({"failed: runtime": 1, "rewritten": 1})


def test_a_window_whose_rewriting_changes_its_words_stays_as_it_is():
    changed = FIRST_REWRITTEN.replace("We add", "One had better sum up both numbers")
    stage = Stage([f"<think>{FIRST}{ANSWER}", ANSWER.removeprefix("</think>")], [changed, ""])
    sample = stage.run()
    assert text_of(sample) == f"<think>{FIRST}{ANSWER}"
    assert sample.critic == Counter({"changed words": 1})
    assert len(sample.kept) == 1


def test_windows_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="min_window_tokens <= window_tokens"):
        ThinkingConfig(window_tokens=10, min_window_tokens=11)


def test_a_window_that_fills_the_critics_context_stays_as_it_is_under_that_name():
    class Full(ScriptedPolicy):
        async def sample(self, token_ids, sampling):
            raise ContextFull("full")

    stage = Stage([f"<think>{FIRST}{ANSWER}", ANSWER.removeprefix("</think>")], [])
    stage.critic = Full(stage.tokenizer, [])
    sample = stage.run()
    assert text_of(sample) == f"<think>{FIRST}{ANSWER}"
    assert sample.critic == Counter({"step too long": 1})


def test_a_rewriting_with_more_programs_than_are_allowed_is_refused():
    stage = Stage(
        [f"<think>{FIRST}{SECOND}{ANSWER}", ANSWER.removeprefix("</think>")], [FIRST_REWRITTEN, SECOND_REWRITTEN]
    )
    sample = stage.run(max_calls=1)
    assert text_of(sample) == f"<think>{FIRST}{SECOND}{ANSWER}"
    assert sample.critic == Counter({"truncated": 1})


def test_fences_as_chat_models_write_them_are_taught_in_the_strict_form():
    first = FIRST_REWRITTEN.replace("```python", "```py").replace("\n", "\r\n")
    second = SECOND_REWRITTEN.removesuffix("\n").replace("```python", "``` Python ")
    stage = Stage([f"<think>{FIRST}{SECOND}{ANSWER}", ANSWER], [first, second, ""])
    sample = stage.run()
    outputs = ("```output\n77\n```\n", "```output\n154\n```\n")
    assert text_of(sample) == f"<think>{FIRST_REWRITTEN}{outputs[0]}{SECOND_REWRITTEN}{outputs[1]}{ANSWER}"


def test_a_blank_line_ends_a_window_where_that_is_asked_for_and_each_step_is_rewritten_alone():
    first, second = FIRST + "\n", SECOND + "\n"
    written = [f"<think>{first}", "It is clear.\n\n", second, ANSWER, ANSWER.removeprefix("</think>")]
    stage = Stage(written, [FIRST_REWRITTEN, "", "NONE", SECOND_REWRITTEN, ""])
    sample = stage.run(window_stop=("\n\n",))
    outputs = ("```output\n77\n```\n", "```output\n154\n```\n")
    assert text_of(sample) == (
        f"<think>{FIRST_REWRITTEN}{outputs[0]}It is clear.\n\n{SECOND_REWRITTEN}{outputs[1]}{ANSWER}"
    )
    steps = (first, "It is clear.", second)
    seen = [[step for step in steps if step in each.text] for each in stage.critic.asked]
    assert seen == [[first], [first], ["It is clear."], [second], [second]]  # and each reads its program's output
    assert sample.trajectory.finish is Finish.ENDED
