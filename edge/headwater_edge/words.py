"""Words to a running agent: a Unix socket in its data folder, a JSON object a line each way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from headwater_shared.errors import HeadwaterError, Refused

Word = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

_LONGEST = 65_536


async def listen(path: Path, words: Mapping[str, Word]) -> asyncio.AbstractServer:
    """Answer requests such as {"word": "flush"} with what the word returns, or with {"error": ...}."""
    with suppress(FileNotFoundError):
        path.unlink()  # noqa: ASYNC240 - at the start. Of a run before: the agent's file is locked, nobody else listens

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await _answer(line, words)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # it went away, or sent a line without end
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, path, limit=_LONGEST)
    path.chmod(0o600)  # noqa: ASYNC240 - at the start
    return server


async def _answer(line: bytes, words: Mapping[str, Word]) -> Mapping[str, Any]:
    try:
        request = msgspec.json.decode(line, type=dict[str, Any])
        word = words.get(str(request.get("word")))
        if word is None:
            return {"error": f"the agent knows the words {', '.join(sorted(words))}"}
        return await word(request)
    except msgspec.DecodeError as error:
        return {"error": f"no JSON object: {error}"}
    except HeadwaterError as error:
        return {"error": str(error)}


def say(path: Path, word: str, timeout_s: float = 30.0, **more: Any) -> dict[str, Any]:
    """Say a word to the agent that listens at `path`, and return its answer.

    Raises:
        Refused: no agent runs there, or it said why not.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
            talk.settimeout(timeout_s)
            talk.connect(str(path))
            talk.sendall(msgspec.json.encode({"word": word, **more}) + b"\n")
            with talk.makefile("rb") as lines:
                line = lines.readline()
    except OSError as error:
        raise Refused(
            f"no agent answers at {path}: {error}",
            hint="start it with 'headwater up' or 'headwater-edge run'",
        ) from None
    if not line:
        raise Refused(f"the agent at {path} went away", hint="see its log")
    answer = msgspec.json.decode(line, type=dict[str, Any])
    if "error" in answer:
        raise Refused(str(answer["error"]))
    return answer
