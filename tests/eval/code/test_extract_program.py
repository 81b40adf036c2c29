"""The program that is tested is the one that the reply means, however it is wrapped."""

import textwrap

import pytest

from code_tasks import task_of
from thor_tir.eval.code.extract_program import EXTRACTORS, evalplus_program, find_program, livecodebench_program

HEAD = (
    "from typing import List\n\n\ndef top(xs: List[int]) -> int:\n"
    '    """The largest.\n\n    >>> top([1, 2])\n    2\n    """\n'
)
CODE = (
    "def top(xs: List[int]) -> int:\n    best = xs[0]\n    for x in xs:\n        best = max(best, x)\n    return best\n"
)
BODY = textwrap.dedent(CODE.partition("\n")[2])
INDENTED = CODE.partition("\n")[2]
STDIN = "n = int(input())\nfor i in range(n):\n    print(i + 1)\n"


CONTINUED = task_of(HEAD, "top")
SENTENCE = task_of("Write a function top that gives the largest of a list.", "top", benchmark="mbpp")
READER = task_of("Count.", benchmark="livecodebench", printed="1\n")


def fenced(code: str, tag: str = "python", mark: str = "```") -> str:
    return f"{mark}{tag}\n{code}{mark}\n"


def documented(docstring: str) -> str:
    """The function with a docstring."""
    return CODE.replace("    best = xs[0]", f"{docstring}    best = xs[0]")


def shifted(text: str, prefix: str) -> str:
    return textwrap.indent(text, prefix)


OLD = "def top(xs):\n    return 0\n"
WRAPPED = {
    "a block": fenced(CODE),
    "words around it": f"Sure!\n{fenced(CODE)}It takes the largest.",
    "tags of other spellings": "".join(fenced(OLD, tag) for tag in ("py", "Python3")) + fenced(CODE, "PYTHON3.11"),
    "a tag with attributes": fenced(CODE, 'python title="top.py"'),
    "a tag in braces": fenced(CODE, "{python}"),
    "blanks behind the fences": f"```python  \n{CODE}```   \n",
    "carriage returns": fenced(CODE).replace("\n", "\r\n"),
    "no tag": fenced(CODE, ""),
    "tildes": fenced(CODE, "python", "~~~"),
    "tildes without a tag": fenced(CODE, "", "~~~~"),
    "four backticks": fenced(CODE, "python", "````"),
    "never closed": f"```python\n{CODE}",
    "closed by the end of the turn": f"```python\n{CODE}```",
    "a list": f"1. Code:\n\n{shifted(fenced(CODE), '   ')}",
    "on the line of a list": f"- {fenced(CODE).replace(chr(10), chr(10) + '  ')}",
    "tabs of a list": f"1. Code:\n\n{shifted(fenced(CODE), chr(9))}",
    "a quotation": shifted(fenced(CODE), "> "),
    "the code deeper than its fence": fenced(shifted(CODE, "    ")),
    "an output block behind": f"{fenced(CODE)}Output:\n{fenced('3', '')}",
    "an untagged call behind": f"{fenced(CODE)}Use it:\n{fenced('top([1, 2])', '')}",
    "a tagged call behind": f"{fenced(CODE)}Use it:\n{fenced('print(top([1, 2]))')}",
    "an untagged draft behind": f"{fenced(CODE)}Not so:\n{fenced(OLD, '')}",
    "another language behind": f"{fenced(CODE)}In C++:\n{fenced('int top(v) { return 0; }', 'cpp')}",
    "a shell block behind": f"{fenced(CODE)}Run it:\n{fenced('python top.py', 'bash')}",
    "the last of two": fenced(OLD) + fenced(CODE),
    "after the thoughts": f"<think>{fenced(OLD)}</think>{fenced(CODE)}",
    "a fence in a docstring": fenced(documented("    '''So:\n    ```\n    top([1])\n    ```\n    '''\n")),
    "a fence at the margin in a docstring": fenced(documented("    '''\n```\ntop([1])\n```\n'''\n")),
    "a tagged fence in a docstring": fenced(documented("    '''\n    ```python\n    top([1])\n    ```\n    '''\n")),
    "bare": CODE,
    "prose before bare code": f"Here is the code:\n\n{CODE}",
    "prose on both sides": f"I take the largest.\n\n{CODE}\nThis works, since max does.",
    "words that Python could read behind": f"{CODE}\nDone",
    "an annotation behind": f"{CODE}\nOutput: 5",
    "a comparison behind": f"{CODE}\nThat is it",
    "prose that begins as code": f"from a list the largest:\n\n{CODE}",
    "a stray closing fence": f"{CODE}```",
    "a stray closing fence and a sentence": f"{CODE}```\n\nThis works because of max.",
    "a stray opening fence without a tag": f"```\n{CODE}",
    "prose, bare code, a stray fence": f"Here:\n{CODE}```\n",
    "two stray fences": f"{CODE}```\n```\n",
    "a main guard": fenced(f"{CODE}\nif __name__ == '__main__':\n    print(top([1]))\n"),
    "a helper before it": fenced("def larger(a, b):\n    return a if a > b else b\n" + CODE.replace("max(", "larger(")),
}  # fmt: skip
BODIES = {
    "the body in a block": fenced(INDENTED),
    "the body bare": INDENTED,
    "the body and a sentence": f"{INDENTED}\nThis returns the largest.",
    "the body and a stray fence": f"{INDENTED}```\n",
    "the body without its indentation": fenced(BODY),
    "the body without its first indentation": fenced(INDENTED.lstrip()),
    "the body, then its use": fenced(INDENTED) + fenced("print(top([1]))"),
}


