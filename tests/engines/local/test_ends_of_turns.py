"""A turn ends with the token that its template writes or a user names, whatever the model's settings say."""

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from engine_cases import encoded, sample_all, tokens
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.loading import load_model, load_tokenizer
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.protocol import Sampling
from thor_tir.errors import UsageError
from thor_tir.sft.examples import spelled_for
from thor_tir.trajectory import Author, Finish, Span, Step, StopReason, Thought, Trajectory
from tiny_models import PAD, tiny_model, tiny_tokenizer

PROMPT = encoded("What is the sum of all primes below 20?")
LATER = Sampling(max_tokens=40, temperature=1.0, seed=1)


def sampled_freely() -> list[int]:
    """What the tiny model says where nothing ends its turn."""
    model = tiny_model(sharpness=1.0)
    model.generation_config.eos_token_id = None
    engine = TransformersEngine(model, tokenizer_of("{% for m in messages %}{{ m.content }}{% endfor %}"))
    (completion,) = sample_all(engine, [(PROMPT, LATER)])
    return tokens(completion)


def tokenizer_of(template: str, *, added: str | None = None) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with the padding token as its end of sequence, and one more token that is no text."""
    core = Tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str())
    if added is not None:
        core.add_tokens([AddedToken(added, special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=PAD, chat_template=template)


def plain_token(ids: list[int]) -> tuple[int, str]:
    """A token among these that is plain ASCII, not the first, and its text."""
    pieces = [(token, tiny_tokenizer().decode([token])) for token in ids[3:]]
    return next((token, text) for token, text in pieces if text.isascii() and text.isalnum() and token not in ids[:3])


def test_the_engine_stops_at_the_token_that_the_template_writes_behind_an_answer():
    free = sampled_freely()
    end, text = plain_token(free)
    template = "{% for m in messages %}{{ m.content }}" + text + "\n{% endfor %}"
    tokenizer = tokenizer_of(template, added=text)
    assert tokenizer.convert_tokens_to_ids(text) == end  # a token of the vocabulary, now without text of its own
    model = tiny_model(sharpness=1.0)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    (completion,) = sample_all(TransformersEngine(model, tokenizer), [(PROMPT, LATER)])
    assert tokens(completion) == free[: free.index(end) + 1]
    assert completion.stop is StopReason.END
    thought, action = Dialect(tokenizer).split(completion.span, has_ended=True)
    assert (action, thought.text) == (None, tokenizer.decode(free[: free.index(end)]))


def test_the_engine_stops_at_tokens_that_a_user_names(tmp_path):
    free = sampled_freely()
    end, text = plain_token(free)
    tiny_model(sharpness=1.0).save_pretrained(tmp_path)
    tokenizer_of("{% for m in messages %}{{ m.content }}{% endfor %}").save_pretrained(tmp_path)
    model, tokenizer = load_model(str(tmp_path), end_tokens=[PAD, text])
    (completion,) = sample_all(TransformersEngine(model, tokenizer), [(PROMPT, LATER)])
    assert tokens(completion) == free[: free.index(end) + 1]
    assert completion.stop is StopReason.END
    assert Dialect(tokenizer).decode(tokens(completion)) == tokenizer.decode(free[: free.index(end)])


def test_an_end_that_the_tokenizer_does_not_have_is_named(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        UsageError, match=r"--end-token '<\|eot\|>' is no token of .*; its added tokens are .*<\|end\|>"
    ):
        load_tokenizer(str(tmp_path), ["<|eot|>"])


def test_a_turn_that_is_spelled_anew_ends_with_the_templates_token():
    template = "{% for m in messages %}<|user|>{{ m.content }}<|end|>\n{% endfor %}<|assistant|>"
    tokenizer = tokenizer_of(template)
    span = Span(token_ids=(1 << 30,), author=Author.MODEL)  # another's ids
    trajectory = Trajectory(
        id="a",
        problem_id="p",
        prompt=Span(token_ids=(), author=Author.PROMPT),
        steps=(Step(thought=Thought(text="It is 4.", span=span)),),
        finish=Finish.ENDED,
    )
    spelled = spelled_for(trajectory, Dialect(tokenizer)).steps[0].thought.span
    assert spelled.token_ids == (*tokenizer.encode("It is 4."), tokenizer.convert_tokens_to_ids("<|end|>"))


def test_lists_of_ends_in_generation_settings_still_count():
    model = tiny_model(sharpness=1.0)
    free = sampled_freely()
    model.generation_config.eos_token_id = [free[4], free[9]]
    engine = TransformersEngine(model, tokenizer_of("{% for m in messages %}{{ m.content }}{% endfor %}"))
    (completion,) = sample_all(engine, [(PROMPT, LATER)])
    first = min(free.index(free[4]), free.index(free[9]))
    assert tokens(completion) == free[: first + 1]
