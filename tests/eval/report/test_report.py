"""The report of a run: what it shows, what it leaves out, and that nothing in a run can act on the page."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fake_run import HOSTILE, SUMMARY, result, write_run
from thor_tir.errors import UsageError
from thor_tir.eval.report.report import (
    MAX_CHARACTERS,
    content_policy,
    duration,
    failure_table,
    number_text,
    points,
    write_report,
)


class Page(HTMLParser):
    """Elements, attributes and the text of every element as a browser's parser separates them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def data(self) -> dict[str, Any]:
        (block,) = [words for words in self.words if words.startswith('{"rl":')]
        return json.loads(block)


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_the_results_can_be_read_without_scripts(tmp_path: Path) -> None:
    text = page_of(write_run(tmp_path / "spring")).text
    for words in (
        "spring",
        "two CPU cores",
        "72.0 % 68.0 % to 76.0 %",
        "1,240",
        "+17.0 +13.0 to +21.0",
        "no boxed answer 150",
    ):
        assert words in text
    assert "1 h 08 min" in text  # 640.2 + 420 + 2850 + 190 = 4100.2 s = 68 min 20 s
    assert "Every call succeeded 310 90 77.5 %" in text  # 310 / 400


def test_a_whisker_spans_its_interval_on_the_common_axis(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"))
    whiskers = [a for tag, a in page.tags if tag == "line" and a.get("class") == "interval"]
    # the axis of 200 units is 0..100 %, so 27 % and 35 % stand at 54 and 70
    assert (float(whiskers[0]["x1"] or 0), float(whiskers[0]["x2"] or 0)) == pytest.approx((54, 70))
    # paired axis: the longest reach is 21 points on either side, so 13 points stand at 200 * (13 + 21) / 42
    assert float(whiskers[3]["x1"] or 0) == pytest.approx(200 * 34 / 42)


def test_nothing_but_results_is_needed(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"schema": 1, "runs": []}')
    page = page_of(tmp_path)
    for words in (
        "No configuration has been evaluated",
        "No reinforcement learning",
        "No TIRGen funnel",
        "No trajectories",
    ):
        assert words in page.text
    assert page.data == {"rl": [], "sft": [], "exhibits": []}


def test_a_run_that_cannot_be_read_leaves_no_page_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the folder of a run that has been evaluated"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_half_a_character_in_a_name_does_not_stop_the_report(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(result("half \ud83d", 0.5)))
    assert "half ? 50.0 %" in page_of(tmp_path).text


def test_hostile_text_stays_text_wherever_it_comes_from(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", text=HOSTILE)
    clean = page_of(write_run(tmp_path / "clean"))
    (run / "results.json").write_text(json.dumps({"runs": [result(HOSTILE, 0.5, families=[HOSTILE])] * 3}))
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "machine": HOSTILE, "seconds": {HOSTILE: 4}}))
    (run / "tirgen" / "funnel.json").write_text(
        json.dumps({"stages": [{"name": HOSTILE, "kept": 1, "rejected": {HOSTILE: 2}}] * 3})
    )
    page = page_of(run)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert len(scripts) == len([tag for tag, _ in clean.tags if tag == "script"]) == 3
    assert not any(tag == "img" or name.startswith("on") for tag, attributes in page.tags for name in attributes)
    assert page.data["exhibits"][0]["question"].startswith(HOSTILE)
    assert "{{ 7*7 }}" in page.text


def test_the_page_names_no_address_and_allows_only_its_own_scripts(tmp_path: Path) -> None:
    html = write_report(write_run(tmp_path / "run")).read_text(encoding="utf-8")
    outside = re.findall(r"https?://[^\s\"']+", html)
    assert set(outside) == {"http://www.w3.org/2000/svg"}  # a namespace, which is never fetched
    assert "default-src &#39;none&#39;" in html
    assert "unsafe" not in html
    assert not [a for tag, a in Page(html).tags if "style" in a]  # the policy would refuse inline styles


def test_the_policy_holds_the_hash_of_exactly_what_stands_between_the_tags() -> None:
    # base64 of sha256("a"), computed with `printf a | openssl dgst -sha256 -binary | base64`
    policy = content_policy("<style>a</style>", ["<script>a</script>"])
    assert policy.count("'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='") == 2


def test_a_run_of_many_long_trajectories_still_gives_a_small_page_that_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_trajectories=900, num_rounds=1500, text="<" * 9000)
    path = write_report(run)
    assert path.stat().st_size < 5_000_000
    page = Page(path.read_text(encoding="utf-8"))
    num_shown = len(page.data["exhibits"])
    assert f"{num_shown} of 900 trajectories" in page.text
    assert f"{900 - num_shown} were left out" in page.text
    assert page.data["exhibits"][0]["segments"][1]["text"].endswith(
        f"[{9000 - MAX_CHARACTERS:,} more characters left out]"
    )


def test_damaged_lines_are_counted_and_the_others_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_trajectories=3)
    with (run / "trajectories.jsonl").open("a") as file:
        file.write('{"stage": "eval/rl", "trajectory": {}}\nnot json\n[1]\n{"stage": "ev')
    page = page_of(run)
    assert len(page.data["exhibits"]) == 3
    assert "4 damaged lines could not be read" in page.text


def test_failure_classes_are_ordered_by_their_total() -> None:
    table = failure_table({"before": {"NameError": 3, "timeout": 4}, "after": {"NameError": 2}})
    assert table == [("NameError", [3, 2]), ("timeout", [4, 0])]


def test_numbers_are_written_for_people() -> None:
    assert [duration(s) for s in (3.21, 59.99, 200, 7500)] == ["3.2 s", "60.0 s", "3 min 20 s", "2 h 05 min"]
    assert [points(0.171), points(-0.004)] == ["+17.1", "−0.4"]
    assert [number_text(v) for v in (None, 0.0, 1.5e-13, 1240.0)] == ["–", "0.0", "1.5e−13", "1,240.0"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the chromium browser, which is not installed")
@pytest.mark.slow
def test_a_browser_draws_the_page_and_runs_nothing_hostile(tmp_path: Path) -> None:
    path = write_report(write_run(tmp_path / "run", text=HOSTILE))
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    browser = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not [line for line in browser.stderr.splitlines() if "CONSOLE" in line]
    page = Page(browser.stdout)
    assert len([tag for tag, _ in page.tags if tag == "figure"]) == 12  # ten charts of RL, two of the cold start
    assert "1 of 12" in page.text
    assert "Sampled again in place of call 1:" in page.text
    assert "<title>run · THOR run</title>" in browser.stdout
    assert not [tag for tag, _ in page.tags if tag == "img"]
