"""Isolated steps as an instruction model writes them, and the rewriting of each: rules that see nothing but the step.

A rule names a computation in a sentence with all of its numbers. The words stay up to the end of that sentence, or up
to the computed result, and a program for it follows. The earliest computation of a step is the one that is rewritten.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nano_models.arithmetic import LEGS
from nano_models.corpus import NOTHING_TO_COMPUTE
from thor_tir.dialect.fences import CLOSE, OPEN

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_SIGNED = rf"-?{_NUMBER}"
_DIGITS = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class _Found:
    """A computation in a step."""

    end: int
    """End of the words that state it."""
    code: str
    """Program that prints its result."""


def rewritten(step: str) -> str:
    """What a critic shall answer: words of the step with a program behind them, or that there is nothing to compute."""
    found = min((found for rule in RULES for found in rule(step)), key=lambda each: each.end, default=None)
    if found is None:
        return NOTHING_TO_COMPUTE
    return f"{step[: found.end].strip()}\n{OPEN}\n{found.code}\n{CLOSE}\n"


def _clean(expression: str) -> str:
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", expression).replace("×", "*").replace("÷", "/").replace("−", "-")
    return " ".join(plain.split())


def _sentence_end(step: str, start: int) -> int:
    """The end of the sentence, or of its first clause, that goes on at `start`."""
    found = re.search(r"[,:;]|\.(?=\s|$)|\n", step[start:])
    return start + (found.end() if found else len(step) - start)


def _sums(step: str) -> Iterator[_Found]:
    """`17 + 25 = 32`: the words end before the result."""
    pattern = rf"(?<![\w.*/+-])\(?{_SIGNED}\)?(?:\s*[-+*/×÷]\s*\(?{_SIGNED}\)?)+(?=\s*=\s*{_SIGNED}(?!\w))"
    for each in re.finditer(pattern, step):
        if (text := each[0]).count("(") != text.count(")"):
            continue
        expression = _clean(text)
        if re.fullmatch(r"\d+ ?/ ?\d+", expression) and re.match(r"\s*=\s*\d+\s*/", step[each.end() :]):
            yield _Found(each.end(), _reduced(*re.findall(r"\d+", expression)))
        else:
            yield _Found(each.end(), f"print({expression})")


def _reduced(numerator: str, denominator: str) -> str:
    return f"from fractions import Fraction\nprint(Fraction({numerator}, {denominator}))"


def _named_sums(step: str) -> Iterator[_Found]:
    """`the product of 63 and 35`, `multiply 63 by 35`."""
    a, b = rf"(?P<a>{_NUMBER})", rf"(?P<b>{_NUMBER})(?![\w.]*i\b)"
    for pattern, sign in (
        (rf"(?:product of|multiply(?:ing)?) {a} (?:and|by|with) {b}\b", "*"),
        (rf"(?:sum of|add(?:ing)?) {a} (?:and|to) {b}\b", "+"),
        (rf"(?:quotient of|divid(?:e|ing)) {a} (?:and|by) {b}\b", "/"),
        (rf"subtract(?:ing)? {b} from {a}\b", "-"),
    ):
        for each in re.finditer(pattern, step, re.IGNORECASE):
            code = f"print({_clean(each['a'])} {sign} {_clean(each['b'])})"
            yield _Found(_sentence_end(step, each.end()), code)


def _of_two(names: str, function: str) -> Callable[[str], Iterator[_Found]]:
    def rule(step: str) -> Iterator[_Found]:
        pattern = rf"(?:{names})\b[^.\n\d]{{0,60}}?(?P<a>\d+)\b(?:,| and|, and) (?P<b>\d+)\b(?!\s*[*/×])"
        for each in re.finditer(pattern, step, re.IGNORECASE):
            code = f"import math\nprint(math.{function}({each['a']}, {each['b']}))"
            yield _Found(_sentence_end(step, each.end()), code)

    return rule


def _factors(step: str) -> Iterator[_Found]:
    for each in re.finditer(r"prime factor(?:s|ization)?\b[^.\n\d]{0,40}?\b(?P<n>\d+)\b", step, re.IGNORECASE):
        n = each["n"]
        code = (
            f"n, p, found = {n}, 2, []\nwhile n > 1:\n    if n % p == 0:\n        found.append(str(p))\n"
            '        n //= p\n    else:\n        p += 1\nprint(" × ".join(found))'
        )
        yield _Found(_sentence_end(step, each.end()), code)


def _fractions(step: str) -> Iterator[_Found]:
    pattern = r"(?:simplif|reduc|lowest terms|fraction)[^.\n\d]{0,50}?(?P<n>\d+)\s*/\s*(?P<d>\d+)\b(?!\s*[*+/-]\s*\d)"
    for each in re.finditer(pattern, step, re.IGNORECASE):
        yield _Found(_sentence_end(step, each.end()), _reduced(each["n"], each["d"]))


def _bits(step: str) -> Iterator[_Found]:
    pattern = r"(?:1 bits|1s|ones|1's|binary representation)\b[^.\n\d]{0,60}?\b(?P<n>\d{2,})\b"
    for each in re.finditer(pattern, step, re.IGNORECASE):
        yield _Found(_sentence_end(step, each.end()), f'print(bin({each["n"]}).count("1"))')


def _bases(step: str) -> Iterator[_Found]:
    pattern = r"base[- ](?P<b>\d+)(?: number)? (?P<t>[0-9a-f]+)\b[^.\n]{0,20}? to base[- ](?P<c>\d+)"
    for each in re.finditer(pattern, step):
        if all(int(digit, 16) < int(each["b"]) for digit in each["t"]) and 2 <= int(each["c"]) <= 16:
            code = (
                f'n, s = int("{each["t"]}", {each["b"]}), ""\nwhile n > 0:\n'
                f'    s = "{_DIGITS}"[n % {each["c"]}] + s\n    n //= {each["c"]}\nprint(s)'
            )
            yield _Found(_sentence_end(step, each.end()), code)


def _equations(step: str) -> Iterator[_Found]:
    pattern = r"(?<![\w.])(?P<l>-?\d*\s*\*?\s*(?P<v>[a-z])\b(?:\s*[-+]\s*\d+)*|\d+\s*[-+]\s*\d*\s*\*?\s*(?P<w>[a-z])\b)"
    for each in re.finditer(rf"{pattern}\s*=\s*(?P<r>-?\d+)\b(?!\s*[-+*/])", step):
        left, name = " ".join(each["l"].split()), each["v"] or each["w"]
        if left == name:
            continue
        left = re.sub(rf"(\d)\s*{name}\b", rf"\1*{name}", left)
        solved = f"print(solve({left} - ({each['r']}), {name})[0])"
        yield _Found(each.end(), f'from sympy import solve, symbols\n{name} = symbols("{name}")\n{solved}')


def _complex(step: str) -> Iterator[_Found]:
    number = r"\(\s*-?\d+(?:\.0)?\s*[-+]\s*\d+(?:\.0)?i\s*\)"
    for each in re.finditer(rf"{number}\s*[-+*/×÷]\s*{number}", step):
        expression = _clean(each[0].replace(".0", "")).replace("i", "j")
        show = "print(f\"{round(z.real)}.0 {'+' if z.imag >= 0 else '-'} {abs(round(z.imag))}.0i\")"
        yield _Found(each.end(), f"z = {expression}\n{show}")


def _legs(step: str) -> Iterator[_Found]:
    pairs = [(each, LEGS.get(each[2].lower())) for each in re.finditer(r"\b(\d+) ([a-z]+(?: [a-z]+)?)s\b", step)]
    known = [(each, legs) for each, legs in pairs if legs is not None]
    if len(known) >= 2:
        yield _Found(
            _sentence_end(step, known[-1][0].end()), f"print({' + '.join(f'{e[1]} * {legs}' for e, legs in known)})"
        )


RULES: tuple[Callable[[str], Iterator[_Found]], ...] = (
    _sums,
    _named_sums,
    _of_two("GCD|greatest common (?:divisor|factor)", "gcd"),
    _of_two("LCM|least common multiple", "lcm"),
    _factors,
    _fractions,
    _bits,
    _bases,
    _equations,
    _complex,
    _legs,
)
"""All computations that are known by their words."""
