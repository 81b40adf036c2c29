"""Worked solutions of the nano families: what a careful person would write, in words and, step by step, as a program.

This is the raw material of pretraining and nothing else reads it. A worked step carries its logic (words that hold all
numbers it needs), its claim (the result, computed by hand), programs that compute the same thing with what they print,
and careless programs with the error they end in, since text written by people holds those too.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program, and what the sandbox shows for it."""

    code: str
    shown: str
    """Its output, or the last line of its traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkedStep:
    """One step of a solution, in all its spellings."""

    logic: str
    """What is computed and why; a reader who sees nothing else can compute it."""
    claim: str
    """The sentence with the result."""
    programs: tuple[Program, ...]
    careless: tuple[Program, ...] = ()
    is_easy: bool = False
    """Most people would do it in their head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """A solution: its steps and the final answer."""

    steps: tuple[WorkedStep, ...]
    answer: str


def work(family: str, metadata: Metadata, answer: str, rng: Random) -> Worked:
    """Work a problem of one family. Raises KeyError for a family that has no worked form."""
    return _WORK[family](metadata, answer, rng)


def _arithmetic(logic: str, claim: str, expression: str, value: str, *, easy: bool = False) -> WorkedStep:
    """A step that is one arithmetic expression."""
    return WorkedStep(
        logic=logic,
        claim=claim,
        programs=(
            Program(code=f"print({expression})", shown=value),
            Program(code=f"result = {expression}\nprint(result)", shown=value),
        ),
        careless=(
            Program(code=f"result = {expression}\nprint(total)", shown="NameError: name 'total' is not defined"),
            Program(code=f"print({expression}", shown="SyntaxError: '(' was never closed"),
            Program(code=f"{expression}", shown="(no output)"),
        ),
        is_easy=easy,
    )


def _gcd_step(a: int, b: int, g: int, rng: Random) -> WorkedStep:
    logic = rng.choice(
        (
            f"I look for the greatest common divisor of {a} and {b}.",
            f"First I need the GCD of {a} and {b}.",
            f"I take the numbers {a} and {b} and find their greatest common divisor.",
        )
    )
    claim = rng.choice(
        (f"It is {g}.", f"The Euclidean algorithm gives {g}.", f"The largest number dividing both is {g}.")
    )
    missing = "NameError: name '{}' is not defined"
    return WorkedStep(
        logic=logic,
        claim=claim,
        programs=(
            Program(code=f"import math\nprint(math.gcd({a}, {b}))", shown=str(g)),
            Program(code=f"from math import gcd\nprint(gcd({a}, {b}))", shown=str(g)),
            Program(code=f"a, b = {a}, {b}\nwhile b:\n    a, b = b, a % b\nprint(a)", shown=str(g)),
        ),
        careless=(
            Program(code=f"print(math.gcd({a}, {b}))", shown=missing.format("math")),
            Program(code=f"print(gcd({a}, {b}))", shown=missing.format("gcd")),
            Program(code=f"import math\nprint(gcd({a}, {b}))", shown=missing.format("gcd")),
            Program(code=f"from math import gcd\nprint(math.gcd({a}, {b}))", shown=missing.format("math")),
        ),
    )


def _gcd(m: Metadata, answer: str, rng: Random) -> Worked:
    a, b = m["numbers"]
    return Worked(steps=(_gcd_step(a, b, int(answer), rng),), answer=answer)


def _lcm(m: Metadata, answer: str, rng: Random) -> Worked:
    a, b = m["numbers"]
    lcm = int(answer)
    g = a * b // lcm
    logic = rng.choice(
        (
            f"The LCM is the product divided by the GCD, that is {a} * {b} // {g}.",
            f"Now I divide the product by the GCD: {a} * {b} // {g}.",
        )
    )
    last = _arithmetic(logic, rng.choice((f"This is {lcm}.", f"The result is {lcm}.")), f"{a} * {b} // {g}", str(lcm))
    return Worked(steps=(_gcd_step(a, b, g, rng), last), answer=answer)


