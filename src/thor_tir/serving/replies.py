"""Answers in the form of OpenAI's API, with what only this server knows in the field `thor` beside each choice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thor_tir.eval.answer_json import answer_json, candidate_json
from thor_tir.inference.answering import Answer
from thor_tir.inference.self_correction import RepairCost, repair_cost
from thor_tir.serving.answers import Piece
from thor_tir.serving.continuation import Continuation
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import Finish, StopReason

_FINISH: Mapping[Finish, str] = {
    Finish.ENDED: "stop",
    Finish.TOKEN_LIMIT: "length",
    Finish.CALL_LIMIT: "length",
    Finish.FAILED_CALL: "stop",
}
_STOP: Mapping[StopReason, str] = {StopReason.END: "stop", StopReason.STOP: "stop", StopReason.LENGTH: "length"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The fields that every part of a reply begins with."""

    id: str
    """Id of the reply."""
    created: int
    """Unix time of the request, in seconds."""
    model: str
    """Name of the served model."""

    def json(self, kind: str) -> JsonObject:
        """The beginning of an object of one of OpenAI's kinds."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def chat_json(head: Head, sent: Sequence[Sequence[Piece]], answers: Sequence[Answer]) -> JsonObject:
    """A whole `chat.completion`: the pieces of each choice, and its answer."""
    choices = []
    for index, (pieces, answer) in enumerate(zip(sent, answers, strict=True)):
        message: JsonObject = {
            "role": "assistant",
            "content": "".join(piece.content for piece in pieces),
            "refusal": None,
        }
        if reasoning := "".join(piece.reasoning for piece in pieces):
            message["reasoning_content"] = reasoning
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": None,
                "finish_reason": finish_reason(answer),
                "thor": thor_json(answer),
            }
        )
    return {**head.json("chat.completion"), "choices": choices, "usage": chat_usage(answers)}


def chat_chunk(head: Head, index: int, delta: Mapping[str, Any], thor: object = None) -> JsonObject:
    """One part of a streamed choice."""
    choice: JsonObject = {"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": None}
    if thor is not None:
        choice["thor"] = thor
    return {**head.json("chat.completion.chunk"), "choices": [choice]}


def piece_chunk(head: Head, index: int, piece: Piece) -> JsonObject:
    """One piece of an answer."""
    delta = {"content": piece.content} if piece.content or not piece.reasoning else {}
    if piece.reasoning:
        delta["reasoning_content"] = piece.reasoning
    return chat_chunk(head, index, delta, piece.event)


def last_chunk(head: Head, index: int, answer: Answer) -> JsonObject:
    """The end of a streamed choice."""
    chunk = chat_chunk(head, index, {}, {"kind": "end", **thor_json(answer)})
    chunk["choices"][0]["finish_reason"] = finish_reason(answer)
    return chunk


def usage_chunk(head: Head, kind: str, usage: Mapping[str, Any]) -> JsonObject:
    """The part that counts tokens, after all choices."""
    return {**head.json(kind), "choices": [], "usage": dict(usage)}


def finish_reason(answer: Answer) -> str:
    """OpenAI's word for how an answer ended; `thor.finish` is more exact."""
    return _FINISH[answer.chosen.trajectory.finish]


def chat_usage(answers: Sequence[Answer]) -> JsonObject:
    """Tokens as the engine counted them: the prompt once, and all that the model wrote in all attempts.

    Beside them what self-correction threw away, whose tokens are among those that the model wrote.
    """
    written = [candidate.trajectory for answer in answers for candidate in answer.candidates]
    lost = sum(map(repair_cost, written), RepairCost())
    return {
        **usage(len(answers[0].chosen.trajectory.prompt), sum(answer.num_tokens for answer in answers)),
        "thor": {
            "discarded_tokens": lost.discarded_tokens,
            "discarded_calls": lost.discarded_calls,
            "discarded_seconds": round(lost.discarded_s, 4),
        },
    }


def usage(prompt_tokens: int, completion_tokens: int) -> JsonObject:
    """OpenAI's count of tokens."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def thor_json(answer: Answer) -> JsonObject:
    """The field `thor`: final answer, every step as it stands in the context, and what was thrown away."""
    fields: JsonObject = {
        **answer_json(answer.chosen, answer.dialect.decode),
        "context": answer.context,
        "seed": answer.seed,
        "seconds": round(answer.seconds, 3),
    }
    if answer.opinion is not None:
        fields["asked"] = answer.opinion.cost
    if len(answer.candidates) > 1:
        fields["reason"] = answer.choice.reason
        fields["candidates"] = [
            {**candidate_json(candidate), "is_chosen": candidate is answer.chosen} for candidate in answer.candidates
        ]
    return fields


def completion_json(head: Head, prompt_tokens: int, made: Sequence[Continuation]) -> JsonObject:
    """A whole `text_completion`."""
    choices = [
        {"text": each.text, "index": index, "logprobs": None, "finish_reason": _STOP[each.stop]}
        for index, each in enumerate(made)
    ]
    counted = usage(prompt_tokens, sum(each.num_tokens for each in made))
    return {**head.json("text_completion"), "choices": choices, "usage": counted}


def completion_chunk(head: Head, index: int, text: str, made: Continuation | None = None) -> JsonObject:
    """One part of a streamed continuation; the last one says how it ended."""
    finish = None if made is None else _STOP[made.stop]
    choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
    return {**head.json("text_completion"), "choices": [choice]}


def model_json(model: str, created: int, max_model_len: int | None) -> JsonObject:
    """The one model that is served."""
    return {"id": model, "object": "model", "created": created, "owned_by": "thor", "max_model_len": max_model_len}


def error_json(status: int, message: str, *, param: str | None = None, code: str | None = None) -> JsonObject:
    """OpenAI's form of an error."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
