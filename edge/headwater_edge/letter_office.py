"""Takes dead letters again, or lets them go, at a person's word to the running agent (R20)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headwater_edge import dead_letters
from headwater_edge.dead_letters import Letter
from headwater_edge.decode import Decoded
from headwater_edge.events import LetterGone
from headwater_edge.pipeline import Agent
from headwater_edge.source import Burst
from headwater_edge.store import read_store
from headwater_shared.errors import Refused

Ids = Sequence[tuple[int, int]]
"""(tick, n) of letters."""


class LetterOffice:
    """A letter goes in the commit of the tick that takes its readings, so a crash leaves either the one or the other."""

    def __init__(self, agent: Agent, path: Path) -> None:
        self._agent = agent
        self._path = path
        self._going: set[tuple[int, int]] = set()
        """Letters that a tick under way takes again or lets go."""

    async def replay(self, ids: Ids) -> tuple[int, list[str]]:
        """Take letters again, each whole or not at all; return how many were, and why the others were not."""
        again: list[tuple[Burst, Decoded | None]] = []
        going: list[Letter] = []
        refused: list[str] = []
        for letter in self._find(ids):
            try:
                again.append(dead_letters.again(letter, self._agent.decode))
                going.append(letter)
            except Refused as error:
                refused.append(str(error))
        await self._let_go(going, again)
        return len(going), refused

    async def purge(self, ids: Ids) -> int:
        """Let letters go for good; return how many there were."""
        going = self._find(ids)
        events = [LetterGone(letter.tick, letter.n) for letter in going]
        await self._let_go(going, [(self._agent.events(*events), None)] if events else [])
        return len(going)

    async def _let_go(self, going: list[Letter], bursts: list[tuple[Burst, Decoded | None]]) -> None:
        if not going:
            return
        ids = {(letter.tick, letter.n) for letter in going}
        self._going |= ids
        try:
            await self._agent.take_in(bursts)
            self._agent.letters.gone(
                len(going), sum(len(letter.topic) + len(letter.body) for letter in going)
            )
        finally:
            self._going -= ids

    def _find(self, ids: Ids) -> list[Letter]:
        reader = read_store(self._path)
        try:
            return dead_letters.find(reader, [one for one in dict.fromkeys(ids) if one not in self._going])
        finally:
            reader.close()
