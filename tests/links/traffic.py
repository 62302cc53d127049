"""Traffic that proves a link: `ping ADDRESS COUNT`, `serve PORT`, `copy ADDRESS PORT BYTES`; prints JSON."""

import json
import os
import socket
import struct
import sys
import time

ECHO, ECHO_REPLY = 8, 0
WAIT_S = 1.0


def ping(address: str, count: int, interval_s: float = 0.004) -> dict[str, object]:
    """Send echo requests without waiting for the replies in between; round trips in milliseconds of those that came."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        identity, sent, trips = os.getpid() & 0xFFFF, [], []

        def receive(until: float) -> None:
            while (left := until - time.monotonic()) > 0 and len(trips) < count:
                raw.settimeout(left)
                try:
                    packet = raw.recv(2048)
                except TimeoutError:
                    return
                kind, _, _, who, number = struct.unpack("!BBHHH", packet[20:28])
                if kind == ECHO_REPLY and who == identity:
                    trips.append((time.monotonic() - sent[number]) * 1000)

        for number in range(count):
            head = struct.pack("!BBHHH", ECHO, 0, 0, identity, number)
            total = sum(struct.unpack("!4H", head))
            total = (total & 0xFFFF) + (total >> 16)
            checksum = ~(total + (total >> 16)) & 0xFFFF
            sent.append(time.monotonic())
            raw.sendto(head[:2] + struct.pack("!H", checksum) + head[4:], (address, 0))
            receive(time.monotonic() + interval_s)
        receive(time.monotonic() + WAIT_S)
    return {"sent": count, "ms": trips}


def serve(port: int) -> None:
    """Take what one client sends after the other, and answer each with the bytes that came."""
    with socket.create_server(("0.0.0.0", port)) as server:
        print("ready", flush=True)
        while True:
            client, _ = server.accept()
            with client:
                total = 0
                while data := client.recv(65_536):
                    total += len(data)
                client.sendall(str(total).encode())


def copy(address: str, port: int, size: int) -> dict[str, object]:
    """A plain TCP copy, to its acknowledgement by the other side."""
    with socket.create_connection((address, port)) as client:
        start = time.monotonic()
        client.sendall(bytes(size))
        client.shutdown(socket.SHUT_WR)
        arrived = int(client.recv(100))
        seconds = time.monotonic() - start
    return {"arrived": arrived, "seconds": seconds, "mbit_s": size * 8 / seconds / 1e6}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ping", address, count]:
            print(json.dumps(ping(address, int(count))))
        case ["serve", port]:
            serve(int(port))
        case ["copy", address, port, size]:
            print(json.dumps(copy(address, int(port), int(size))))
