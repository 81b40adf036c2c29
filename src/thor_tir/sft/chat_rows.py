"""Conversations to rows of training, in the tokens and the turns of the model that is trained.

Each turn of an assistant is learnt behind exactly the prompt that the model would have read there. Where the chat
template writes a conversation on as it goes, one row holds all of its turns; where it rewrites earlier turns (Qwen3
leaves their thoughts out), every turn gets a row of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from thor_tir.chat_template import CLOSES, OPENS, TAGS, TemplateFault, control_ids, rendered
from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.prompts import PromptStyle, conversation_messages
from thor_tir.dialect.tool_calls import disarmed
from thor_tir.learner.sample import TrainingSample
from thor_tir.sft.chats import Chat, Message, Role
from thor_tir.sft.config import ChatConfig
from thor_tir.sft.examples import training_row
from thor_tir.sft.tool_text import Kind, Piece, Unusable, pieces, settled, text_of
from thor_tir.trajectory import Action, Author, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRows:
    """Rows of one conversation."""

    rows: tuple[TrainingSample, ...]
    """Rows to be trained."""
    reading: str
    """Columns and calls, as a person is told them."""
    notes: tuple[str, ...]
    """Sentences about what is unusual in it, the same for all that have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A turn as the chat template takes it."""

    message: Mapping[str, Any]
    """Message for the template."""
    pieces: Sequence[Piece] | None = None
    """Parts of an assistant's turn; None leaves its spelling to the template."""
    is_trained: bool = True
    """False where the source gives it no weight."""


class _Reply:
    """A turn while it is read: its message, and of an assistant the pieces, with the programs that wait for outputs."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.pieces: list[Piece] = []
        self.waiting: list[int] = []
        """Places of the last message's programs that have no output yet."""

    def add(self, found: Sequence[Piece]) -> None:
        """The pieces of one message of the assistant."""
        first = len(self.pieces)
        self.pieces += found
        self.waiting = [n for n in self._alone() if n >= first]

    def add_output(self, text: str) -> None:
        """The output of the first program that waits."""
        place = self.waiting.pop(0) + 1
        self.pieces.insert(place, Piece(Kind.OUTPUT, text))
        self.waiting = [n + 1 for n in self.waiting]

    @property
    def goes_on(self) -> bool:
        """True where the turn ends with an output."""
        return bool(self.pieces) and self.pieces[-1].kind is Kind.OUTPUT

    @property
    def shows_programs_alone(self) -> bool:
        """True where a program has no output."""
        return bool(self._alone())

    def _alone(self) -> list[int]:
        pairs = enumerate(pairwise([*(piece.kind for piece in self.pieces), None]))
        return [n for n, (kind, behind) in pairs if kind is Kind.PROGRAM and behind is not Kind.OUTPUT]


def chat_rows(chat: Chat, dialect: Dialect, config: ChatConfig, *, id: str, trains_observations: bool) -> ChatRows:
    """The rows of a conversation. Raises Unusable with the reason where it cannot be spelled for this model."""
    notes: list[str] = []
    has_calls = any(m.calls or m.role is Role.TOOL for m in chat.messages)
    is_ours = not dialect.is_fenced and all(call.is_program for m in chat.messages for call in m.calls)
    by_template = has_calls and not is_ours and config.calls_as == "template" and writes_calls(dialect)
    tools: Sequence[Any] = chat.tools if by_template else dialect.declared
    if by_template:
        turns, how = _template_turns(chat.messages, is_fenced=dialect.is_fenced), "calls by the chat template"
        if not dialect.is_fenced and config.ask_as == "thor":  # rollouts of this dialect will read the same
            turns, tools = _asked_turns(turns, dialect.config.style), dialect.declared
    else:
        replies = _replies(chat.messages, notes)
        turns = _fenced_turns(replies, dialect.config.style if config.ask_as == "thor" else None)
        has_programs = any(piece.kind is not Kind.WORDS for reply in replies for piece in reply.pieces)
        how = ("calls as programs" if has_calls else "programs in the text") if has_programs else "no programs"
        if chat.tools and dialect.is_fenced:
            notes.append("declare tools, which the prompt leaves out: their calls are written as programs")
    context = _Context(dialect, [turn.message for turn in turns], tools)
    answers = [n for n, turn in enumerate(turns) if turn.message["role"] == Role.ASSISTANT]
    systems = [_unasked({"role": m.role, "content": m.text}, dialect.config.style) for m in chat.messages]
    if not all(context.holds(said["content"], answers[0]) for said in systems if said["role"] is Role.SYSTEM):
        notes.append("have a system prompt that the chat template leaves out")
    wanted = {n for n in (answers if config.train_turns == "all" else answers[-1:]) if turns[n].is_trained}
    every = enumerate(_spans(turns, wanted, context))
    learnt = [(k, spans) for k, spans in every if any(is_trained for _, is_trained in spans)]
    if not learnt:
        raise Unusable("its source gives no turn a weight")
    if len(learnt) > 1:
        notes.append("hold turns that the chat template rewrites later, so that each has a row of its own")
    rows = tuple(training_row(f"{id}/{k}", spans, trains_observations=trains_observations) for k, spans in learnt)
    return ChatRows(rows=rows, reading=f"{chat.shape} ({how})", notes=tuple(dict.fromkeys(notes)))


