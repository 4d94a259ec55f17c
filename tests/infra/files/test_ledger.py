"""The ledger on disk: appended, synced, cut, verified, torn."""

from pathlib import Path
from typing import Any

import pytest

from infra.files.append import AppendFile, ShorterThanCommitted
from infra.files.ledger import (
    LEDGER_START,
    LedgerPosition,
    LedgerWriter,
    TornTailError,
    dead_letter_lines,
    read_dead_letters,
    read_frame,
    read_frames,
)
from schemas.failures import DeadLetter, FailureReason, Origin
from schemas.ids import shard_of
from schemas.ledger import LedgerError
from tests.flows.intake.builders import SECOND, an_intake, arrivals, event_fill, event_price, event_venue, run


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    """Return a ledger of some thirty frames."""
    intake = an_intake()
    events = [
        *event_venue(),
        *[
            event
            for place in range(12)
            for event in (event_price(place, at=place * SECOND), event_fill(place, at=place * SECOND + 1))
        ],
    ]
    return [intake.genesis_frame(), *run(intake, arrivals(events)).frames]


def _numbers(folder: Path, **options: Any) -> list[int]:
    return [frame.number for frame in read_frames(folder, **options)]


def _write(folder: Path, frames: list[bytes], file_bytes_max: int = 2000) -> LedgerPosition:
    writer = LedgerWriter(folder, file_bytes_max=file_bytes_max)
    writer.append(frames)
    position = writer.sync()
    writer.close()
    return position


def test_frames_come_back_over_several_files(tmp_path: Path, frames: list[bytes]) -> None:
    """A rotation must lose nothing and break no link."""
    position = _write(tmp_path, frames)

    assert len(list(tmp_path.iterdir())) > 2
    assert _numbers(tmp_path) == list(range(len(frames)))
    assert position.next_frame == len(frames)


def test_reading_starts_anywhere_and_stops_at_a_position(tmp_path: Path, frames: list[bytes]) -> None:
    """A resume reads from its frame, and not beyond what was synced."""
    writer = LedgerWriter(tmp_path, file_bytes_max=2000)
    writer.append(frames[:20])
    position = writer.sync()
    writer.append(frames[20:])
    writer.sync()

    assert _numbers(tmp_path, from_frame=17) == list(range(17, len(frames)))
    assert _numbers(tmp_path, from_frame=17, until=position) == [17, 18, 19]
    assert _numbers(tmp_path, until=LEDGER_START) == []
    assert read_frame(tmp_path, 18).number == 18
    with pytest.raises(LedgerError, match="no frame 999"):
        read_frame(tmp_path, 999)


def test_a_reader_of_some_shards_gets_their_legs(tmp_path: Path, frames: list[bytes]) -> None:
    """A worker must see its accounts, and every market record."""
    _write(tmp_path, frames)
    alice, bob = shard_of("alice", 16), shard_of("bob", 16)

    legs = [int(leg["account"]) for frame in read_frames(tmp_path, shards={alice}) for leg in frame.legs]
    market = [len(frame.market) for frame in read_frames(tmp_path, shards=set())]

    assert alice != bob
    assert legs == [8] * 12
    assert sum(market) == 1 + 6 + 12


def test_a_writer_goes_on_where_one_stopped(tmp_path: Path, frames: list[bytes]) -> None:
    """A restart must not begin a second ledger in the same folder."""
    for start in range(0, len(frames), 7):
        _write(tmp_path, frames[start : start + 7])

    assert _numbers(tmp_path) == list(range(len(frames)))
    writer = LedgerWriter(tmp_path)
    with pytest.raises(LedgerError, match="does not follow"):
        writer.append(frames[:1])


@pytest.mark.parametrize("kept", [0, 5, 19, 26])
def test_truncation_takes_back_what_came_later(tmp_path: Path, frames: list[bytes], kept: int) -> None:
    """A resume from a barrier must be able to write the same frames again."""
    writer = LedgerWriter(tmp_path, file_bytes_max=2000)
    writer.append(frames[:kept])
    position = writer.sync()
    writer.append(frames[kept:])
    writer.sync()

    writer.truncate_to(position)
    assert _numbers(tmp_path) == list(range(kept))
    writer.append(frames[kept:])
    writer.close()

    assert _numbers(tmp_path) == list(range(len(frames)))


def test_a_position_that_was_never_reached_is_refused(tmp_path: Path, frames: list[bytes]) -> None:
    """A ledger that lost its end must not be gone on with."""
    writer = LedgerWriter(tmp_path)
    writer.append(frames[:5])

    with pytest.raises(LedgerError, match="never reached"):
        writer.truncate_to(LedgerPosition(0, 10**6, 99))


@pytest.mark.parametrize("lost", [1, 3, 100])
def test_a_torn_tail_is_named_and_cut(tmp_path: Path, frames: list[bytes], lost: int) -> None:
    """A crash while a frame is written leaves a part of it: readers say so, the next writer cuts it."""
    _write(tmp_path, frames, file_bytes_max=10**9)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-lost])

    seen: list[int] = []
    with pytest.raises(TornTailError, match=path.name):
        seen.extend(frame.number for frame in read_frames(tmp_path))
    writer = LedgerWriter(tmp_path)
    writer.append(frames[-1:])
    writer.close()

    assert seen == list(range(len(frames) - 1))
    assert writer.torn_bytes == len(frames[-1]) + 4 - lost
    assert _numbers(tmp_path) == list(range(len(frames)))


@pytest.mark.parametrize("place", [0, 1, 10, 200, 500, -1])
def test_a_flipped_byte_is_found(tmp_path: Path, frames: list[bytes], place: int) -> None:
    """State that was read from a damaged ledger would be wrong for ever."""
    _write(tmp_path, frames, file_bytes_max=10**9)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)

    with pytest.raises(LedgerError):
        _numbers(tmp_path)


def test_a_missing_file_or_a_foreign_frame_is_found(tmp_path: Path, frames: list[bytes]) -> None:
    """A gap, or the frames of another ledger, must not be read over."""
    _write(tmp_path / "a", frames)
    sorted((tmp_path / "a").iterdir())[1].unlink()
    other = an_intake(heartbeat_ns=7)
    foreign = [other.genesis_frame(), *run(other, arrivals(event_venue())).frames]
    _write(tmp_path / "b", [*frames[:1], *foreign[1:]])

    with pytest.raises(LedgerError, match="a file is missing"):
        _numbers(tmp_path / "a")
    with pytest.raises(LedgerError, match="hash chain"):
        _numbers(tmp_path / "b")
    with pytest.raises(LedgerError, match="no ledger"):
        _numbers(tmp_path / "c")


def test_dead_letters_come_back_whole(tmp_path: Path) -> None:
    """Whoever repairs the input needs the very bytes."""
    letters = [
        DeadLetter(
            reason=FailureReason.BAD_UTF8, message=f"näh {place}", origin=Origin("a", 0, place), payload=b"\xff\x00\n",
            event_time_ns=place,
        )
        for place in range(5)
    ]  # fmt: skip
    path = tmp_path / "dead_letters.ndjson"

    with AppendFile(path) as file:
        file.append(dead_letter_lines(letters[:2]))
        size = file.sync()
        file.append(dead_letter_lines(letters[2:4])[:-1])
    cut = list(read_dead_letters(path))
    with AppendFile(path, size) as file:
        file.append(dead_letter_lines(letters[2:]))

    assert cut == letters[:3]
    assert list(read_dead_letters(path)) == letters
    with pytest.raises(ShorterThanCommitted, match="were committed"):
        AppendFile(path, 10**6)
