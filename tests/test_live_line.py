"""The live line of long work: on a terminal a bar, elsewhere only what is said."""

from __future__ import annotations

import io

import pytest

from peer.live_line import LiveLine
from peer.progress import RunProgress
from sim.study.progress import StudyProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("by_thread", [True, False])
def test_a_terminal_sees_what_is_done_and_not_the_plain_words(
    by_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with LiveLine("counting", "sheep", 7, done=2, plainly="in words", by_thread=by_thread) as line:
        line.advance("counting on")
        line.say("a black one")
    text = terminal.getvalue()
    assert "3/7" in text
    assert "counting on" in text
    assert "sheep" in text
    assert "a black one" in text
    assert "in words" not in text


def test_elsewhere_there_is_only_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveLine("counting", "sheep", None, plainly="in words") as line:
        line.advance()
        line.show(5, 9)
        line.say("a black one")
    assert capsys.readouterr().err == "in words\na black one\n"


def test_a_run_says_its_losses(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(4, 2) as progress:
        progress.closed(0, 4.25)
        progress.trained(0)
        progress.closed(1, 4.0)
        progress.closed(2, float("nan"))
    assert capsys.readouterr().err.splitlines() == [
        "before the first round: held-out loss 4.2500",
        "after round 1 of 2: held-out loss 4.0000",
        "after round 2 of 2",
    ]


def test_a_large_study_tells_each_twentieth(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyProgress(200, 57) as progress:
        for _ in range(57, 200):
            progress.advance()
    told = capsys.readouterr().err.splitlines()
    assert told == [f"{done} of 200 settings" for done in (57, *range(60, 201, 10))]
