r"""Read an answer as an expression, without evaluating or executing anything.

A recursive-descent parser for what models write in boxes: TeX, and the Python that they copy from their programs. What
it does not know it refuses with Unreadable; it never guesses. The tree consists of plain tuples.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

Tree = tuple[Any, ...]
"""("num", Fraction), ("sym", name), ("const", name), ("call", name, *trees), or an operator with its operands."""

_MAX_DEPTH = 64
_MAX_TOKENS = 1500
_TOKEN = re.compile(
    r"(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+(?![\d.]))?|\d+\.(?!\d))"
    r"|(?P<command>\\[a-zA-Z]+)|(?P<word>[a-zA-Z]+)|(?P<sign>\\[{}|]|[-+*/^_!(){}\[\]|,'%])|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)
FUNCTIONS = frozenset(
    (  # noqa: SIM905  # as a list of one name a line it hides the file
        "sin cos tan cot sec csc cis asin acos atan sinh cosh tanh asinh acosh atanh "
        "ln log exp sqrt cbrt abs floor ceil"
    ).split()
)
_ALIASES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "Abs": "abs", "ceiling": "ceil", "arcsinh": "asinh"}
_WORDS = (
    FUNCTIONS
    | frozenset(_ALIASES)
    | frozenset(("pi", "oo", "inf", "infty", "binom", "binomial", "factorial", "Rational", "Fraction"))
)
_GREEK = frozenset(
    (  # noqa: SIM905  # as a list of one name a line it hides the file
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi "
        "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega hbar ell imath"
    ).split()
)
_ACCENTS = frozenset(["dot", "ddot", "hat", "bar", "tilde", "overline", "widehat"])
_OPAQUE = frozenset("fgh")


class Unreadable(Exception):
    """The text is no expression that this parser knows."""


class NumbersCollide(Unreadable):
    """Two numbers stand side by side, which says nothing: `\\frac{98}51` is neither a product nor a number."""


@lru_cache(maxsize=1024)
def parse_expression(text: str) -> Tree:
    """The tree of a canonical text. Raises Unreadable."""
    return _Parser(text).whole()


def symbols(tree: Tree) -> frozenset[str]:
    """Names of the free variables, case and subscripts included."""
    if tree[0] == "sym":
        return frozenset((tree[1],))
    return frozenset().union(*(symbols(child) for child in tree[1:] if isinstance(child, tuple)))


def operations(tree: Tree) -> frozenset[str]:
    """Names of every operator and function in the tree."""
    own = {tree[1]} if tree[0] == "call" else {tree[0]}
    return frozenset(own).union(*(operations(child) for child in tree[1:] if isinstance(child, tuple)))


class _Parser:
    """One pass over the tokens; every method consumes what it returns the tree of."""

    def __init__(self, text: str) -> None:
        self.tokens = [m for m in ((t.lastgroup or "", t[0]) for t in _TOKEN.finditer(text)) if m[0] != "space"]
        self.spaced = [t.end() for t in _TOKEN.finditer(text) if t.lastgroup == "space"]
        if len(self.tokens) > _MAX_TOKENS:
            raise Unreadable("too long")
        self.at = 0
        self.depth = 0
        self.in_bars = 0
        self.has_python_i = "*I" in text.replace(" ", "") or "I*" in text.replace(" ", "")

    def whole(self) -> Tree:
        tree = self.sum()
        if self.at < len(self.tokens):
            raise Unreadable(f"unexpected {self.tokens[self.at][1]!r}")
        return tree

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, expected: str | None = None) -> str:
        sign = self.peek()
        if not sign or (expected and sign != expected):
            raise Unreadable(f"expected {expected or 'more'}, found {sign!r}")
        self.at += 1
        return sign

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unreadable("too deep")
        terms = [self.term()]
        while self.peek() in ("+", "-"):
            sign = self.take()
            terms.append(self.term() if sign == "+" else ("neg", self.term()))
        self.depth -= 1
        return terms[0] if len(terms) == 1 else ("add", *terms)

    def term(self) -> Tree:
        if self.peek() in ("+", "-"):
            return ("neg", self.term()) if self.take() == "-" else self.term()
        tree = self.factor()
        while True:
            if self.peek() in ("*", "/"):
                operator = "mul" if self.take() == "*" else "div"
                tree = (operator, tree, self.signed_factor())
            elif self.starts_factor():
                tree = self.beside(tree)
            else:
                return tree

    def beside(self, left: Tree) -> Tree:
        r"""Juxtaposition multiplies, except in a mixed number such as `1\frac{4}{5}` or `1 4/5`."""
        is_whole = left[0] == "num" and left[1].denominator == 1 and self.tokens[self.at - 1][0] == "number"
        kind, sign = self.tokens[self.at]
        if kind == "number":
            if is_whole and self.at + 2 < len(self.tokens) and self.tokens[self.at + 1][1] == "/":
                above, _, below = (self.take(), self.take(), self.take())
                if below.isdigit() and above.isdigit() and int(below) and int(above) < int(below):
                    return ("num", left[1] + Fraction(int(above), int(below)))
            if left[0] != "pow" and not (left[0] == "mul" and left[2][0] == "pow"):
                raise NumbersCollide("two numbers side by side")
        right = self.factor()
        if is_whole and sign == r"\frac" and right[0] == "div" and right[1][0] == right[2][0] == "num":
            above, below = right[1][1], right[2][1]
            if above.denominator == below.denominator == 1 and 0 < above < below:
                return ("num", left[1] + above / below)
        return ("mul", left, right)

    def signed_factor(self) -> Tree:
        if self.peek() in ("+", "-"):
            return ("neg", self.signed_factor()) if self.take() == "-" else self.signed_factor()
        return self.factor()

    def starts_factor(self) -> bool:
        if self.at >= len(self.tokens):
            return False
        kind, sign = self.tokens[self.at]
        if kind in ("number", "word", "command"):
            return sign not in (r"\right", r"\rfloor", r"\rceil")
        return sign in ("(", "{", "[") or (sign == "|" and not self.in_bars)

    def factor(self) -> Tree:
        tree = self.primary()
        while self.peek() in ("^", "!", "%", "'"):
            sign = self.take()
            if sign == "!":
                tree = ("call", "factorial", tree)
            elif sign == "%":
                tree = ("div", tree, ("num", Fraction(100)))
            elif sign == "'":
                tree = _primed(tree)
            elif self.peek() == r"\circ" or (self.peek() == "{" and self.ahead(1) == r"\circ"):
                self.degree_sign()
                tree = ("mul", tree, ("div", ("const", "pi"), ("num", Fraction(180))))
            elif self.peek() == "'" or (self.peek() == "{" and self.ahead(1) == "'"):
                tree = _primed(tree)
                self.at += 1 if self.peek() == "'" else 0
                while self.peek() in ("{", "'", "}") and self.tokens[self.at - 1][1] != "}":
                    self.at += 1
            else:
                tree = ("pow", tree, self.exponent())
        return tree

    def ahead(self, count: int) -> str:
        return self.tokens[self.at + count][1] if self.at + count < len(self.tokens) else ""

    def degree_sign(self) -> None:
        if self.take() == "{":
            self.take(r"\circ")
            self.take("}")

    def exponent(self) -> Tree:
        """Both digits of `x^10`: TeX's reading of it is never meant. Python's powers associate to the right."""
        if self.peek() in ("+", "-"):
            return ("neg", self.exponent()) if self.take() == "-" else self.exponent()
        if self.peek() == "{":
            return self.group("{", "}")
        tree = self.primary()
        return ("pow", tree, self.exponent()) if self.peek() == "^" and self.take() else tree

    def group(self, opening: str, closing: str) -> Tree:
        self.take(opening)
        bars, self.in_bars = self.in_bars, 0
        tree = self.sum()
        self.in_bars = bars
        self.take(closing)
        return tree

    def primary(self) -> Tree:
        if self.at >= len(self.tokens):
            raise Unreadable("ends too early")
        kind, sign = self.tokens[self.at]
        if kind == "number":
            self.at += 1
            return ("num", decimal_value(sign))
        if kind == "word":
            return self.word(self.take())
        if kind == "command":
            return self.command(self.take()[1:])
        if sign in ("(", "{", "["):
            return self.group(sign, {"(": ")", "{": "}", "[": "]"}[sign])
        if sign == "|":
            return self.bars()
        raise Unreadable(f"unexpected {sign!r}")

    def bars(self) -> Tree:
        self.take("|")
        self.in_bars += 1
        tree = self.sum()
        self.in_bars -= 1
        self.take("|")
        return ("call", "abs", tree)

    def word(self, word: str) -> Tree:
        """A known name, or else its first letter; the other letters are read next."""
        if word not in _WORDS and not (word in _GREEK and len(word) > 2):
            known = next(
                (name for name in ("sqrt", "sin", "cos", "tan", "ln", "log", "exp") if word.startswith(name)), ""
            )
            if len(word) > 1:
                rest = word[len(known) or 1 :]
                self.at -= 1
                self.tokens[self.at : self.at + 1] = [("word", known or word[0]), ("word", rest)]
                self.at += 1
            word = known or word[0]
        if word in ("pi", "oo", "inf", "infty"):
            return ("const", "pi" if word == "pi" else "inf")
        if word in ("binom", "binomial", "Rational", "Fraction"):
            return self.two_arguments("div" if word in ("Rational", "Fraction") else "binom")
        if word == "factorial":
            return ("call", "factorial", self.group("(", ")"))
        if word in _ALIASES or word in FUNCTIONS:
            return self.function(_ALIASES.get(word, word))
        if word == "e" or word == "i" or (word == "I" and self.has_python_i):
            return ("const", word.lower())
        return self.symbol(word)

    def two_arguments(self, operator: str) -> Tree:
        self.take("(")
        first = self.sum()
        self.take(",")
        second = self.sum()
        self.take(")")
        return (operator, first, second) if operator == "div" else ("call", operator, first, second)

    def symbol(self, name: str) -> Tree:
        if self.peek() == "_":
            self.take()
            name += "_" + self.raw_group()
        while self.peek() == "'":
            name += self.take()
        is_initial_value = self.peek() == "(" and self.ahead(1) == "0" and self.ahead(2) == ")"  # `I(0)` is no product
        if is_initial_value or (name.rstrip("'") in _OPAQUE and self.peek() == "("):
            return ("opaque", ("sym", name), self.group("(", ")"))
        return ("sym", name)

    def raw_group(self) -> str:
        """The text of a subscript, without its braces."""
        if self.peek() != "{":
            kind, sign = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
            if kind in ("number", "word") and len(sign) > 1:
                self.tokens[self.at : self.at + 1] = [(kind, sign[0]), (kind, sign[1:])]
            return self.take()
        depth = 0
        parts: list[str] = []
        while True:
            sign = self.take()
            depth += (sign == "{") - (sign == "}")
            if not depth:
                return "".join(parts[1:])
            parts.append(sign)

    def command(self, name: str) -> Tree:
        if name == "frac":
            return ("div", self.argument(), self.argument())
        if name == "binom":
            return ("call", "binom", self.argument(), self.argument())
        if name == "sqrt":
            return self.root()
        if name in ("pi", "infty"):
            return ("const", "pi" if name == "pi" else "inf")
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("lfloor", "lceil"):
            tree = self.sum()
            self.take("\\r" + name[1:])
            return ("call", "floor" if name == "lfloor" else "ceil", tree)
        if name in _GREEK:
            return self.symbol(name)
        if name in _ACCENTS:
            return self.symbol(f"{name} {self.raw_group()}")
        raise Unreadable(f"unknown command {name}")

    def argument(self) -> Tree:
        r"""The text that TeX takes as one: a group or a single character, so that `\frac12` is a half."""
        if self.peek() == "{":
            return self.group("{", "}")
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "number":
            kind, sign = self.tokens[self.at]
            if len(sign) > 1:
                self.tokens[self.at : self.at + 1] = [(kind, sign[0]), (kind, sign[1:])]
        return self.primary()

    def root(self) -> Tree:
        degree: Tree = ("num", Fraction(2))
        if self.peek() == "[":
            degree = self.group("[", "]")
        return ("pow", self.argument(), ("div", ("num", Fraction(1)), degree))

    def function(self, name: str) -> Tree:
        if name == "sqrt":
            return self.root()
        power = base = None
        while self.peek() in ("^", "_"):
            if self.take() == "^":
                power = self.exponent()
            else:
                base = self.argument()
        argument = self.function_argument()
        if power == ("neg", ("num", Fraction(1))) and "a" + name in FUNCTIONS:
            name, power = "a" + name, None
        if name == "exp":
            tree: Tree = ("pow", ("const", "e"), argument)
        elif name == "cbrt":
            tree = ("pow", argument, ("num", Fraction(1, 3)))
        else:
            tree = ("call", "ln" if name == "log" else name, argument)
        tree = ("div", tree, ("call", "ln", base)) if base else tree
        return ("pow", tree, power) if power else tree

    def function_argument(self) -> Tree:
        r"""A bracket, or else factors up to the next sign or function: `\sin 2x \cos y` has two sines' worth."""
        if self.peek() in ("(", "{"):
            return self.group(self.peek(), ")" if self.peek() == "(" else "}")
        tree = self.factor()
        while self.starts_factor() and not self.is_function():
            tree = ("mul", tree, self.factor())
        return tree

    def is_function(self) -> bool:
        return self.peek().lstrip("\\") in FUNCTIONS or self.peek() == "("


def _primed(tree: Tree) -> Tree:
    if tree[0] != "sym":
        raise Unreadable("a prime on what is no variable")
    return ("sym", tree[1] + "'")


def decimal_value(text: str) -> Fraction:
    """The exact value of a decimal literal, e-notation included. Raises Unreadable where its exponent is absurd."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > 1000 or len(exponent) > 4:
        raise Unreadable("a number too long")
    return Fraction(mantissa.removesuffix(".")) * Fraction(10) ** int(exponent or 0)
