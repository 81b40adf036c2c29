"""Requests of clients, in OpenAI's fields and our own: one record for each kind, within the server's bounds.

A field that this server would have to ignore is refused by name. Our own options stand in the object `thor`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast, get_args

from thor_tir.errors import UsageError
from thor_tir.inference.best_of_n import RULES
from thor_tir.inference.self_correction import Scope, SelfCorrectionConfig
from thor_tir.pretrained import ChatTurn
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.serving.fields import Fields, InvalidRequest
from thor_tir.storage.journal import JsonObject

TranscriptForm = Literal["all", "kept"]
TRANSCRIPTS: tuple[TranscriptForm, ...] = ("all", "kept")
SEEDS = 2**63
NOTES = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
"""Fields of OpenAI's that change no answer."""
_OWN_TOOLS = "programs are written by the model and run on the server; functions of the client are not called"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The most that one request may ask for."""

    max_tokens: int = 65_536
    """Tokens of one attempt, observations included."""
    calls: int = 32
    """Tool calls of one attempt."""
    attempts: int = 16
    """Attempts of one request: candidates of best-of-N times choices (`n`)."""
    repairs: int = 8
    """Repairs of one failed call."""
    messages: int = 256
    """Messages of one conversation."""
    prompt_chars: int = 400_000
    """Characters of all messages together, or of a text to be continued."""
    stop_strings: int = 8
    """Stop strings of a plain completion."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise ValueError(f"each bound is at least 1, found {self}")