def largest(program: str | None) -> int:
    names: dict = {}
    exec(program or "", names)
    return names["top"]([3, 9, 4])


@pytest.mark.parametrize("response", WRAPPED.values(), ids=WRAPPED)
def test_the_function_is_found_in_any_wrapping(response: str) -> None:
    assert largest(find_program(CONTINUED, response)) == 9
    typed = "from typing import List\n" + (find_program(SENTENCE, response) or "")
    assert largest(typed) == 9


@pytest.mark.parametrize("response", BODIES.values(), ids=BODIES)
def test_the_body_of_the_prompts_function_is_put_behind_it(response: str) -> None:
    program = find_program(CONTINUED, response)
    assert program is not None
    assert program.startswith(HEAD)
    assert largest(program) == 9


NUMBERS = "3\n1 2 3\n"
READERS = {
    "an untagged output block behind": f"{fenced(STDIN)}Output:\n{fenced('5', '')}",
    "an untagged sample input behind": f"{fenced(STDIN)}Sample input:\n{fenced('4', '')}",
    "sample input of many lines": f"{fenced(STDIN)}Sample:\n{fenced(NUMBERS, '')}",
    "an output that Python could read": f"{fenced(STDIN)}Output:\n{fenced('YES', '')}",
    "an output that looks like an assignment": f"{fenced(STDIN)}Output:\n{fenced('n = 5', '')}",
    "a tagged output behind": f"{fenced(STDIN)}Output:\n{fenced('5', 'text')}",
    "a tagged example without input behind": f"{fenced(STDIN)}For 2:\n{fenced('print(1)')}",
    "an untagged program and an untagged output": f"{fenced(STDIN, '')}Output:\n{fenced('1', '')}",
    "no fences": f"Here it is:\n{STDIN}",
    "prose on both sides": f"I count.\n\n{STDIN}\nIt prints each number.",
    "a stray fence": f"{STDIN}```\nThis works.",
    "tildes": fenced(STDIN, "python", "~~~"),
    "never closed": f"```python\n{STDIN}",
    "a list": f"* so:\n\n{shifted(fenced(STDIN), '  ')}",
    "the last of two programs": fenced("print(input())\n") + fenced(STDIN),
}


@pytest.mark.parametrize("response", READERS.values(), ids=READERS)
def test_a_program_that_reads_its_input_is_not_mistaken_for_its_output(response: str) -> None:
    assert (find_program(READER, response) or "").strip() == STDIN.strip()


def test_a_program_that_needs_no_input_is_found_where_nothing_reads_any() -> None:
    assert find_program(READER, fenced("print(42)\n") + fenced("42", "")) == "print(42)\n"


@pytest.mark.parametrize(
    "response", ["", "I do not know.", "It is 5", "Maybe max(xs)?", "<think>\n```python\nx = 1\n```\n</think>No."]
)
def test_mere_words_hold_no_program(response: str) -> None:
    assert find_program(CONTINUED, response) is None


def test_a_long_reply_takes_no_long_time() -> None:
    from time import process_time

    began = process_time()
    prose = "for example, (see above) the value = 3 'is' open ( and [ and '''\n" * 3000
    assert find_program(SENTENCE, f"{prose}") is None
    assert largest("from typing import List\n" + (find_program(SENTENCE, prose + CODE + prose) or "")) == 9
    assert process_time() - began < 20


def test_evalplus_keeps_the_longest_code_and_of_it_what_the_function_needs() -> None:
    helper, unused = "def helper(x):\n    return x\n", "def unused():\n    return 1\n"
    function = "def top(xs):\n    return helper(max(xs))"
    program = f"import math\n{unused}{helper}{function}\nprint(top([1]))\n"
    kept = evalplus_program(SENTENCE, f"Here is it:\n{fenced(program)}Done.")
    assert kept == f"import math\n\n{helper}\n{function}".replace("\n\n", "\n")
    assert largest(evalplus_program(SENTENCE, f"{CODE.replace(': List[int]', '')}\nThis works.")) == 9
    assert evalplus_program(SENTENCE, "```python\ndef top(xs):\n    print(xs)\n```") is None  # it returns nothing
    assert evalplus_program(SENTENCE, "It is clear") is None


def test_evalplus_takes_no_import_from_the_prompt() -> None:
    with pytest.raises(NameError):
        largest(evalplus_program(CONTINUED, fenced(CODE)))


def test_livecodebench_takes_what_stands_between_the_last_two_fences() -> None:
    assert livecodebench_program(READER, fenced(STDIN)) == STDIN.rstrip("\n")
    assert livecodebench_program(READER, fenced(STDIN) + fenced(NUMBERS, "")) == "3\n1 2 3"
    assert livecodebench_program(READER, STDIN) is None
    assert livecodebench_program(READER, f"```python\n{STDIN}") is None


def test_every_extractor_has_a_name() -> None:
    assert set(EXTRACTORS) == {"thor", "evalplus", "livecodebench"}