def _chain_sum(m: Metadata, answer: str, rng: Random) -> Worked:
    expression = str(m["expression"])
    tokens = expression.split()
    total, partial = int(tokens[0]), []
    for sign, term in zip(tokens[1::2], tokens[2::2], strict=True):
        after = total + int(term) if sign == "+" else total - int(term)
        partial.append(f"{total} {sign} {term} = {after}")
        total = after
    easy = len(partial) == 1 and all(len(t) <= 2 for t in tokens)
    logic = rng.choice((f"I work out {expression}.", f"I compute {expression} from left to right."))
    claim = rng.choice(("Step by step: ", "I get ")) + ", ".join(partial) + "."
    return Worked(steps=(_arithmetic(logic, claim, expression, answer, easy=easy),), answer=answer)


def _products(m: Metadata, answer: str, rng: Random) -> Worked:
    expression = str(m["expression"])
    logic = rng.choice((f"I multiply: {expression}.", f"I need the product {expression}."))
    claim = rng.choice((f"The product is {answer}.", f"This is {answer}."))
    easy = len(expression) <= 6
    return Worked(steps=(_arithmetic(logic, claim, expression, answer, easy=easy),), answer=answer)


def _fraction(m: Metadata, answer: str, rng: Random) -> Worked:
    n, d, g = int(m["numerator"]), int(m["denominator"]), int(m["reduction_factor"])
    p, q = n // g, d // g
    logic = rng.choice(
        (
            f"Now I divide both {n} and {d} by {g}.",
            f"Dividing numerator {n} and denominator {d} by {g} gives the reduced fraction.",
        )
    )
    claim = rng.choice((f"I get {n} / {g} = {p} and {d} / {g} = {q}.", f"The parts are {p} and {q}."))
    divide = WorkedStep(
        logic=logic,
        claim=claim,
        programs=(
            Program(code=f"print({n} // {g}, {d} // {g})", shown=f"{p} {q}"),
            Program(code=f"n = {n} // {g}\nd = {d} // {g}\nprint(n, d)", shown=f"{p} {q}"),
            Program(code=f"from fractions import Fraction\nprint(Fraction({n}, {d}))", shown=_fraction_text(p, q)),
        ),
        careless=(
            Program(code=f"print(Fraction({n}, {d}))", shown="NameError: name 'Fraction' is not defined"),
            Program(code=f"n = {n} // {g}\nprint(n, d)", shown="NameError: name 'd' is not defined"),
        ),
    )
    return Worked(steps=(_gcd_step(n, d, g, rng), divide), answer=answer)


def _fraction_text(p: int, q: int) -> str:
    return str(p) if q == 1 else f"{p}/{q}"


_DIGITS = "0123456789abcdef"


def _base_name(base: int) -> str:
    return {2: "binary", 16: "hexadecimal"}.get(base, f"base {base}")


def _base_conversion(m: Metadata, answer: str, rng: Random) -> Worked:
    source, target, value = int(m["source_base"]), int(m["target_base"]), int(m["decimal_value"])
    text = str(m["source_repr"])
    logic = rng.choice(
        (
            f"First I find the decimal value of {text} in base {source}.",
            f"I read {text} as a number in base {source} and write it in decimal.",
        )
    )
    read = WorkedStep(
        logic=logic,
        claim=rng.choice((f"It is {value}.", f"The decimal value is {value}.")),
        programs=(
            Program(code=f'print(int("{text}", {source}))', shown=str(value)),
            Program(
                code=f'value = 0\nfor c in "{text}":\n    value = value * {source} + int(c, 16)\nprint(value)',
                shown=str(value),
            ),
        ),
        careless=(
            Program(code=f'value = int("{text}")\nprint(value, {source}', shown="SyntaxError: '(' was never closed"),
            Program(
                code=f"print(int({value}, {source}))",
                shown="TypeError: int() can't convert non-string with explicit base",
            ),
        ),
    )
    logic = rng.choice((f"Now I write {value} in base {target}.", f"I convert {value} to base {target}."))
    loop = f'n = {value}\ns = ""\nwhile n > 0:\n    s = "{_DIGITS}"[n % {target}] + s\n    n = n // {target}\nprint(s)'
    write = WorkedStep(
        logic=logic,
        claim=rng.choice((f"It is {answer}.", f"This gives {answer}.")),
        programs=(
            Program(code=loop, shown=answer),
            Program(code=loop.replace("n = n // ", "n //= "), shown=answer),
        ),
        careless=(
            Program(
                code=loop.replace('s = ""\n', ""),
                shown="NameError: name 's' is not defined",
            ),
            Program(
                code=f"import numpy as np\nprint(np.base_repr({value}, base={target})",
                shown="SyntaxError: '(' was never closed",
            ),
        ),
    )
    return Worked(steps=(read, write), answer=answer)


