"""Worked solutions of the families about whole numbers: divisors, factors, bases and bits."""

import json
from random import Random

from nano_models.solution import Metadata, Program, Worked, WorkedStep, expression_step

_DIGITS = "0123456789abcdef"


def gcd(m: Metadata, answer: str, rng: Random) -> Worked:
    """One greatest common divisor."""
    a, b = m["numbers"]
    return Worked(steps=(_gcd_step(a, b, int(answer), rng),), answer=answer)


def lcm(m: Metadata, answer: str, rng: Random) -> Worked:
    """The product over the greatest common divisor."""
    a, b = m["numbers"]
    multiple = int(answer)
    g = a * b // multiple
    logic = rng.choice(
        (
            f"The LCM is the product divided by the GCD, that is {a} * {b} // {g}.",
            f"Now I divide the product by the GCD: {a} * {b} // {g}.",
        )
    )
    claim = rng.choice((f"This is {multiple}.", f"The result is {multiple}."))
    last = expression_step(logic, claim, f"{a} * {b} // {g}", str(multiple))
    return Worked(steps=(_gcd_step(a, b, g, rng), last), answer=answer)


def fraction(m: Metadata, answer: str, rng: Random) -> Worked:
    """The greatest common divisor, then both parts divided by it."""
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


def primes(m: Metadata, answer: str, rng: Random) -> Worked:
    """Trial division."""
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


def base_conversion(m: Metadata, answer: str, rng: Random) -> Worked:
    """Into decimal, then into the other base."""
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
            Program(code=loop.replace('s = ""\n', ""), shown="NameError: name 's' is not defined"),
            Program(
                code=f"import numpy as np\nprint(np.base_repr({value}, base={target})",
                shown="SyntaxError: '(' was never closed",
            ),
        ),
    )
    return Worked(steps=(read, write), answer=answer)


def bits(m: Metadata, answer: str, rng: Random) -> Worked:
    """The ones of a binary number."""
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


def _fraction_text(p: int, q: int) -> str:
    return str(p) if q == 1 else f"{p}/{q}"
