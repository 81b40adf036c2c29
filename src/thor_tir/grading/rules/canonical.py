r"""One spelling for what is only spelled differently: Unicode signs, spacing, fonts, delimiters, Python operators.

Nothing here changes a value. Text set in words stays inside `\text{...}`, so that units and words are kept apart from
variables; every other font command is dropped. The functions take at most a few thousand characters.
"""

import re
import unicodedata
from functools import lru_cache

from thor_tir.grading.rules.arithmetic import joined_thousands
from thor_tir.grading.rules.latex_parser import FUNCTIONS
from thor_tir.grading.rules.python_values import from_python
from thor_tir.grading.rules.quantity import counts_something

MAX_CHARS = 4096
"""Characters of an answer; none is longer."""
_MAX_NESTING = 64
_MAX_DIGITS_IN_A_ROW = 256
_DIGITS = re.compile(r"\d+")

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_ROOT_SIGN = re.compile(r"√\s*(\d+|[a-zA-Z])?")
_VULGAR = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")

_SIGNS = {
    "−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
    "°": r"^\circ ", "º": r"^\circ ", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
    "⩽": r"\le ", "⩾": r"\ge ", "≈": r"\approx ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "±": r"\pm ",
    "∓": r"\mp ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "→": r"\to ", "…": r"\ldots ",
    "⟨": "(", "⟩": ")", "′": "'", "’": "'", "“": '"', "”": '"', "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "₊": "+", "、": ",", "，": ",", "∖": r"\setminus ", "€": "€",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ", "ω": r"\omega ",
    "\u200b": "", "\u200c": "", "\u200d": "", "\u200e": "", "\u200f": "", "\u2061": "", "\u2062": "", "\ufeff": "",
    "\u202a": "", "\u202b": "", "\u202c": "", "\u202d": "", "\u202e": "", "$": " ", "~": " ",
}  # fmt: skip
_SIGN_TABLE = str.maketrans(_SIGNS)

_COMMAND = re.compile(r"\\(?:[a-zA-Z]+|.)", re.DOTALL)
_TEXT_FONTS = [
    "text",
    "textbf",
    "textrm",
    "textit",
    "texttt",
    "textnormal",
    "textsf",
    "textup",
    "mbox",
    "hbox",
    "mathrm",
    "operatorname",
    "rm",
    "mathsf",
    "emph",
    "mathtt",
]
_PLAIN_FONTS = [
    "mathbf",
    "boldsymbol",
    "bm",
    "vec",
    "overrightarrow",
    "mathcal",
    "mathit",
    "mathbb",
    "mathfrak",
    "bf",
    "displaystyle",
    "textstyle",
    "limits",
    "nolimits",
    "left",
    "right",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "biggl",
    "biggr",
    "Biggl",
    "Biggr",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "middle",
    "ensuremath",
    "boxed",
    "fbox",
    "bold",
    "underline",
    *("tiny", "scriptsize", "footnotesize", "small", "normalsize", "large", "Large", "LARGE", "huge", "Huge"),
    *("scriptstyle", "scriptscriptstyle"),
]
_RENAMED = {
    "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac", "dbinom": r"\binom", "tbinom": r"\binom",
    "leq": r"\le ", "geq": r"\ge ", "leqslant": r"\le ", "geqslant": r"\ge ", "neq": r"\ne ", "lt": "<", "gt": ">",
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "lbrace": r"\{", "rbrace": r"\}", "lvert": "|", "rvert": "|",
    "vert": "|", "mid": "|", "lbrack": "[", "rbrack": "]", "langle": "(", "rangle": ")", "colon": ":", "lor": " or ",
    "vee": " or ", "land": " and ", "wedge": " and ", "dots": r"\ldots ", "cdots": r"\ldots ", "dotsc": r"\ldots ",
    "degree": r"^\circ ", "degrees": r"^\circ ", "prime": "'", "varnothing": r"\emptyset ", "infin": r"\infty ",
    "euro": "€", "pounds": "£", "quad": " ", "qquad": " ", "space": " ", "percent": "%", "backslash": r"\setminus ",
    "thinspace": " ", "medspace": " ", "enspace": " ", "dollar": "¤", "arccos": r"\acos ", "arcsin": r"\asin ",
    "arctan": r"\atan ", "lg": r"\log_{10} ", "varphi": r"\phi ", "varepsilon": r"\epsilon ", "union": r"\cup ",
    "coloneqq": "=", "And": " and ",
}  # fmt: skip
_ESCAPED = {
    ",": " ",
    ";": " ",
    ":": " ",
    "!": "",
    " ": " ",
    ">": " ",
    "\n": " ",
    "%": "%",
    "$": "¤",
    "(": " ",
    ")": " ",
}
_ESCAPED |= {"[": " ", "]": " ", "&": " and ", "#": "#", "_": "_", "|": "|", "/": ""}

