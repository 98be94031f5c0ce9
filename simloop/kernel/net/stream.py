"""One direction of a TCP connection: a byte stream from the sender's buffer over a link to the receiver's buffer.

There are no sequence numbers, since programs cannot see them through a socket. Bytes and the FIN arrive in the order in
which they were sent; the link decides when each packet arrives. A lost packet is retransmitted at growing intervals.
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
    """Structural type of a socket, as the `Direction` objects see it of which it is the sender or the receiver."""

    options: Options

    @property
    def reachable(self) -> bool:
        """True while the socket's machine has power and is not paused."""

    @property
    def forgotten(self) -> bool:
        """True if the socket's machine has lost power since the connection was made, and so no longer knows it."""

    def timed_out(self) -> None:
        """Abort the connection, since data that this socket sent was never acknowledged."""

    def changed(self) -> None: ...

    def refuse(self, direction: Direction) -> None:
        """Answer data that has arrived in a direction that is `refused`: reset the connection."""

    def control_arrived(self, what: str, direction: Direction) -> None:
        """Handle the arrival of a packet without data: `what` is FIN, RST or SYN_ACK."""


class Packet:
    """Packet in flight: data, or a SYN-ACK, FIN or RST. If it lands before an earlier one, it waits for that, as in
    TCP."""

    __slots__ = ("attempts", "direction", "item", "landed", "lost_ns", "passed", "waits")

    def __init__(self, direction: Direction, item: bytes | str) -> None:
        self.direction = direction
        self.item = item
        self.landed = False
        #: `passed`: the link has let it pass. `waits`: it was lost, and its retransmission is scheduled.
        self.passed = self.waits = False
        #: Number of times that it was lost, and time of the first retransmission.
        self.attempts = self.lost_ns = 0

    def land(self) -> None:
        self.landed = True
        flight = self.direction.flight
        if flight and flight[0] is self:
            self.direction.arrived()


class Direction:
    """One direction of a TCP connection: the sender's queue, the packets in flight, and the receiver's buffer. Every
    byte sent is in exactly one of them until it is read, or dropped by a reset."""

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
        #: Data, or the name of the control packet, that is being sent now, for reports.
        self.leaving: bytes | str = b""
        #: Number of packets sent.
        self.packets = 0
        #: True if the link has split the last packet, so that the next one is its second part.
        self.cut = False
        #: The other direction of the same connection.
        self.reverse: Direction | None = None
        self.unsent: deque[bytes | str] = deque()
        self.unsent_size = 0
        self.flight: deque[Packet] = deque()
        #: Number of bytes in flight, and of those that have arrived but could not be acknowledged, since the way back
        #: is cut.
        self.flight_size = 0
        self.unacknowledged = 0
        #: Time at which the last packet arrived.
        self.delivered_ns = scheduler.clock.now
        self.chunks: deque[bytes] = deque()
        self.size = 0
        #: True once a reset was sent or received: nothing more is sent.
        self.dropped = False
        #: True once the receiver accepts no more data: the answer to data is a reset.
        self.refused = False

    def __str__(self) -> str:
        return self.label

    def push(self, item: bytes | str) -> None:
        """Append data, or a SYN-ACK or FIN, to the sender's queue, and send as much as possible."""
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
        """Send queued data, as much as the receiver's window allows."""
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
        """Send a packet with `piece`. Returns the number of its bytes that were sent; the link may split it."""
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
        """Receive the first packet in flight, which has landed, and all directly following ones that have landed
        too."""
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
        """Return True if the first packet in flight, whose time of arrival has come, is delivered to the receiver now.
        False means that the link has lost it, delays it further, or holds it back."""
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
        """Schedule the retransmission of the first packet in flight, which was lost or whose receiver is down; all
        later packets wait for it. After too many attempts the sender gives up."""
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
        """Return the retransmission timeout in nanoseconds, which ends with TCP_USER_TIMEOUT at the latest
        (tcp_clamp_rto_to_user_timeout())."""
        limit_ns = self.sender.options.number(IPPROTO_TCP, TCP_USER_TIMEOUT) * MILLISECOND
        wait_ns = RETRIES_NS[attempts]
        return min(wait_ns, max(since_ns + limit_ns - self.scheduler.clock.now, MILLISECOND)) if limit_ns else wait_ns

    def _gives_up(self, attempts: int, since_ns: int) -> bool:
        """Return True if the sender has waited for an acknowledgement for too long, as tcp_write_timeout() decides."""
        limit_ns = self.sender.options.number(IPPROTO_TCP, TCP_USER_TIMEOUT) * MILLISECOND
        return attempts == len(RETRIES_NS) or 0 < limit_ns <= self.scheduler.clock.now - since_ns

    def _leave_unacknowledged(self, size: int) -> None:
        """Count `size` bytes that have arrived as unacknowledged, since the link for the way back is cut."""
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
        """Return True if the first packet in flight carries data."""
        return bool(self.flight) and not isinstance(self.flight[0].item, str)

    def break_off(self) -> None:
        """Reset the connection at both ends, as a firewall does that has lost its record of the connection."""
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
        """Return up to `limit` bytes from the receive buffer, and let the sender use the space for more."""
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
        """Drop the data in the receive buffer, which the program will never read."""
        self.chunks.clear()
        self.size = 0

    def reset(self) -> None:
        """Send a reset, which arrives after the packets in flight. Data still queued is never sent."""
        if not self.dropped:
            self.unsent.clear()
            self.unsent_size = 0
            self.dropped = True
            if self.receiver is not None:
                self._send_control(RST)

    def drop(self) -> None:
        """Drop all data that is queued or in flight, since nobody will receive it."""
        self.unsent.clear()
        self.flight.clear()
        self.unsent_size = self.flight_size = self.unacknowledged = 0
        self.dropped = True

    def forget(self) -> None:
        """Break reference cycles at the end of the world: sockets refer to their directions, and directions to their
        sockets."""
        self.drop()
        self.receiver = self.reverse = None
        del self.sender
