"""Kinds of answers that reports from the field named, varied: what is the same, what is not, in both readings."""

import pytest

from thor_tir.grading.extract import extract_answer
from thor_tir.grading.rules.algebra import algebraic_outcome
from thor_tir.grading.rules.matching import quick_outcome
from thor_tir.verdict import Outcome, Strictness

SAME = {
    "complex numbers as Python prints them": [
        ("2-7i", "(2-7j)"),
        ("2-7i", "-7j+2"),
        ("5i", "5j"),
        ("-i", "-1j"),
        ("-i", "(-0-1j)"),
        ("1+2i, 1-2i", "[(1+2j), (1-2j)]"),
        ("2-7i", "complex(2, -7)"),
        ("2-7i", "mpc(real='2.0', imag='-7.0')"),
        ("1.5e-3i", "1.5e-3j"),
        ("2-7i", "np.complex128(2-7j)"),
    ],
    "numbers that numpy, decimal, mpmath and sympy print": [
        ("7", "np.int64(7)"),
        ("-7", "np.int64(-7)"),
        ("3.5", "np.float64(3.5)"),
        ("3,4", "[np.int64(3), np.int64(4)]"),
        ("(3,4)", "(np.int64(3), np.int64(4))"),
        (r"\{3,4\}", "{np.int64(4), np.int64(3)}"),
        ("0.125", "Decimal('0.125')"),
        ("3.5", "mpf('3.5')"),
        ("7", "Integer(7)"),
        ("3.5", "Float('3.5', precision=53)"),
        ("7", "tensor(7)"),
        ("3,4", "array([3, 4], dtype=int32)"),
        ("7", "numpy.int32(7)"),
    ],
    "sets that sympy prints": [
        (r"[3,\infty)", "Interval(3, oo)"),
        (r"(-\infty,3]", "Interval(-oo, 3)"),
        ("(0,4)", "Interval.open(0, 4)"),
        ("(0,4]", "Interval.Lopen(0, 4)"),
        ("[0,4)", "Interval.Ropen(0, 4)"),
        ("[0,4)", "Interval(0, 4, False, True)"),
        (r"(-\infty,-1)\cup(1,\infty)", "Union(Interval.open(-oo, -1), Interval.open(1, oo))"),
        (r"\{4,5\}", "FiniteSet(5, 4)"),
        ("4,5", "{4, 5}"),
        (r"\left[-\sqrt{3},\sqrt{3}\right]", "Interval(-sqrt(3), sqrt(3))"),
        (r"\emptyset", "EmptySet"),
        (r"\emptyset", "set()"),
        ("x=4", "Eq(x, 4)"),
        (r"\mathbb{R}", "Reals"),
    ],
    "quoted text": [("9", "'9'"), ("9", '"9"'), ("3,4", "['3', '4']"), (r"\text{yes}", "'yes'"), ("(C)", "'C'")],
    "a number and its unit or noun in one font": [
        ("34", r"\text{34 cm}"),
        ("34", r"\mathrm{34\,kg}"),
        ("34", r"\textbf{34 pears}"),
        ("34", r"\textit{34 square feet}"),
        (r"\text{34 cm}", "34"),
        (r"\text{34 cm}", r"34\text{ cm}"),
        (r"\text{34 cm}", r"\text{340 mm}"),
        ("34", r"\text{34cm}"),
        ("1,250", r"\text{1,250 people}"),
        ("2.5", r"\mathrm{2.5~km}"),
        (r"34\text{ cm}^2", r"\text{34 cm}^2"),
    ],
    "sizes": [
        ("34", r"\large 34"),
        ("34", r"\Large{34}"),
        ("34", r"{\Huge 34}"),
        ("34", r"\small 34"),
        (r"\frac{1}{2}", r"\LARGE\frac{1}{2}"),
    ],
    "prime factorisations": [
        (r"2^3 \cdot 3^2 \cdot 5", "2^3 3^2 5"),
        (r"2^3 \cdot 3^2", "2^{3}3^{2}"),
        (r"2 \cdot 3^2", "2 3^2"),
        (r"2^4 \times 5", "2⁴5"),
        (r"2^4 \times 5", r"2^4\ 5"),
        ("2 3^2", r"2 \times 3^2"),
        (r"3^2 \cdot 2", r"2\,3^2"),
    ],
    "words with another capital": [
        (r"\text{Even}", r"\text{even}"),
        (r"\text{odd}", r"\text{ODD}"),
        (r"\text{No}", "no"),
        (r"\text{ellipse}", r"\textbf{Ellipse}"),
        (r"\text{east}", r"\mathrm{East}"),
    ],
    "amounts": [
        ("1234", r"\$1{,}234"),
        (r"\$1{,}234", "1234"),
        (r"\$32{,}348.50", "32348.5"),
        ("1234", r"\$ 1{,}234"),
        ("1234567", r"\$1{,}234{,}567"),
        ("1234", r"\text{\$}1{,}234"),
        ("1234", "USD 1{,}234"),
        ("1234", r"1{,}234\text{ dollars}"),
    ],
    "a trailing backslash": [
        ("42", "42\\"),
        (r"\frac{1}{2}", "\\frac{1}{2}\\"),
        ("x+1", "x+1\\\\"),
        ("(1,2)", "(1,2)\\"),
        ("x=3", "3 \\"),
    ],
    "scientific notation of many digits": [
        (r"\frac{1}{3}", "3.3333333333333333e-01"),
        (r"\frac{2}{3}", r"6.66666666666667 \times 10^{-1}"),
        (r"\frac{1}{300}", "3.33333333333333e-3"),
        (r"\frac{1}{300}", r"3.33333333333333\cdot 10^{-3}"),
        (r"\frac{200}{3}", r"6.66666666666667 \times 10^1"),
        (r"\sqrt{2}", r"1.4142135623730951 \times 10^{0}"),
    ],
    "thousands with a narrow blank": [
        ("1000", "1 000"),
        ("1234567", r"1\,234\,567"),
        ("1000", "1~000"),
        ("12345", r"12\ 345"),
        ("1000", "1\u202f000"),
    ],
    "tiny numbers": [
        (r"\frac{1}{3000!}", r"\frac{1}{3000!}"),
        (r"\frac{1}{100!}", r"\frac{1}{100!}"),
        (r"\sin(\pi)+1", "1"),
        (r"(\sqrt{2}+\sqrt{3})^2", r"5+2\sqrt{6}"),
        (r"\frac{\sqrt{2}}{10^{45}}", r"\sqrt{2}\cdot 10^{-45}"),
    ],
    "matrices and vectors": [
        (r"\begin{pmatrix}1&2\end{pmatrix}", "[[1, 2]]"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
        (r"\begin{pmatrix}1&2\end{pmatrix}", "(1,2)"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "Matrix([[1], [2]])"),
        (r"\begin{pmatrix}7\end{pmatrix}", "[[7]]"),
    ],
    "bases": [
        ("40_9", "40"),
        ("40_9", "40_{9}"),
        ("40", "40_{10}"),
        ("40_9", r"40_{\text{nine}}"),
        ("1101_2", r"1101_{2}"),
    ],
}
OTHER = {
    "functions with steps": [
        (r"\lfloor\sqrt{n-1}\rfloor", r"\lfloor\sqrt{n+1}\rfloor"),
        (r"\lceil n/2 \rceil", r"\lfloor n/2 \rfloor"),
    ],
    "complex numbers as Python prints them": [
        ("2-7i", "(2+7j)"),
        ("5i", "5"),
        ("6i+3k", "4i+2j+3k"),
        ("4i+2j", "6i"),
        ("i+j", "2i"),
        ("2j+k", "2i+k"),
        ("2-7i", "complex(-7, 2)"),
    ],
    "numbers that numpy, decimal, mpmath and sympy print": [
        ("7", "np.int64(8)"),
        ("5", "int(5.9)"),
        ("6", "round(5.9)"),
        ("3,4", "[np.int64(3), np.int64(5)]"),
        ("0.125", "Decimal('0.126')"),
        ("3", "np.sum(3)"),
        ("(3,4)", "(np.int64(4), np.int64(3))"),
    ],
    "sets that sympy prints": [
        ("(0,4]", "Interval(0, 4)"),
        ("(0,4)", "Interval.Ropen(0, 4)"),
        (r"\{4,5\}", "FiniteSet(4)"),
        ("(4,5)", "FiniteSet(4, 5)"),
        (r"(-\infty,3]", "Interval.open(-oo, 3)"),
        (r"(-\infty,-1)\cup(1,\infty)", "Interval.open(-oo, oo)"),
        (r"\emptyset", "{0}"),
    ],
    "quoted text": [("9", "'8'"), ("f'(x)", "f(x)"), ("3,4", "['3', '5']"), (r"\text{yes}", "'no'"), ("y'", "y")],
    "a number and its unit or noun in one font": [
        ("34", r"\text{35 cm}"),
        ("34", r"\text{34x}"),
        ("3", r"\text{3 or 4}"),
        ("2", r"\text{2 thirds}"),
        ("3", r"\text{3 halves}"),
        ("5", r"\text{5 squared}"),
        (r"\text{34 cm}", r"\text{34 m}"),
        ("5", r"\text{5 plus x}"),
        ("5", r"\text{5 factorial}"),
        ("3", r"\text{3 of 4}"),
        ("7", r"\text{7 minus x}"),
    ],
    "sizes": [
        ("34", r"\large 43"),
        ("34", r"3\large 4"),
        ("34", r"\Large{3}\Large{4}"),
        ("12", r"1\small 2"),
        ("2", r"\Huge 2x"),
    ],
    "prime factorisations": [
        (r"2^3 \cdot 3^2", "2^3 3^3"),
        (r"2 \cdot 3 \cdot 7", "2 3 7"),
        (r"2^3 \cdot 3^2", "2^3, 3^2"),
        ("42", "2 3 7"),
        (r"2 \cdot 3^2", "23^2"),
        (r"2^3\cdot 5", "2^35"),
    ],
    "words with another capital": [
        ("n", "N"),
        (r"\text{even}", r"\text{odd}"),
        ("x+y", "X+Y"),
        ("a", "A"),
        (r"\text{No}", r"\text{Not}"),
    ],
    "amounts": [
        ("1234", r"\$1{,}235"),
        ("1234", r"\$1{,} 234{,}5"),
        ("234", r"\$1{,}234"),
        ("1234", r"1{,}23{,}4"),
        (r"\$1{,}234", "1,2,3,4"),
    ],
    "a trailing backslash": [("42", "43\\"), ("42", "4\\2"), ("42", "\\"), ("42", "4 \\\\ 2"), ("x", "x-\\")],
    "scientific notation of many digits": [
        (r"\frac{1}{3}", "3.333e-1"),
        (r"\frac{1}{3}", "3.3333333333333333e-02"),
        (r"\frac{2}{3}", r"6.66666666666667 \times 10^{-2}"),
        (r"\frac{2}{3}", r"6.6667 \times 10^{-1}"),
        (r"\sqrt{2}", r"1.414 \times 10^0"),
    ],
    "digits across blanks": [
        ("34", "3 4"),
        ("235", "2 3 5"),
        ("12", "1\n2"),
        ("12", "$1$ $2$"),
        ("12", r"1\quad 2"),
        ("12", r"1\,2"),
        ("12", r"1\;2"),
        ("12", "1~2"),
        ("1234", r"1\quad 234"),
        ("1234", "1\n234"),
        ("1234", "$1$ $234$"),
        ("3.5", "3 .5"),
        ("3.5", "3. 5"),
        ("1.25", "1.2 5"),
        ("123", r"\text{1}\text{2}3"),
        ("(12,3)", "(1 2,3)"),
        ("1/23", "1/2 3"),
        ("12,3", "1 2, 3"),
        (r"\frac{12}{5}", r"\frac{1 2}{5}"),
        ("x^{12}", "x^{1 2}"),
        ("12x", "1 2x"),
    ],
    "tiny numbers": [
        (r"\frac{1}{3000!}", r"\frac{1}{3001!}"),
        (r"\frac{1}{100!}", r"\frac{1}{101!}"),
        (r"\frac{1}{12000!}", r"\frac{1}{13000!}"),
        ("0", r"\frac{1}{3000!}"),
        (r"e^{-3000}", "0"),
        (r"\sin(10^{-40})", r"\sin(10^{-41})"),
        (r"\sqrt{2}\cdot 10^{-45}", r"\sqrt{3}\cdot 10^{-45}"),
        (r"\ln(1+10^{-35})", r"\ln(1+2\cdot 10^{-35})"),
        (r"\frac{\sqrt{2}}{2500!}", r"\frac{\sqrt{3}}{2500!}"),
        ("10^{-30}x", "10^{-30}x^2"),
        ("10^{-30}x=1", "10^{-30}x^2=1"),
        ("10^{-30}x^2+C", "10^{-30}x^3+C"),
        (r"\sqrt{2}", r"\sqrt{2}+10^{-60}"),
        (r"\binom{3000}{1500}", r"\binom{3000}{1500}+1"),
    ],
    "matrices and vectors": [
        (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "[[1, 2]]"),
        (r"\begin{pmatrix}1&2\end{pmatrix}", "Matrix([[1], [2]])"),
        (r"\begin{bmatrix}1&2&3\end{bmatrix}", r"\begin{bmatrix}1\\2\\3\end{bmatrix}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "(2,1)"),
    ],
    "bases": [
        ("40_9", "40_8"),
        ("40_9", "41_9"),
        ("2215_6", "22 15_6"),
        ("110010_2", "11 0010 0_2"),
        ("36", "40_9"),
        ("40_9", "36"),
        ("1101_2", "1101_3"),
    ],
}
REFUSED_AS_REWARD = {
    "decimals beside whole numbers": [
        ("1", "0.99999999999999"),
        ("1", "1.00000000000001"),
        ("100", "99.9999999999999"),
        ("5", "4.999999999999999"),
        ("3", "3.0000000000000004"),
        (r"\sqrt{4}", "1.9999999999999998"),
        ("-2", "-1.9999999999999998"),
        ("(1,2)", "(0.99999999999999, 2)"),
    ],
    "a base that a plain reference does not name": [
        ("42", "42_7"),
        ("42", "42_{7}"),
        ("4343", "4343_6"),
        ("10", "10_2"),
        ("42", "(42)_8"),
    ],
}
"""Accepted in evaluation, where a reference may leave out its base and a program's last digit is noise."""
NEVER_WHOLE = [
    ("123456789012345678", "123456789012345678.5"),
    ("1", "0.9999"),
    ("7", "7.00001"),
    ("1000000", "999999.999"),
]


def flat(groups):
    return [
        pytest.param(*pair, id=f"{name}: {pair[0]} | {pair[1]}") for name, pairs in groups.items() for pair in pairs
    ]


def is_accepted(gold, answer, strictness):
    return (quick_outcome(gold, answer, strictness) or algebraic_outcome(gold, answer, strictness))[
        0
    ] is Outcome.CORRECT


@pytest.mark.parametrize(("gold", "answer"), flat(SAME))
def test_the_same_value_in_another_spelling_is_accepted(gold, answer):
    assert [is_accepted(gold, answer, strictness) for strictness in Strictness] == [True, True]


@pytest.mark.parametrize(("gold", "answer"), flat(OTHER) + [pytest.param(*pair) for pair in NEVER_WHOLE])
def test_a_near_miss_is_refused(gold, answer):
    assert [is_accepted(gold, answer, strictness) for strictness in Strictness] == [False, False]


@pytest.mark.parametrize(("gold", "answer"), flat(REFUSED_AS_REWARD))
def test_a_reward_is_stricter_than_an_evaluation(gold, answer):
    assert not is_accepted(gold, answer, Strictness.STRICT)
    assert is_accepted(gold, answer, Strictness.LENIENT)


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        (r"So \boxed{5}. Wait, \boxed{6", None, "5"),
        (r"\boxed{5} then \fbox{\frac{6}{", None, "5"),
        (r"\boxed{5}, \boxed{6}, no: \boxed{\text{at le", None, "5, 6"),
        (r"\boxed{5} \\boxed{6", None, "5"),
        (r"\boxed{6", None, None),
        (r"\boxed{\frac{1}{2}. The answer is 1/2.", None, "1/2"),
        (r"The answer is \boxed{6", None, None),
        (r"\boxed{5} in \boxed as asked", "5", "5"),
        (r"\boxed{ \boxed{6}", "6", "6"),
        (r"\boxed{4 and then \boxed{6}", None, "6"),
        (r"\boxed{4, so \fbox{6}. Done", None, "6"),
        ("\\boxed{4\n\nTherefore \\boxed{6}", None, "6"),
        (r"\boxed{\boxed{\boxed{6}", "6", "6"),
        (r"\boxed{\boxed{4} or \boxed{6}", "4, 6", "4, 6"),
    ],
)
def test_a_box_left_open_takes_earlier_ones_back_in_a_strict_reading(text, strict, lenient):
    assert extract_answer(text, Strictness.STRICT) == strict
    assert extract_answer(text, Strictness.LENIENT) == lenient


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is `47`.", "47"),
        ("**Answer:** `47`", "47"),
        ("### Answer\n\n__47__", "47"),
        ("### Final Answer\n_47_", "47"),
        ("- **47**", "47"),
        ("1. **47**", "47"),
        ("> 47", "47"),
        ("> **47**", "47"),
        ("* `47`", "47"),
        ("### Answer\n- 47", "47"),
        ("Answer: **47** apples", "47 apples"),
        ("Result: `x**2`", "x**2"),
        ("It follows that\n\n`2*x+1`", "2*x+1"),
        ("~~46~~", "46"),
        ("- 47", "- 47"),
        ("x_1", "x_1"),
        ("the answer is x**2 + y**2", "x**2 + y**2"),
        ("**`47`**", "47"),
    ],
)
def test_the_marks_of_markdown_around_an_answer_are_read_through_in_a_lenient_reading(text, answer):
    assert extract_answer(text, Strictness.LENIENT) == answer
    assert extract_answer(text, Strictness.STRICT) is None
