"""Byte stream in one direction of a TCP connection: a first-in first-out queue, with a buffer at either end.

There are no sequence numbers, since programs see none through a TCP socket. The order of bytes and of the end of a
direction is fixed; the link decides when each packet arrives. A lost one is sent again, ever later.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from simloop.kernel.clock import MILLISECOND, SECOND
from simloop.kernel.net.options import IPPROTO_TCP, TCP_USER_TIMEOUT
from simloop.kernel.net.wire import HELD, LOST, PASSED, RESET

if TYPE_CHECKING:
    from simloop.kernel.net.options import Options
    from simloop.kernel.net.wire import Link
    from simloop.kernel.scheduler import Scheduler

# When what nobody acknowledges is sent again: after TCP_RTO_MIN, then twice as long each time, up to TCP_RTO_MAX; after
# net.ipv4.tcp_retries2 = 15 times, 924.6 seconds in all, the connection has failed (tcp(7), ip-sysctl.rst).
RETRIES_NS = tuple(min(200 * MILLISECOND << number, 120 * SECOND) for number in range(16))

# What travels besides bytes.
FIN, RST, SYN_ACK = "FIN", "RST", "SYN-ACK"

# How the rest of a packet arrives that was cut: "two turns later", after a poll that sees the first piece alone.
_APART = 2


class End(Protocol):
    """Protocol of a socket, as the directions that begin and end at it see it."""

    options: Options

    @property
    def reachable(self) -> bool:
        """True while its machine has power."""

    @property
    def forgotten(self) -> bool:
        """True if its machine has lost its power since: nobody there knows the connection."""

    def timed_out(self) -> None:
        """Abort the connection: data that this socket has sent was never acknowledged."""

    def changed(self) -> None: ...

    def refuse(self, direction: Direction) -> None:
        """Answer bytes that have arrived in a direction that is `refused`, by a reset."""

    def control_arrived(self, what: str, direction: Direction) -> None:
        """Receive a packet without data."""


class Packet:
    """Packet in flight: bytes, or the end of the stream. One that lands before an earlier one waits for it, as in
    TCP."""

    __slots__ = ("attempts", "direction", "item", "landed", "lost_ns", "passed", "waits")

    def __init__(self, direction: Direction, item: bytes | str) -> None:
        self.direction = direction
        self.item = item
        self.landed = False
        #: True once the link has let it pass, and while it waits to be sent again.
        self.passed = self.waits = False
        #: How often it was lost, and when it was sent again for the first time.
        self.attempts = self.lost_ns = 0

    def land(self) -> None:
        self.landed = True
        flight = self.direction.flight
        if flight and flight[0] is self:
            self.direction.arrived()


class Direction:
    """One direction of a connection: the sender's queue, the packets in flight, the receiver's buffer. Every byte that
    was pushed is in exactly one of them, until it is read or a reset drops it."""

    __slots__ = (
        "chunks", "cut", "delivered_ns", "dropped", "flight", "flight_size", "label", "leaving", "link", "packets",
        "receiver", "refused", "reverse", "scheduler", "sender", "size", "unacknowledged", "unsent", "unsent_size",
    )  # fmt: skip

    def __init__(self, scheduler: Scheduler, link: Link, label: str, sender: End) -> None:
        self.scheduler = scheduler
        self.link = link
        self.label = label
        self.sender = sender
        self.receiver: End | None = None
        #: Piece that is being sent just now, for reports.
        self.leaving: bytes | str = b""
        #: Number of packets sent.
        self.packets = 0
        #: True if the link has cut the last packet in two: the next one is the rest of it.
        self.cut = False
        #: The other direction of the same connection.
        self.reverse: Direction | None = None
        self.unsent: deque[bytes | str] = deque()
        self.unsent_size = 0
        self.flight: deque[Packet] = deque()
        #: Bytes in flight, and those that have arrived without the sender being told.
        self.flight_size = 0
        self.unacknowledged = 0
        #: Time of the last packet that has arrived.
        self.delivered_ns = scheduler.clock.now
        self.chunks: deque[bytes] = deque()
        self.size = 0
        #: True once a reset ended the direction: nothing more is sent.
        self.dropped = False
        #: True once the receiver takes no more bytes: they are answered by a reset.
        self.refused = False

    def __str__(self) -> str:
        return self.label

    def push(self, item: bytes | str) -> None:
        """Queue bytes, or the end, behind all that was queued before."""
        if self.dropped:
            return
        if not isinstance(item, str):
            size = len(item)
            receiver = self.receiver
            assert receiver is not None
            if not self.unsent and size <= receiver.options.rcvbuf - self.size - self.flight_size:
                # Nearly always: nothing waits, and all of it may leave.
                travelling = self._send(item)
                if travelling == size or self.dropped:
                    return
                item = item[travelling:]
            self.unsent_size += len(item)
        self.unsent.append(item)
        self.transmit()

    def transmit(self) -> None:
        """Send as many bytes as the receiver's window takes."""
        unsent = self.unsent
        receiver = self.receiver
        assert receiver is not None
        while unsent:
            item = unsent[0]
            if isinstance(item, str):
                unsent.popleft()
                self._send_control(item)
                continue
            window = receiver.options.rcvbuf - self.size - self.flight_size
            if window <= 0:
                return
            size = len(item)
            # Out of the queue before it is sent: an arrival may answer with a reset, which drops the rest.
            unsent.popleft()
            self.unsent_size -= size
            travelling = self._send(item if size <= window else item[:window])
            if travelling < size and not self.dropped:
                unsent.appendleft(item[travelling:])
                self.unsent_size += size - travelling

    def _send(self, piece: bytes) -> int:
        """Send a packet. Returns how many bytes of it are in flight."""
        size = len(piece)
        link, flight = self.link, self.flight
        self.leaving = piece
        answer = link.ask(self.scheduler, self.label, "net.deliver", size, self)
        if self.cut and not answer:
            answer = _APART
        self.packets += 1
        scheduler = self.scheduler
        raced = link.timer_race(scheduler, self.label, self.packets, self) if scheduler.any_timers() else None
        if answer == 0 and raced is None and not flight and not link.latency_ns and link.calm:
            self._receive(piece)  # nearly always: nothing is on its way, and this arrives at once
            return size
        # In flight before it is carried, since it may land at once; cut to what travelled after.
        packet = Packet(self, piece)
        flight.append(packet)
        self.flight_size += size
        travelling = link.carry(self.scheduler, answer, raced, size, packet.land)
        self.cut = travelling < size
        if travelling < size:
            packet.item = piece[:travelling]
            self.flight_size -= size - travelling
        return travelling

    def _send_control(self, what: str) -> None:
        self.leaving = what
        answer = self.link.ask(self.scheduler, self.label, "net.deliver", 1, self)
        self.packets += 1
        scheduler = self.scheduler
        raced = self.link.timer_race(scheduler, self.label, self.packets, self) if scheduler.any_timers() else None
        packet = Packet(self, what)
        self.flight.append(packet)
        self.link.carry(self.scheduler, answer, raced, 1, packet.land)

    def arrived(self) -> None:
        """Receive the first packet in flight, which has landed, and those behind it that have too."""
        flight = self.flight
        while flight and flight[0].landed:
            if not self._passes(flight[0]):
                return
            item = flight.popleft().item
            if not isinstance(item, str):
                if (self.unsent_size + self.flight_size) * 3 > self.sender.options.sndbuf * 2:
                    self.sender.changed()  # it was not writable, and may be so now
                if self.reverse is not None and self.reverse.link.cuts:
                    self._leave_unacknowledged(len(item))
                else:
                    self.flight_size -= len(item)
            self._receive(item)

    def _passes(self, first: Packet) -> bool:
        """Return True if the first packet in flight, which has landed, arrives now."""
        receiver, link = self.receiver, self.link
        assert receiver is not None
        if first.waits:
            return False
        if receiver.reachable and (link.calm or first.passed):
            return True
        fate: str | int = PASSED
        if not link.calm and not first.passed:
            fate = link.fate(self.scheduler, self.label, len(first.item), self)
            if fate == PASSED and link.lossy and self.scheduler.choices.choose(self.label, "net.lose", 2, self):
                fate = LOST
        if fate == HELD:
            link.hold(self.arrived)
        elif fate == RESET:
            self.break_off()
        elif fate == LOST or not receiver.reachable:
            self._lost(first)
        elif isinstance(fate, int):
            first.passed, first.landed = True, False
            self.scheduler.at(self.scheduler.clock.now + fate, first.land)
        else:
            return True
        return False

    def _lost(self, first: Packet) -> None:
        """Schedule the retransmission of the first packet in flight, which was lost or found nobody; all behind it
        waits. After too many attempts the sender gives up."""
        if first.item == RST:
            # Nobody sends it again; whoever goes on sending is answered by another one.
            self.flight.popleft()
            self.dropped = False
            return
        now = self.scheduler.clock.now
        # The user's timeout counts from the first time that it is sent again (retransmits_timed_out()).
        first.lost_ns = first.lost_ns or now + RETRIES_NS[0]

        def again() -> None:
            first.waits = False
            if self.flight and self.flight[0] is first:
                if self._gives_up(first.attempts, first.lost_ns):
                    self.sender.timed_out()
                else:
                    self.arrived()

        first.waits = True
        self.scheduler.at(now + self._patience_ns(first.attempts, first.lost_ns), again)
        first.attempts += 1

    def _patience_ns(self, attempts: int, since_ns: int) -> int:
        """Return the retransmission timeout: not beyond the end of the program's patience
        (tcp_clamp_rto_to_user_timeout())."""
        limit_ns = self.sender.options.number(IPPROTO_TCP, TCP_USER_TIMEOUT) * MILLISECOND
        wait_ns = RETRIES_NS[attempts]
        return min(wait_ns, max(since_ns + limit_ns - self.scheduler.clock.now, MILLISECOND)) if limit_ns else wait_ns

    def _gives_up(self, attempts: int, since_ns: int) -> bool:
        """Return True for a sender that has waited long enough for an acknowledgement: tcp_write_timeout()."""
        limit_ns = self.sender.options.number(IPPROTO_TCP, TCP_USER_TIMEOUT) * MILLISECOND
        return attempts == len(RETRIES_NS) or 0 < limit_ns <= self.scheduler.clock.now - since_ns

    def _leave_unacknowledged(self, size: int) -> None:
        """Keep bytes that have arrived in the sender's queue as unacknowledged, since the way back is cut."""
        waits = self.unacknowledged
        self.unacknowledged += size
        if not waits:
            self._await_acknowledgement(0, self.scheduler.clock.now + RETRIES_NS[0])

    def _await_acknowledgement(self, attempts: int, since_ns: int) -> None:
        def again() -> None:
            if not self.unacknowledged:
                return
            assert self.reverse is not None
            if not self.reverse.link.cuts and not self.link.cuts:
                self.flight_size -= self.unacknowledged
                self.unacknowledged = 0
                self.sender.changed()
                self.transmit()
            elif self._gives_up(attempts + 1, since_ns):
                self.sender.timed_out()
            else:
                self._await_acknowledgement(attempts + 1, since_ns)

        self.scheduler.at(self.scheduler.clock.now + self._patience_ns(attempts, since_ns), again)

    def first_is_data(self) -> bool:
        """Return True if the first packet in flight has bytes."""
        return bool(self.flight) and not isinstance(self.flight[0].item, str)

    def break_off(self) -> None:
        """Reset the connection at both ends, as a firewall does that has forgotten it."""
        assert self.receiver is not None
        self.receiver.control_arrived(RST, self)
        if self.reverse is not None:
            self.sender.control_arrived(RST, self.reverse)

    def _receive(self, item: bytes | str) -> None:
        receiver = self.receiver
        assert receiver is not None
        self.delivered_ns = self.scheduler.clock.now
        if isinstance(item, str):
            receiver.control_arrived(item, self)
        elif self.refused:
            receiver.refuse(self)
        else:
            self.chunks.append(item)
            self.size += len(item)
            receiver.changed()

    def read(self, limit: int) -> bytes:
        """Return up to `limit` bytes that have arrived, and let the sender fill the window again."""
        chunks = self.chunks
        data = chunks.popleft()
        if chunks and len(data) < limit:
            data += b"".join(chunks)
            chunks.clear()
        if len(data) > limit:
            chunks.appendleft(data[limit:])
            data = data[:limit]
        self.size -= len(data)
        if self.unsent:
            self.transmit()
            self.sender.changed()
        return data

    def peek(self, limit: int) -> bytes:
        return b"".join(self.chunks)[:limit]

    def discard(self) -> None:
        """Drop the bytes in the receive buffer, which the program will never read."""
        self.chunks.clear()
        self.size = 0

    def reset(self) -> None:
        """End the direction at once by a reset, which arrives after the packets in flight. Bytes still queued are never
        sent."""
        if not self.dropped:
            self.unsent.clear()
            self.unsent_size = 0
            self.dropped = True
            if self.receiver is not None:
                self._send_control(RST)

    def drop(self) -> None:
        """Drop whatever is queued or in flight: the receiver is gone."""
        self.unsent.clear()
        self.flight.clear()
        self.unsent_size = self.flight_size = self.unacknowledged = 0
        self.dropped = True

    def forget(self) -> None:
        """Break reference cycles at the end of the world: the ends refer to the directions, which refer to the ends."""
        self.drop()
        self.receiver = self.reverse = None
        del self.sender
