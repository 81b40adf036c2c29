r"""Verbal answers: multiple-choice letters, names, yes and no, times of day."""

import re

from thor_tir.grading.rules.canonical import squeezed, without_text

_CHOICE = re.compile(r"\(\s*([A-Za-z])\s*\)|([A-Z])")
_LABELLED = re.compile(r"(?:\(\s*([A-Za-z])\s*\)|([A-Z])\s*(?=[.:)]))\s*[.:)]?\s*(?!\s*[+*/^=])(.*)", re.DOTALL)
_OTHER_CHOICE = re.compile(r"^\([A-Z]\)|(?:\bor\b|\band\b|[,/]) ?(?:\([A-Z]\)|[A-Z][.)]?(?![a-zA-Z]))")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?:([ap])\.?m\.?)?", re.IGNORECASE)
_WORDY = re.compile(r"[A-Za-z][A-Za-z ,.'\-]*")
_LONG_WORD = re.compile(r"[A-Za-z]{3,}")
_MATHS = re.compile(
    r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|sqrt|exp|log|ln|abs|inf|infty|theta|alpha|beta|gamma|delta|lambda|omega|phi|"
    r"sigma|and|percent"
)
_BELOW_TWENTY = (  # noqa: SIM905  # as a list of one name a line it hides the file
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBERS = _BELOW_TWENTY + [f"{ten} {one}".strip() for ten in _TENS for one in ("", *_BELOW_TWENTY[1:10])]
_PUNCTUATION = re.compile(r"[^a-z0-9 +\-*/^<>=]|(?<=[a-z])-(?=[a-z])")
_MAX_LABELS = 2
_ANNOUNCED = re.compile(
    r"(?:the )?(?:final |correct )?(?:answer|option|choice)(?: is)?(?: ?: ?| )(?=\S)", re.IGNORECASE
)
_ARTICLES = re.compile(r"^(?:the|an?|it is|is)\s+")


def same_choice(gold: str, answer: str) -> bool | None:
    """A reference that is one letter: `C`, `(C)` and `(C) 42` are the same choice."""
    gold, answer = without_text(gold), without_text(answer)
    choice = _CHOICE.fullmatch(gold)
    if not choice:
        return None
    found = _CHOICE.fullmatch(answer) or _LABELLED.fullmatch(answer)
    if not found:
        return None
    if found.re is _LABELLED and _OTHER_CHOICE.search(found[3]):
        return False
    letter = found[1] or found[2]
    return letter == choice[2] if choice[2] and not found[1] else letter.upper() == (choice[1] or choice[2]).upper()


def without_labels(gold: str, answer: str) -> str | None:
    r"""The rest after the labels in `\textbf{(C)}\ 42` or `Answer: (C) 42`, if the reference has none."""
    rest = answer
    for _ in range(_MAX_LABELS):
        if (shorter := _without_label(gold, rest)) is None:
            break
        rest = shorter
    return rest if rest != answer and _without_label(gold, rest) is None else None


def _without_label(gold: str, answer: str) -> str | None:
    plain = without_text(answer)
    if (announced := _ANNOUNCED.match(plain)) and not _ANNOUNCED.match(without_text(gold)):
        return plain[announced.end() :]
    found = _LABELLED.fullmatch(plain)
    if not found or not found[3].strip() or (found[1] or "A") not in "ABCDE" or _LABELLED.fullmatch(gold):
        return None
    rest = found[3].strip()
    return rest if rest[0].isalnum() or rest[0] in "\\-(." else None


def same_time(gold: str, answer: str) -> bool | None:
    """`3:45 pm` is `03:45 p.m.`; half of the day may be left out."""
    one, other = (_TIME.fullmatch(squeezed(without_text(text))) for text in (gold, answer))
    if not one or not other:
        return None
    halves = {found[3].lower() for found in (one, other) if found[3]}
    return (int(one[1]), one[2]) == (int(other[1]), other[2]) and len(halves) < 2


def same_words(gold: str, answer: str) -> bool | None:
    """A verbal reference, case and articles aside; a number may be spelled out."""
    one, other = _spoken(gold), _spoken(answer)
    if other in _NUMBERS and gold.strip().isdigit():
        return int(gold) == _NUMBERS.index(other)
    if one in _NUMBERS and answer.strip().isdigit():
        return int(answer) == _NUMBERS.index(one)
    if one is not None and len(one) < 4 and r"\text" not in gold + answer and one != other:
        return None
    if one is None:
        return False if other is not None and len(other) > 3 and not re.search("[a-zA-Z]", gold) else None
    return one == (other if other is not None else _joined(without_text(answer)))


def _spoken(text: str) -> str | None:
    plain = without_text(text)
    is_set_in_text = r"\text" in text and bool(_LONG_WORD.search(plain) or len(plain) == 2)
    if not _WORDY.fullmatch(plain) or not (is_set_in_text or _has_words(plain)):
        return None
    return _joined(plain)


def _has_words(plain: str) -> bool:
    words = re.findall(r"[A-Za-z]+", plain)
    if any(_MATHS.match(word) for word in words):
        return False
    return any(len(word) > 2 for word in words) and (len(words) > 1 or re.search("[aeiouy]", plain.lower()) is not None)


def _joined(plain: str) -> str:
    words = " ".join(_PUNCTUATION.sub(" ", plain.lower().replace("'", "")).split())
    return _ARTICLES.sub("", words)
