"""The page `docs/follow_one_sample.md` is run, and what it prints is compared with what it shows.

`python tests/test_follow_one_sample.py` writes the printed output into the page: after a change that should move it.
"""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "follow_one_sample.md"
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n\n(?P<fence>```+)text\n(?P<shown>.*?)^(?P=fence)\n", re.M | re.S)


def printed(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Each block of a page with what it prints; all share one namespace."""
    namespace: dict[str, Any] = {"__name__": "follow_one_sample"}
    for block in BLOCK.finditer(text):
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(block["code"], f"{PAGE.name}, block at {block.start()}", "exec"), namespace)
        yield block, out.getvalue()


def bare(text: str) -> list[str]:
    """Lines without trailing blanks."""
    return [line.rstrip() for line in text.rstrip().split("\n")]


def test_every_block_of_the_page_prints_what_the_page_shows() -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = [(block["shown"], out) for block, out in printed(text)]
    assert len(blocks) == text.count("\n## ") == 10  # one block a section, none that the pattern passes over
    for shown, out in blocks:
        assert bare(out) == bare(shown)


def test_the_comparison_sees_a_changed_character_and_not_a_trailing_blank() -> None:
    page = "```python\nx = 1\nprint(x, '')\n```\n\n```text\n1\n```\n\n```python\nprint(x + 1)\n```\n\n```text\n3\n```\n"
    right, wrong = ((bare(out), bare(block["shown"])) for block, out in printed(page))
    assert right[0] == right[1] == ["1"]  # printed with a blank behind it
    assert wrong == (["2"], ["3"])  # x is known in the second block


def rewritten(text: str) -> str:
    """The page with its outputs replaced by what the blocks print."""
    for block, out in reversed(list(printed(text))):
        shown = "\n".join(bare(out)) + "\n"
        text = text[: block.start("shown")] + shown + text[block.end("shown") :]
    return text


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
