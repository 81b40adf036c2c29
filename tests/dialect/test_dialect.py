"""Sampled ids become thought and action without losing or moving a token."""

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.execution import ExecutionResult, Status
from thor_tir.trajectory import Author, Span
from tiny_models import END, tiny_tokenizer

PIECES = ["Let us see.", "\n", "```python\n", "print('é😀')\n", "```\n", "\u2028", " ", "So \\boxed{1}."]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=10).map("".join)


@cache
def straddling_tokenizer() -> PreTrainedTokenizerFast:
    """One token of it reaches from the end of a sentence into the opening fence."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=275, special_tokens=[END], initial_alphabet=alphabet, show_progress=False, max_token_length=12
    )
    tokenizer.train_from_iterator([".\n```python\n"] * 9, trainer)
    template = tiny_tokenizer().chat_template
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, chat_template=template)


def sampled(ids: list[int]) -> Span:
    return Span(token_ids=tuple(ids), author=Author.MODEL, logprobs=tuple(-0.01 * i for i in range(len(ids))))


def ids_of(text: str, cuts: list[int] | None = None, tokenizer=None) -> list[int]:
    """Ids of a text; every cut ends a token there, which a model may well sample."""
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts or []), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    return [i for piece in pieces for i in (tokenizer or tiny_tokenizer()).encode(piece, add_special_tokens=False)]


def test_a_completion_is_split_before_the_opening_fence():
    thought, action = Dialect(tiny_tokenizer()).split(sampled(ids_of("Let us see.\n```python\nprint(1)\n```\n")))
    assert (thought.text, action.code) == ("Let us see.\n", "print(1)\n")
    assert tiny_tokenizer().decode(thought.span.token_ids) == "Let us see.\n"
    assert tiny_tokenizer().decode(action.span.token_ids) == "```python\nprint(1)\n```\n"


def test_a_token_that_straddles_thought_and_fence_belongs_to_the_action():
    tokenizer = straddling_tokenizer()
    ids = ids_of("So.\n```python\n1\n```\n", tokenizer=tokenizer)
    pieces = [tokenizer.decode([i]) for i in ids]
    straddling = next(n for n, piece in enumerate(pieces) if "\n`" in piece and not piece.startswith("`"))
    assert pieces[straddling][0] in ".\n"
    thought, action = Dialect(tokenizer).split(sampled(ids))
    assert thought.span.token_ids == tuple(ids[:straddling])
    assert action.span.token_ids == tuple(ids[straddling:])
    assert (thought.text, action.code) == ("So.\n", "1\n")


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), straddling_tokenizer()], ids=["tiny", "straddling"])
@given(TEXTS, st.booleans(), st.lists(st.integers(0, 80), max_size=4))
def test_spans_concatenate_to_the_sampled_ids_with_their_logprobs(tokenizer, text, has_end, cuts):
    ids = ids_of(text, cuts, tokenizer) + [tokenizer.eos_token_id] * has_end
    span = sampled(ids)
    thought, action = Dialect(tokenizer).split(span, has_ended=has_end)
    read = thought.span + action.span if action else thought.span
    assert read == span[: len(read)]
    assert action is not None or len(read) == len(span)


@given(TEXTS, st.lists(st.integers(0, 80), max_size=40))
def test_text_and_code_do_not_depend_on_how_the_text_is_tokenised(text, cuts):
    dialect = Dialect(tiny_tokenizer())
    thought, action = dialect.split(sampled(ids_of(text)))
    again, action_again = dialect.split(sampled(ids_of(text, cuts)))
    assert again.text == thought.text
    assert (action_again and action_again.code) == (action and action.code)


@given(TEXTS, st.lists(st.integers(0, 80), max_size=8))
def test_the_thought_holds_every_token_that_ends_before_the_fence(text, cuts):
    ids = ids_of(text, cuts)
    thought, _ = Dialect(tiny_tokenizer()).split(sampled(ids))
    # a prefix that ends within a character decodes to a replacement mark and is no beginning of the text
    fitting = [n for n in range(len(ids) + 1) if thought.text.startswith(tiny_tokenizer().decode(ids[:n]))]
    assert len(thought.span) == max(fitting)


def test_an_end_of_sequence_token_is_kept_in_the_span_and_left_out_of_the_text():
    ids = [*ids_of("So \\boxed{1}."), tiny_tokenizer().eos_token_id]
    thought, action = Dialect(tiny_tokenizer()).split(sampled(ids))
    assert action is None
    assert thought.text == "So \\boxed{1}."
    assert thought.span.token_ids == tuple(ids)


def test_a_lone_end_of_sequence_token_is_an_empty_thought():
    thought, action = Dialect(tiny_tokenizer()).split(sampled([tiny_tokenizer().eos_token_id]))
    assert (thought.text, len(thought.span), action) == ("", 1, None)


def test_an_unclosed_program_is_part_of_the_thought():
    text = "Let us see.\n```python\nprint(1)\n"
    thought, action = Dialect(tiny_tokenizer()).split(sampled(ids_of(text)))
    assert (thought.text, action) == (text, None)


def test_tokens_after_the_closing_fence_are_dropped():
    text = "```python\nprint(1)\n```\n"
    thought, action = Dialect(tiny_tokenizer()).split(sampled(ids_of(f"{text}So it is 2.", [len(text)])))
    assert (thought.text, action.code) == ("", "print(1)\n")
    assert tiny_tokenizer().decode(action.span.token_ids) == text


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), straddling_tokenizer()], ids=["tiny", "straddling"])
@pytest.mark.parametrize("kept", ["", "I "])
def test_the_end_of_a_turn_closes_a_program_and_the_environment_writes_the_newline(tokenizer, kept):
    dialect = Dialect(tokenizer)
    before = ids_of(kept, tokenizer=tokenizer)
    ids = ids_of("So.\n```python\nprint(1)\n```", tokenizer=tokenizer)
    thought, action = dialect.split(sampled([*ids, tokenizer.eos_token_id]), kept=before, has_ended=True)
    assert action.code == "print(1)\n"
    assert thought.span + action.span == sampled(ids)  # the end of the turn, which did not end, is gone
    result = ExecutionResult(status=Status.OK, stdout="1\n")
    assert tokenizer.decode(dialect.observe(result, after=action).span.token_ids) == "\n```output\n1\n```\n"
    assert tokenizer.decode(dialect.observe(result).span.token_ids) == "```output\n1\n```\n"


def test_a_closing_fence_before_a_limit_closes_nothing():
    thought, action = Dialect(tiny_tokenizer()).split(sampled(ids_of("```python\nprint(1)\n```")))
    assert action is None
    assert thought.text == "```python\nprint(1)\n```"


def test_an_unknown_token_that_ended_a_turn_is_no_part_of_its_text():
    other = tiny_tokenizer().encode("x", add_special_tokens=False)
    thought, action = Dialect(tiny_tokenizer()).split(sampled([*ids_of("\\boxed{1}"), *other]), has_ended=True)
    assert (thought.text, action, len(thought.span)) == ("\\boxed{1}", None, len(ids_of("\\boxed{1}")) + 1)


def test_blanks_behind_fences_stay_in_the_span_and_leave_the_code():
    text = "So.\n```python \nprint(1)\n```  \n"
    thought, action = Dialect(tiny_tokenizer()).split(sampled(ids_of(text)), "blanks")
    assert (thought.text, action.code) == ("So.\n", "print(1)\n")
    assert tiny_tokenizer().decode(action.span.token_ids) == text[4:]
    assert Dialect(tiny_tokenizer()).split(sampled(ids_of(text)))[1] is None


def test_an_observation_is_written_by_the_environment_in_a_frame_of_its_own():
    observation = Dialect(tiny_tokenizer()).observe(ExecutionResult(status=Status.OK, stdout="77\n"))
    assert observation.text == "77"
    assert observation.span.author is Author.ENVIRONMENT
    assert tiny_tokenizer().decode(observation.span.token_ids) == "```output\n77\n```\n"


def test_an_observation_is_in_the_style_and_length_of_the_run():
    result = ExecutionResult(status=Status.OK, stdout="0123456789" * 3, exit_code=0)
    seen = {
        style: Dialect(
            tiny_tokenizer(), DialectConfig(observation=ObservationConfig(style=style, max_chars=16))
        ).observe(result)
        for style in ("brief", "paper")
    }
    assert seen["brief"].text == "01234567\n[14 characters left out]\n23456789"
    assert seen["paper"].text == "01234567...23456789"


def test_room_for_less_than_both_ends_of_an_output_is_refused():
    with pytest.raises(ValueError, match="an observation of 15 characters"):
        ObservationConfig(max_chars=15)
