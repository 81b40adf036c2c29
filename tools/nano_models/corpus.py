"""The text that the nano models are pretrained on, all of it generated here from training-split problems and a seed.

The actor reads solutions in words (most of the text), solutions in which some steps are programs, careless ones among
them, and drills in copying and arithmetic. The thinker reads the same inside of thoughts, at greater length: it says
the question again, doubts a step and works it once more, and answers in a line behind the thoughts. The critic reads
isolated steps with their rewriting. None sees a question of the validation or test split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from nano_models.worked import Program, Worked, WorkedStep, work
from thor_tir.dialect.fences import CLOSE, OPEN
from thor_tir.dialect.observation import frame
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS, TOOLS, PromptStyle
from thor_tir.problem import Problem

NOTHING_TO_COMPUTE = "NONE"
THOUGHTS, THOUGHTS_END = "<think>", "</think>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One training text: a request, then pieces that are encoded apart, as they are when a trajectory grows."""

    style: PromptStyle | None
    """None for text that is no conversation."""
    request: str
    pieces: tuple[tuple[str, bool], ...]
    """Text, and whether the model is its author (and is trained on it)."""


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """What the actor reads, as shares of documents; the rest are solutions in words."""

    tools: float = 0.2
    drills: float = 0.25
    sums: float = 0.0
    """Share of pages of small sums and products, which only the actor reads: it has to do easy ones in its head."""
    program: float = 0.55
    """Within a solution with tools, the share of steps that are programs."""
    careless: float = 0.3
    """Share of those programs that fail."""
    short_question: float = 0.3
    """Share of questions without their sentence on the format of the answer."""
    doubt: float = 0.35
    """Share of the steps in words that a thinker doubts and works again, half of them with a slip at first."""
    program_easy: float = 0.35
    """Share of easy steps that the critic rewrites all the same."""


def actor_documents(problems: Sequence[Problem], rng: Random, mix: MixtureConfig) -> Iterator[Document]:
    """An endless stream of the actor's reading."""
    while True:
        if mix.sums and rng.random() < mix.sums:
            yield _page([rng.choice((_sum_line, _sum_line, _product_line))(rng) for _ in range(16)])
            continue
        kind = rng.random()
        if kind < mix.drills:
            yield _drill(rng)
            continue
        problem = rng.choice(problems)
        worked = _worked(problem, rng)
        question = _question(problem, rng, mix)
        if kind < mix.drills + mix.tools:
            yield Document(style=TOOLS, request=question, pieces=_with_tools(worked, rng, mix))
        else:
            yield Document(style=NO_TOOLS, request=question, pieces=(("\n\n".join(_in_words(worked, rng)), True),))


def thinker_documents(problems: Sequence[Problem], rng: Random, mix: MixtureConfig) -> Iterator[Document]:
    """An endless stream of the thinker's reading: the actor's, with solutions as thoughts and an answer behind them.

    The chat template opens the thoughts, so the text begins within them.
    """
    for document in actor_documents(problems, rng, mix):
        yield document if document.style is None else replace(document, pieces=_thoughts(document, rng, mix))


def _thoughts(document: Document, rng: Random, mix: MixtureConfig) -> tuple[tuple[str, bool], ...]:
    steps, (final, _) = document.pieces[:-1], document.pieces[-1]
    if document.style is NO_TOOLS:
        *words, final = final.split("\n\n")
        steps = tuple((f"{text}\n\n", True) for text in words)
    asked = document.request.split(". ")[0].split("\n")[-1].strip()
    begin = rng.choice(("I read it again: ", "The question is: ", "What is asked? "))
    thought: list[tuple[str, bool]] = [(f"{begin}{asked}\n\n", True)]
    for text, is_model in steps:
        if is_model and text.endswith("\n\n") and rng.random() < mix.doubt:
            slip = _smudge(text, rng) if rng.random() < 0.5 else text
            doubt = rng.choice(("Wait, I work it once more. ", "Is that right? Again: ", "Let me check. "))
            thought.append((slip + doubt, True))
        thought.append((text, is_model))
    return (*thought, (f"{THOUGHTS_END}\n\n{final}", True))


def critic_documents(problems: Sequence[Problem], rng: Random, mix: MixtureConfig) -> Iterator[Document]:
    """An endless stream of isolated steps and their rewriting, and of drills."""
    while True:
        if rng.random() < mix.drills:
            yield _drill(rng)
            continue
        worked = _worked(rng.choice(problems), rng)
        if rng.random() < 0.1:
            yield Document(style=CRITIC, request=_final(worked, rng), pieces=((NOTHING_TO_COMPUTE, True),))
        for step in worked.steps:
            yield _rewriting(step, rng, mix)


