"""Reading logs: whatever conmon cut into parts comes out as it went in."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fairlead.containers.logs import LogReader, parse, read_log, tail_offset
from fairlead.containers.rotation import shift
from fairlead.containers.streams import STDERR, STDOUT

TIME = "2026-11-23T23:52:34.430108464+00:00"


def line(text: str, *, stream: str = "stdout", whole: bool = True, time: str = TIME) -> str:
    return f"{time} {stream} {'F' if whole else 'P'} {text}\n"


def read(path: Path, **options: Any) -> list[tuple[int, bytes]]:
    async def collect() -> list[tuple[int, bytes]]:
        return [tuple(frame) async for frame in read_log(path, **options)]  # type: ignore[misc]

    return asyncio.run(collect())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_text(
        line("one")
        + line("two", stream="stderr", time="2026-11-23T23:52:35.000000001+00:00")
        + line("thr", whole=False, time="2026-11-23T23:52:36.5+00:00")
        + line("ee", time="2026-11-23T23:52:36.6+00:00")
        + "garbage\n"
        + line("end", whole=False, time="2026-11-23T23:52:37+00:00")
    )
    return path


def test_parts_are_joined_and_the_last_bytes_kept(log: Path) -> None:
    assert b"".join(data for _, data in read(log)) == b"one\ntwo\nthree\nend"
    assert [stream for stream, _ in read(log)] == [STDOUT, STDERR, STDOUT, STDOUT, STDOUT]


def test_one_stream(log: Path) -> None:
    assert read(log, stdout=False) == [(STDERR, b"two\n")]


def test_since_and_until(log: Path) -> None:
    since = 1795477955 * 10**9  # 2026-11-23T23:52:35Z
    assert b"".join(d for _, d in read(log, since=since)) == b"two\nthree\nend"
    assert b"".join(d for _, d in read(log, since=since, until=since + 5 * 10**8)) == b"two\n"


def test_timestamps_once_a_line(log: Path) -> None:
    text = b"".join(data for _, data in read(log, timestamps=True)).decode()
    assert text.splitlines()[0] == "2026-11-23T23:52:34.430108464Z one"
    assert text.splitlines()[2] == "2026-11-23T23:52:36.5Z three"


@pytest.mark.parametrize(
    ("count", "expected"), [(0, b""), (1, b"end"), (2, b"three\nend"), (99, b"one\ntwo\nthree\nend")]
)
def test_tail(log: Path, count: int, expected: bytes) -> None:
    assert b"".join(data for _, data in read(log, tail=count)) == expected


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30000)), max_size=12), st.integers(0, 14))
def test_tail_finds_the_line_whatever_its_length(entries: list[tuple[bool, int]], count: int) -> None:
    lines = [line("x" * size, whole=whole).encode() for whole, size in entries]
    # By definition: going back from the end, a new line of output begins after each F; the last may be unfinished.
    starts, begins = [], True
    for index, (whole, _) in enumerate(entries):
        if begins:
            starts.append(index)
        begins = whole
    first = starts[-count] if 0 < count <= len(starts) else (0 if count else len(lines))
    assert tail_offset(io.BytesIO(b"".join(lines)), count) == sum(map(len, lines[:first]))


def test_times() -> None:
    entry = parse(line("x").rstrip("\n").encode())
    assert entry is not None
    assert entry.nanoseconds == 1795477954430108464
    assert parse(b"nonsense") is None


def test_follow_ends_with_the_container_and_misses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"

    async def scenario() -> bytes:
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        found: list[bytes] = []
        seen = asyncio.Event()

        async def follow() -> None:
            async for frame in read_log(path, follow=lambda: ended):
                found.append(frame.data)
                seen.set()

        task = asyncio.create_task(follow())
        await asyncio.sleep(0.05)
        with path.open("a") as file:
            file.write(line("first"))
            file.flush()
            await asyncio.wait_for(seen.wait(), 5)
            file.write(line("last"))
        ended.set_result(0)
        await asyncio.wait_for(task, 5)
        return b"".join(found)

    assert asyncio.run(scenario()) == b"first\nlast\n"


def test_a_reader_goes_through_all_files_whenever_they_are_rotated(tmp_path: Path) -> None:
    """Written and rotated while it reads: each line once, in order."""
    path = tmp_path / "log"
    reader = LogReader(path, 3)
    found: list[bytes] = []
    number = 0

    def read() -> None:
        while entries := reader.entries():
            found.extend(entry.text for entry in entries)

    for turn in range(30):
        with path.open("a") as file:
            for _ in range(turn % 4):
                file.write(line(str(number)))
                number += 1
        if turn % 3 == 0:
            read()
        if turn % 5 == 4:
            shift(path, 3)
            read()  # Now the name is free; the next line makes the new file.
    read()
    reader.close()
    assert found == [str(n).encode() for n in range(number)]


@pytest.mark.parametrize(
    ("tail", "expected"), [(None, "abcdef"), (0, ""), (1, "f"), (3, "def"), (5, "bcdef"), (9, "abcdef")]
)
def test_the_tail_reaches_into_older_files(tmp_path: Path, tail: int | None, expected: str) -> None:
    path = tmp_path / "log"
    for name, letters in (("log.2", "ab"), ("log.1", "cd"), ("log", "ef")):
        (tmp_path / name).write_text("".join(map(line, letters)))
    found = b"".join(data for _, data in read(path, tail=tail, files=3))
    assert found.decode().replace("\n", "") == expected


def test_shifting_drops_the_oldest(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in "abcd":
        path.write_text(text)
        shift(path, 3)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"log.1": "d", "log.2": "c"}
    path.write_text("e")
    shift(path, 1)
    assert not path.exists()
