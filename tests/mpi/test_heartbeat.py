"""Who is lost: a process that answered before and is silent while others wait for it."""

import socket
import time

import pytest

from trainer.processes import heartbeat
from trainer.processes.heartbeat import Heartbeat, RankLost


@pytest.fixture
def three(monkeypatch):
    """Three heartbeats in one process; the last never answers once `silenced` has been called with it."""
    monkeypatch.setattr(heartbeat, "TICK_SECONDS", 0.02)
    beats = [Heartbeat(rank, ["rank 0", "rank 1", "rank 2"], "token", lambda: 0.3) for rank in range(3)]
    for beat in beats:
        beat.start([("here", each.port) for each in beats])
    until = time.monotonic() + 5
    while any(len(beat._heard) < 2 for beat in beats):
        assert time.monotonic() < until
        time.sleep(0.01)
    return beats


def silence(beat, monkeypatch):
    monkeypatch.setattr(beat, "_send", lambda *_: None)


def test_a_silent_process_is_lost_and_the_first_living_one_says_so(three, monkeypatch):
    silence(three[0], monkeypatch)
    with three[1].waiting(), three[2].waiting():
        time.sleep(1.0)
        with pytest.raises(RankLost, match=r"rank 0 has given no sign of life for 0.3 s"):
            three[1].check()
        three[2].check()  # it will hear of it from the first
        three[2]._lost = {0: time.monotonic() - 60}
        with pytest.raises(RankLost):
            three[2].check()


def test_one_that_answers_is_busy_and_only_a_warning_is_given(three, caplog):
    with three[0].waiting():
        time.sleep(1.0)
        three[0].check()
    assert "waiting for other processes for 0.3 s; all are alive" in caplog.text


def test_time_in_which_nobody_waits_does_not_count(three, monkeypatch):
    silence(three[1], monkeypatch)
    time.sleep(0.6)
    three[0].check()
    assert three[0]._lost == {}


def test_one_that_was_never_heard_is_not_lost_since_packets_may_not_get_through(three, monkeypatch, caplog):
    silence(three[1], monkeypatch)
    three[0]._heard.pop(1)
    with three[0].waiting():
        time.sleep(1.0)
        three[0].check()
    assert "rank 1 cannot be asked whether it is alive" in caplog.text


def test_signs_that_came_while_this_process_was_kept_from_reading_them_count(monkeypatch):
    beat = Heartbeat(0, ["rank 0", "rank 1", "rank 2"], "token", lambda: 8.0)
    looks, now = [], time.monotonic()

    def look(_):
        looks.append(dict(beat._heard))
        raise SystemExit

    monkeypatch.setattr(beat, "_look", look)
    beat._heard = {1: now - 100, 2: now - 100}
    with beat._socket, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for rank in (1, 1, 1, 2):
            other.sendto(b"token pong %d" % rank, ("127.0.0.1", beat.port))
        with pytest.raises(SystemExit):
            beat._run()
    assert all(when >= now for when in looks[0].values())


@pytest.mark.parametrize(("away", "lost"), [(1.0, {0}), (3.0, set())])
def test_an_absence_of_this_process_for_a_part_of_the_limit_starts_the_time_again(away, lost):
    beat, now = Heartbeat(1, ["rank 0", "rank 1"], "token", lambda: 8.0), time.monotonic()
    beat._others = {0: ("127.0.0.1", beat.port)}
    with beat._socket, beat.waiting():
        beat._waits_since, beat._awake, beat._heard = now - 100, now - away, {0: now - 100}
        beat._asleep_until = now - 100
        beat._look(now)
        assert set(beat._lost) == lost


def test_the_time_in_which_this_process_was_stopped_itself_does_not_count(three):
    beat, now = three[0], time.monotonic()
    with beat.waiting():
        beat._waits_since = beat._awake = now - 100
        beat._heard = dict.fromkeys(beat._heard, now - 100)
        beat._look(now)
        assert beat._lost == {}
