"""Three classic mistakes with leases."""

from __future__ import annotations

import time

from lease import TTL, Locks, Worker


class JudgesByTheWallClock(Locks):
    """Lets leases end by a clock that an operator sets."""

    def now(self) -> float:
        return time.time()


class WritesForAnybody(Locks):
    """Trusts that who writes has looked: a worker may stand still between its look and its write."""

    def write(self, token: int) -> str:
        self.written.append(token)
        return "written"


class CountsOnRenewal(Worker):
    """Goes on as if each renewal had arrived."""

    async def renew(self) -> None:
        self.until = time.monotonic() + TTL
        await self.ask("renew", self.token)
