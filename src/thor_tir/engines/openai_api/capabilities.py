"""The requests that a server understands: found out once, by asking, and noted in the run's record.

With a tokenizer of the served model at hand, prompts are its own and go to `/completions`: as token ids where the
server takes and returns ids (vLLM), otherwise as text. Without one, text-level ids (`text_codec.py`) become chat
messages whose last, the assistant's, is to be continued, or plain text where a server cannot do that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from thor_tir.chat_template import CLOSES, OPENS, turn_ends
from thor_tir.engines.openai_api.client import ApiClient, NoSuchPlace
from thor_tir.engines.openai_api.responses import Expected
from thor_tir.engines.openai_api.retry import Refused
from thor_tir.engines.openai_api.text_codec import TextTokenizer, conversation
from thor_tir.engines.protocol import Sampling
from thor_tir.errors import UsageError
from thor_tir.pretrained import ChatTurn, Tokenizer
from thor_tir.storage.journal import JsonObject

MAX_STOPS = 4
"""Stop strings that every server takes."""
SEEDS = 2**31
"""Some servers take seeds of 32 bits alone."""
_COUNTING = ("Count from 1 to 20, with commas between the numbers.", "1, 2, 3, 4, 5, 6, 7, 8,")
_CONTINUING = frozenset({"vllm", "sglang"})
"""Owners, as servers name them, that are known to continue an assistant's turn when asked to."""


class PromptFormat(StrEnum):
    """The form of the prompts that are sent."""

    IDS = "completions, exact token ids"
    TEXT = "completions, text in the model's own template"
    CHAT = "chat, the assistant's turn continued"
    PLAIN = "completions, plain text without a template"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCapabilities:
    """A manner, and what the server understands beyond OpenAI's own options."""

    manner: PromptFormat
    """Form in which prompts are sent."""
    model: str
    """Name of the model on the server."""
    has_extras: bool
    """True if the server takes top-k and the options that make stops and ids exact."""
    tells_stop: bool
    """True if the server says which stop string ended a reply. Otherwise replies are read in pieces and cut here."""
    context_tokens: int | None = None
    """The longest context, where the server says."""
    end_ids: frozenset[int] = frozenset()
    """Tokens that end a turn, where the model's tokenizer is here."""
    ends: tuple[str, ...] = ()
    """Names of further tokens that end a turn, which the server may not know for ends."""

    @property
    def path(self) -> str:
        """Path of the requests."""
        return "/chat/completions" if self.manner is PromptFormat.CHAT else "/completions"

    def body(self, token_ids: Sequence[int], sampling: Sampling, tokenizer: Tokenizer) -> JsonObject:
        """One request."""
        body: JsonObject = {
            "model": self.model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed % SEEDS,
            **self._prompt(token_ids, tokenizer),
        }
        if self.tells_stop and (stop := self._stops(sampling)):
            body["stop"] = stop
        if self.has_extras:
            body |= _EXTRAS[self.manner]
            if self.end_ids and self.manner is not PromptFormat.CHAT:
                body["stop_token_ids"] = sorted(self.end_ids)
            if sampling.top_k:
                body["top_k"] = sampling.top_k
        return body

    def _stops(self, sampling: Sampling) -> list[str]:
        """Stop strings; a server that knows the common options alone is asked for no more than it must take."""
        if self.has_extras and self.end_ids:
            return list(sampling.stop)
        return [*self.ends, *sampling.stop][: None if self.has_extras else MAX_STOPS]

    def expected(self, token_ids: Sequence[int], sampling: Sampling) -> Expected:
        """The limits and strings by which the reply is read."""
        answer = conversation(token_ids).answer if self.manner is PromptFormat.CHAT else ""
        return Expected(
            max_tokens=sampling.max_tokens,
            stop=sampling.stop,
            ends=self.ends,
            end_ids=self.end_ids,
            has_begun_thinking=OPENS in answer and CLOSES not in answer,
        )

    def _prompt(self, token_ids: Sequence[int], tokenizer: Tokenizer) -> JsonObject:
        if self.manner is PromptFormat.IDS:
            return {"prompt": list(token_ids)}
        if self.manner is PromptFormat.TEXT:
            return {
                "prompt": tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            }
        said = conversation(token_ids)
        if self.manner is PromptFormat.PLAIN:
            return {"prompt": said.plain}
        turns: list[ChatTurn] = [{"role": "system", "content": said.system}] if said.system else []
        turns += [*said.earlier, {"role": "user", "content": said.user}]
        is_begun = bool(said.answer)
        if is_begun:
            turns.append({"role": "assistant", "content": said.answer})
        asked: JsonObject = {"messages": turns}
        if self.has_extras:
            asked |= {"continue_final_message": is_begun, "add_generation_prompt": not is_begun}
            asked["chat_template_kwargs"] = {"enable_thinking": said.is_thinking}
        return asked


