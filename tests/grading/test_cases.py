"""Pairs that a mathematician calls equal, and pairs that only look so, judged as the grading process judges them."""

import pytest

from different_cases import DIFFERENT
from thor_tir.grading.rules.algebra import algebraic_outcome
from thor_tir.grading.rules.matching import quick_outcome
from thor_tir.verdict import Outcome, Strictness

EQUAL = {
    "leading zeros and signs": [("73", "073"), ("-5", "−5"), ("2", "+2"), ("7", "7.0"), ("42", "42."), ("42", "$42$")],
    "fractions": [
        (r"\frac{1}{2}", "1/2"),
        (r"\frac{1}{2}", "0.5"),
        (r"\frac{1}{2}", r"\dfrac12"),
        (r"-\frac{3}{4}", r"\frac{-3}{4}"),
        (r"-\frac{3}{4}", r"\frac{3}{-4}"),
        (r"\frac{14}{3}", r"4\frac{2}{3}"),
        ("1\\frac{4}{5}", "9/5"),
        ("1\\frac{4}{5}", "1 4/5"),
        (r"\frac{9}{5}", "1.8"),
        (r"\frac 34", ".75"),
        (r"\frac{5}{2}", r"{5 \over 2}"),
        (r"-1\frac{1}{2}", "-1.5"),
        (r"\frac{10}{4}", r"\frac{5}{2}"),
        (r"\frac{3}{2}", "1½"),
    ],
    "repeating decimals": [
        (r"\frac{1}{3}", r"0.\overline{3}"),
        (r"\frac{1}{6}", r"0.1\overline{6}"),
        (r"0.\overline{12}", r"\frac{4}{33}"),
        (r"\frac{1}{3}", r"0.333\ldots"),
        (r"\frac{1}{3}", "0.(3)"),
    ],
    "percent": [(r"10\%", "0.1"), (r"10\%", "10"), ("0.1", r"10\%"), ("17.5%", r"17.5\%"), (r"28\%", "28 percent")],
    "units and currency": [
        (r"\$18.90", "18.9"),
        (r"\$32,\!348", "32348"),
        ("5", r"5\text{ cm}"),
        (r"15\mbox{ cm}^2", "15"),
        (r"5 \text{ m}", r"500\text{ cm}"),
        ("10", "10 dollars"),
        ("3", r"3 \mathrm{~km}"),
        ("0.75", r"\$0.75"),
        (r"12\text{ square feet}", "12"),
        (r"2\text{ hours}", r"120\text{ minutes}"),
        ("35", "35 cm"),
    ],
    "thousands": [
        ("7425000", "7,425,000"),
        (r"11,\!111,\!111,\!100", "11111111100"),
        ("32349", r"32{,}349"),
        ("1000", "1 000"),
    ],
    "angles": [
        (r"90^\circ", "90"),
        ("90", "90°"),
        (r"90^{\circ}", r"\frac{\pi}{2}"),
        (r"45^\circ", r"45\text{ degrees}"),
        (r"\frac{\pi}{3}", r"\pi/3 \text{ radians}"),
        (r"\frac{1}{2}", r"\sin 30^\circ"),
    ],
    "intervals and inequalities": [
        (r"(2,\infty)", "x>2"),
        ("x>2", r"(2,\infty)"),
        (r"[-2,7]", r"-2 \le x \le 7"),
        (r"-2\le x\le 7", r"x \in [-2,7]"),
        (r"(-\infty, 2) \cup (3, \infty)", r"x < 2 \text{ or } x > 3"),
        (r"x \neq 3", r"(-\infty,3)\cup(3,\infty)"),
        (r"(-\infty, 0]", r"(-\infty, 0 ]"),
        (r"k \geqslant 2", r"[2,\infty)"),
        ("x \\leq 5", "5 \\geq x"),
        (r"(-\infty,\infty)", r"\mathbb{R}"),
        (r"[\frac{1}{2}, 8]", "[0.5, 8]"),
        (r"0<f(x)<1", "(0,1)"),
        (r"(3,\infty) \cup (-\infty,2)", r"(-\infty,2)\cup(3,\infty)"),
        ("x < 1", "-x > -1"),
        ("(2,5]", "2 < x ≤ 5"),
    ],
    "lists and sets": [
        ("-2,1", "1, -2"),
        ("1,2,3,4", r"\{4,3,2,1\}"),
        (r"\{1,2\}", r"1 \text{ and } 2"),
        ("5,1", "x=1, x=5"),
        ("11,19,37,73", "73, 37, 19, 11"),
        ("$3,1$", r"\{1,3\}"),
        ("6, 8", r"6 \text{ or } 8"),
        ("1,2,3", "[1, 2, 3]"),
        ("19, 46, and 82", r"19, 46, \text{ and } 82"),
        ("$69$,$84$", "84,69"),
        (r"5", r"\{5\}"),
    ],
    "tuples": [
        ("(3,2)", "(3, 2)"),
        (r"(\frac{1}{4}, \frac{1}{27})", "(0.25, 1/27)"),
        ("(p,q)=(3,2)", "(3,2)"),
        ("(15,-29)", "(x,y)=(15,-29)"),
        ("(-6,6), (2,6)", r"(2,6) \text{ and } (-6,6)"),
        ("(1,2,3)", r"\langle 1,2,3\rangle"),
        ("(0,2),(0,-2)", r"(0,-2),(0,2)"),
        ("p=5,q=2;p=7,q=2", "(5,2),(7,2)"),
        (r"\left(3,\frac{\pi}{2}\right)", "(3, pi/2)"),
    ],
    "matrices": [
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1 & 2 \\ 3 & 4\end{bmatrix}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[[1, 2], [3, 4]]"),
        (r"\begin{pmatrix}1\\ \frac12\end{pmatrix}", r"(1, 0.5)"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "Matrix([[1],[2]])"),
    ],
    "equations": [
        ("x=5", "5"),
        ("5", "x=5"),
        ("y=2x+3", "2x+3"),
        ("y = 2x + 3", "2x - y + 3 = 0"),
        ("f(x)=x^2", "x^2"),
        ("f(n)=n^2", "f(x)=x^2"),
        ("f(x)=-1,f(x)=x+1", "f(n)=n+1, f(n)=-1"),
        ("f(x)=x,g(y)=2y", "f(t)=t, g(s)=2s"),
        ("113", "m+n=113"),
        ("30", r"\angle ABC = 30^\circ"),
        ("k=2n-1", "2n-1"),
        ("x^2/4 + y^2/3 = 1", "3x^2+4y^2=12"),
        ("x = 1/3", r"x = 1/3 \approx 0.33"),
        ("f(x)=1", r"f(x) = 1 \text{ for all } x"),
        (r"\frac14", "P(A)=0.25"),
        ("10", r"\binom{5}{2}=10"),
        ("y=2x", "y-2x=0"),
        ("x-2y+z-1=0", "-x+2y-z+1=0"),
    ],
    "plus and minus": [
        (r"3 \pm 2\sqrt{2}", r"3+2\sqrt2, 3-2\sqrt2"),
        (r"\pm 2021", "-2021, 2021"),
        (r"\{1\pm\sqrt{5},-2\}", r"-2, 1+\sqrt5, 1-\sqrt5"),
        (r"1 \pm \sqrt{19}", r"x = 1\pm\sqrt{19}"),
        ("1,-1", "±1"),
    ],
    "choices": [
        (r"\text{(C)}", "C"),
        ("C", "(C)"),
        ("B", r"\textbf{(B)}\ 42"),
        ("42", r"\textbf{(C)}\ 42"),
        ("42", r"\text{(C)}\ 42"),
        ("73", r"\textbf{(073)}"),
        ("E", r"\text{E}"),
        (r"\text{(B)}", "(b)"),
        ("C", "C."),
    ],
    "words": [
        (r"\text{east}", "East"),
        (r"\text{Evelyn}", "Evelyn"),
        ("even", r"\text{Even}"),
        (r"\text{Yes}", "yes."),
        ("odd", r"\text{odd}"),
        ("MR=SRMC", r"\text{MR} = \text{SRMC}"),
        ("two", "2"),
        ("ellipse", r"\text{an ellipse}"),
    ],
    "bases": [
        ("52_8", "52_{8}"),
        ("52_8", "52"),
        ("204_5", r"204_{\text{five}}"),
        ("4343", "4343_6"),
        ("2516_8", "2516_{(8)}"),
    ],
    "complex numbers": [
        ("-2+7i", "7i-2"),
        ("6+9i", "6 + 9*I"),
        (r"-8-8\sqrt{3}i", r"-8(1+i\sqrt3)"),
        (r"\frac{3}{4}i", "0.75i"),
        (r"e^{i\pi/3}", r"\frac{1}{2}+\frac{\sqrt3}{2}i"),
        (r"\frac{1+i}{2}", r"\frac{1}{1-i}"),
    ],
    "scientific notation": [
        ("7.4e-12", r"7.4 \times 10^{-12}"),
        ("8.7e8", r"8.7\cdot10^8"),
        ("4.5e33", "4.5e+33"),
        ("1e11", "10^{11}"),
        ("6e13", "6*10**13"),
        ("7.4e-12", "7.4 × 10⁻¹²"),
        ("1.70e4", "17000"),
        ("2e27", r"2\times10^{27}\text{ kg}"),
    ],
    "ratios and times": [
        ("3:4", "6:8"),
        ("3:4", "3/4"),
        ("12:00", "12:00"),
        ("3:45", r"3{:}45\text{ PM}"),
        ("S_1:S=7:32", "7:32"),
    ],
    "algebra": [
        ("x^2-1", "(x-1)(x+1)"),
        ("6r^2-4r-24", "2(3r^2-2r-12)"),
        (r"\frac{x+2}{7}", r"\frac{x}{7}+\frac{2}{7}"),
        (r"\frac{1}{s}-\frac{1}{s}e^{-sT}", r"\frac{1-e^{-sT}}{s}"),
        (r"2 \sin b \cos a", r"2\cos a\sin b"),
        (r"\tan^2(y)+1", r"\sec^2(y)"),
        ("p - q", "-q+p"),
        (r"11\sqrt2", "11*sqrt(2)"),
        (r"\frac{\sqrt3}{3}", r"\frac{1}{\sqrt{3}}"),
        (r"\frac{n(n+1)}{2}", r"\binom{n+1}{2}"),
        (r"2^{k-1}", r"\frac{2^k}{2}"),
        (r"\ln 8", r"3\ln 2"),
        ("3x^2", "3*x**2"),
        ("e^{16}", "exp(16)"),
        (r"\arcsin(10/13)", "np.arcsin(10/13)"),
        (r"\frac{\pi}{2}", "pi/2"),
        (r"\sqrt[3]{2}", "2^{1/3}"),
        (r"\sqrt{3}/2", "√3/2"),
        ("x^2+1", "x²+1"),
        (r"18+2\pi", "2(9+π)"),
        (r"\frac{1}{2}", "Rational(1,2)"),
        ("x_0+1", "1+x_{0}"),
        (r"\lfloor\frac{2 n-1}{5}\rfloor", r"\left\lfloor \frac{2n-1}{5} \right\rfloor"),
        (r"\frac{x^3}{3}+C", r"\frac13x^3+c"),
        (r"\frac{x^2}{2}+C", r"\frac{x^2+1}{2}+C"),
        (r"C_1 e^{t}+C_2 e^{-t}", "A e^{t} + B e^{-t}"),
        (r"\log_2 8", "3"),
        (r"\frac{\log 2}{\log 3}", r"\log_3 2"),
        ("|x|", r"\sqrt{x^2}"),
        (r"(x+y)^2", "x^2+2xy+y^2"),
    ],
    "rounded references": [
        ("3.14159", r"\pi"),
        ("4.123105625617661", r"\sqrt{17}"),
        ("2.74", "2.7410"),
        (r"\frac{1}{12}", "0.08333333333333333"),
    ],
}