def writes_calls(dialect: Dialect) -> bool:
    """True where the chat template writes a tool's name, its arguments and its output, in this order."""
    call = {"name": "thorname", "arguments": {"thorkey": "thorvalue"}}
    turns: list[Mapping[str, Any]] = [
        {"role": "user", "content": "thorquestion"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "call00000", "type": "function", "function": call}]},
        {"role": "tool", "name": "thorname", "tool_call_id": "call00000", "content": "thoroutput"},
        {"role": "assistant", "content": "thoranswer"},
    ]
    try:
        text = rendered(dialect.tokenizer, turns, begins_answer=False)
    except TemplateFault:
        return False
    place = 0
    for word in ("thorquestion", "thorname", "thorkey", "thorvalue", "thoroutput", "thoranswer"):
        place = text.find(word, place) + 1
        if not place:
            return False
    return True


def _template_turns(messages: Sequence[Message], *, is_fenced: bool) -> list[_Turn]:
    """Messages as chat templates take them: arguments as objects, every call and output with the id that joins them."""
    turns: list[_Turn] = []
    waiting: list[tuple[str, str]] = []
    number = 0
    for message in messages:
        said: dict[str, Any] = {"role": message.role.value, "content": message.text}
        if message.role is Role.TOOL:
            if not waiting:
                raise Unusable("a tool's output follows no call")
            said["tool_call_id"], said["name"] = waiting.pop(0)
            said["content"] = message.text if is_fenced else disarmed(message.text)
        elif waiting:
            raise Unusable("a call has no output")
        if message.thoughts:
            said["reasoning_content"] = message.thoughts
        if message.calls:
            waiting = [(f"call{number + k:05d}", call.name) for k, call in enumerate(message.calls)]
            number += len(waiting)
            said["tool_calls"] = [
                {"id": id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call.arguments)}}
                for (id, _), call in zip(waiting, message.calls, strict=True)
            ]
        turns.append(_Turn(message=said, is_trained=message.is_trained))
    return turns


def _arguments(arguments: Mapping[str, Any] | str) -> Mapping[str, Any]:
    return {"code": arguments} if isinstance(arguments, str) else arguments


def _replies(messages: Sequence[Message], notes: list[str]) -> list[_Reply]:
    """Turns with their pieces: calls are programs, and outputs stand within the turn of the assistant who called."""
    turns: list[_Reply] = []
    is_answering = False  # an output came, or a call waits for one
    for message in messages:
        if message.role is Role.TOOL:
            if not turns or not turns[-1].waiting:
                raise Unusable("a tool's output follows no call")
            turns[-1].add_output(message.text)
            is_answering = True
            continue
        if is_answering and turns[-1].waiting:
            raise Unusable("a call has no output")
        is_answering = bool(message.calls)
        if message.role is not Role.ASSISTANT:
            turns.append(_Reply(message))
            continue
        text = f"{OPENS}\n{message.thoughts}\n{CLOSES}\n\n{message.text}" if message.thoughts else message.text
        found = [*pieces(text), *(Piece(Kind.PROGRAM, call.program) for call in message.calls)]
        if not (turns and turns[-1].goes_on):
            turns.append(_Reply(message))
        elif turns[-1].message.is_trained is not message.is_trained:
            raise Unusable("parts of one turn have a weight and others none")
        turns[-1].add(found)
    for turn in turns:
        if turn.goes_on:
            raise Unusable("it ends with an output, and no answer follows")
        if turn.shows_programs_alone:
            notes.append("show programs without their outputs, which are learnt as text")
    return turns


