"""Rotation of captured output without touching the writer.

Children write to O_APPEND files that we can neither reopen nor truncate for them. So the head
of a file is copied to a segment and then given back to the file system as a hole: the file's
offsets stay what they were, which makes them permanent cursors, and nothing is lost however
fast the child writes meanwhile.

The order matters to readers: a segment is there, whole, before the hole is. Whoever has read
from the file and then finds no segment for it has read what was written.

A segment is called after its file and the offset of its first byte: `web-web.out.52428800`.
When none is kept an empty one marks where the live data begin.

A compressed segment takes the place of the plain one by a rename: where both are there, for the
moment between that and the removal, the plain one counts.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from orchestrator import files
from orchestrator.model.units import Bytes
from orchestrator.wire import loglayout

NEWLINE_WITHIN: Bytes = 1 << 20
"""A cut is made after a newline when there is one in so many bytes before the end."""

ASIDE = ".old"
"""What the segments of a log that was replaced are called, behind their names."""


def rotate(path: Path, keep: int, size: Bytes = 0) -> Path | None:
    """Move what a log holds now into a segment and keep the newest `keep`.

    A flood may have written more since the last look than all segments together may hold
    (`size` times `keep`, 0: no limit). Then only that much of its end is copied: the rest
    would be removed at once, and copying it would make the flood ours too.

    Returns:
        The segment; None when the log holds nothing new.

    Raises:
        HolesUnsupported: The file system cannot make holes.
        OSError: The segment cannot be written; the log is as it was.
    """
    flooded = False
    with path.open("r+b") as log:
        begin = first_byte(path)
        end = _cut(log.fileno(), begin, os.fstat(log.fileno()).st_size)
        if end <= begin:
            return None
        if keep:
            most = size * keep
            flooded = 0 < most < end - begin
            if flooded:
                begin = _cut(log.fileno(), begin, end - most)
            segment = path.with_name(loglayout.segment_name(path.name, begin))
            files.copy_range(log.fileno(), begin, end, segment)
        else:
            segment = path.with_name(loglayout.segment_name(path.name, end))
            segment.touch(mode=0o640)
        try:
            # From the start: a daemon that died before its hole left the head in two places.
            files.punch_hole(log.fileno(), 0, end)
        except (OSError, files.HolesUnsupported):
            segment.unlink()
            raise
    for old in segments(path)[: -1 if flooded else -max(keep, 1)]:
        _remove(old)
    return segment


def compress(segment: Path) -> Path | None:
    """Compress a segment; return what took its place, None when it was removed meanwhile.

    Takes about a second for 50 MB. A process that is killed in between leaves the plain
    segment, and a `.part` that the next compression of the log removes.

    Raises:
        OSError: The compressed one cannot be written; the segment is as it was.
    """
    import gzip  # noqa: PLC0415 - the daemon starts sooner without
    import shutil  # noqa: PLC0415

    parts = loglayout.split_segment(segment.name)
    assert parts is not None, "internal error: no segment"
    for left in segment.parent.glob(f"{parts.log}.*{_PART}"):
        left.unlink(missing_ok=True)
    try:
        with segment.open("rb") as plain:
            end = parts.begin + os.fstat(plain.fileno()).st_size
            target = segment.with_name(loglayout.compressed_name(parts.log, parts.begin, end))
            part = target.with_name(target.name + _PART)
            part.touch(mode=0o640)
            try:
                with gzip.open(part, "wb", compresslevel=_LEVEL) as packed:
                    shutil.copyfileobj(plain, packed, 1 << 20)
                part.rename(target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        segment.unlink()
    except FileNotFoundError:
        return None
    return target


_PART = ".part"
_LEVEL = 6


def _remove(segment: Path) -> None:
    """Remove a segment in both of its forms."""
    parts = loglayout.split_segment(segment.name)
    assert parts is not None, "internal error: no segment"
    forms = segment.parent.glob(f"{parts.log}.{parts.begin}-*.gz")
    for form in (segment.with_name(loglayout.segment_name(parts.log, parts.begin)), *forms):
        with contextlib.suppress(FileNotFoundError):
            form.unlink()


def set_aside(path: Path) -> tuple[Path, ...]:
    """Take the segments out of the way of a log that begins anew; return where they are.

    Those that were set aside before are removed, so that their number stays bounded.
    """
    there = segments(path)
    if there:
        for old in path.parent.glob(f"{path.name}.*{ASIDE}"):
            old.unlink(missing_ok=True)
    return tuple(old.rename(old.with_name(old.name + ASIDE)) for old in there)


def segments(path: Path) -> tuple[Path, ...]:
    """Return the segments of a log, oldest first, each in one of its forms."""
    found: dict[int, Path] = {}
    for one in path.parent.glob(f"{path.name}.*"):
        parts = loglayout.split_segment(one.name)
        if parts is None or parts.log != path.name:
            continue
        if parts.end is None or parts.begin not in found:
            found[parts.begin] = one
    return tuple(one for _, one in sorted(found.items()))


def first_byte(path: Path) -> int:
    """Return the offset of the first byte of a log that is in no segment."""
    there = segments(path)
    if not there:
        return 0
    parts = loglayout.split_segment(there[-1].name)
    assert parts is not None, "internal error: a segment without its offset"
    return there[-1].stat().st_size + parts.begin if parts.end is None else parts.end


def _cut(fd: int, begin: int, size: int) -> int:
    """Return where to cut: after the last newline near the end, else at the end."""
    near = max(begin, size - NEWLINE_WITHIN)
    tail = os.pread(fd, max(0, size - near), near)
    newline = tail.rfind(b"\n")
    return near + newline + 1 if newline >= 0 else size