UNWORKED = [
    ("2", "1+1"),
    ("120", "5!"),
    ("10", r"\binom{5}{2}"),
    ("12", r"\gcd(24,36)"),
    ("1", r"\sum_{n=1}^{1} n"),
    ("55", "5+50"),
    ("3", r"\lfloor 3.7 \rfloor"),
]


def outcome(gold: str, answer: str, strictness: Strictness) -> Outcome:
    """The verdict as a Grader comes to it: quickly, or else by algebra."""
    return (quick_outcome(gold, answer, strictness) or algebraic_outcome(gold, answer, strictness))[0]


def pairs(table):
    return [
        pytest.param(gold, answer, id=f"{rule}: {gold} | {answer}")
        for rule, rows in table.items()
        for gold, answer in rows
    ]


@pytest.mark.parametrize(("gold", "answer"), pairs(EQUAL))
def test_equal_answers_are_correct_in_evaluation(gold, answer):
    assert outcome(gold, answer, Strictness.LENIENT) is Outcome.CORRECT


@pytest.mark.parametrize("strictness", Strictness)
@pytest.mark.parametrize(("gold", "answer"), pairs(DIFFERENT))
def test_different_answers_are_never_correct(gold, answer, strictness):
    assert outcome(gold, answer, strictness) is Outcome.WRONG


@pytest.mark.parametrize(("gold", "answer"), UNWORKED)
def test_a_reward_is_not_paid_for_a_calculation_left_undone(gold, answer):
    assert outcome(gold, answer, Strictness.STRICT) is Outcome.WRONG


def test_a_rounded_reference_accepts_more_digits_and_no_other_value():
    # 2.74 has three digits, so both readings round; 1.6 has two, which is no sign of rounding, unlike 1.6e5.
    assert outcome("2.74", "2.7449", Strictness.STRICT) is Outcome.CORRECT
    assert outcome("2.74", "2.7451", Strictness.LENIENT) is Outcome.WRONG
    assert outcome("1.6", "1.58", Strictness.LENIENT) is Outcome.WRONG
    assert outcome("1.6e5", "1.58e5", Strictness.LENIENT) is Outcome.CORRECT
    assert outcome("1.6e5", "1.58e5", Strictness.STRICT) is Outcome.WRONG
    assert outcome("2.74", "2.7", Strictness.LENIENT) is Outcome.WRONG