def _complex_text(re: int, im: int) -> str:
    return f"({re}{'+' if im >= 0 else '-'}{abs(im)}j)"


def _complex(m: Metadata, answer: str, rng: Random) -> Worked:
    (a, b), (c, d), op = (tuple(map(int, m["num1"])), tuple(map(int, m["num2"])), str(m["operation"]))
    x, y = map(int, m["result"])
    if op in "+-":
        real = _arithmetic(
            rng.choice((f"The real part is {a} {op} ({c}).", f"For the real part I take {a} {op} ({c}).")),
            f"This is {x}.",
            f"{a} {op} ({c})",
            str(x),
            easy=abs(a) < 10 and abs(c) < 10,
        )
        imaginary = _arithmetic(
            rng.choice((f"The imaginary part is {b} {op} ({d}).", f"For the imaginary part I take {b} {op} ({d}).")),
            f"This is {y}.",
            f"{b} {op} ({d})",
            str(y),
            easy=abs(b) < 10 and abs(d) < 10,
        )
        return Worked(steps=(real, imaginary), answer=answer)
    if op == "*":
        real_expression, imaginary_expression = f"({a})*({c}) - ({b})*({d})", f"({a})*({d}) + ({b})*({c})"
        return Worked(
            steps=(
                _arithmetic(f"The real part is {real_expression}.", f"This is {x}.", real_expression, str(x)),
                _arithmetic(
                    f"The imaginary part is {imaginary_expression}.", f"This is {y}.", imaginary_expression, str(y)
                ),
            ),
            answer=answer,
        )
    z, w = _complex_text(a, b), _complex_text(c, d)
    logic = rng.choice((f"I divide {z} by {w}.", f"I need the quotient {z} / {w}."))
    code = f"z = {z} / {w}\nprint(round(z.real), round(z.imag))"
    divide = WorkedStep(
        logic=logic,
        claim=f"The real part is {x} and the imaginary part is {y}.",
        programs=(Program(code=code, shown=f"{x} {y}"),),
        careless=(
            Program(
                code=code.replace("z.imag", "z.im"), shown="AttributeError: 'complex' object has no attribute 'im'"
            ),
            Program(code=code.replace("z = ", "w = "), shown="NameError: name 'z' is not defined"),
        ),
    )
    return Worked(steps=(divide,), answer=answer)


def _linear(side: str, variable: str) -> tuple[int, int]:
    """Coefficient and constant of a side like `56 - 98*e`."""
    coefficient = constant = 0
    for term in side.replace(" ", "").replace("-", "+-").split("+"):
        if variable in term:
            factor = term.replace(variable, "").strip("*")
            coefficient += {"": 1, "-": -1}.get(factor) or int(factor)
        elif term:
            constant += int(term)
    return coefficient, constant