def _fenced_turns(replies: Sequence[_Reply], style: PromptStyle | None) -> list[_Turn]:
    """Turns whose assistants write programs between fences, asked as the style has it."""
    turns: list[_Turn] = []
    for reply in replies:
        message = reply.message
        found = settled(reply.pieces) if message.role is Role.ASSISTANT else None
        said = {"role": message.role.value, "content": message.text if found is None else text_of(found)}
        turns.append(_Turn(message=said, pieces=found, is_trained=message.is_trained))
    if style is None:
        return turns
    bare = [_unasked(turn.message, style) for turn in turns]
    head, *asked = conversation_messages(style, [said for said in bare if said["content"] or said["role"] != "system"])
    others = [turn for turn in turns if turn.message["role"] != "system"]
    return [_Turn(message=head), *(replace(turn, message=said) for turn, said in zip(others, asked, strict=True))]


def _asked_turns(turns: Sequence[_Turn], style: PromptStyle) -> list[_Turn]:
    """Turns of people, assistants and tools, asked as the style has it."""
    bare = [(turn, _unasked(turn.message, style)) for turn in turns]
    rules = [str(said["content"]) for _, said in bare if said["role"] == "system" and said["content"]]
    head = {"role": "system", "content": "\n\n".join((style.system, *rules))}
    asked = {"user": lambda text: style.user.format(text=text)}
    others = [
        replace(turn, message={**said, "content": asked.get(said["role"], str)(said["content"])})
        for turn, said in bare
        if said["role"] != "system"
    ]
    return [_Turn(message=head), *others]


def _unasked(said: Mapping[str, Any], style: PromptStyle) -> Mapping[str, Any]:
    """A message without the words that the style puts around it: data that was exported from here has them."""
    before, after = style.user.format(text="\0").split("\0") if said["role"] == "user" else (style.system, "")
    text = str(said["content"])
    if said["role"] == "assistant" or not (text.startswith(before) and text.endswith(after)):
        return said
    inner = text[len(before) : len(text) - len(after)]
    return {**said, "content": inner.lstrip("\n") if said["role"] == "system" else inner}


