"""Loaded by Python under wine, which reports a socket's owner only after its process used it."""

from __future__ import annotations

import socket


def _listen(self: socket.socket, *backlog: int) -> None:
    super(socket.socket, self).listen(*backlog)
    self.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


socket.socket.listen = _listen  # type: ignore[assignment, method-assign]
