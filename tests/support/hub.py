"""The machine that the pages send readings to: `python hub.py CERTIFICATE KEY`, until it is ended.

A webhook's receiver with TLS at port 443, MQTT at 1883, and with TLS at 8883.
"""

import asyncio
import ssl
import sys

from amqtt.broker import Broker
from http_receiver import Receiver


async def serve(certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    tls = {"ssl": True, "certfile": certificate, "keyfile": key}
    listeners = {
        "default": {"type": "tcp", "bind": "127.0.0.1:1883"},
        "tls": {"bind": "127.0.0.1:8883", **tls},
    }
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    with Receiver(port=443, context=context):
        await Broker({"listeners": listeners, "plugins": plugins}).start()
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
