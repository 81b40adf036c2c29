"""The judge, asked over a real connection to an endpoint that says what it is told to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from thor_tir.errors import UsageError
from thor_tir.grading.grader import Grader
from thor_tir.grading.judge import JudgeConfig, LanguageModelJudge, opened, read_opinion, read_reply
from thor_tir.grading.types import GradingRoute as Way
from thor_tir.grading.types import pair
from thor_tir.verdict import Outcome, Strictness, Verdict

pytest.importorskip("openai")


def verdict_on(grader: Grader, reference: str, answer: str) -> Verdict:
    """The verdict on a final answer, waited for in this thread."""
    return grader.begin(pair(reference, answer)).result().verdict


@pytest.fixture
def endpoint():
    """An endpoint that gives its scripted replies one after another; an integer is the status of a failure."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append(body["messages"][-1]["content"])
            reply = server.replies.pop(0)
            message = {"role": "assistant", "content": reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            row = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            blob = json.dumps(row).encode()
            self.send_response(reply if isinstance(reply, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(blob)))
            self.end_headers()
            self.wfile.write(blob)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked, server.replies = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def judge(endpoint, tmp_path):
    judge = new_judge(endpoint, tmp_path)
    yield judge
    judge.close()


def new_judge(endpoint, folder) -> LanguageModelJudge:
    url = f"http://127.0.0.1:{endpoint.server_port}/v1"
    config = JudgeConfig(model="m", base_url=url, key_variable="NO_SUCH_KEY", journal=folder / "judge.jsonl")
    return LanguageModelJudge(config, pause_s=0)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("SAME", Outcome.CORRECT),
        ("They differ.\n**DIFFERENT**", Outcome.WRONG),
        ("<think>DIFFERENT</think>\nsame.", Outcome.CORRECT),
        ("The student asks for SAME", None),
        ("SAME\nor perhaps not", None),
        ("SAME DIFFERENT", None),
        ("", None),
    ],
)
def test_only_one_of_two_words_on_the_last_line_is_an_opinion(reply, outcome):
    assert read_opinion(reply) is outcome


@pytest.mark.parametrize(
    "body",
    [
        "SAME",
        "null",
        "[]",
        "[" * 100_000,
        '{"choices": null}',
        '{"choices": {"a": 1}}',
        '{"choices": [null]}',
        '{"choices": [{"message": null}]}',
        '{"choices": [{"message": {"content": ["SAME"]}}]}',
        '{"choices": [{"message": {"content": 7}}]}',
    ],
)
def test_a_reply_of_any_other_form_says_nothing(body):
    assert read_reply(body) == ""


def test_a_judge_that_breaks_is_heard_of_by_whoever_waits(endpoint, judge, monkeypatch):
    def full(key, row):
        raise OSError("no space left")

    endpoint.replies += ["SAME"]
    monkeypatch.setattr(judge._journal, "add", full)
    with Grader(strictness=Strictness.LENIENT, judge=judge) as grader:
        future = grader.begin(pair("}{", "x+1", question="Which?"))
        with pytest.raises(OSError, match="no space left"):
            future.result(timeout=60)


def test_an_opinion_is_paid_for_once_even_by_the_next_run(endpoint, judge, tmp_path):
    endpoint.replies += ["SAME"]
    assert judge.outcome("Who?", "Ann", "Anna")[0] is Outcome.CORRECT
    assert judge.outcome("Who?", "Ann", "Anna")[0] is Outcome.CORRECT
    again = new_judge(endpoint, tmp_path)
    assert again.outcome("Who?", "Ann", "Anna")[0] is Outcome.CORRECT
    again.close()
    assert endpoint.asked == [json.dumps({"problem": "Who?", "reference": "Ann", "answer": "Anna"})]


def test_failures_and_useless_replies_are_tried_again_but_not_for_ever(endpoint, judge):
    endpoint.replies += [500, "perhaps", "DIFFERENT", 500, 500, "perhaps"]
    assert judge.outcome("", "Ann", "Bob")[0] is Outcome.WRONG
    outcome, reason = judge.outcome("", "Ann", "Eve")
    assert outcome is Outcome.UNSCORED
    assert "gave no opinion" in reason
    endpoint.replies += ["SAME"]
    assert judge.outcome("", "Ann", "Eve")[0] is Outcome.CORRECT  # so the failure was not remembered


def test_a_lenient_grader_asks_only_about_what_stays_unscored_and_counts_it_apart(endpoint, judge):
    endpoint.replies += ["DIFFERENT"]
    with Grader(strictness=Strictness.LENIENT, judge=judge) as grader:
        by_rules = verdict_on(grader, "12", "the same in the opinion of the judge")
        assert (by_rules.outcome, by_rules.by_judge) == (Outcome.WRONG, False)
        asked = grader.begin(pair("}{", "x+1", question="Which?")).result()
        assert (asked.verdict.outcome, asked.path) == (Outcome.WRONG, Way.JUDGE)
        assert asked.verdict.by_judge
        assert grader.stats[Way.JUDGE].count == 1
    assert [json.loads(parts)["problem"] for parts in endpoint.asked] == ["Which?"]


def test_a_judge_is_open_for_as_long_as_it_is_needed(judge):
    with opened(judge.config) as another:
        assert not another._client.is_closed()
    assert another._client.is_closed()
    with opened(None) as nobody:
        assert nobody is None


def test_openais_own_endpoint_without_a_key_is_the_users_mistake(tmp_path):
    with pytest.raises(UsageError, match="NO_SUCH_KEY"):
        LanguageModelJudge(JudgeConfig(model="m", key_variable="NO_SUCH_KEY", journal=tmp_path / "j.jsonl"))
