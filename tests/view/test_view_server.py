"""The door of the application: its token, its headers, its files, and what a wrong question costs."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from thor_tir.errors import UsageError
from thor_tir.view.assets import PAGE_HEADERS, asset
from thor_tir.view.server import ViewConfig
from view_server import TOKEN, viewing
from viewed_runs import HOSTILE, evaluation_run, training_run


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    base = tmp_path_factory.mktemp("runs")
    with viewing(training_run(base / "trained", text=HOSTILE), evaluation_run(base / "evaluated")) as found:
        yield found


def ask(address: str, path: str, **params: str) -> httpx.Response:
    return httpx.get(address + path, params=params, trust_env=False)


def test_the_page_and_its_files_are_sent_under_a_strict_policy(address: str) -> None:
    for name, kind in (
        ("", "text/html"),
        ("main.js", "text/javascript"),
        ("style.css", "text/css"),
        ("vendor/katex/katex.min.js", "text/javascript"),
    ):
        answer = ask(address, name)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["content-security-policy"] == PAGE_HEADERS["Content-Security-Policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert "unsafe" not in PAGE_HEADERS["Content-Security-Policy"]
    assert "<script>" not in ask(address, "").text
    assert "style=" not in ask(address, "").text


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "ü"])
@pytest.mark.parametrize("path", ["", "main.js", "api/state", "api/0/trajectory"])
def test_without_the_token_there_is_nothing(address: str, token: str, path: str) -> None:
    base = address.removesuffix(f"{TOKEN}/")
    answer = httpx.get(f"{base}{token}/{path}", trust_env=False)
    assert answer.status_code == 404
    assert "trained" not in answer.text


@pytest.mark.parametrize("host", ["[", "[x]:1", "", "[::1", "evil.example:8765", "127.0.0.1.evil.example"])
def test_a_host_header_that_names_no_address_of_ours_is_refused(address: str, host: str) -> None:
    assert httpx.get(f"{address}api/state", headers={"Host": host}, trust_env=False).status_code == 404


@pytest.mark.parametrize("run", ["9" * 5000, "9" * 13, "-1", "x", "1.5", "²", "7"])
@pytest.mark.parametrize("what", ["outcomes", "facets", "trajectories", "row"])
def test_a_number_of_a_run_that_there_is_not_is_said_and_without_the_token_nothing_is(
    address: str, run: str, what: str
) -> None:
    answer = ask(address, f"api/{run}/{what}")
    assert answer.status_code == 404
    assert "found" in answer.json()["error"]
    base = address.removesuffix(f"{TOKEN}/")
    answer = httpx.get(f"{base}x/api/{run}/{what}", trust_env=False)
    assert (answer.status_code, "token" in answer.text) == (404, True)


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 13, "-1", "first", "²"])
@pytest.mark.parametrize("name", ["round", "page", "min_tokens", "max_tokens"])
def test_a_filter_that_is_no_number_is_said(address: str, name: str, text: str) -> None:
    answer = httpx.get(f"{address}api/0/trajectories", params={name: text}, trust_env=False)
    assert (answer.status_code, answer.json()["error"].startswith(f"{name} is a number")) == (404, True)


def test_a_page_elsewhere_that_took_our_address_under_its_own_name_is_refused(address: str) -> None:
    assert httpx.get(f"{address}api/state", headers={"Host": "evil.example"}, trust_env=False).status_code == 404
    assert httpx.get(f"{address}api/state", headers={"Host": "localhost:8765"}, trust_env=False).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "../server.py",
        "..%2fserver.py",
        "%2e%2e/server.py",
        "vendor/../../server.py",
        "/etc/passwd",
        "//etc/passwd",
        ".",
        "no.js",
        "vendor",
        "a\x00.js",
        "main.py",
    ],
)
def test_nothing_but_the_pages_own_files_is_sent(address: str, name: str) -> None:
    assert asset(name) is None
    with suppress(httpx.InvalidURL):
        assert ask(address, name).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "api/2/trajectories",
        "api/9/facets",
        "api/0/trajectory?file=rl/rollouts&key=none",
        "api/0/tokens",
        "api/0/candidates",
        "api/0/row",
        "api/0/trajectories?page=x",
        "api/0/trajectories?sort=x",
    ],
)
def test_a_wrong_question_is_answered_by_a_sentence(address: str, path: str) -> None:
    answer = httpx.get(address + path, trust_env=False)
    assert answer.status_code == 404
    assert len(answer.json()["error"]) > 10


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(address: str, method: str) -> None:
    assert httpx.request(method, f"{address}api/state", trust_env=False).status_code == 405


def test_the_whole_row_is_sent_as_a_file_to_be_saved(address: str) -> None:
    answer = ask(address, "api/0/row", file="rl/rollouts", key="round3/0/0")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert HOSTILE in json.loads(answer.text)["trajectory"]["steps"][1]["thought"]["text"]


def test_both_runs_are_shown_and_lists_are_paged(address: str) -> None:
    runs = ask(address, "api/state").json()["runs"]
    assert [(run["name"], run["rows"], run["unread"]) for run in runs] == [("trained", 24, 0), ("evaluated", 12, 0)]
    found = ask(address, "api/1/trajectories", outcome="wrong").json()
    assert (found["total"], len(found["rows"])) == (3, 3)
    assert ask(address, "api/1/trajectories", page="1").json()["rows"] == []


def test_reading_leaves_no_trace_in_the_folder(tmp_path: Path) -> None:
    folder = training_run(tmp_path / "run", rounds=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with viewing(folder) as found:
        for path in ("api/state", "api/0/trajectories", "api/0/trajectory?file=rl/rollouts&key=round1/0/3"):
            assert httpx.get(found + path, trust_env=False).status_code == 200
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    import asyncio

    from thor_tir.view.run import open_runs
    from thor_tir.view.server import View, serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = ViewConfig(port=taken.getsockname()[1], token=TOKEN)
        with pytest.raises(UsageError, match="port is taken"):
            asyncio.run(serve(View(open_runs([tmp_path]), config), lambda address: None))


@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "short"},
        {"token": "with a blank in it"},
        {"token": "a/b/c/d/e/f/g/h/i"},
        {"port": 65_536},
        {"port": -1},
    ],
)
def test_a_token_that_can_be_guessed_or_a_port_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ViewConfig(**{"token": TOKEN, **wrong})  # type: ignore[arg-type]