_STOPS = {"include_stop_str_in_output": True, "no_stop_trim": True}
_EXTRAS: Mapping[PromptFormat, Mapping[str, Any]] = {
    PromptFormat.IDS: {**_STOPS, "return_token_ids": True},
    PromptFormat.TEXT: {**_STOPS, "add_special_tokens": False},
    PromptFormat.CHAT: _STOPS,
    PromptFormat.PLAIN: _STOPS,
}


async def find_speech(
    asker: ApiClient, model: str, tokenizer: Tokenizer, end_tokens: Sequence[str] = ()
) -> ServerCapabilities:
    """Ask until the server has answered in the best manner it knows. `end_tokens` end turns beside the model's own.

    Raises UsageError when it knows none, and the faults of `ApiClient`.
    """
    listed = await asker.models()
    names = [str(each.get("id", "")) for each in listed]
    if not model and len(names) != 1:
        listing = f"it serves {', '.join(names)[:500]}" if names else "it does not say what it serves"
        hint = "" if names or asker.address.endswith("/v1") else f", or try {asker.address}/v1"
        raise UsageError(
            f"{asker.address} serves no single model ({listing}); name one with the option for its name{hint}"
        )
    model = model or names[0]
    entry = next((each for each in listed if each.get("id") == model), {})
    longest = entry.get("max_model_len")
    basis = ServerCapabilities(
        manner=PromptFormat.IDS,
        model=model,
        has_extras=True,
        tells_stop=True,
        context_tokens=longest if isinstance(longest, int) and longest > 0 else None,
        ends=tuple(end_tokens),
    )
    if isinstance(tokenizer, TextTokenizer):
        return await _by_text(asker, basis, owner=str(entry.get("owned_by", "")))
    return await _by_tokenizer(asker, basis, tokenizer)


async def _by_tokenizer(asker: ApiClient, basis: ServerCapabilities, tokenizer: Tokenizer) -> ServerCapabilities:
    ids = tokenizer("1, 2, 3,", add_special_tokens=False)["input_ids"]
    end_ids = turn_ends(tokenizer).ids
    further = sorted(end_ids - {tokenizer.eos_token_id})
    basis = replace(basis, end_ids=end_ids, ends=tuple(tokenizer.decode([end]) for end in further))
    reasons = []
    for manner, has_extras in ((PromptFormat.IDS, True), (PromptFormat.TEXT, True), (PromptFormat.TEXT, False)):
        speech = replace(basis, manner=manner, has_extras=has_extras)
        try:
            sampling = Sampling(max_tokens=4)
            body = speech.body(ids, sampling, tokenizer)
            reply = await asker.whole(speech.path, body, speech.expected(ids, sampling))
        except Refused as refusal:
            reasons.append(str(refusal))
            continue
        if manner is PromptFormat.TEXT or reply.token_ids is not None:
            return replace(speech, tells_stop=reply.tells_stop)
    raise UsageError(f"{asker.address} completes no text for {basis.model!r}: {_joined(reasons)}")


async def _by_text(asker: ApiClient, basis: ServerCapabilities, *, owner: str) -> ServerCapabilities:
    codec = TextTokenizer()
    question, begun = _COUNTING
    turns = [{"role": "user", "content": question}]
    ids = codec(codec.apply_chat_template(turns) + begun)["input_ids"]
    reasons = []
    for manner, has_extras in (
        (PromptFormat.CHAT, True),
        (PromptFormat.CHAT, False),
        (PromptFormat.PLAIN, True),
        (PromptFormat.PLAIN, False),
    ):
        speech = replace(basis, manner=manner, has_extras=has_extras)
        sampling = Sampling(max_tokens=4, temperature=0)
        try:
            body = speech.body(ids, sampling, codec)
            reply = await asker.whole(speech.path, body, speech.expected(ids, sampling))
        except NoSuchPlace as nowhere:
            reasons.append(str(nowhere))
            continue
        except Refused as refusal:
            reasons.append(str(refusal))
            continue
        continues = reply.text.lstrip().startswith("9") or (has_extras and owner in _CONTINUING)
        if manner is PromptFormat.PLAIN or continues:
            return replace(speech, tells_stop=reply.tells_stop)
        reasons.append("it begins a new turn where one is to be continued")
    raise UsageError(
        f"{asker.address} neither continues an assistant's turn nor completes text for {basis.model!r} "
        f"({_joined(reasons)}); give a name that it serves, serve the model with vLLM, or name its tokenizer"
    )


def _joined(reasons: Sequence[str]) -> str:
    """The reasons, each once, since most servers give the same one to every form of a request."""
    return "; ".join(dict.fromkeys(reasons))[:500]
