"""Foreign text cannot steer the terminal, wherever it is printed: questions, stages, tables, file names, model text."""

import ast
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

import thor_tir
from fake_run import RUNS, write_lines
from fake_run import stored as exhibit_row
from scripted_benchmark import play, scripted_run, set_of
from thor_tir import cli
from thor_tir.console import ConsoleReporter, text_table, visible
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome
from thor_tir.view.selection import Selection
from thor_tir.view.terminal import Asked, show

HOSTILE = {
    "a title": "\x1b]0;owned\x07",
    "a cleared screen": "\x1b[2J\x1b[H",
    "an eight-bit sequence": "\x9b31m",
    "a carriage return": "true\rfalse",
    "backspaces": "yes\x08\x08\x08no ",
    "text turned round": "\u202e654321",
    "a link": "\x1b]8;;http://example.org\x1b\\here\x1b]8;;\x1b\\",
    "a hidden character": "1\u200b0",
    "a lone surrogate": "\ud800",
}
MARKUP = "[bold red]x[/] [/] :smile:"


def screen() -> tuple[ConsoleReporter, io.StringIO]:
    """A reporter on a terminal that keeps what it is sent."""
    sent = io.StringIO()
    return ConsoleReporter(Console(file=sent, force_terminal=True, color_system=None, width=160, highlight=False)), sent


def assert_harmless(sent: str, text: str) -> None:
    """No byte of the text that could do something arrived; rich's own sequences hide and show the cursor alone."""
    assert text not in sent
    own = ("\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\x1b[1A", "\x1b[1B", "\r")
    for sequence in own:
        sent = sent.replace(sequence, "")
    assert not set(sent) & {"\x1b", "\x9b", "\x07", "\x08", "\r", "\u202e", "\u200b", "\ud800"}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_sentences_tables_and_stages_are_harmless(text: str) -> None:
    reporter, sent = screen()
    reporter.say(f"say {text}")
    reporter.show(text_table(f"title {text}", (f"head {text}",), [(f"cell {text}",)]))
    assert_harmless(sent.getvalue(), text)
    for word in ("say", "title", "head", "cell"):
        assert f"{word} {visible(text)}" in sent.getvalue()
    for is_terminal in (True, False):
        sent = io.StringIO()
        reporter = ConsoleReporter(Console(file=sent, force_terminal=is_terminal, color_system=None, width=160))
        with reporter.stage(f"stage {text}", 2) as bar:
            bar.note(f"note {text}")
            bar.advance()
        assert_harmless(sent.getvalue(), text)
        assert f"stage {visible(text)}" in sent.getvalue()


def test_markup_is_shown_as_written() -> None:
    reporter, sent = screen()
    reporter.say(f"say {MARKUP}")
    reporter.show(text_table(f"title {MARKUP}", (f"head {MARKUP}",), [(f"cell {MARKUP}",)]))
    with reporter.stage(f"stage {MARKUP}", 1) as bar:
        bar.note(f"note {MARKUP}")
    for word in ("say", "title", "head", "cell", "stage"):
        assert f"{word} {MARKUP}" in sent.getvalue()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_stored_questions_stages_answers_and_texts_are_shown_harmless(text: str, tmp_path: Path) -> None:
    row = exhibit_row(1, stage=f"eval/{text}", outcome=Outcome.CORRECT, text=f"thought {text}")
    row["extracted"] = f"12 {text}"
    write_lines(tmp_path / "trajectories.jsonl", [row, exhibit_row(2, stage=text, outcome=Outcome.WRONG)])
    for id in ("", "p1"):
        reporter, sent = screen()
        show(tmp_path, Asked(id=id, selection=Selection(), most=0), reporter)
        assert_harmless(sent.getvalue(), text)
        assert visible(text) in sent.getvalue()


@pytest.mark.parametrize("text", [each for name, each in HOSTILE.items() if name != "a lone surrogate"])
def test_attempts_of_an_evaluation_are_shown_harmless(text: str, tmp_path: Path) -> None:
    problem = Problem(id="p", question=f"What is 2 plus 2?{text}", answer="4", source="mine")
    run = scripted_run(tmp_path, [set_of(problem)], samples=1)
    play(run, lambda _: [rf"I think {text} so \boxed{{4}}."])
    reporter, sent = screen()
    show(tmp_path, Asked(id="p/0", selection=Selection(), most=0), reporter)
    assert_harmless(sent.getvalue(), text)
    assert visible(text) in sent.getvalue()