_COMMANDS = (
    {f"\\{name}": "\\text" for name in _TEXT_FONTS}
    | {f"\\{name}": " " for name in _PLAIN_FONTS}
    | {f"\\{name}": value for name, value in _RENAMED.items()}
    | {f"\\{sign}": value for sign, value in _ESCAPED.items()}
)

_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_JOINED_GROUPS = re.compile(r"(?<=\d),\s*\\!\s*(?=\d{3})")
_TEXT_JOIN = re.compile(r"\s*,?\s*(and|or)\s*,?\s*", re.IGNORECASE)
_LETTERS_OF_TWO = re.compile(r"[A-Za-z]{2}")
_HALF_BRACKET = re.compile(r"\\(left|right)\s*\.")
_PYTHON_PREFIX = re.compile(r"\b(?:np|numpy|math|sp|sympy|cmath)\.(?=[a-zA-Z])")
_ROW_SPACE = re.compile(r"\\\\\s*\[\s*-?[\d.]*\s*(?:pt|em|ex|cm|mm)\s*\]")
_OVER = re.compile(r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}")
_LONE_SIGN = re.compile(r"\{ ?([,:;=.]) ?\}")
_LONE_COMMA = re.compile(r"(?<=\d) ?\{ ?, ?\} ?(?=\d{3})")
_DECIMAL_COMMA = re.compile(r"(?<![\d,}])(\d+)\{,\}(\d{1,2}|\d{4,})(?![\d{,])")
"""A decimal comma, which TeX wants in braces: `2{,}5`; before three digits it parts thousands."""
_DOUBLED = re.compile(
    r"(?<!\\)\\\\(?=(?:[dtc]?frac|left|right|sqrt|boxed|text|pi|leq?|geq?|cdot|times|infty|cup|pm|circ)(?![a-zA-Z]))"
)
"""Backslashes that were escaped on their way: no row of a matrix begins with the letters of a command."""
_COLOUR = re.compile(r"\\(?:text)?color(?:box)?\s?\{[^{}]*\}")
_BAR = re.compile(r"\\(?:bar|overline)\s?(?:\{(\d+)\}|(\d))")
_NOTHING_BEFORE_EQUALS = re.compile(r"^(?:=|\\approx(?![a-zA-Z]))\s?")
_EMPTY = re.compile(r"\\\{ ?\\\}")
_PROVISO = re.compile(r"\s*,?\s*\\text\{\s*(?:for|where|with) [^{}]*\}.*$", re.DOTALL)
_TIGHT_JOIN = re.compile(r"(?<=[)\]}\d])\s*(or|and)\s*(?=[(\[\d\\-]|[a-zA-Z][(=])")
_DIGITS_APART = re.compile(r"(?<=[\d.])\s+(?=[\d.])")
_BETWEEN_DIGITS = re.compile(r"\0|\s+")
_COUNTED = re.compile(
    r"([+-]?(?:\d[\d,]*(?:\.\d+)?|\d+/\d+))(?:\s+([A-Za-z][A-Za-z./\- ]*)|([A-Za-z]{2,4}))\s*((?:\^\s*\d)?)"
)
"""A number and what it counts, in one font: `\\text{21 cm}`."""
_INVISIBLE = re.compile(r"\\[hv]?phantom\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|[^\s{}\\])")
_STARS = re.compile(r"^\*\*(.*)\*\*$", re.DOTALL)


def is_affordable(answer: str) -> bool:
    """True if an answer's length, nesting and numbers leave a parser any hope; true of every answer worth parsing."""
    if len(answer) > MAX_CHARS or any(len(run) > _MAX_DIGITS_IN_A_ROW for run in _DIGITS.findall(answer)):
        return False
    depth = 0
    for character in answer:
        depth += (character in "([{") - (character in ")]}")
        if depth > _MAX_NESTING:
            return False
    return True


