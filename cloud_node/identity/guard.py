"""Who calls, by the certificate that was shown: asked for at every call, since a connection outlives a revocation."""

import asyncio
import functools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from cloud_node.identity.certificates import Holder, holder_of
from cloud_node.identity.node import NodeIdentity
from common.errors import NotAllowed

MOST_STREAMS = 256  # of one certificate, those of health and reflection included; a device may have 64 names


class Guard(grpc.aio.ServerInterceptor):
    """Of one server. Without an identity everybody may do everything: loopback, or --insecure.

    gRPC has checked that the certificate is of the authority, and had not expired when the connection was made.
    """

    def __init__(self, identity: NodeIdentity | None) -> None:
        self._identity = identity
        self._streams: dict[int, tuple[Holder, Callable[[str], None]]] = {}
        self._open: Counter[str] = Counter()  # streams, by the certificate's serial

    def edge(self, context: grpc.aio.ServicerContext, claimed: str) -> str:
        """The edge's name; "" for the first of the certificate. Raises NotAllowed when it is another's."""
        holder = self._holder(context)
        if holder is None:
            return claimed
        if claimed and claimed not in holder.edges:
            raise NotAllowed(
                f"this certificate is of edge {' and '.join(holder.edges)}, not of {claimed[:80]!r}: "
                "leave --edge out, or enroll the edge by that name"
            )
        return claimed or holder.edges[0]

    @contextmanager
    def holding(self, context: grpc.aio.ServicerContext, end: Callable[[str], None]) -> Iterator[None]:
        """`end(reason)` is called when the caller's certificate is revoked, or expires, meanwhile.

        Of several for one call the innermost has the word.
        """
        holder = self._holder(context)
        if holder is None:
            yield
            return
        key = id(context)
        outer = self._streams.get(key)
        self._streams[key] = holder, end
        try:
            yield
        finally:
            if outer is None:
                del self._streams[key]
            else:
                self._streams[key] = outer

    def cut(self) -> None:
        """End the streams of those who may be here no longer. To be called when time has passed."""
        for holder, end in list(self._streams.values()):
            if reason := self._refuses(holder):
                end(reason)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        return handler if handler is None or self._identity is None else self._asking(handler)

    def _asking(self, handler: Any) -> Any:
        """The same, for those who are allowed in."""

        async def refuse(context: grpc.aio.ServicerContext) -> None:
            try:
                self._holder(context)
            except NotAllowed as error:
                await context.abort(error.status, str(error))

        def answer(inner: Any) -> Any:
            @functools.wraps(inner)
            async def ask(request: Any, context: grpc.aio.ServicerContext) -> Any:
                await refuse(context)
                return await inner(request, context)

            return ask

        def stream(inner: Any) -> Any:
            @functools.wraps(inner)
            async def ask(request: Any, context: grpc.aio.ServicerContext) -> Any:
                await refuse(context)
                call, reason, holder = asyncio.current_task(), "", self._holder(context)
                assert call is not None and holder is not None
                if self._open[holder.serial] >= MOST_STREAMS:
                    said = f"this certificate of edge {holder.edges[0]} has {MOST_STREAMS} streams already"
                    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, said)
                self._open[holder.serial] += 1

                def end(why: str) -> None:
                    nonlocal reason
                    if not reason:
                        reason = why
                        call.cancel()

                try:
                    with self.holding(context, end):
                        async for item in _answers(inner(request, context)):
                            yield item
                except asyncio.CancelledError:
                    if not reason:
                        raise
                    call.uncancel()
                    await context.abort(NotAllowed.status, reason)
                finally:
                    self._open[holder.serial] -= 1
                    if not self._open[holder.serial]:
                        del self._open[holder.serial]

            return ask

        return handler._replace(
            unary_unary=handler.unary_unary and answer(handler.unary_unary),
            stream_unary=handler.stream_unary and answer(handler.stream_unary),
            unary_stream=handler.unary_stream and stream(handler.unary_stream),
            stream_stream=handler.stream_stream and stream(handler.stream_stream),
        )

    def _holder(self, context: grpc.aio.ServicerContext) -> Holder | None:
        if self._identity is None:
            return None
        shown = context.auth_context().get("x509_pem_cert")
        if not shown:
            raise NotAllowed("no certificate was shown")
        try:
            holder = _known(bytes(shown[0]))
        except ValueError:
            raise NotAllowed("the certificate cannot be read") from None
        if reason := self._refuses(holder):
            raise NotAllowed(reason)
        return holder

    def _refuses(self, holder: Holder) -> str:
        """Why; "" when it does not."""
        assert self._identity is not None
        if not holder.edges:
            return "this certificate is no edge's: use a bundle that `python -m cloud_node enroll` made"
        if holder.serial in self._identity.now.revoked:
            return f"this certificate of edge {holder.edges[0]} was revoked: have it enrolled again"
        if holder.expires_s <= time.time():
            return f"this certificate of edge {holder.edges[0]} has expired: have it enrolled again"
        return ""


async def _answers(made: AsyncIterator[Any] | Awaitable[None]) -> AsyncIterator[Any]:
    """Of a handler that yields, or of one that writes them itself."""
    if isinstance(made, AsyncIterator):
        async for item in made:
            yield item
    else:
        await made


@functools.lru_cache(4096)
def _known(pem: bytes) -> Holder:
    return holder_of(pem)
