"""Two classic mistakes with Raft."""

from __future__ import annotations

from raft import Node


class ForgetsItsVote(Node):
    """Writes its vote to the disk with the next entries, and has answered before."""

    def keep(self) -> None:
        pass


class ReadsAlone(Node):
    """Answers as leader without asking anybody: others may have elected another one."""

    async def still_leads(self) -> bool:
        return True
