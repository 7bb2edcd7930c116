"""What a fleet of 10,000 is measured against: an epoll loop that acknowledges each PUBLISH at once, and does nothing else."""

from __future__ import annotations

import contextlib
import resource
import select
import socket


def answer(data: bytes) -> tuple[bytes, bytes]:
    """Return the answers to all whole packets, and what is left over."""
    at, end = 0, len(data)
    out = []
    while at + 2 <= end:
        length, body = data[at + 1], at + 2
        if length > 127:
            if body >= end:
                break
            length, body = length & 127 | data[body] << 7, body + 1
        if body + length > end:
            break
        kind = data[at] & 0xF0
        if kind == 0x30:
            topic = data[body] << 8 | data[body + 1]
            out.append(b"\x40\x02" + data[body + 2 + topic : body + 4 + topic])
        elif kind == 0x10:
            out.append(b"\x20\x02\x00\x00")
        elif kind == 0xC0:
            out.append(b"\xd0\x00")
        at = body + length
    return b"".join(out), data[at:]


def main() -> None:
    """Serve until ended; the first line printed is the port."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listening.setblocking(False)
    print(listening.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(listening.fileno(), select.EPOLLIN)
    sockets: dict[int, socket.socket] = {}
    rest: dict[int, bytes] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listening.fileno():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        accepted, _ = listening.accept()
                        accepted.setblocking(False)
                        sockets[accepted.fileno()] = accepted
                        poll.register(accepted.fileno(), select.EPOLLIN)
                continue
            data = b""
            with contextlib.suppress(OSError):
                data = sockets[fd].recv(65_536)
            if not data:
                poll.unregister(fd)
                sockets.pop(fd).close()
                rest.pop(fd, None)
                continue
            out, rest[fd] = answer(rest.get(fd, b"") + data)
            with contextlib.suppress(OSError):
                sockets[fd].send(out)


if __name__ == "__main__":
    main()