def _equation(m: Metadata, answer: str, rng: Random) -> Worked:
    equation, v = str(m["equation"]), str(m["variable"])
    left, right = equation.split(" = ")
    k, constant = _linear(left, v)
    rhs = int(right)
    if rng.random() < 0.5:
        return Worked(steps=(_solve_step(left, rhs, v, answer, rng),), answer=answer)
    steps = []
    if constant:
        steps.append(
            _arithmetic(
                f"I move the constant to the right: {k}*{v} = {rhs} - ({constant}).",
                f"So {k}*{v} = {rhs - constant}.",
                f"{rhs} - ({constant})",
                str(rhs - constant),
                easy=abs(rhs) < 100 and abs(constant) < 10,
            )
        )
    steps.append(
        _arithmetic(
            f"I divide by the coefficient: {v} = {rhs - constant} // ({k}).",
            f"So {v} = {answer}.",
            f"{rhs - constant} // ({k})",
            answer,
        )
    )
    return Worked(steps=tuple(steps), answer=answer)


def _solve_step(left: str, rhs: int, v: str, answer: str, rng: Random) -> WorkedStep:
    logic = rng.choice((f"I solve {left} = {rhs} for {v}.", f"I have to find {v} in the equation {left} = {rhs}."))
    body = f'{v} = symbols("{v}")\nprint(solve({left} - ({rhs}), {v}))'
    missing = "NameError: name '{}' is not defined"
    return WorkedStep(
        logic=logic,
        claim=rng.choice((f"The solution is {answer}.", f"I get {v} = {answer}.")),
        programs=(
            Program(code=f"from sympy import symbols, solve\n{body}", shown=f"[{answer}]"),
            Program(
                code=f'import sympy\n{v} = sympy.Symbol("{v}")\nprint(sympy.solve({left} - ({rhs}), {v}))',
                shown=f"[{answer}]",
            ),
        ),
        careless=(
            Program(code=f"from sympy import solve\n{body}", shown=missing.format("symbols")),
            Program(code=f"import sympy\n{body}", shown=missing.format("symbols")),
            Program(
                code=f"from sympy import symbols, solve\nprint(solve({left} - ({rhs}), {v}))", shown=missing.format(v)
            ),
        ),
    )


def _legs(m: Metadata, answer: str, rng: Random) -> Worked:
    groups = [(int(count), _LEGS[name]) for name, count in m["animals"].items()]
    products = ", ".join(f"{count} * {legs}" for count, legs in groups)
    values = [count * legs for count, legs in groups]
    listed, total = ", ".join(map(str, values)), " + ".join(map(str, values))
    logic = rng.choice((f"The groups have {products} legs.", f"Group by group the legs are {products}."))
    multiply = WorkedStep(
        logic=logic,
        claim=rng.choice((f"These are {listed}.", f"That makes {listed}.")),
        programs=(
            Program(code=f"print({products})", shown=" ".join(map(str, values))),
            Program(code=f"legs = [{products}]\nprint(legs)", shown=json.dumps(values)),
        ),
        careless=(
            Program(code=f"print({products}", shown="SyntaxError: '(' was never closed"),
            Program(code=f"legs = [{products}]\nprint(leg)", shown="NameError: name 'leg' is not defined"),
        ),
    )
    add = _arithmetic(
        rng.choice((f"All together there are {total} legs.", f"The total is {total}.")),
        rng.choice((f"That is {answer}.", f"The sum is {answer}.")),
        total,
        answer,
        easy=len(values) == 2,
    )
    return Worked(steps=(multiply, add), answer=answer)


_LEGS = {
    **dict.fromkeys(("snake", "sea slug", "jellyfish", "flatworm", "leech"), 0),
    **dict.fromkeys(("chicken", "bird", "human", "duck"), 2),
    **dict.fromkeys(("dog", "cat", "cow", "horse", "lion", "elephant", "giraffe", "tiger", "deer", "sheep"), 4),
    "starfish": 5,
    **dict.fromkeys(("insect", "ant", "butterfly", "beetle", "bee", "wasp", "grasshopper", "cricket"), 6),
    **dict.fromkeys(("cockroach", "praying mantis", "firefly"), 6),
    **dict.fromkeys(("spider", "scorpion"), 8),
    **dict.fromkeys(("crab", "lobster", "shrimp"), 10),
    "woodlouse": 14,
    "centipede": 42,
    "millipede": 75,
}


