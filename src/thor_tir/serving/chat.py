"""`/v1/chat/completions`: one question, answered whole or piece by piece."""

from collections.abc import Callable
from functools import partial

from starlette.requests import Request

from thor_tir.inference.answering import Answer, AskedPrompt
from thor_tir.rollout.sample_many import in_parallel
from thor_tir.serving.answers import Piece
from thor_tir.serving.audit import AuditRecord
from thor_tir.serving.replies import Head, chat_chunk, chat_json, chat_usage, last_chunk, piece_chunk, usage_chunk
from thor_tir.serving.reply import HttpReply, streamed
from thor_tir.serving.requests import ChatRequest, chat_request
from thor_tir.serving.service import AnswerService
from thor_tir.web_service import unless_gone


async def chat(service: AnswerService, request: Request, reply: HttpReply, record: AuditRecord) -> None:
    """Answer a body of OpenAI's."""
    asked = chat_request(await service.body(request), service.model, service.defaults)
    record.options = {**asked.options.as_json(), "choices": asked.choices}
    prompt = service.prompt(asked.turns, asked.options)
    head = service.head("chatcmpl")
    async with service.place(request, record, asked.choices * asked.options.attempts):
        if asked.options.is_stream:
            await _stream(service, request, reply, record, asked, prompt, head)
            return
        pieces: list[list[Piece]] = [[] for _ in range(asked.choices)]
        work = _answers(service, asked, prompt, record, lambda index, piece: pieces[index].append(piece))
        answers = await unless_gone(request, work)
    await reply.json(chat_json(head, pieces, answers))


async def _answers(
    service: AnswerService,
    asked: ChatRequest,
    prompt: AskedPrompt,
    record: AuditRecord,
    tell: Callable[[int, Piece], None],
) -> list[Answer]:
    """All answers that are wanted, at once."""
    made: dict[int, Answer] = {}

    async def one(index: int) -> None:
        made[index] = await service.answer(prompt, asked.options, record, partial(tell, index), index=index)

    await in_parallel(range(asked.choices), one, asked.choices)
    return [made[index] for index in range(asked.choices)]


async def _stream(
    service: AnswerService,
    request: Request,
    reply: HttpReply,
    record: AuditRecord,
    asked: ChatRequest,
    prompt: AskedPrompt,
    head: Head,
) -> None:
    await reply.begin_events()
    for index in range(asked.choices):
        await reply.event(chat_chunk(head, index, {"role": "assistant", "content": ""}))

    async def send(numbered: tuple[int, Piece]) -> None:
        await reply.event(piece_chunk(head, *numbered))

    answers = await streamed(
        request,
        reply,
        lambda tell: _answers(service, asked, prompt, record, lambda index, piece: tell((index, piece))),
        send,
    )
    for index, answer in enumerate(answers):
        await reply.event(last_chunk(head, index, answer))
    if asked.tells_usage:
        await reply.event(usage_chunk(head, "chat.completion.chunk", chat_usage(answers)))
    await reply.event("[DONE]")
    await reply.end_events()
