"""How captured output lies on the disk: names of segments, and the index that dates bytes.

    logging/web-web.out             what the component appends to; a hole up to the boundary
    logging/web-web.out.0           segments, called after the offset of their first byte
    logging/web-web.out.52428800    the newest; where it ends, the live data begin
    logging/web-web.out.0-52428800.gz  a segment, compressed: its first offset and its end
    logging/.times/web-web.out      the index: samples of (offset, time)

An offset is a place in everything that was ever written to the file, and stays so for ever.
A sample says: when the last of the first `offset` bytes was written, it was `time`. So a byte
between two samples was written after the time of the one and not after that of the other.
"""

from __future__ import annotations

import math
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple, overload

TIMES = ".times"
"""The directory of the indexes, within that of the logs."""

MAGIC = b"orch log times 1"
"""What an index begins with; as long as a sample."""

EXACT = b"orch log exact 1"
"""What the index of a log begins with whose lines are dated as they are read from a pipe."""

MOST_SAMPLES = 16_384
"""When an index holds so many, the older half is thinned."""

MOST_EXACT = 1 << 20
"""The same for an exact index, which grows by one sample a millisecond at most."""

PIPES = "pipes"
"""The directory of the pipes, within the runtime directory; called as the log files are."""

_SAMPLE = struct.Struct("<Qq")
SIZE = _SAMPLE.size
_MICRO = 1_000_000


class Sample(NamedTuple):
    """So many bytes were there at this time, in seconds since 1970."""

    offset: int
    time: float


class Span(NamedTuple):
    """Bytes up to `end` that were written after `after` and not after `until`; None: unknown."""

    end: int | None
    after: float | None
    until: float | None


def segment_name(log: str, begin: int) -> str:
    """Return the name of the segment of `log` whose first byte has the offset `begin`."""
    return f"{log}.{begin}"


def compressed_name(log: str, begin: int, end: int) -> str:
    """Return the name of a compressed segment that holds the bytes from `begin` to `end`."""
    return f"{log}.{begin}-{end}.gz"


class Segment(NamedTuple):
    """What the name of a segment tells; the end is None where the file's size tells it."""

    log: str
    begin: int
    end: int | None


def split_segment(name: str) -> Segment | None:
    """Return what a segment's name tells; None for other files."""
    rest, is_compressed = name.removesuffix(".gz"), name.endswith(".gz")
    log, dot, numbers = rest.rpartition(".")
    begin, dash, end = numbers.partition("-")
    if not (dot and log) or bool(dash) is not is_compressed or not _is_number(begin):
        return None
    if not is_compressed:
        return Segment(log, int(begin), None)
    return Segment(log, int(begin), int(end)) if _is_number(end) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def pack(samples: Iterable[Sample]) -> bytes:
    """Return samples as they stand in an index."""
    return b"".join(_SAMPLE.pack(one.offset, round(one.time * _MICRO)) for one in samples)


class Times(Sequence[Sample]):
    """The samples of an index, read where they lie.

    Both offsets and times never fall from one sample to the next. In an `exact` index a sample
    is when the bytes before it were read from a pipe.

    Args:
        data: A whole index, as bytes or mapped; what is none counts as empty. As an attribute
            it is without what an index begins with.
    """

    def __init__(self, data: bytes | memoryview = b"") -> None:
        view = memoryview(data)
        if len(view) < SIZE or view[:SIZE] not in (MAGIC, EXACT):
            view = view[:0]
        self.exact = view[:SIZE] == EXACT
        self.data = view[SIZE : len(view) // SIZE * SIZE]
        self._near = 0

    def __len__(self) -> int:
        return len(self.data) // SIZE

    @overload
    def __getitem__(self, number: int) -> Sample: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Sample]: ...

    def __getitem__(self, number: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        offset, time = _SAMPLE.unpack_from(self.data, number * SIZE)
        return Sample(offset, time / _MICRO)

    def span(self, offset: int) -> Span:
        """Return what is known of the byte at `offset`, and up to where it holds."""
        found = self._near
        if not (self._ends(found - 1) <= offset < self._ends(found)):
            found += 1  # Whoever reads on asks for the next one.
            if not (self._ends(found - 1) <= offset < self._ends(found)):
                everything = range(len(self))
                found = bisect_right(everything, offset, key=lambda number: self[number].offset)
        self._near = found
        after = self[found - 1].time if found else None
        if found == len(self):
            return Span(None, after, None)
        return Span(self[found].offset, after, self[found].time)

    def _ends(self, number: int) -> float:
        if number < 0:
            return -1
        return self[number].offset if number < len(self) else math.inf

    def surely_before(self, time: float) -> int:
        """Return the offset below which every byte was written before `time`."""
        found = bisect_left(range(len(self)), time, key=lambda number: self[number].time)
        return self[found - 1].offset if found else 0


def thinned(times: Times) -> bytes:
    """Return the samples, packed, without every second one of the older half.

    Again and again, this makes the resolution of a line a fixed share of its age.
    """
    older = len(times) // 2 * SIZE
    fields = array("Q", bytes(times.data[:older]))
    kept = array("Q", bytes(len(fields) // 4 * 16))
    kept[0::2], kept[1::2] = fields[2::4], fields[3::4]
    return kept.tobytes() + times.data[older:]


def since(times: Times, begin: int) -> bytes:
    """Return the samples, packed, that date the bytes from `begin` on."""
    first = bisect_right(range(len(times)), begin, key=lambda number: times[number].offset)
    return bytes(times.data[max(0, first - 1) * SIZE :])


def up_to(times: Times, end: int) -> bytes:
    """Return the samples, packed, of a log that turned out to be `end` bytes long."""
    first = bisect_left(range(len(times)), end, key=lambda number: times[number].offset)
    kept = bytes(times.data[: first * SIZE])
    return kept + pack((Sample(end, times[first].time),)) if end and first < len(times) else kept


def clamped(times: Times, latest: float) -> bytes:
    """Return the samples, packed, for a clock that was set back to `latest`: none is later."""
    return pack(Sample(one.offset, min(one.time, latest)) for one in times)
