"""A number that three machines keep, by Raft.

What `put` has answered "done" to is kept, and every later `get` sees it, as long as two of the three can talk to each
other. Messages are lines of JSON, one request on each connection. Snapshots and changes of membership are left out.
Sections are those of Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

FOLDER = "/var/raft"
HEARTBEAT = 0.5
PATIENCE = 0.3
ELECTION = (1.0, 1.5)

Address = tuple[str, int]
Reply = dict[str, Any]


async def call(address: Address, patience: float = PATIENCE, **request: Any) -> Reply:
    """Returns the answer of a node; an empty one where there is none within so many seconds."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(json.dumps(request).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
    except OSError:
        return {}
    reply: Reply = json.loads(line) if line.endswith(b"\n") else {}
    return reply


class Node:
    """One of the three. `elected` is called with term and name whenever it becomes leader."""

    def __init__(self, name: str, addresses: dict[str, Address], elected: Callable[[int, str], None]) -> None:
        self.name = name
        self.port = addresses[name][1]
        self.folder = f"{FOLDER}/{name}"
        self.peers = [address for peer, address in addresses.items() if peer != name]
        self.majority = len(addresses) // 2 + 1
        self.elected = elected
        self.role = "follower"
        self.committed = 0
        self.deadline = 0.0
        #: For each peer, the index of the next entry to send.
        self.next: dict[Address, int] = {}
        # What must survive a power cut.
        self.term = 0
        self.voted_for = ""
        self.log: list[tuple[int, int]] = [(0, 0)]  # term and value of each entry

    async def run(self) -> None:
        self.load()
        self.wait_for_leader()
        async with await asyncio.start_server(self.answer, "0.0.0.0", self.port):
            while True:
                if self.role == "leader":
                    await self.send_to_all()
                    await asyncio.sleep(HEARTBEAT)
                elif time.monotonic() >= self.deadline:
                    await self.campaign()
                else:
                    await asyncio.sleep(self.deadline - time.monotonic())

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                request = json.loads(line)
                kinds = {"vote": self.vote, "append": self.append, "put": self.put, "get": self.get}
                reply = await kinds[request.pop("kind")](**request)
                writer.write(json.dumps(reply).encode() + b"\n")
        except OSError:
            pass  # whoever asked has gone
        finally:
            writer.close()

    # --- the disk -------------------------------------------------------------------------------------

    def load(self) -> None:
        try:
            with open(f"{self.folder}/state") as file:
                self.term, self.voted_for, log = json.load(file)
        except FileNotFoundError:
            return
        self.log = [(term, value) for term, value in log]

    def save(self) -> None:
        """Once this has returned, term, vote and log are on the disk."""
        with open(f"{self.folder}/new", "w") as file:
            json.dump([self.term, self.voted_for, self.log], file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{self.folder}/new", f"{self.folder}/state")
        directory = os.open(self.folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    # --- elections ------------------------------------------------------------------------------------

    def wait_for_leader(self) -> None:
        self.deadline = time.monotonic() + random.uniform(*ELECTION)

    def follow(self, term: int) -> None:
        """Takes part in a term, as a follower."""
        self.role = "follower"
        if term > self.term:
            self.term, self.voted_for = term, ""
            self.keep()

    async def campaign(self) -> None:
        self.role = "candidate"
        self.term, self.voted_for = self.term + 1, self.name
        self.save()
        self.wait_for_leader()
        term = self.term
        votes = 1
        ask = {"kind": "vote", "term": term, "candidate": self.name, "last": [self.log[-1][0], len(self.log)]}

        for asked in asyncio.as_completed([call(peer, **ask) for peer in self.peers]):
            reply = await asked
            if self.term != term or self.role != "candidate":
                return
            if reply.get("term", 0) > term:
                self.follow(reply["term"])
                return
            votes += reply.get("granted", False)
            if votes >= self.majority:
                self.lead()
                return

    async def vote(self, term: int, candidate: str, last: list[int]) -> Reply:
        if term > self.term:
            self.follow(term)
        newest = last >= [self.log[-1][0], len(self.log)]
        granted = term == self.term and newest and self.voted_for in ("", candidate)
        if granted:
            self.voted_for = candidate
            self.keep()
            self.wait_for_leader()
        return {"term": self.term, "granted": granted}

    def keep(self) -> None:
        """Called before anybody learns of a new term or vote."""
        self.save()

    def lead(self) -> None:
        self.role = "leader"
        self.elected(self.term, self.name)
        self.next = dict.fromkeys(self.peers, len(self.log))
        # Entries of earlier terms are committed by one of this term only (section 5.4.2).
        self.log.append((self.term, self.log[-1][1]))
        self.save()

    # --- the log --------------------------------------------------------------------------------------

    async def send_to_all(self) -> bool:
        """Brings the peers up to date. Returns True if a majority followed this node in its term."""
        term, length = self.term, len(self.log)
        sent = await asyncio.gather(*(self.send(peer) for peer in self.peers))
        if self.role != "leader" or self.term != term:
            return False
        if 1 + sum(sent) < self.majority:
            return False
        if self.log[length - 1][0] == term:
            self.committed = max(self.committed, length - 1)
        return True

    async def send(self, peer: Address) -> bool:
        term = self.term
        begin = self.next[peer]
        end = len(self.log)
        reply = await call(
            peer, kind="append", term=term, previous=[begin - 1, self.log[begin - 1][0]], entries=self.log[begin:],
            committed=self.committed,
        )  # fmt: skip
        if self.role != "leader" or self.term != term or not reply:
            return False
        if reply["term"] > term:
            self.follow(reply["term"])
            return False
        if reply["matches"]:
            self.next[peer] = max(self.next[peer], end)
        else:
            self.next[peer] = max(1, begin - 1)
        return bool(reply["matches"])

    async def append(self, term: int, previous: list[int], entries: list[list[int]], committed: int) -> Reply:
        if term < self.term:
            return {"term": self.term, "matches": False}
        self.follow(term)
        self.wait_for_leader()
        index, last_term = previous
        matches = index < len(self.log) and self.log[index][0] == last_term
        if matches:
            for at, (of_term, value) in enumerate(entries, index + 1):
                if at == len(self.log) or self.log[at][0] != of_term:
                    self.log[at:] = [(of_term, value)]
            if entries:
                self.save()
            self.committed = max(self.committed, min(committed, index + len(entries)))
        return {"term": self.term, "matches": matches}

    # --- clients --------------------------------------------------------------------------------------

    async def put(self, value: int) -> Reply:
        if self.role != "leader":
            return {}
        term, index = self.term, len(self.log)
        self.log.append((term, value))
        self.save()
        await self.send_to_all()
        return {"done": self.term == term and self.committed >= index}

    async def get(self) -> Reply:
        if self.role != "leader" or self.log[self.committed][0] != self.term:
            return {}  # a new leader does not know yet what is committed
        value = self.log[self.committed][1]
        return {"value": value} if await self.still_leads() else {}

    async def still_leads(self) -> bool:
        """Returns True if no other leader can have been elected before this was asked (section 8)."""
        return await self.send_to_all()
