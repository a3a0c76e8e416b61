"""Asking a component on its control link."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import Any

from orchestrator.errors import ProtocolError, RequestFailed
from orchestrator.model import names, units
from orchestrator.model.topology import Component
from orchestrator.model.units import Seconds
from orchestrator.wire import control

_CHUNK = 1 << 16
_PEER = struct.Struct("iII")


async def ask(
    runtime_dir: str, component: Component, method: str, *, within: Seconds, **params: object
) -> dict[str, Any]:
    """Ask the instance one thing and return its answer.

    Raises:
        RequestFailed: It refused (with its own code), has no link (`unreachable`), ended
            meanwhile (`gone`), or did not answer within `within` seconds (`timeout`).
    """
    path = names.link_path(runtime_dir, component.stem)
    try:
        async with asyncio.timeout(within):
            return await _ask(path, control.request(1, method, params))
    except TimeoutError:
        limit = units.format_duration(within)
        raise RequestFailed("timeout", f"it did not answer within {limit}") from None
    except ProtocolError as error:
        raise RequestFailed("protocol", str(error)) from error


async def _ask(path: str, request: bytes) -> dict[str, Any]:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RequestFailed("unreachable", f"it has no control link ({reason})") from error
    try:
        if not _is_whose_link_it_is(writer.get_extra_info("socket"), path):
            raise RequestFailed("unreachable", "another user listens on its control link")
        writer.write(request)
        decoder = control.Decoder()
        while data := await reader.read(_CHUNK):
            for message in decoder.feed(data):
                return _result(message)
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    raise RequestFailed("gone", "it ended before it answered")


def _is_whose_link_it_is(stream: socket.socket, path: str) -> bool:
    """Whether who listens is who the path belongs to: a user's own may lead anywhere."""
    peer = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    try:
        owner = os.lstat(path).st_uid
    except FileNotFoundError:
        return False
    return bool(_PEER.unpack(peer)[1] == owner)


def _result(message: dict[str, Any]) -> dict[str, Any]:
    error, result = message.get("error"), message.get("result")
    if isinstance(error, dict):
        raise RequestFailed(str(error.get("code")), str(error.get("message")))
    if not isinstance(result, dict):
        raise ProtocolError("cannot understand a reply without a result")
    return result