class _Context:
    """The conversation as the template writes it, up to any turn, and the ids of what stands there."""

    def __init__(self, dialect: Dialect, said: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> None:
        self.dialect = dialect
        self._tools = tools
        special = tuple(dialect.tokenizer.all_special_tokens)
        self.end_names = tuple({*special, *(dialect.tokenizer.decode([id]) for id in dialect.ends.ids)})
        """Tokens with which a template may end a turn."""
        controls = control_ids(dialect.tokenizer)
        self._places: dict[str, tuple[str, Author]] = {}
        """Placeholders of texts that spell control tokens, which only the template may write."""
        texts = [str(each["content"]) for each in said]
        self._said: list[Mapping[str, Any]] = []
        for number, (each, text) in enumerate(zip(said, texts, strict=True)):
            is_own = each["role"] == Role.ASSISTANT
            spells = any(t in text for t in special) if is_own else not controls.isdisjoint(self._with_controls(text))
            if spells:
                place = f"[the text of turn {number}]"
                while any(place in other for other in texts):
                    place = f"[{place}]"
                self._places[place] = (text, Author.MODEL if is_own else Author.ENVIRONMENT)
                each = {**each, "content": place}
            self._said.append(each)

    def before(self, number: int) -> str:
        """Text that the model reads before it writes a turn, with placeholders."""
        return self._text(number, begins_answer=True)

    def after(self, number: int) -> str:
        """The same with the turn."""
        return self._text(number + 1, begins_answer=False)

    def shown(self, number: int) -> str:
        """The text of a turn as it stands there."""
        return str(self._said[number]["content"])

    def holds(self, text: str, number: int) -> bool:
        """True where a text stands before a turn."""
        before = self.before(number)
        return text.strip() in before or any(
            text in words for place, (words, _) in self._places.items() if place in before
        )

    def ids(self, text: str, author: Author) -> tuple[int, ...]:
        """Ids of what the template wrote around the responses, or of what it wrote in the model's voice."""
        spelled_here = [place for place in self._places if place in text]
        if spelled_here:
            place = min(spelled_here, key=text.index)
            head, _, tail = text.partition(place)
            words, writer = self._places[place]
            middle = self.dialect.encode(words) if writer is Author.MODEL else self.dialect.encode_foreign(words)
            return (*self.ids(head, author), *middle, *self.ids(tail, author))
        return self.dialect.encode(text) if author is Author.MODEL else self._with_controls(text)

    def _text(self, number: int, *, begins_answer: bool) -> str:
        turns = self.dialect.form.applied(self._said[:number])
        thinks = self.dialect.config.is_reasoning
        try:
            return rendered(
                self.dialect.tokenizer, turns, begins_answer=begins_answer, thinks=thinks, tools=self._tools
            )
        except TemplateFault as fault:
            raise Unusable(str(fault)) from fault

    def _with_controls(self, text: str) -> tuple[int, ...]:
        return tuple(self.dialect.tokenizer(text, add_special_tokens=False)["input_ids"])


def _spans(turns: Sequence[_Turn], wanted: set[int], context: _Context) -> Iterator[list[tuple[Span, bool]]]:
    """The spans of each row, each with whether it is trained."""
    spans: list[tuple[Span, bool]] = []
    read = ""
    for number, turn in enumerate(turns):
        if turn.message["role"] != Role.ASSISTANT:
            continue
        before = context.before(number)
        if spans and not before.startswith(read):
            yield spans
            spans, read = [], ""
        is_output = bool(spans) and turns[number - 1].message["role"] == Role.TOOL
        begun = Span(
            token_ids=context.ids(before[len(read) :], Author.PROMPT),
            author=Author.ENVIRONMENT if is_output else Author.PROMPT,
        )
        written, text, end = _written(turn, number, before, context)
        end_id, end_text = end
        ended = Span(token_ids=end_id, author=Author.MODEL)
        spans += [(span, number in wanted) for span in (begun, *written, ended)]
        read = before + text + end_text
    yield spans


def _written(
    turn: _Turn, number: int, before: str, context: _Context
) -> tuple[Sequence[Span], str, tuple[tuple[int, ...], str]]:
    """Tokens that an assistant wrote behind those it read, their text there, and the end of its turn in both."""
    dialect = context.dialect
    if turn.pieces is not None:
        end = () if dialect.ends.written is None else (dialect.ends.written,)
        opened = next((opens for opens, _ in TAGS if before.rstrip().endswith(opens)), None)
        written = _response(_without_tag(turn.pieces, opened), dialect)
        return written, context.shown(number), (end, dialect.tokenizer.decode(end, skip_special_tokens=False))
    whole = context.after(number)
    text = whole.removeprefix(before)
    if text == whole or not all(part.strip() in text for part in _parts(turn.message)):
        raise Unusable("the chat template writes another turn than the assistant's")
    place, name = max((text.rfind(name), name) for name in context.end_names)
    if place < 0:
        raise Unusable("the chat template does not end an assistant's turn")
    span = Span(token_ids=context.ids(text[:place], Author.MODEL), author=Author.MODEL)
    return (span,), text[:place], (context.ids(name, Author.PROMPT), name)


def _response(parts: Sequence[Piece], dialect: Dialect) -> list[Span]:
    """The spans of a response, as they are in a rollout."""
    spans: list[Span] = []
    action: Action | None = None
    for part in parts:
        if part.kind is Kind.PROGRAM:
            action = dialect.call(part.text)
            spans.append(action.span)
        elif part.kind is Kind.OUTPUT:
            ids = dialect.result_ids(part.text, after=action)
            spans.append(Span(token_ids=ids, author=Author.ENVIRONMENT))
        else:
            spans.append(Span(token_ids=dialect.encode(part.text), author=Author.MODEL))
    return spans


def _parts(message: Mapping[str, Any]) -> list[str]:
    """The texts that have to stand in the turn of an assistant."""
    return [str(message["content"]), message.get("reasoning_content", "")]


def _without_tag(parts: Sequence[Piece], opened: str | None) -> Sequence[Piece]:
    """The response without the tag before its thoughts, where the prompt ends with that tag."""
    if opened is None or not parts or not parts[0].text.lstrip().startswith(opened):
        return parts
    first, *others = parts
    return [replace(first, text=first.text.lstrip().removeprefix(opened).removeprefix("\n")), *others]