@pytest.mark.parametrize("text", ["\x1b[2J", "\x1b]0;owned\x07", "\x9bm", "a\rb", "\u202ex"])
def test_a_file_name_in_an_error_is_harmless(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{text}.jsonl").write_text(json.dumps({"question": "?"}) + "\n")
    for argv in (
        ["eval", "--problems", str(tmp_path / f"{text}.jsonl")],
        ["show", str(tmp_path / text)],
        ["grade", "--jsonl", str(tmp_path / f"no{text}"), "--output", str(tmp_path / "out")],
        [f"eval{text}"],
    ):
        with pytest.raises(SystemExit):
            cli.main(argv)
        captured = capsys.readouterr()
        assert_harmless(captured.err + captured.out, text)


def test_a_report_of_a_hostile_run_name_is_said_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run\x1b[2J"
    run.mkdir()
    (run / "results.json").write_text(json.dumps({"schema": 1, "runs": RUNS}))
    with pytest.raises(SystemExit):
        cli.main(["view", str(run), "--export", str(run / "report.html")])
    assert "\x1b" not in capsys.readouterr().out


def test_nothing_else_prints_to_a_terminal() -> None:
    """`print`, streams and rich's consoles are used where texts are the package's own, and in the named places."""
    allowed = {
        "console.py": "the place itself",
        "cli.py": "help, and faults through `visible`",
        "commands/__init__.py": "help of a group",
        "commands/presets.py": "a preset, which is the package's own text",
        "commands/solving.py": "JSON, whose strings escape every control character",
        "commands/sandbox.py": "what a program printed goes where the user's output goes",
        "api.py": "transcripts and tables that were made visible",
    }
    folder = Path(thor_tir.__file__).parent
    found = set()
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(folder).as_posix()
        if place.startswith(("sandbox/jail/", "nano/")):
            continue  # programs of processes of their own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="print")):
                    found.add(place)
                case ast.Call(
                    func=ast.Attribute(attr="print", value=ast.Attribute(attr="console") | ast.Name(id="console"))
                ):
                    found.add(place)
                case ast.Attribute(attr="write", value=ast.Attribute(attr="stdout" | "stderr")):
                    found.add(place)
    assert found <= allowed.keys()


@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_figure_of_a_table_is_cut_however_narrow_the_place_is(width: int) -> None:
    sent = io.StringIO()
    cells = ["a row with a long name, as models have", "33.6 %", "29.2 - 38.2", "12345", "98.7 %", "1.62", "98765"]
    head = ["", "accuracy", "95 % interval", "n", "calls ok", "calls", "tokens of the response"]
    ConsoleReporter(Console(file=sent, width=width)).show(text_table("Held-out test problems", head, [cells]))
    assert all(cell in sent.getvalue() for cell in [*cells, *head])
    assert "…" not in sent.getvalue()


class Clock:
    """Seconds as a test sets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("thor_tir.console.perf_counter", lambda: self.now)


def test_a_log_has_each_line_with_the_time_left_at_the_rate_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = Clock(monkeypatch), io.StringIO()
    with ConsoleReporter(Console(file=log, width=80)).stage("RL", 100) as bar:
        bar.resume(90)
        for number in range(91, 96):
            clock.now += 40.0
            bar.advance()
            bar.log(
                f"round {number}: reward 0.50, " + "and a line that is much longer than eighty columns " * 2, "short"
            )
    lines = log.getvalue().splitlines()
    assert [line.rpartition(", ")[2] for line in lines[2:-1:2]] == [
        "6 min left",
        "5 min left",
        "5 min left",
        "4 min left",
        "3 min left",
    ]
    assert lines[0] == "RL: goes on behind 90 of 100"
    assert lines[1].startswith("RL: 91 of 100, ")
    assert lines[-1] == "RL: 5 in 200.0 s (40 s each); with 90 from before 95 of 100"


def test_long_work_without_lines_of_its_own_says_where_it_is_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = Clock(monkeypatch), io.StringIO()
    with ConsoleReporter(Console(file=log, width=80)).stage("math500: tools", 500) as bar:
        for _ in range(100):
            clock.now += 1.0
            bar.advance()
    assert log.getvalue().splitlines() == [
        "math500: tools: 30 of 500, 1.0/s, 8 min left",
        "math500: tools: 60 of 500, 1.0/s, 7 min left",
        "math500: tools: 90 of 500, 1.0/s, 7 min left",
        "math500: tools: 100 in 100.0 s (1.0/s)",
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_nothing_beside_or_below_a_bar_is_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sent = Clock(monkeypatch), io.StringIO()
    terminal = Console(file=sent, force_terminal=True, color_system=None, width=width, highlight=False)
    note = "16 of 200 questions, 11 solved; actor 107 tokens/s; critic 50 % accepted; programs failed: 3 timeout"
    with ConsoleReporter(terminal).stage("TIRGen: actor, critic, sandbox", 200) as bar:
        bar.resume(7)
        clock.now += 0.001  # the widest rate there may be
        bar.advance(9)
        bar.log("round 3 of 20", brief="round 3: reward 0.62")
        bar.note(note)
    words = set(sent.getvalue().replace("\x1b[2K", " ").split())
    assert words >= {*note.split(), "TIRGen:", "actor,", "critic,", "sandbox", "16/200", "reward", "0.62"}
    assert "…" not in sent.getvalue()


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TERM", "unknown"), ("NO_COLOR", "1")])
def test_a_plain_terminal_gets_plain_lines(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(name, value)
    sent = io.StringIO()
    reporter = ConsoleReporter(Console(file=sent, force_terminal=True, width=80, highlight=False))
    with reporter.stage("RL", 2) as bar:
        bar.advance()
        bar.log("round 1 of 2", "reward 0.62")
    colours = [code for code in re.findall(r"\x1b\[([0-9;]*)m", sent.getvalue()) if code not in ("", "0", "1", "2")]
    assert colours == []
    assert ("\x1b[" in sent.getvalue()) == (name == "NO_COLOR")  # a bar moves the cursor, which is no colour
    assert "round 1 of 2" in sent.getvalue()
