"""The one door to ZeroMQ: nothing outside this package imports zmq."""

from peer.zeromq.transport import Transport

__all__ = ["Transport"]
