"""The page as one file: what it holds, what it leaves out, and that it answers as the server does."""

import base64
import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest

from browser import MISSING, chromium
from thor_tir import commands
from thor_tir.errors import UsageError
from thor_tir.view import export as module
from thor_tir.view.assets import asset, bundle
from thor_tir.view.export import export
from thor_tir.view.run import ViewedRun, open_runs
from thor_tir.view.selection import Selection, choose
from viewed_runs import HOSTILE, evaluation_run, training_run

ASKED = [
    {},
    {"call": "failed", "round": "last"},
    {"call": "ran", "outcome": "wrong"},
    {"round": "2"},
    {"repaired": "yes"},
    {"repaired": "no", "outcome": "correct"},
    {"failure": "NameError"},
    {"family": "gcd", "sort": "longest"},
    {"problem": "gcd-1", "sort": "shortest"},
    {"finish": "failed_call", "sort": "most failures"},
    {"text": "BOXED{48}"},
    {"text": "round2/0/2"},
    {"min_tokens": "20", "max_tokens": "40", "sort": "most calls"},
    {"file": "rl/rollouts", "sort": "slowest"},
    {"page": "1"},
]


@pytest.fixture
def runs(tmp_path: Path) -> list[ViewedRun]:
    return open_runs([training_run(tmp_path / "trained", text=HOSTILE), evaluation_run(tmp_path / "evaluated")])


def data_of(path: Path) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="thor-data">(.*?)</script>', path.read_text())
    assert found is not None
    whole: dict[str, object] = json.loads(found[1])
    return whole


def test_every_module_is_in_the_bundle_once_and_no_import_is_left() -> None:
    text = bundle()
    assert not re.search(r"^\s*(import|export)\b", text, re.MULTILINE)
    modules = re.findall(r"^const \$(\w+) = await", text, re.MULTILINE)
    folder = Path(module.__file__).parent / "page"
    chat = {"chat", "events"}  # the page that `thor serve` sends
    assert sorted(modules) == sorted({path.stem for path in folder.glob("*.js")} - chat)
    assert modules[-1] == "main"


def test_the_wheel_carries_every_file_of_the_page() -> None:
    root = Path(__file__).parents[2]
    globs = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["thor_tir"]
    package = root / "src" / "thor_tir"
    carried = {path for pattern in globs for path in package.glob(pattern)}
    files = [path for path in (package / "view" / "page").rglob("*") if path.is_file()]
    assert len(files) > 15
    assert set(files) <= carried


def test_nothing_in_the_page_can_end_an_element_early() -> None:
    for text in (asset("style.css"), asset("vendor/katex/katex.min.js"), bundle()):
        assert text
        assert not re.search("</(script|style)", text, re.IGNORECASE)


def test_the_policy_names_the_very_scripts_of_the_file(tmp_path: Path, runs: list[ViewedRun]) -> None:
    path = export(runs, tmp_path / "page.html", most=400).path
    text = path.read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    scripts = re.findall(r'<script(?: type="module")?>(.*?)</script>', text, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    assert text.count("<script>document") == 0


def test_as_many_trajectories_as_were_asked_for_of_every_kind(tmp_path: Path, runs: list[ViewedRun]) -> None:
    done = export(runs, tmp_path / "page.html", most=5)
    assert (done.shown, done.total) == (10, 24)
    rows = data_of(done.path)["data"][0]["rows"]  # type: ignore[index]
    assert {row["outcome"] for row in rows} == {"correct", "wrong"}
    assert any(row["failures"] and row["round"] == 3 for row in rows)
    assert export(runs, tmp_path / "again.html", most=5).path.read_text() == done.path.read_text()


def test_a_file_stays_as_small_as_it_may_be(
    tmp_path: Path, runs: list[ViewedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 12_000)
    few = export(runs, tmp_path / "page.html", most=400)
    assert 0 < few.shown < 24
    monkeypatch.setattr(module, "MAX_TEXT", 10)
    assert "characters left out" in export(runs, tmp_path / "page.html", most=400).path.read_text()


@pytest.mark.parametrize("name", ["page", "page.pdf", "page.html.gz"])
def test_a_name_that_is_no_page_is_refused(tmp_path: Path, runs: list[ViewedRun], name: str) -> None:
    with pytest.raises(UsageError, match="HTML"):
        export(runs, tmp_path / name, most=1)


def test_the_command_writes_the_page_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = training_run(tmp_path / "run", rounds=1)
    commands.run("view", [str(folder), "--export", str(tmp_path / "page.html"), "--trajectories", "2"])
    assert "2 of 4 trajectories" in capsys.readouterr().out


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_in_a_browser_the_file_answers_as_the_server_does_and_hostile_text_stays_text(
    tmp_path: Path, runs: list[ViewedRun]
) -> None:
    path = export(runs, tmp_path / "page.html", most=400).path
    with chromium() as browser:
        browser.open(path.as_uri())
        browser.wait("return document.querySelector('.open .id')?.textContent === 'round3/0/3'")
        assert browser.run("return document.querySelectorAll('.branches details').length") == 4
        for number, asked in enumerate(ASKED):
            query = "&".join(f"{name}={value}" for name, value in {"run": "0", "any": "1", **asked}.items())
            browser.open(f"{path.as_uri()}?{number}#trajectories?{query}")
            shown = browser.run("return [...document.querySelectorAll('.rows a')].map((it) => it.dataset.key)")
            wanted = [entry.key for _, entry in choose(runs[0], Selection.of(asked)).rows]
            assert shown == wanted, asked
        browser.open(f"{path.as_uri()}?last#trajectories?run=0&any=1&in=rl/rollouts&key=round3/0/0")
        text = browser.run("return [...document.querySelectorAll('.turn.thought .text')].at(-1).textContent")
        assert "</script><script>document.title='owned'" in text
        assert browser.run("return document.title") == "THOR view"
        for view in ("curves", "results"):
            browser.open(f"{path.as_uri()}?{view}#{view}?run=1")
            assert browser.run("return document.querySelectorAll('.chart, .results section').length") > 0
        assert browser.complaints() == []
        refused = "return fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"
        assert browser.run(refused) == "refused"
        assert any("Content Security Policy" in words for words in browser.complaints())