@dataclass(frozen=True, kw_only=True)
class ServedDefaults:
    """Defaults of a request."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Limits and sampling of each attempt."""
    correction: SelfCorrectionConfig = field(default_factory=SelfCorrectionConfig)
    """Repair of failed calls."""
    bounds: Bounds = field(default_factory=Bounds)
    """The most that a request may ask for."""
    selectors: tuple[str, ...] = RULES
    """Names of the selectors that a request may name."""

    def __post_init__(self) -> None:
        asked = self.rollout
        if (
            asked.max_completion_length > self.bounds.max_tokens
            or asked.max_tool_calling_iterations > self.bounds.calls
        ):
            raise UsageError(f"the defaults of a request stand above the bounds: {asked} and {self.bounds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """Options with which one question is answered."""

    rollout: RolloutConfig
    """Limits and sampling of each attempt."""
    correction: SelfCorrectionConfig | None
    """Repair of failed calls; None leaves failures as they are."""
    has_tools: bool = True
    """True where programs are run."""
    attempts: int = 1
    """Attempts of which one is chosen."""
    select: str = "pass-rate"
    """Selector that chooses."""
    transcript: TranscriptForm = "all"
    """Text that is returned: all that happened, or what stands in the model's context in the end."""
    seed: int = 0
    """Seed of the attempts and of ties among them."""
    is_stream: bool = False
    """True where the answer is wanted piece by piece."""

    def as_json(self) -> JsonObject:
        """All options, for the audit log."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation whose last turn is to be answered."""

    turns: tuple[ChatTurn, ...]
    """System, user and assistant turns."""
    options: AnswerOptions
    """Limits, sampling and choice of the answer."""
    choices: int = 1
    """Answers that are wanted (`n`)."""
    tells_usage: bool = False
    """True where a stream ends with a piece that counts tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A text that is to be continued as it stands: no template, no tools."""

    prompt: str | tuple[int, ...]
    """Text, or token ids."""
    rollout: RolloutConfig
    """Limit and sampling."""
    stop: tuple[str, ...]
    """Strings that end the continuation."""
    seed: int
    """Seed of the choices."""
    choices: int = 1
    """Continuations that are wanted (`n`)."""
    is_stream: bool = False
    """True where it is wanted piece by piece."""
    tells_usage: bool = False
    """True where a stream ends with a piece that counts tokens."""


def chat_request(body: Mapping[str, Any], model: str, defaults: ServedDefaults) -> ChatRequest:
    """Read a body of `/v1/chat/completions`. Raises InvalidRequest."""
    fields = Fields(body)
    check_model(fields, model)
    turns = _turns(fields, defaults.bounds)
    refuse_foreign(fields)
    fields.unsupported("stop", [], reason="the model's own end and the end of a program are what stops it here")
    fields.unsupported("logprobs", False, reason="an answer is made of several samples")
    fields.unsupported("top_logprobs", 0, reason="an answer is made of several samples")
    fields.unsupported("modalities", ["text"], reason="answers are text")
    fields.unsupported("response_format", {"type": "text"}, reason="answers are plain text")
    fields.unsupported("reasoning_effort", reason="how long the model thinks is bounded by max_tokens")
    for name in ("audio", "prediction", "web_search_options", "verbosity"):
        fields.unsupported(name, reason="this server has nothing of the kind")
    choices = fields.integer("n", 1, 1, defaults.bounds.attempts)
    request = ChatRequest(
        turns=turns,
        options=answer_options(fields, defaults, choices=choices),
        choices=choices,
        tells_usage=_tells_usage(fields),
    )
    fields.end()
    return request


def completion_request(body: Mapping[str, Any], model: str, defaults: ServedDefaults) -> CompletionRequest:
    """Read a body of `/v1/completions`. Raises InvalidRequest."""
    fields, bounds = Fields(body), defaults.bounds
    check_model(fields, model)
    refuse_foreign(fields)
    fields.unsupported("logprobs", 0, reason="log-probabilities are not returned")
    fields.unsupported("echo", False, reason="the prompt is not repeated")
    fields.unsupported("best_of", 1, reason="ask /v1/chat/completions for thor.attempts")
    fields.unsupported("suffix", "", reason="texts are continued, not filled in")
    fields.unsupported("thor", {}, reason="a plain completion runs no program; ask /v1/chat/completions")
    request = CompletionRequest(
        prompt=_prompt(fields, bounds),
        choices=fields.integer("n", 1, 1, bounds.attempts),
        rollout=_sampling(fields, defaults.rollout, bounds, limits=("max_tokens",)),
        stop=_stop(fields, bounds),
        seed=_seed(fields),
        is_stream=fields.boolean("stream", False),
        tells_usage=_tells_usage(fields),
    )
    fields.end()
    return request


def check_model(fields: Fields, model: str) -> None:
    """Refuse a request for another model than the served one."""
    asked = fields.text("model")
    if asked is None:
        fields.refuse("model", f"is missing; this server serves {model!r}")
    if asked != model:
        message = f"the model {asked[:100]!r} does not exist; this server serves {model!r}"
        raise InvalidRequest(message, param="model", code="model_not_found", status=404)


def answer_options(
    fields: Fields,
    defaults: ServedDefaults,
    *,
    choices: int = 1,
    limits: tuple[str, ...] = ("max_tokens", "max_completion_tokens"),
) -> AnswerOptions:
    """Sampling and limits, and the options of the object `thor`."""
    bounds = defaults.bounds
    rollout = _sampling(fields, defaults.rollout, bounds, limits=limits)
    seed = _seed(fields)
    own = fields.inner("thor")
    attempts = own.integer("attempts", 1, 1, max(1, bounds.attempts // choices))
    has_tools = own.boolean("tools", True)
    calls = own.integer("calls", rollout.max_tool_calling_iterations, 0, bounds.calls)
    correction = _correction(own, defaults, default=has_tools and attempts == 1)
    if correction is not None and not has_tools:
        own.refuse("correction", "repairs failed calls, and thor.tools is false")
    options = AnswerOptions(
        rollout=replace(rollout, max_tool_calling_iterations=calls if has_tools else 0),
        correction=correction,
        has_tools=has_tools,
        attempts=attempts,
        select=own.one_of("select", defaults.selectors, "pass-rate"),
        transcript="kept" if own.one_of("transcript", TRANSCRIPTS, "all") == "kept" else "all",
        seed=seed,
        is_stream=fields.boolean("stream", False),
    )
    own.end()
    return options


def _correction(own: Fields, defaults: ServedDefaults, *, default: bool) -> SelfCorrectionConfig | None:
    """`true`, `false`, or an object with the scope, the number of repairs and the length of the cut."""
    asked = own.any("correction")
    if asked is None or isinstance(asked, bool):
        return defaults.correction if (default if asked is None else asked) else None
    inner = Fields(asked, f"{own.where}correction.")
    base = defaults.correction
    base = base.under(cast(Scope, inner.one_of("scope", get_args(Scope), base.scope)))
    found = replace(
        base,
        max_attempts=inner.integer("attempts", base.max_attempts, 1, defaults.bounds.repairs),
        suffix_tokens=inner.integer("suffix_tokens", base.suffix_tokens, 0, defaults.bounds.max_tokens),
    )
    inner.end()
    return found


def _sampling(fields: Fields, base: RolloutConfig, bounds: Bounds, *, limits: tuple[str, ...]) -> RolloutConfig:
    asked = [fields.integer(name, 0, 1, bounds.max_tokens) for name in limits]
    top_p = fields.number("top_p", base.top_p, 0.0, 1.0)
    return replace(
        base,
        max_completion_length=max(asked) or base.max_completion_length,
        temperature=fields.number("temperature", base.temperature, 0.0, 2.0),
        top_p=top_p or 1e-6,  # OpenAI's own API takes 0 for the most likely token alone
        top_k=fields.integer("top_k", base.top_k, 0, 2**31),
    )


def _seed(fields: Fields) -> int:
    """The request's seed; without one each answer is another, and the reply names the seed that was drawn."""
    return fields.integer("seed", secrets.randbits(31), 1 - SEEDS, SEEDS - 1)


def refuse_foreign(fields: Fields) -> None:
    """Pass over notes, and refuse what OpenAI's models do and this server does not."""
    fields.ignored(*NOTES)
    fields.unsupported("tools", [], reason=_OWN_TOOLS)
    fields.unsupported("functions", [], reason=_OWN_TOOLS)
    fields.unsupported("tool_choice", "none", "auto", reason=_OWN_TOOLS)
    fields.unsupported("function_call", "none", "auto", reason=_OWN_TOOLS)
    for name in ("presence_penalty", "frequency_penalty"):
        fields.unsupported(name, 0, 0.0, reason="what was sampled is not penalised")
    fields.unsupported("logit_bias", {}, reason="what may be sampled is not biased")


def _tells_usage(fields: Fields) -> bool:
    inner = fields.inner("stream_options")
    tells = inner.boolean("include_usage", False)
    inner.ignored("include_obfuscation")
    inner.end()
    return tells


def _turns(fields: Fields, bounds: Bounds) -> tuple[ChatTurn, ...]:
    turns = [_turn(Fields(item, f"messages[{i}].")) for i, item in enumerate(fields.items("messages", bounds.messages))]
    return checked_turns(fields, "messages", turns, bounds)


def checked_turns(fields: Fields, name: str, turns: list[ChatTurn], bounds: Bounds) -> tuple[ChatTurn, ...]:
    """Turns that can be answered: the last one is a question, and all together are short enough."""
    length = sum(len(turn["content"]) for turn in turns)
    if length > bounds.prompt_chars:
        message = f"have {length} characters; this server takes at most {bounds.prompt_chars}"
        fields.refuse(name, message, code="context_length_exceeded")
    if turns[-1]["role"] != "user":
        fields.refuse(name, "must end with a message of the user")
    if not turns[-1]["content"].strip():
        fields.refuse(name, "end with an empty question")
    return tuple(turns)


def _turn(fields: Fields) -> ChatTurn:
    role = fields.text("role", "")
    if role in ("tool", "function"):
        fields.refuse("role", f"is {role!r}: {_OWN_TOOLS}", code="unsupported_parameter")
    if role not in ("system", "developer", "user", "assistant"):
        fields.refuse("role", f"must be system, user or assistant, found {str(role)[:60]!r}")
    fields.unsupported("tool_calls", [], reason=_OWN_TOOLS)
    fields.unsupported("function_call", reason=_OWN_TOOLS)
    fields.ignored("name", "refusal", "audio", "annotations", "reasoning_content", "thor")
    content = text_content(fields, "content", ("text",), required=role != "assistant")
    fields.end()
    return {"role": "system" if role == "developer" else role, "content": content}


def text_content(
    fields: Fields, name: str, kinds: tuple[str, ...], ignored: tuple[str, ...] = (), *, required: bool = True
) -> str:
    """A string, or a list of parts each of which is text; fields of parts that say nothing more are ignored."""
    value = fields.any(name)
    if value is None and not required:
        return ""
    if not isinstance(value, list):
        return fields.checked_text(name, value)
    parts = []
    for number, item in enumerate(value):
        part = Fields(item, f"{fields.where}{name}[{number}].")
        kind = part.text("type", "")
        if kind not in kinds:
            part.refuse("type", f"is {str(kind)[:60]!r}; the model reads text alone", code="unsupported_parameter")
        parts.append(part.text("text", "") or "")
        part.ignored(*ignored)
        part.end()
    return "".join(parts)


def _prompt(fields: Fields, bounds: Bounds) -> str | tuple[int, ...]:
    value = fields.any("prompt")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, list) and value and all(isinstance(i, int) and not isinstance(i, bool) for i in value):
        if len(value) > bounds.prompt_chars:
            fields.refuse("prompt", f"has {len(value)} token ids; this server takes at most {bounds.prompt_chars}")
        return tuple(value)
    if isinstance(value, list):
        fields.refuse("prompt", "must be one text, or one list of token ids; ask for several one by one")
    text = fields.checked_text("prompt", value)
    if not text:
        fields.refuse("prompt", "must not be empty")
    if len(text) > bounds.prompt_chars:
        message = f"has {len(text)} characters; this server takes at most {bounds.prompt_chars}"
        fields.refuse("prompt", message, code="context_length_exceeded")
    return text


def _stop(fields: Fields, bounds: Bounds) -> tuple[str, ...]:
    value = fields.any("stop")
    strings = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or len(strings) > bounds.stop_strings:
        fields.refuse("stop", f"must be a string or a list of at most {bounds.stop_strings} strings")
    stop = tuple(fields.checked_text("stop", each) for each in strings)
    if not all(1 <= len(each) <= 100 for each in stop):
        fields.refuse("stop", "strings must have from 1 to 100 characters")
    return stop
