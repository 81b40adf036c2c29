r"""Values as Python prints them, in the spelling of mathematics: `np.int64(5)`, `(3+4j)`, `Interval(0, oo)`, `'5'`.

A model that computes with programs copies what they print. Only printed forms are read, never a call that computes:
`int(5.9)` stays what it is.
"""

import re

_LITERAL = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_QUOTED = rf"['\"]?\s*({_LITERAL})\s*['\"]?"
_NUMBER = re.compile(
    r"(?<![\w.\\])(?:(?:np|numpy|sp|sympy|mpmath|decimal|torch)\.)?"
    r"(?:u?int(?:8|16|32|64)|float(?:16|32|64|128)|longdouble|Integer|Float|Decimal|mpf|mpz|tensor)"
    rf"\(\s*{_QUOTED}\s*(?:,\s*(?:precision|dtype)\s*=\s*[\w.]+\s*)?\)"
)
_ARRAY = re.compile(r"(?<![\w.\\])(?:(?:np|numpy|torch)\.)?(?:array|tensor)\(\s*(\[[^()]*\])\s*\)")
_COMPLEX = re.compile(
    rf"(?<![\w.\\])(?:mpmath\.)?(?:complex|mpc)\(\s*(?:real\s*=\s*)?{_QUOTED}\s*,\s*(?:imag\s*=\s*)?{_QUOTED}\s*\)"
)
_WRAPPED_COMPLEX = re.compile(r"(?<![\w.\\])(?:np\.|numpy\.)?complex(?:64|128)\(([^()]*)\)")
_EXPONENT = re.compile(r"(?<=[\d.])[eE](?=[+-]?\d)")
_LETTER = re.compile(r"[a-zA-Z\\]")
_IMAGINARY = re.compile(r"(?<=[\d.])j(?![a-zA-Z\d])")
_SET_CALL = re.compile(
    r"(?<![\w.\\])(?:(?:sp|sympy|sets)\.)?(Interval(?:\.(?:open|Lopen|Ropen))?|FiniteSet|Union|Eq)\("
)
_NAMES = {"EmptySet": r"\emptyset ", "S.EmptySet": r"\emptyset ", "set()": r"\emptyset ", "frozenset()": r"\emptyset "}
_NAMES |= {"S.Reals": r"\mathbb{R}", "Reals": r"\mathbb{R}"}
_NAME = re.compile(r"(?<![\w.\\])(?:S\.EmptySet|EmptySet|(?:frozen)?set\(\)|S\.Reals|Reals)(?![\w(])")
_DTYPE = re.compile(r",\s*dtype=[\w.']+(?=\s*\))")
_QUOTE = re.compile(r"(?:(?<=^)|(?<=[\[({,]))(\s*)(?:'([^'\"]*)'|\"([^'\"]*)\")(?=\s*(?:$|[\])},]))")
_MAX_CALLS = 16


def from_python(text: str) -> str:
    """The text with what Python prints of numbers, complex numbers, sets and quoted text in the usual spelling."""
    text = _QUOTE.sub(lambda found: found[1] + (found[2] if found[2] is not None else found[3]), _DTYPE.sub("", text))
    if "(" in text:
        text = _ARRAY.sub(r"\1", _NUMBER.sub(r"\1", text))
        text = _COMPLEX.sub(r"(\1+(\2)*i)", _WRAPPED_COMPLEX.sub(r"(\1)", text))
        for _ in range(_MAX_CALLS):
            if (rewritten := _first_set(text)) is None:
                break
            text = rewritten
    text = _NAME.sub(lambda name: _NAMES[name[0]], text)
    is_complex_alone = not _LETTER.search(_EXPONENT.sub("", _IMAGINARY.sub("", text)))  # `4i + 2j + 3k` is a vector
    return _IMAGINARY.sub("i", text) if is_complex_alone else text


def _first_set(text: str) -> str | None:
    """The text with its first set of sympy's in signs; None where there is none, or where its call is odd."""
    call = _SET_CALL.search(text)
    if call is None or (end := _closing(text, call.end() - 1)) is None:
        return None
    parts = _arguments(text[call.end() : end])
    written = _signs(call[1], parts)
    return None if written is None else text[: call.start()] + written + text[end + 1 :]


def _signs(name: str, parts: list[str]) -> str | None:
    if name == "FiniteSet":
        return r"\{" + ", ".join(parts) + r"\}" if parts else r"\emptyset "
    if name == "Union":
        return r" \cup ".join(parts)
    if name == "Eq":
        return f"{parts[0]} = {parts[1]}" if len(parts) == 2 else None
    kind, flags = name.partition(".")[2], parts[2:]
    if len(parts) not in (2, 3, 4) or not set(flags) <= {"True", "False"}:
        return None
    is_open = [*(flag == "True" for flag in flags), False, False]
    low_open = kind in ("open", "Lopen") or is_open[0] or "oo" in parts[0]
    high_open = kind in ("open", "Ropen") or is_open[1] or "oo" in parts[1]
    return f"{'(' if low_open else '['}{parts[0]}, {parts[1]}{')' if high_open else ']'}"


def _closing(text: str, opening: int) -> int | None:
    depth = 0
    for place in range(opening, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if not depth:
            return place
    return None


def _arguments(text: str) -> list[str]:
    """The arguments of a call, commas inside brackets left alone."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append(text[start:place].strip())
            start = place + 1
    return [part for part in (*parts, text[start:].strip()) if part]
