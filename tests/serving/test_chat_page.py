"""The chat page in a real browser, against the server that sends it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from browser import MISSING, Browser, chromium
from calling_templates import calling_tokenizer
from scripted_agent import program
from served_scripts import ANSWER, CALL, HeldSandbox, Running, with_server
from thor_tir.dialect.tool_calls import written_call
from thor_tir.view.assets import PAGE_HEADERS

HOSTILE = "<img src=x onerror=alert(1)> \x1b[2J"
BROKEN = "Let us compute the product.\n" + program("boom")
AGAIN = " product.\n" + program("print(77)")


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    if MISSING:
        pytest.skip(MISSING)
    with chromium() as browser:
        yield browser


def ask(browser: Browser, question: str, answers: int = 1) -> None:
    """Type a question, and wait until so many answers stand on the page."""
    browser.run("const it = document.querySelector('textarea'); it.focus(); it.value = arguments[0]", question)
    browser.press("Enter")
    browser.wait("return document.querySelectorAll('footer.answer').length === arguments[0]", answers)


def texts(browser: Browser, selector: str) -> list[str]:
    found = browser.run("return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)", selector)
    return list(found)


def conversation(
    browser: Browser, replies: Sequence[str] | Mapping[str, Sequence[str]], talk: Any, **options: Any
) -> None:
    async def work(running: Running) -> None:
        await asyncio.to_thread(talk, running)

    with_server(replies, work, **options)


def test_an_answer_is_shown_by_author_with_the_repair_and_the_next_question_holds_it(window: Browser) -> None:
    def talk(running: Running) -> None:
        window.open(running.url)
        ask(window, "7 * 11?")
        assert texts(window, ".turn.code pre") == ["boom", "print(77)"]
        assert texts(window, ".branch.cut summary .tag.bad") == ["NameError"]
        assert texts(window, ".turn.output.ran pre") == ["77"]
        assert "answer 77" in texts(window, "footer.answer")[0]
        ask(window, "And again?", 2)
        assert window.complaints() == []
        prompt = running.policy.asked[-1].text
        assert "7 * 11?" in prompt
        assert "print(77)" in prompt
        assert "boom" not in prompt  # what was cut away is not the model's past

    conversation(window, [BROKEN, AGAIN, ANSWER, ANSWER], talk)


def test_calls_between_tags_are_sent_back_as_they_were_written(window: Browser) -> None:
    called = written_call("python", "print(77)")

    def talk(running: Running) -> None:
        window.open(running.url)
        ask(window, "7 * 11?")
        ask(window, "And again?", 2)
        prompt = running.policy.asked[-1].text
        assert called in prompt
        assert "```" not in prompt.partition("7 * 11?")[2]

    replies = [f"We compute.\n{called}", ANSWER, ANSWER]
    conversation(window, replies, talk, calls="tool-call", tokenizer=calling_tokenizer("qwen", tags="text"))


def test_an_answer_that_a_new_conversation_cuts_off_is_no_part_of_it(window: Browser) -> None:
    def talk(running: Running) -> None:
        window.open(running.url)
        window.run("const it = document.querySelector('textarea'); it.focus(); it.value = '7 * 11?'")
        window.press("Enter")
        window.wait("return document.querySelector('.ask [type=submit]').textContent === 'Stop'")
        window.run("document.querySelector('header button').click()")
        window.wait("return document.querySelector('.ask [type=submit]').textContent === 'Ask'")
        window.run("document.querySelector('input[type=checkbox]').click()")
        ask(window, "And now?")
        assert "7 * 11?" not in running.policy.asked[-1].text
        assert running.sandbox.cancelled == 1

    conversation(window, [CALL, ANSWER], talk, sandbox=HeldSandbox)


def test_hostile_text_of_people_and_models_is_text(window: Browser) -> None:
    def talk(running: Running) -> None:
        window.open(running.url)
        ask(window, HOSTILE)
        assert window.run("return document.querySelectorAll('img').length") == 0
        assert HOSTILE.replace("\x1b", "\\x1b") in texts(window, ".turn.thought .text")[0]
        assert window.complaints() == []

    conversation(window, [f"{HOSTILE} {ANSWER}"], talk)


def test_several_attempts_are_listed_and_the_chosen_one_is_marked(window: Browser) -> None:
    def talk(running: Running) -> None:
        window.open(running.url)
        window.run("document.querySelectorAll('.ask select')[0].value = '2'")
        ask(window, "7 * 11?")
        assert texts(window, "td:last-child").count("chosen") == 1
        assert len(texts(window, "tbody tr")) == 2

    conversation(window, [CALL, CALL, ANSWER, ANSWER], talk)


def test_a_server_with_keys_asks_for_one_and_takes_it(window: Browser) -> None:
    def talk(running: Running) -> None:
        window.open(running.url)
        window.wait("return !document.querySelector('input[type=password]').hidden")
        window.run(
            "const it = document.querySelector('input[type=password]'); it.value = arguments[0];"
            "it.dispatchEvent(new Event('change'))",
            "k" * 32,
        )
        window.wait("return document.querySelector('.news').textContent === 'scripted'")
        ask(window, "7 * 11?")
        window.complaints()  # the refusal of the first request stands in the browser's log

    conversation(window, [ANSWER], talk, keys={"me": "k" * 32})


def test_the_page_holds_nothing_of_the_server_and_loads_its_own_files_alone() -> None:
    async def work(running: Running) -> None:
        page = await running.client.get("/")
        assert page.headers["content-security-policy"] == PAGE_HEADERS["Content-Security-Policy"]
        assert "scripted" not in page.text
        assert (await running.client.get("/page/chat.js")).headers["content-type"].startswith("text/javascript")
        for name in ("../app.py", ".hidden.js", "nothing.js", "%2e%2e/assets.py", "chat.py"):
            assert (await running.client.get(f"/page/{name}")).status_code == 404
        assert (await running.client.post("/")).status_code == 405
        refused = await running.client.get("/", headers={"Host": "evil.example"})
        assert refused.status_code == 403

    with_server([], work)
