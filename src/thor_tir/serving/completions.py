"""`/v1/completions`: a text is continued as it stands, without template and tools."""

from collections.abc import Callable
from functools import partial

from starlette.requests import Request

from thor_tir.engines.protocol import ContextFull
from thor_tir.errors import UsageError
from thor_tir.rollout.sample_many import in_parallel
from thor_tir.seeds import seed_of
from thor_tir.serving.audit import AuditRecord
from thor_tir.serving.continuation import Continuation, continued
from thor_tir.serving.fields import InvalidRequest
from thor_tir.serving.replies import completion_chunk, completion_json, usage, usage_chunk
from thor_tir.serving.reply import HttpReply, streamed
from thor_tir.serving.requests import CompletionRequest, completion_request
from thor_tir.serving.service import AnswerService
from thor_tir.web_service import unless_gone


async def complete(service: AnswerService, request: Request, reply: HttpReply, record: AuditRecord) -> None:
    """Answer a body of OpenAI's."""
    asked = completion_request(await service.body(request), service.model, service.defaults)
    ids = _prompt_ids(service, asked)
    record.options = {"rollout": vars(asked.rollout), "choices": asked.choices, "seed": asked.seed}
    head = service.head("cmpl")
    async with service.place(request, record, asked.choices):
        if not asked.is_stream:
            made = await unless_gone(request, _continuations(service, asked, ids, record, lambda index, text: None))
            await reply.json(completion_json(head, len(ids), made))
            return
        await reply.begin_events()

        async def send(numbered: tuple[int, str]) -> None:
            await reply.event(completion_chunk(head, *numbered))

        made = await streamed(
            request,
            reply,
            lambda tell: _continuations(service, asked, ids, record, lambda index, text: tell((index, text))),
            send,
        )
        for index, each in enumerate(made):
            await reply.event(completion_chunk(head, index, "", each))
        if asked.tells_usage:
            counted = usage(len(ids), sum(each.num_tokens for each in made))
            await reply.event(usage_chunk(head, "text_completion", counted))
        await reply.event("[DONE]")
        await reply.end_events()


def _prompt_ids(service: AnswerService, asked: CompletionRequest) -> tuple[int, ...]:
    """The prompt as ids. Names of control tokens are control tokens: who continues a text writes its template too."""
    if not service.served.continues_text:
        raise InvalidRequest("the served model is reached by messages alone, so that no text can be continued")
    if isinstance(asked.prompt, tuple):
        return asked.prompt
    return tuple(service.served.in_words.tokenizer(asked.prompt, add_special_tokens=False)["input_ids"])


async def _continuations(
    service: AnswerService,
    asked: CompletionRequest,
    ids: tuple[int, ...],
    record: AuditRecord,
    tell: Callable[[int, str], None],
) -> list[Continuation]:
    """All continuations that are wanted, at once. Raises InvalidRequest for ids that no prompt can hold."""
    served, rollout = service.served, asked.rollout
    made: dict[int, Continuation] = {}

    async def one(index: int) -> None:
        seed = seed_of(asked.seed, index)
        sampling = rollout.sampling(rollout.max_completion_length, stop=asked.stop, seed=seed)
        with served.policy.attend():
            decode = served.in_words.decode
            try:
                made[index] = await continued(ids, sampling, served.policy, decode, partial(tell, index))
            except (ContextFull, UsageError):
                raise
            except ValueError as unfit:
                raise InvalidRequest(str(unfit), param="prompt") from unfit

    await in_parallel(range(asked.choices), one, asked.choices)
    record.spent.update(prompt=len(ids), model=sum(each.num_tokens for each in made.values()))
    service.metrics.note_tokens(record.spent)
    return [made[index] for index in range(asked.choices)]
