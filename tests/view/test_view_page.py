"""The page in a real browser: what it opens on, its keys, deep links, and text that would rather be more than text."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import MISSING, PHONE, Browser, chromium
from view_server import viewing
from viewed_runs import HOSTILE, add_round, evaluation_run, training_run

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
RUN, EVALUATION = 0, 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    base = tmp_path_factory.mktemp("runs")
    return [training_run(base / "trained", text=HOSTILE), evaluation_run(base / "evaluated")]


@pytest.fixture(scope="module")
def address(folders: list[Path]) -> Iterator[str]:
    with viewing(*folders) as found:
        yield found


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    yield window
    assert window.complaints() == []


def text(browser: Browser, selector: str) -> str:
    return str(browser.wait("const it = document.querySelector(arguments[0]); return it && it.textContent", selector))


def open_row(browser: Browser, address: str, run: int, file: str, key: str) -> None:
    browser.open(f"{address}?again#trajectories?run={run}&any=1&in={file}&key={key}")
    browser.wait("return document.querySelector('.open .id')?.textContent === arguments[0]", key)


def test_it_opens_on_failed_calls_of_the_last_round_with_their_repairs(browser: Browser, address: str) -> None:
    browser.open(address)
    assert "of 1, round 3" in text(browser, ".count:not(:empty)")
    assert text(browser, ".open .id") == "round3/0/3"
    summaries = browser.run("return [...document.querySelectorAll('.branches summary')].map((it) => it.textContent)")
    assert [("advantage +0.87" in words, "reward 1" in words) for words in summaries] == [(True, True)] * 2 + [
        (False, False)
    ] * 2
    assert text(browser, ".branches .new") == "and 36.\n"
    assert browser.run("return document.querySelectorAll('.turn.output.failed').length") >= 1


def test_hostile_text_is_shown_letter_for_letter_and_does_nothing(browser: Browser, address: str) -> None:
    open_row(browser, address, RUN, "rl/rollouts", "round3/0/0")
    shown = browser.run("return [...document.querySelectorAll('.turn.thought .text')].at(-1).textContent")
    assert "</pre></script><script>document.title='owned'</script><img src=x onerror=" in shown
    assert "\\x1b[2J\\x1b]0;owned\\x07" in shown  # escapes are visible and not in force
    assert "\\u202egnp.exe\\u2028" in shown
    assert "\\x00" in shown
    assert "\\ud83d" in shown
    assert browser.run("return document.title") == "THOR view"
    assert (
        browser.run("return document.querySelectorAll('main img, main script, main a[href^=javascript]').length") == 0
    )
    browser.press("t")
    browser.wait("return document.querySelectorAll('.token').length > 20")
    assert browser.run("return document.title") == "THOR view"


def test_mathematics_is_set_and_code_is_coloured(browser: Browser, address: str) -> None:
    open_row(browser, address, RUN, "rl/rollouts", "round1/0/0")
    assert browser.run("return document.querySelectorAll('.thought math menclose').length") == 1  # the box
    assert browser.run("return document.querySelector('.turn.code .py-keyword').textContent") == "import"
    assert browser.run(
        "return getComputedStyle(document.querySelector('.py-keyword')).color !== getComputedStyle(document.body).color"
    )


def test_tokens_on_demand_say_how_likely_they_were_and_what_is_trained(browser: Browser, address: str) -> None:
    open_row(browser, address, RUN, "rl/rollouts", "round1/0/0")
    browser.press("t")
    browser.wait("return document.querySelectorAll('.token.trained').length")
    facts = browser.run(
        "return [...document.querySelectorAll('.token-span.model [data-facts]')].map((it) => it.dataset.facts)"
    )
    assert any("log p -0.2500" in words and words.endswith(", trained") for words in facts)
    prompt = browser.run("return document.querySelector('.token-span.prompt [data-facts]').dataset.facts")
    assert "not sampled here, not trained" in prompt


def test_attempts_at_one_problem_stand_side_by_side(browser: Browser, address: str) -> None:
    open_row(browser, address, EVALUATION, "attempts/toy", "p-1/0")
    browser.press("c")
    browser.wait("return document.querySelectorAll('.candidates .column').length === 4")
    rows = browser.run("return [...document.querySelectorAll('.candidates tbody tr')].map((it) => it.textContent)")
    assert any(row.startswith("vote") and "0.75" in row and "◀" in row for row in rows)


def test_keys_walk_through_the_list_and_the_address_follows(browser: Browser, address: str) -> None:
    browser.open(f"{address}?keys#trajectories?run=0&any=1&round=2")
    browser.wait("return document.querySelectorAll('.rows a').length === 4")
    browser.press("j")
    assert browser.wait("return new URLSearchParams(location.hash.split('?')[1]).get('key')") == "round2/0/3"
    browser.press("j", "j", "k")
    browser.wait("return document.querySelector('.open .id')?.textContent === 'round2/0/2'")
    browser.press("Escape")
    browser.wait("return !location.hash.includes('key=')")
    browser.run("history.back()")
    browser.wait("return document.querySelector('.open .id')?.textContent === 'round2/0/2'")
    browser.press("?")
    browser.wait("return document.querySelector('dialog[open]')")
    browser.press("Escape")
    browser.press("/")
    assert browser.wait("return document.activeElement.name") == "text"
    browser.press(*"boxed{48}", "Enter")
    browser.wait("return document.querySelectorAll('.rows a').length === 1")
    browser.press("Escape", "f")
    browser.wait("return document.querySelector('.count').textContent.includes('round 3')")


def test_keys_in_quick_succession_open_the_last_one_asked_for(browser: Browser, address: str) -> None:
    browser.open(f"{address}?quick#trajectories?run=0&any=1")
    browser.wait("return document.querySelectorAll('.rows a').length === 12")
    browser.press(*"jjjjjjjjkk")
    browser.wait("return document.querySelector('.open .id')?.textContent === 'round2/0/2'")
    browser.wait("return !document.querySelector('.open[aria-busy]')")
    assert text(browser, ".open .id") == "round2/0/2"  # the sixth of twelve, newest first
    assert text(browser, ".rows a[aria-current=true] .facts").startswith("gcd · round 2")


def test_a_run_that_goes_on_appears_without_being_asked(tmp_path: Path, browser: Browser) -> None:
    folder = training_run(tmp_path / "live", rounds=1)
    with viewing(folder) as found:
        browser.open(found)
        assert "of 1, round 1" in text(browser, ".count:not(:empty)")
        add_round(folder, 1)
        browser.wait("return document.querySelector('.count').textContent.includes('round 2')")
        browser.open("data:text/html,<body data-ready=yes>")


def test_a_line_of_a_megabyte_is_drawn_within_seconds(tmp_path: Path, browser: Browser) -> None:
    folder = training_run(tmp_path / "long", rounds=1, text="x" * 10**6 + " <b> " + "\n" * 50_000)
    with viewing(folder) as found:
        open_row(browser, found, RUN, "rl/rollouts", "round1/0/0")
        shown = browser.run("return [...document.querySelectorAll('.turn.thought .text')].at(-1).textContent")
        assert "characters left out" in shown
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        browser.open("data:text/html,<body data-ready=yes>")


def test_a_phone_shows_one_thing_at_a_time_and_nothing_is_cut_off(address: str) -> None:
    with chromium(PHONE) as browser:
        browser.prefers_dark()
        browser.open(address)
        browser.wait("return document.querySelectorAll('.rows a').length")
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.run("return getComputedStyle(document.querySelector('.open')).display") == "none"
        dark = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert sum(int(part) for part in dark[4:-1].split(",")) < 150
        browser.run("document.querySelector('.rows a').click()")
        browser.wait("return document.querySelector('.open .id')")
        assert browser.run("return getComputedStyle(document.querySelector('.side')).display") == "none"
        assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        browser.run("document.querySelector('.back').click()")
        browser.wait("return getComputedStyle(document.querySelector('.side')).display !== 'none'")
        assert browser.complaints() == []


def test_on_paper_the_trajectory_stands_alone(browser: Browser, address: str) -> None:
    open_row(browser, address, RUN, "rl/rollouts", "round2/0/3")
    browser.tell("Emulation.setEmulatedMedia", media="print")
    try:
        hidden = browser.run(
            "return ['.top', '.side', '.tools'].map((it) => getComputedStyle(document.querySelector(it)).display)"
        )
        assert set(hidden) == {"none"}
        assert browser.run("return getComputedStyle(document.querySelector('.open')).overflowY") == "visible"
    finally:
        browser.tell("Emulation.setEmulatedMedia", media="")


def test_curves_are_drawn_and_a_point_leads_to_its_rounds_trajectories(browser: Browser, address: str) -> None:
    browser.open(f"{address}?curves#curves?run=0")
    browser.wait("return document.querySelectorAll('.chart').length > 8")
    titles = browser.run("return [...document.querySelectorAll('figcaption')].map((it) => it.firstChild.textContent)")
    assert titles[:3] == ["Entropy, nats", "Clip shares", "approx_kl"]
    browser.run("document.querySelector('.chart svg[tabindex]').focus()")
    browser.press("ArrowRight", "ArrowRight")
    assert text(browser, ".chart .reading").startswith("round 2trained episode 0.2")
    browser.press("Enter")
    browser.wait("return document.querySelectorAll('.rows a').length === 4")
    assert "round=2" in browser.run("return location.hash")


def test_smoothing_is_part_of_the_address_and_weight_0_is_what_was_measured(browser: Browser, address: str) -> None:
    drawn = []
    for weight in ("0", "0.9"):
        browser.open(f"{address}?{weight}#curves?run=0&smooth={weight}")
        browser.wait("return document.querySelectorAll('.chart').length > 8")
        drawn.append(browser.run("return document.querySelector('path.curve:not(.raw)').getAttribute('d')"))
        raw = browser.run("return document.querySelectorAll('.curve.raw').length")
        assert (raw > 0) == (weight != "0")
    assert drawn[0] != drawn[1]
    means = browser.run(
        "const charts = new URL('charts.js', location.href.split('?')[0]);"
        "return import(charts).then((module) => module.smoothed([[1, 4], [2, 1]], 0.5))"
    )
    # Unbiased: 4, then (0.5 * 2 + 0.5 * 1) / (0.75) = 2.
    assert means == [[1, 4], [2, 2]]


def test_results_show_journals_failures_and_lead_to_them(browser: Browser, address: str) -> None:
    browser.open(f"{address}?results#results?run=0")
    assert "No evaluation has finished" in text(browser, ".results .nothing")
    browser.wait("return [...document.querySelectorAll('.results th')].some((it) => it.textContent === 'NameError')")
    browser.run("[...document.querySelectorAll('.results td a')].find((it) => it.href.includes('NameError')).click()")
    browser.wait("return document.querySelectorAll('.rows a').length === 1")
    assert "round=1" in browser.run("return location.hash")