def _rewriting(step: WorkedStep, rng: Random, mix: MixtureConfig) -> Document:
    claim = _smudge(step.claim, rng) if rng.random() < 0.4 else step.claim
    request = f"{step.logic} {claim}" + rng.choice(("", "\n\n"))
    if step.is_easy and rng.random() > mix.program_easy:
        return Document(style=CRITIC, request=request, pieces=((NOTHING_TO_COMPUTE, True),))
    return Document(style=CRITIC, request=request, pieces=((_called(step.logic, rng.choice(step.programs)), True),))


def _called(logic: str, program: Program) -> str:
    return f"{logic}\n{OPEN}\n{program.code}\n{CLOSE}\n"


def _worked(problem: Problem, rng: Random) -> Worked:
    family = problem.source.removeprefix("reasoning_gym/")
    return work(family, problem.extra["metadata"], problem.answer, rng)


def _question(problem: Problem, rng: Random, mix: MixtureConfig) -> str:
    if rng.random() < mix.short_question:
        for mark in (" Give only", "Return only", " Write the factors"):
            head, found, _ = problem.question.partition(mark)
            if found:
                return head.strip()
    return problem.question.strip()


def _final(worked: Worked, rng: Random) -> str:
    lead = rng.choice(("The answer is ", "So the final answer is ", "Therefore the answer is "))
    return f"{lead}\\boxed{{{worked.answer}}}."


def _in_words(worked: Worked, rng: Random) -> list[str]:
    return [f"{step.logic} {step.claim}" for step in worked.steps] + [_final(worked, rng)]


def _with_tools(worked: Worked, rng: Random, mix: MixtureConfig) -> tuple[tuple[str, bool], ...]:
    pieces: list[tuple[str, bool]] = []
    for step in worked.steps:
        if rng.random() > mix.program:
            pieces.append((f"{step.logic} {step.claim}\n\n", True))
            continue
        if step.careless and rng.random() < mix.careless:
            program = rng.choice(step.careless)
            pieces += [(_called(step.logic, program), True), (frame(program.shown), False)]
            pieces.append((f"The program failed. By hand: {step.claim}\n\n", True))
        else:
            program = rng.choice(step.programs)
            pieces += [(_called(step.logic, program), True), (frame(program.shown), False)]
    return (*pieces, (_final(worked, rng), True))


def _drill(rng: Random) -> Document:
    """Short lines whose second half follows from the first; what cannot be predicted is not trained, it would drown
    the rest."""
    kinds = (_copy_line, _look_up_line, _sum_line, _sum_line, _product_line)
    return _page([rng.choice(kinds)(rng) for _ in range(6)])


def _page(lines: Sequence[tuple[str, str]]) -> Document:
    pieces = [piece for given, follows in lines for piece in ((given, False), (f" {follows}\n", True))]
    return Document(style=None, request="", pieces=tuple(pieces))


def _number(rng: Random, max_digits: int) -> int:
    return rng.randrange(10 ** rng.randint(1, max_digits))


def _sum_line(rng: Random) -> tuple[str, str]:
    digits = rng.choice((1, 1, 2, 2, 3))
    a, b = _number(rng, digits), _number(rng, digits)
    if rng.random() < 0.5:
        return _asked(f"{a} + {b}", rng), f"{a + b}"
    return _asked(f"{a} - {b}", rng), f"{a - b}"


def _product_line(rng: Random) -> tuple[str, str]:
    a, b = _number(rng, rng.choice((1, 2))), _number(rng, 1)
    return _asked(f"{a} * {b}", rng), f"{a * b}"


def _asked(expression: str, rng: Random) -> str:
    return rng.choice((f"{expression} =", f"{expression} =", f"{expression}. This is"))


def _copy_line(rng: Random) -> tuple[str, str]:
    numbers = [str(_number(rng, 7)) for _ in range(rng.randint(1, 4))]
    joint = rng.choice((" ", ", ", " + ", " * ", " and ", " // "))
    return joint.join(numbers) + ":", joint.join(numbers)


def _look_up_line(rng: Random) -> tuple[str, str]:
    names = rng.sample("abcdefghijklmnopqrstuvwxyz", rng.randint(2, 4))
    values = {name: _number(rng, 5) for name in names}
    asked = rng.choice(names)
    return ", ".join(f"{name} = {value}" for name, value in values.items()) + f": {asked} =", str(values[asked])


def _smudge(claim: str, rng: Random) -> str:
    """The claim with one digit changed, as a reasoner who slips would write it."""
    places = [i for i, c in enumerate(claim) if c.isdigit()]
    if not places:
        return claim
    i = rng.choice(places)
    return claim[:i] + str(rng.randrange(10)) + claim[i + 1 :]
