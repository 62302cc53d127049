"""A webhook: each message is POSTed as JSON, signed as Standard Webhooks has it (https://www.standardwebhooks.com)."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import os
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from common.errors import SettingsError
from edge_node.sinks.addresses import WEB, parse_address
from edge_node.sinks.outlet import Message, NotDelivered, Refused

if TYPE_CHECKING:
    import httpx

CONNECT_S: Final = 5.0
ANSWER_S: Final = 10.0  # for all of it, from connecting to the answer's headers
BODY_S: Final = 1.0  # for the answer's body, which says nothing; then the connection is not used again
BODY_BYTES: Final = 64 * 1024
TRANSIENT: Final = frozenset({408, 425, 429})  # beside 5xx: worth trying again
SECRET_VARIABLE: Final = "LAMPLIGHT_WEBHOOK_SECRET"
SECRET_BYTES: Final = range(24, 65)


class Webhook:
    """POSTs messages to one address. Redirects are refused, TLS is verified, and proxies are those of the environment.

    Args:
        secret: signs each message; None = not signed.

    Raises:
        SettingsError: it is no address.
    """

    def __init__(self, url: str, secret: bytes | None = None, *, answer_s: float = ANSWER_S) -> None:
        import httpx

        try:
            self.where = f"webhook {parse_address(url, 'webhook', WEB).shown}"
            self._url = httpx.URL(url.strip())
        except (httpx.InvalidURL, ValueError) as error:
            raise SettingsError(str(error)) from None
        self._secret, self._answer_s = secret, answer_s
        self._client: httpx.AsyncClient | None = None

    async def open(self) -> None:
        import httpx

        logging.getLogger("httpx").setLevel(logging.WARNING)  # its news have addresses in full, secrets included
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(),  # the system's authorities, or those of SSL_CERT_FILE
            follow_redirects=False,
            timeout=httpx.Timeout(self._answer_s, connect=min(CONNECT_S, self._answer_s)),
            limits=httpx.Limits(max_connections=2, max_keepalive_connections=1),
        )

    async def send(self, message: Message) -> None:
        import httpx

        assert self._client is not None
        headers = {"Content-Type": "application/json", "User-Agent": "lamplight", "Idempotency-Key": message.id}
        headers |= signed(message, self._secret, int(time.time()))
        request = self._client.build_request("POST", self._url, content=message.body, headers=headers)
        try:
            async with asyncio.timeout(self._answer_s):
                response = await self._client.send(request, stream=True)
        except (TimeoutError, httpx.TimeoutException):
            raise NotDelivered(f"no answer within {self._answer_s:g} s") from None
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from None
        try:
            async with asyncio.timeout(BODY_S):
                await _swallow(response)
        except (TimeoutError, httpx.HTTPError, OSError):
            pass  # the answer is known without it
        finally:
            await response.aclose()
        judge(response.status_code, response.headers)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def probe(self) -> str:
        import httpx

        await self.open()
        assert self._client is not None
        try:
            async with asyncio.timeout(self._answer_s), self._client.stream("OPTIONS", self._url) as response:
                return f"answers, {response.status_code} to a question that delivers nothing"
        except (TimeoutError, httpx.HTTPError, OSError, ValueError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}") from None
        finally:
            await self.close()


async def _swallow(response: "httpx.Response") -> None:
    taken = 0
    async for chunk in response.aiter_raw():
        taken += len(chunk)
        if taken > BODY_BYTES:
            return


def judge(status: int, headers: Mapping[str, str]) -> None:
    """What an answer means.

    Raises:
        NotDelivered: worth trying again, after Retry-After where it is given.
        Refused: it is not.
    """
    if 200 <= status < 300:
        return
    if status >= 500 or status in TRANSIENT:
        raise NotDelivered(f"it answers {status}", retry_after_s(headers.get("Retry-After", "")))
    if 300 <= status < 400:
        try:
            host = urlsplit(headers.get("Location", "")).hostname or "another path of it"
        except ValueError:
            host = "an address that is none"
        raise Refused(f"it redirects ({status}) to {host[:100]!r}, which is not followed: name the final address")
    raise Refused(f"it answers {status}")


def retry_after_s(text: str) -> float:
    """Seconds of a Retry-After header, which are a number or a date; 0 where it says nothing that can be read."""
    if text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def signed(message: Message, secret: bytes | None, unix_s: int) -> dict[str, str]:
    """The headers of Standard Webhooks; without a secret there is no signature."""
    headers = {"Webhook-Id": message.id, "Webhook-Timestamp": str(unix_s)}
    if secret is not None:
        content = f"{message.id}.{unix_s}.".encode() + message.body
        digest = hmac.new(secret, content, hashlib.sha256).digest()
        headers["Webhook-Signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def read_secret(file: Path | None, environ: Mapping[str, str] = os.environ) -> bytes | None:
    """The secret of a file or of LAMPLIGHT_WEBHOOK_SECRET: base64, with `whsec_` before it or not.

    Raises:
        SettingsError: the file cannot be read, or holds no such secret.
    """
    where, text = SECRET_VARIABLE, environ.get(SECRET_VARIABLE, "")
    if file is not None:
        where = f"--webhook-secret-file {file}"
        try:
            text = file.read_text(encoding="ascii")
        except OSError as error:
            raise SettingsError(f"{where}: {error.strerror}") from None
        except UnicodeDecodeError:
            text = "-"
    if not text and file is None:
        return None
    try:
        secret = base64.b64decode(text.strip().removeprefix("whsec_"), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) not in SECRET_BYTES:
        raise SettingsError(f"{where}: needs 24 to 64 random bytes in base64, as `openssl rand -base64 32` prints them")
    return secret
