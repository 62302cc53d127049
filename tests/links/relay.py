"""Delay, loss and cuts between two network namespaces: a relay on a pair of TUN devices.

    python relay.py PID_A NAME_A PID_B NAME_B

makes a device in the namespace of each process, prints "ready", then carries packets between the two. Lines of JSON on
stdin change it: {"delay_s": 0.03, "loss": 0.001, "cut": false}. It ends with its stdin, and the devices with it.
"""

import ctypes
import fcntl
import json
import os
import random
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
LARGEST_PACKET = 65_536
SEED = 1


def open_tun(pid: int, name: str) -> int:
    """A TUN device in the network namespace of a process; the device lives as long as the descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(namespace, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(namespace)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class Relay:
    """Packets on their way, and what happens to them."""

    def __init__(self, a: int, b: int) -> None:
        self.other = {a: b, b: a}
        self.on_way: dict[int, deque[tuple[float, bytes]]] = {a: deque(), b: deque()}  # by where they go
        self.delay_s = self.loss = 0.0
        self.cut = False
        self._random = random.Random(SEED)

    def change(self, **changes: float) -> None:
        for name, value in changes.items():
            setattr(self, name, value)
        if self.cut:
            for packets in self.on_way.values():
                packets.clear()

    def take(self, device: int) -> None:
        """Everything that came out of a device."""
        goes = self.on_way[self.other[device]]
        while True:
            try:
                packet = os.read(device, LARGEST_PACKET)
            except OSError:  # no more, or the device is down
                return
            if not self.cut and self._random.random() >= self.loss:
                goes.append((time.monotonic() + self.delay_s, packet))

    def give(self) -> float | None:
        """Deliver what is due; returns the seconds until the next is."""
        next_s = None
        for device, packets in self.on_way.items():
            now = time.monotonic()
            while packets and packets[0][0] <= now:
                try:
                    os.write(device, packets.popleft()[1])
                except OSError:
                    pass  # down
            if packets:
                wait_s = packets[0][0] - now
                next_s = wait_s if next_s is None else min(next_s, wait_s)
        return next_s


def main() -> None:
    pid_a, name_a, pid_b, name_b = sys.argv[1:]
    relay = Relay(open_tun(int(pid_a), name_a), open_tun(int(pid_b), name_b))
    print("ready", flush=True)
    commands = b""
    while True:
        ready, _, _ = select.select([0, *relay.other], [], [], relay.give())
        for device in ready:
            if device:
                relay.take(device)
                continue
            data = os.read(0, 4096)
            if not data:
                return
            *lines, commands = (commands + data).split(b"\n")
            for line in lines:
                relay.change(**json.loads(line))
                print("done", flush=True)


if __name__ == "__main__":
    main()
