"""Numbers in README and docs are quotations of docs/results: this writes them there, or with --check names stale ones.

    python scripts/quote_results.py [--check]

A page quotes a table by a pair of comments around it, and a single figure by a pair of them in a line:

    <!-- results quickstart/main rows 1-4 columns 0-3 -->      <!--=quickstart:vote-->69.4 %<!--=-->
    ...
    <!-- end results -->

    <!--=ladder_smollm2-135m:rows/cold start/accuracy, %-->39.5 %<!--=-->     a cell by row and column, without interval
    <!--=table3_nano:differences/RL, both levels - cold start/difference/whole-->+2.8 (+0.7 to +4.9)<!--=-->  with it

A result file is what `thor reproduce` writes, whose tables are `rows`, `differences`, `success` and `paper`, or a
record of something else that was measured: `made` (command, date, machine), `tables` of head and rows, and `figures` by
name.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thor_tir.eval.tables import pipe_table
from thor_tir.reproduce import report

ROOT = Path(__file__).parents[1]
TABLE = re.compile(
    r"(?P<open><!-- results (?P<name>[\w.-]+)/(?P<part>[\w-]+)(?: rows (?P<rows>[\d,-]+))?"
    r"(?: columns (?P<columns>[\d,-]+))? -->\n)(?P<body>.*?)(?P<close><!-- end results -->)",
    re.DOTALL,
)
FIGURE = re.compile(r"(?P<open><!--=(?P<name>[\w.-]+):(?P<key>[^>]+?)-->)(?P<body>.*?)(?P<close><!--=-->)")
_PARTS: Mapping[str, Callable[[Any], tuple[Sequence[str], Sequence[Sequence[str]]]]] = {
    "rows": report.table,
    "differences": report.differences,
    "success": report.success,
    "paper": report.paper,
}

Results = Mapping[str, Any]
"""Contents of result files by their names."""


def stored(folder: Path) -> dict[str, Any]:
    """All result files of a folder."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def pages(root: Path) -> list[Path]:
    """Pages that may quote."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def quoted(text: str, results: Results) -> str:
    """The text with every quotation as its result file has it. Raises KeyError for what no file holds."""
    text = TABLE.sub(lambda match: f"{match['open']}{_table(match, results)}\n{match['close']}", text)
    return FIGURE.sub(lambda match: f"{match['open']}{_figure(match, results)}{match['close']}", text)


def _part(found: Any, name: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    if "experiment" in found:
        return _PARTS[name](found)
    table = found["tables"][name]
    return table["head"], table["rows"]


def _table(match: re.Match[str], results: Results) -> str:
    head, rows = _part(results[match["name"]], match["part"])
    columns = _chosen(match["columns"], len(head))
    chosen = [[rows[j][i] for i in columns] for j in _chosen(match["rows"], len(rows))]
    first, rule, *rest = pipe_table([head[i] for i in columns], chosen).replace("|  |", "| |").split("\n")
    return "\n".join((first, rule.replace(" ", ""), *rest))


def _figure(match: re.Match[str], results: Results) -> str:
    found, key = results[match["name"]], match["key"]
    if "/" not in key:
        return str(found["figures"][key])
    part, row, column, *how = key.split("/")
    head, rows = _part(found, part)
    cell = {each[0]: each for each in rows}[row][{name: place for place, name in enumerate(head)}[column]]
    return cell if how == ["whole"] else cell.split(" (")[0] + (" %" if "%" in column + row else "")


def _chosen(words: str | None, number: int) -> list[int]:
    """`0,2-4` as numbers; all where nothing is said."""
    if words is None:
        return list(range(number))
    ends = [part.split("-") for part in words.split(",")]
    return [place for first, *last in ends for place in range(int(first), int(last[0] if last else first) + 1)]


def stale(root: Path) -> Iterator[str]:
    """Pages whose quotations are not what the result files hold."""
    results = stored(root / "docs" / "results")
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        try:
            if quoted(text, results) != text:
                yield f"{page.relative_to(root)}: quotations differ from docs/results; run scripts/quote_results.py"
        except (KeyError, IndexError) as error:
            yield f"{page.relative_to(root)}: docs/results holds no {error}"


if __name__ == "__main__":
    if "--check" in sys.argv:
        complaints = list(stale(ROOT))
        print(*complaints, sep="\n")
        sys.exit(bool(complaints))
    for page in pages(ROOT):
        text = page.read_text(encoding="utf-8")
        page.write_text(quoted(text, stored(ROOT / "docs" / "results")), encoding="utf-8")