def _polygon(m: Metadata, answer: str, rng: Random) -> Worked:
    n, known = int(m["n_sides"]), [int(a) for a in m["known_angles"]]
    whole, part, expression = (n - 2) * 180, sum(known), " + ".join(map(str, known))
    return Worked(
        steps=(
            _arithmetic(
                rng.choice(
                    (
                        f"The interior angles add up to ({n} - 2) * 180.",
                        f"With {n} sides the angle sum is ({n} - 2) * 180.",
                    )
                ),
                f"This is {whole}.",
                f"({n} - 2) * 180",
                str(whole),
                easy=True,
            ),
            _arithmetic(f"The known angles add up to {expression}.", f"This is {part}.", expression, str(part)),
            _arithmetic(
                rng.choice((f"The missing angle is {whole} - {part}.", f"What is left is {whole} - {part}.")),
                f"This is {answer}.",
                f"{whole} - {part}",
                answer,
            ),
        ),
        answer=answer,
    )


def _primes(m: Metadata, answer: str, rng: Random) -> Worked:
    n, factors = int(m["number"]), [int(f) for f in m["factors"]]
    logic = rng.choice((f"I split {n} into prime factors.", f"I divide {n} by small primes as long as possible."))
    loop = (
        f"n, p, found = {n}, 2, []\nwhile n > 1:\n    if n % p == 0:\n        found.append(p)\n        n //= p\n"
        "    else:\n        p += 1\nprint(found)"
    )
    counted = {p: factors.count(p) for p in sorted(set(factors))}
    step = WorkedStep(
        logic=logic,
        claim=rng.choice(
            (f"The factors are {', '.join(map(str, factors))}.", f"I find {', '.join(map(str, factors))}.")
        ),
        programs=(
            Program(code=loop, shown=json.dumps(factors)),
            Program(code=f"from sympy import factorint\nprint(factorint({n}))", shown=str(counted)),
        ),
        careless=(
            Program(code=f"print(factorint({n}))", shown="NameError: name 'factorint' is not defined"),
            Program(
                code=f"import math\nprint(math.factorint({n}))",
                shown="AttributeError: module 'math' has no attribute 'factorint'",
            ),
            Program(
                code=loop.replace(", found", "").replace(", []", ""), shown="NameError: name 'found' is not defined"
            ),
        ),
    )
    return Worked(steps=(step,), answer=answer)


def _bits(m: Metadata, answer: str, rng: Random) -> Worked:
    n = int(m["number"])
    logic = rng.choice((f"I count the ones in the binary form of {n}.", f"I write {n} in binary and count the 1 bits."))
    step = WorkedStep(
        logic=logic,
        claim=rng.choice((f"There are {answer}.", f"I count {answer} ones.")),
        programs=(
            Program(code=f'print(bin({n}).count("1"))', shown=answer),
            Program(code=f'b = format({n}, "b")\nprint(b.count("1"))', shown=answer),
            Program(code=f"n, k = {n}, 0\nwhile n:\n    k += n % 2\n    n //= 2\nprint(k)", shown=answer),
        ),
        careless=(
            Program(code=f"print(bin({n}).count(1))", shown="TypeError: must be str, not int"),
            Program(
                code=f'print(bin({n}).counts("1"))', shown="AttributeError: 'str' object has no attribute 'counts'"
            ),
            Program(
                code=f"n = {n}\nwhile n:\n    k += n % 2\n    n //= 2\nprint(k)",
                shown="NameError: name 'k' is not defined",
            ),
        ),
    )
    return Worked(steps=(step,), answer=answer)


_WORK: Mapping[str, Callable[[Metadata, str, Random], Worked]] = {
    "gcd": _gcd,
    "lcm": _lcm,
    "chain_sum": _chain_sum,
    "products": _products,
    "fraction_simplification": _fraction,
    "base_conversion": _base_conversion,
    "complex_arithmetic": _complex,
    "simple_equations": _equation,
    "leg_counting": _legs,
    "simple_geometry": _polygon,
    "prime_factorization": _primes,
    "count_bits": _bits,
}
