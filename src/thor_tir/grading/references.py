r"""References as they are published, read in one place: problem files, `thor grade`, rewards and evaluations alike.

A data set's answer may be a bare value, a solution with its box, `... #### 17`, `Answer: 5`, `<answer>5</answer>` or a
list of one text. What is found is compared; what says nothing (`None`, `nan`, blanks) is no reference.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from thor_tir.grading.extract import (
    CORRECTION,
    announced,
    boxes_correct_each_other,
    extract_answer,
    from_its_boxes,
    has_box,
    tagged,
)
from thor_tir.grading.rules.canonical import canonical
from thor_tir.grading.rules.latex_parser import FUNCTIONS
from thor_tir.grading.rules.matching import quick_outcome
from thor_tir.grading.rules.quantity import quantity
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome

GYM = "reasoning_gym/"
"""Sources that begin with this bring a scorer of their own, named by what follows; their references are left alone."""

MAX_PLAIN_CHARS = 60
"""A reference that is longer and has no mark is rather a solution or a sentence than an answer."""
_RECORD_TEXT = re.compile(r"\s*\[?\s*\{\s*['\"][^'\"]*['\"]\s*:")
_COMMAND = re.compile(r"\\(?:begin|end)\{\w+\*?\}|\\(?:text\w*|mathrm|mathbf|mbox|operatorname)\b|\\[a-zA-Z]+|[\^_]")
_WORD = re.compile(r"[A-Za-zÀ-ɏ]{2,}|[^\W\d_a-zA-ZÀ-ɏα-ωΑ-Ω]")
_NO_WORDS = frozenset(FUNCTIONS) | {
    "arcsin",
    "arccos",
    "arctan",
    "arccot",
    "and",
    "or",
    "in",
    "oo",
    "inf",
    "pi",
    "am",
    "pm",
    "mod",
    "if",
    "for",
}
_VALUE = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?|[-+]?\\frac\{\d+\}\{\d+\}")
_LETTERED = re.compile(r"\(?[A-Z][).:]\s*\S")
_MAX_ROUNDS = 4
_MAX_EXAMPLES = 3
_EXAMPLE_CHARS = 60

_NOTHING = re.compile(
    r"(?:(?:float)?[\[({]\s*)?['\"]?(?:(?:(?:np|numpy|math|pd|float)\.)?(?:none|null|nan|<na>|nat)|#?n/a|n\.a\.?|n\.?/a\.?|[-–—?]{1,3}|"
    r"unknown|not available|not given|missing|tbd|)['\"]?(?:\s*[\])}])?\.?",
    re.IGNORECASE,
)
_NOT_AVAILABLE = "NA"
_HASHES = re.compile(r"(?:^|(?<=[^#\\]))####(?!#)[ \t]*", re.MULTILINE)
_SAYS = re.compile(
    r"""(?<!\b[Nn]o[ ]) (?: ^ | (?<=[\s.,;:>*_("'#]) )
    (?: (?:final[ ]|correct[ ]|the[ ])* answer (?:[ ]to[ ][^\n.:=]{1,80}?)? (?:[ ]is|[ ]would[ ]be) [ *_]* [:=]?
    | (?:final[ ]|correct[ ]|the[ ])* answers? [ *_]* [:=：]
    | ans [.:] | réponse (?:[ ]finale)? (?:[ ]est)? [ *_]* : | (?:die[ ])? antwort (?:[ ]ist)? [ *_]* :
    | respuesta (?:[ ]es)? [ *_]* : | 答案 [是为]? [:：]?
    ) [ *_]*""",
    re.IGNORECASE | re.VERBOSE,
)
_AMENDS = re.compile(rf"^[\W_]*(?:{CORRECTION.pattern})[^\n]*\d", re.IGNORECASE)
_NOTE = re.compile(
    r"[*_ ]*(?:notes?|check(?:s|ing)?|remarks?|explanations?|comments?|source|hints?|verification|proof|steps?|"
    r"solution)\b",
    re.IGNORECASE,
)
"""The beginning of a heading behind the answer's own mark."""
_MORE = re.compile(r"(?<!\d)\.\s+\S|\d\.\s+[A-Z]")
_CLOSING = re.compile(r"\s*I hope it is correct\.?\s*$")
_LABEL = re.compile(r"[#*_ ]*(?:the |final |correct )*answer[#*_ .:]*", re.IGNORECASE)
_LIST_OF_ONE = re.compile(r"\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*,?\s*\]|'([^']*)'|\"([^\"]*)\"", re.DOTALL)


@lru_cache(maxsize=4096)
def read_reference(text: str) -> str:
    """The value that a source's answer stands for; empty where it says nothing."""
    text = text.strip()
    for _ in range(_MAX_ROUNDS):
        if takes_itself_back(text):
            return ""
        if has_box(text):
            return _of_boxes(text)
        if _NOTHING.fullmatch(plain := text.strip("$ \n\t")) or plain == _NOT_AVAILABLE:
            return ""
        if (inner := _unwrapped(text)) == text:
            return text
        text = inner.strip()
    return text


def is_marked(text: str) -> bool:
    """True if the source's answer says where in it the value stands."""
    return has_box(text) or _unwrapped(text.strip()) != text.strip()


def takes_itself_back(text: str) -> bool:
    """True if a source's answer gives one value and then corrects it, so that nobody can say which one counts."""
    if has_box(text):
        return boxes_correct_each_other(text)
    mark = _HASHES.search(text) or _SAYS.search(text)
    behind = text[mark.end() :].partition("\n")[2] if mark else ""
    return any(_AMENDS.search(line) and not _HASHES.match(line) for line in behind.split("\n"))


def _of_boxes(text: str) -> str:
    """The content of the boxes; empty for an empty box. A box that says `None` is an answer: someone wrote it there."""
    inside = from_its_boxes(text)
    return "" if inside is text and re.fullmatch(r"[$\s]*\\(?:boxed|fbox)\s*\{\s*\}[$.\s]*", text) else inside


def _unwrapped(text: str) -> str:
    """The text without the outermost wrapper; as it is where there is none."""
    if (after := _after_hashes(text)) is not None:
        return after
    if (inside := tagged(text)) is not None:
        return inside
    if quoted := _LIST_OF_ONE.fullmatch(text):
        return next((group for group in quoted.groups() if group is not None), "")
    return _announced(text)


def _after_hashes(text: str) -> str | None:
    """The line behind the last `####`, GSM8K's mark; None where the hashes are headings of a longer text."""
    marks = list(_HASHES.finditer(text))
    while len(marks) > 1 and _NOTE.match(text, marks[-1].end()):
        text = text[: marks.pop().start()]
    if not marks:
        return None
    lines = [line.strip() for line in text[marks[-1].end() :].split("\n") if line.strip()]
    if len(lines) == 2 and (_LABEL.fullmatch(lines[0]) or _SAYS.match(lines[1])):
        return lines[1]
    return "".join(lines) if len(lines) < 2 else None


def _announced(text: str) -> str:
    """The answer announced by the text's first or last sentence; the whole text where neither announces one."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and _LABEL.fullmatch(lines[-2]):
        return lines[-1]
    sentences = list(_SAYS.finditer(text))
    for found in (*sentences[-1:], *sentences[:1]):
        said = text[found.end() :].lstrip()
        is_last = "\n" not in said and not _MORE.search(_CLOSING.sub("", said))
        if said and said.count("{") == said.count("}") and (is_last or not text[: found.start()].strip("#*_ \n")):
            return announced(said)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceFault:
    """One way in which references are no references, and who has it."""

    what: str
    """The fault as the end of a sentence that begins with a count of references."""
    count: int
    """Problems whose reference has it."""
    examples: tuple[str, ...]
    """The beginnings of some of them, with the ids of their problems."""

    def sentence(self, num_problems: int) -> str:
        """One line for a console or a table of results."""
        return f"{self.count} of {num_problems} references {self.what}, for example {'; '.join(self.examples)}"


_EMPTY = "say nothing (empty, None, nan, N/A), so that every attempt at them stays unscored"
_UNEQUAL = "are not accepted as an answer to themselves, so that a right answer may count as wrong"
_CORRECTED = "give one value and then correct it, so that every attempt at them stays unscored"
_IN_WORDS = "have words or signs around a value, so that the value alone does not count as right"
_RECORD = "are records (JSON or a dictionary) instead of an answer"
_LONG = f"are longer than {MAX_PLAIN_CHARS} characters without a mark (a box, ####, `Answer:`) that shows the answer"
_BROKEN = "hold a line break, which no answer does"


def check_references(problems: Iterable[Problem]) -> list[ReferenceFault]:
    """The faults of the references that a run is about to rely on, counted, with examples; empty where all is well.

    Generated problems are left out: their own scorers know their references. Takes microseconds a problem.
    """
    checks: dict[str, Callable[[str, str], bool]] = {
        _EMPTY: lambda given, read: not read and not takes_itself_back(given),
        _CORRECTED: lambda given, read: not read and takes_itself_back(given),
        _RECORD: lambda _, read: _RECORD_TEXT.match(read) is not None,
        _IN_WORDS: lambda _, read: not _RECORD_TEXT.match(read) and _hides_a_value(read),
        _UNEQUAL: lambda _, read: bool(read) and not _accepts_itself(read),
        _LONG: lambda given, read: len(read) > MAX_PLAIN_CHARS and not is_marked(given),
        _BROKEN: lambda _, read: "\n" in read,
    }
    found: dict[str, list[str]] = {what: [] for what in checks}
    for problem in problems:
        if problem.source.startswith(GYM):
            continue
        read = read_reference(problem.answer)
        for what, has_fault in checks.items():
            if has_fault(problem.answer, read):
                found[what].append(f"{problem.answer.strip()[:_EXAMPLE_CHARS]!r} ({problem.id})")
    return [
        ReferenceFault(what=what, count=len(whose), examples=tuple(whose[:_MAX_EXAMPLES]))
        for what, whose in found.items()
        if whose
    ]


def _accepts_itself(reference: str) -> bool:
    """True if the reference in a box, as a model is asked to answer, is right by the rules that need no algebra."""
    answer = extract_answer(rf"\boxed{{{reference}}}")
    if answer is None:
        return False
    return _accepts(reference, answer)


def _hides_a_value(reference: str) -> bool:
    """True if words or a choice's letter stand around a number that is wrong by itself, or around several numbers."""
    values = {found[0].lstrip("+") for found in _VALUE.finditer(reference)}
    is_lettered = _LETTERED.match(reference) is not None
    if not values or not (is_lettered or _has_words(reference)):
        return False
    if len(values) > 1:
        return is_lettered or _has_words(quantity(canonical(reference)).number)
    return not any(_accepts(reference, value) for value in values)


def _has_words(text: str) -> bool:
    return any(word.lower() not in _NO_WORDS for word in _WORD.findall(_COMMAND.sub(" ", text)))


def _accepts(reference: str, answer: str) -> bool:
    judged = quick_outcome(reference, answer)
    return judged is not None and judged[0] is Outcome.CORRECT
