"""Worked solutions of the families that add, multiply and solve: sums, products, complex numbers, equations, shapes."""

import json
from random import Random

from nano_models.solution import Metadata, Program, Worked, WorkedStep, expression_step


def chain_sum(m: Metadata, answer: str, rng: Random) -> Worked:
    """Sums and differences, left to right."""
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
    return Worked(steps=(expression_step(logic, claim, expression, answer, easy=easy),), answer=answer)


def products(m: Metadata, answer: str, rng: Random) -> Worked:
    """One product."""
    expression = str(m["expression"])
    logic = rng.choice((f"I multiply: {expression}.", f"I need the product {expression}."))
    claim = rng.choice((f"The product is {answer}.", f"This is {answer}."))
    easy = len(expression) <= 6
    return Worked(steps=(expression_step(logic, claim, expression, answer, easy=easy),), answer=answer)


def complex_numbers(m: Metadata, answer: str, rng: Random) -> Worked:
    """Real part, then imaginary part; a quotient in one step."""
    (a, b), (c, d), op = (tuple(map(int, m["num1"])), tuple(map(int, m["num2"])), str(m["operation"]))
    x, y = map(int, m["result"])
    if op in "+-":
        real = expression_step(
            rng.choice((f"The real part is {a} {op} ({c}).", f"For the real part I take {a} {op} ({c}).")),
            f"This is {x}.",
            f"{a} {op} ({c})",
            str(x),
            easy=abs(a) < 10 and abs(c) < 10,
        )
        imaginary = expression_step(
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
                expression_step(f"The real part is {real_expression}.", f"This is {x}.", real_expression, str(x)),
                expression_step(
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


def _complex_text(re: int, im: int) -> str:
    return f"({re}{'+' if im >= 0 else '-'}{abs(im)}j)"


def equation(m: Metadata, answer: str, rng: Random) -> Worked:
    """A linear equation, by hand in two steps or solved at once."""
    v = str(m["variable"])
    left, right = str(m["equation"]).split(" = ")
    k, constant = _linear(left, v)
    rhs = int(right)
    if rng.random() < 0.5:
        return Worked(steps=(_solve_step(left, rhs, v, answer, rng),), answer=answer)
    steps = []
    if constant:
        steps.append(
            expression_step(
                f"I move the constant to the right: {k}*{v} = {rhs} - ({constant}).",
                f"So {k}*{v} = {rhs - constant}.",
                f"{rhs} - ({constant})",
                str(rhs - constant),
                easy=abs(rhs) < 100 and abs(constant) < 10,
            )
        )
    steps.append(
        expression_step(
            f"I divide by the coefficient: {v} = {rhs - constant} // ({k}).",
            f"So {v} = {answer}.",
            f"{rhs - constant} // ({k})",
            answer,
        )
    )
    return Worked(steps=tuple(steps), answer=answer)


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


def legs(m: Metadata, answer: str, rng: Random) -> Worked:
    """Legs group by group, then their sum."""
    groups = [(int(count), LEGS[name]) for name, count in m["animals"].items()]
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
    add = expression_step(
        rng.choice((f"All together there are {total} legs.", f"The total is {total}.")),
        rng.choice((f"That is {answer}.", f"The sum is {answer}.")),
        total,
        answer,
        easy=len(values) == 2,
    )
    return Worked(steps=(multiply, add), answer=answer)


LEGS = {
    **dict.fromkeys(("snake", "sea slug", "jellyfish", "flatworm", "leech"), 0),
    **dict.fromkeys(("chicken", "bird", "human", "duck"), 2),
    **dict.fromkeys(("dog", "cat", "cow", "horse", "lion", "elephant", "giraffe", "tiger", "deer", "sheep"), 4),
    "starfish": 5,
    **dict.fromkeys(("insect", "ant", "butterfly", "beetle", "bee", "wasp", "grasshopper", "cricket"), 6),
    **dict.fromkeys(("cockroach", "praying mantis", "firefly"), 6),
    **dict.fromkeys(("spider", "scorpion"), 8),
    **dict.fromkeys(("crab", "lobster", "shrimp"), 10),
    "woodlouse": 14,
}


def polygon(m: Metadata, answer: str, rng: Random) -> Worked:
    """Angle sum, sum of the known angles, what is left."""
    n, known = int(m["n_sides"]), [int(a) for a in m["known_angles"]]
    whole, part, expression = (n - 2) * 180, sum(known), " + ".join(map(str, known))
    return Worked(
        steps=(
            expression_step(
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
            expression_step(f"The known angles add up to {expression}.", f"This is {part}.", expression, str(part)),
            expression_step(
                rng.choice((f"The missing angle is {whole} - {part}.", f"What is left is {whole} - {part}.")),
                f"This is {answer}.",
                f"{whole} - {part}",
                answer,
            ),
        ),
        answer=answer,
    )
