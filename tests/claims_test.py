"""Claims by several claimants in one folder, each with its own view of it."""

import os
import shutil
import time

import pytest

from keras_l2e.paper.claims import HEARTBEAT, LOOKS, Claims, LostError


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told so."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def pass_by(seconds):
        now[0] += seconds

    return pass_by


def look_until_taken(claims, clock, name="cell"):
    """Looks at a claim time and again; gives it, and the number of looks without success."""
    for count in range(3 * LOOKS):
        if claim := claims.take(name):
            return claim, count
        clock(claims.dead_after / LOOKS)
    raise AssertionError("never taken over")


def test_a_cell_is_claimed_once_and_finished_once(tmp_path):
    ours, theirs = Claims(tmp_path), Claims(tmp_path)
    claim = ours.take("cell")
    assert claim.path == tmp_path / "cell.1"
    assert theirs.take("cell") is None
    assert ours.take("cell") is None
    assert theirs.is_running("cell") and not theirs.is_done("cell")
    (claim.path / "run").mkdir()
    (claim.path / "run/result").write_text("42")
    claim.finish("run")
    assert theirs.is_done("cell") and not theirs.is_running("cell")
    assert theirs.take("cell") is None
    assert [path.name for path in tmp_path.iterdir()] == ["cell"]
    assert (tmp_path / "cell/result").read_text() == "42"


def test_names_that_begin_alike_are_told_apart(tmp_path):
    claims = Claims(tmp_path)
    for name in ("cell", "cell_1", "cell_10", "a+b"):
        assert claims.take(name).number == 1
        assert claims.path(name) == tmp_path / f"{name}.1"
    (tmp_path / "cell.cfg").write_text("")
    (tmp_path / "cell.failed").write_text("")
    assert claims.path("cell") == tmp_path / "cell.1"
    assert claims.path("none") is None


def test_what_is_released_goes_on_at_once(tmp_path):
    claim = Claims(tmp_path).take("cell")
    (claim.path / "run").mkdir()
    claim.release()
    assert not Claims(tmp_path).is_running("cell")
    second = Claims(tmp_path).take("cell")
    assert (second.number, (second.path / "run").is_dir()) == (2, True)
    assert Claims(tmp_path).take("cell") is None


def test_a_dead_claim_is_taken_over_by_one(tmp_path, clock):
    Claims(tmp_path, 60).take("cell")
    first, second = Claims(tmp_path, 60), Claims(tmp_path, 60)
    for _ in range(LOOKS):
        assert first.take("cell") is None and second.take("cell") is None
        clock(6)
    claim = first.take("cell")
    assert claim.number == 2
    # It is alive now, so its death is another one to wait for.
    assert second.take("cell") is None
    _, looks = look_until_taken(second, clock)
    assert looks >= LOOKS


def test_a_claim_that_beats_is_never_taken(tmp_path, clock):
    claim = Claims(tmp_path, 60).take("cell")
    other = Claims(tmp_path, 60)
    for i in range(5 * LOOKS):
        # A clock that is an hour late, or goes back, says as much.
        os.utime(claim.path / HEARTBEAT, ns=(0, 10**9 * (100 - i)))
        assert other.take("cell") is None
        clock(6)
    claim.beat()


def test_one_who_was_paused_himself_has_not_looked(tmp_path, clock):
    Claims(tmp_path, 60).take("cell")
    other = Claims(tmp_path, 60)
    assert other.take("cell") is None
    clock(100_000)
    assert other.take("cell") is None


def test_a_process_that_was_paused_finds_its_claim_lost(tmp_path, clock, monkeypatch):
    paused = Claims(tmp_path, 60).take("cell")
    (paused.path / "run").mkdir()
    claim, _ = look_until_taken(Claims(tmp_path, 60), clock)
    with pytest.raises(LostError, match="taken over"):
        paused.beat()
    with pytest.raises(FileNotFoundError):
        (paused.path / "run/history.jsonl").write_text("late")
    # Not even if its run, which makes the folders it needs, makes them again.
    (paused.path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(LostError, match="taken over"):
        paused.finish("run")
    # Even if the claim is lost after the first look.
    beat, looks = paused.beat, iter([lambda: None])
    monkeypatch.setattr(paused, "beat", lambda: next(looks, beat)())
    shutil.rmtree(paused.path)
    with pytest.raises(LostError, match="taken over"):
        paused.finish("run")
    paused.release()
    claim.beat()
    # What it made is nobody's work.
    assert Claims(tmp_path).path("cell") == claim.path
    claim.finish("run")
    assert Claims(tmp_path).is_done("cell")


def test_a_slow_process_does_not_begin_what_others_have_gone_on_with(tmp_path, monkeypatch):
    Claims(tmp_path).take("cell").release()
    second = Claims(tmp_path).take("cell")
    slow = Claims(tmp_path)
    newest = iter([0, second.number])  # What it saw before the others came, and sees after.
    monkeypatch.setattr(slow, "_newest", lambda name: next(newest))
    assert slow.take("cell") is None
    assert [path.name for path in tmp_path.iterdir()] == ["cell.2"]


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Claims(tmp_path / "gone").take("cell")
