"""A reporter that remembers what is said to it."""

from contextlib import AbstractContextManager

from thor_tir.progress import Progress, Unseen


class Heard(Unseen):
    """Keeps what was said, and takes no stage with a bar."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, title: str, total: int) -> AbstractContextManager[Progress]:
        raise AssertionError("stages have their own bars")

    def say(self, text: str) -> None:
        self.lines.append(text)