@lru_cache(maxsize=1024)
def canonical(text: str) -> str:
    r"""The text in one spelling, for the rules and the parser; reading it needs no knowledge of Unicode or of fonts.

    `\left`, `\displaystyle`, `\,`, `$` and their like are gone, `\dfrac` is `\frac`, `×` and `\cdot` are `*`, `\leq`,
    `≤` and `<=` are `\le`, `²` is `^{2}`; punctuation at the end is dropped, and so is a pair of braces around it all.
    """
    text = joined_thousands(from_python(text.strip()))
    text = " ".join(text.split())  # or a run of spaces would make the patterns below quadratic
    text = _DOUBLED.sub(r"\\", without_unicode(text.replace("\\$", "¤")))
    text = _DECIMAL_COMMA.sub(r"\1.\2", text)
    text = _JOINED_GROUPS.sub(
        ",", _LONE_SIGN.sub(r"\1", _LONE_COMMA.sub(",", _COLOUR.sub("", _INVISIBLE.sub(" ", text))))
    )
    text = _OVER.sub(r"\\frac{\1}{\2}", _ROW_SPACE.sub(r"\\\\", text))
    text = _HALF_BRACKET.sub(" ", text)
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[0], match[0]), text)
    text = " ".join(text.split())
    text = _BAR.sub(lambda bar: rf"\overline{{{bar[1] or bar[2]}}}", _EMPTY.sub(r"\\emptyset ", text))
    text = _TIGHT_JOIN.sub(r" \1 ", text)
    text = _PROVISO.sub("", _TEXT.sub(_words, text))
    text = _PYTHON_PREFIX.sub("", text.replace("**", "^")) if not _STARS.match(text) else text.strip("* ")
    text = text.replace("<=", r"\le ").replace(">=", r"\ge ").replace("!=", r"\ne ").replace("==", "=")
    return without_braces(_NOTHING_BEFORE_EQUALS.sub("", without_braces(without_tail(text))))


def without_unicode(text: str) -> str:
    """Typographic signs as TeX or ASCII spells them; what has no such spelling keeps its compatibility form."""
    if text.isascii():
        return text.translate(_SIGN_TABLE)
    text = _RAISED.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda run: "_{" + run[0].translate(_SUBSCRIPTS) + "}", text)
    text = _ROOT_SIGN.sub(lambda root: rf"\sqrt{{{root[1]}}}" if root[1] else r"\sqrt ", text)
    text = _VULGAR.sub(_vulgar_fraction, text)
    return unicodedata.normalize("NFKC", text.translate(_SIGN_TABLE)).translate(_SIGN_TABLE)


def without_tail(text: str) -> str:
    r"""The text without spaces, full stops, commas and `\\` at its end, an ellipsis kept."""
    while True:
        shorter = text.rstrip(" ;,").removesuffix("\\\\").removesuffix("\\")
        shorter = shorter if shorter.endswith("...") else shorter.removesuffix(".")
        if shorter == text:
            return text.lstrip()
        text = shorter


def without_braces(text: str) -> str:
    """The text without braces that enclose all of it: they group and say nothing."""
    while text.startswith("{") and text.endswith("}") and _closes_at(text) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def squeezed(text: str) -> str:
    """The text without spaces, which is how two spellings are compared; digits that a space divides stay apart."""
    return _BETWEEN_DIGITS.sub(lambda space: " " if space[0] == "\0" else "", _DIGITS_APART.sub("\0", text))


def bare_letters(text: str) -> str:
    r"""The same without `\text{}` around words and without grouping braces around single signs."""
    return squeezed(without_text(text))


def without_text(text: str) -> str:
    r"""The text with what is set in `\text{...}` as words like any other."""
    return _TEXT.sub(r" \1 ", text).strip()


def _closes_at(text: str) -> int:
    depth = 0
    for place, character in enumerate(text):
        if place and text[place - 1] == "\\":
            continue
        depth += (character == "{") - (character == "}")
        if not depth:
            return place
    return -1


def _vulgar_fraction(sign: re.Match[str]) -> str:
    above, below = unicodedata.normalize("NFKC", sign[0]).split("⁄")
    return rf"\frac{{{above}}}{{{below}}}"


def _words(found: re.Match[str]) -> str:
    r"""`\text{...}` around a joining word, a label or a number is dropped; around words and units it stays."""
    content = found[1].strip()
    if joining := _TEXT_JOIN.fullmatch(content):
        return f" {joining[1].lower()} "
    if not content or content == ",":
        return content
    if content in FUNCTIONS:
        return f"{content} "
    if (counted := _COUNTED.fullmatch(content)) and counts_something(counted[2] or counted[3]):
        return rf" {counted[1]} \text{{{counted[2] or counted[3]}}}{counted[4]}"
    if not _LETTERS_OF_TWO.search(content) and (len(content) > 1 or content in "ei,." or content.isdigit()):
        return f" {content} "
    follows_number = found.string[: found.start()].rstrip()[-1:]
    if len(content) == 1 and not (follows_number.isdigit() or follows_number in ("}", ")", "/")):
        return content
    return rf"\text{{{content}}}"
