"""A plain way serves at once; a faster one, built for a shape in the background, takes over when it is ready."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar

from cloud_node.backends.reasons import reason_of

log = logging.getLogger(__name__)

REMEMBERED = 1000  # shapes whose calls are counted

P = ParamSpec("P")
R = TypeVar("R")


class Takeover(Generic[P, R]):
    """Called by one thread; builds on another, one shape after another. Shapes beyond `limit` stay with the plain way.

    Args:
        plain: always works.
        build: called in the background with the arguments of a call, gives the faster way for calls like it. Whatever
            it raises means that this shape stays with the plain way, and is told once in the log.
        adopt: called on the calling thread before the faster way is used first, with it and the arguments.
        after: calls of a shape before it is built.
        limit: shapes that are built.
    """

    def __init__(
        self,
        name: str,
        plain: Callable[P, R],
        build: Callable[P, Callable[P, R]],
        *,
        adopt: Callable[..., Callable[P, R]] = lambda fast, *arguments: fast,
        after: int = 2,
        limit: int = 16,
    ) -> None:
        self.name, self._plain, self._build, self._adopt = name, plain, build, adopt
        self._after, self._limit = after, limit
        self._seen: Counter[Hashable] = Counter()
        self._built: dict[Hashable, Callable[P, R] | None] = {}  # None: being built, or given up
        self._ready: dict[Hashable, Callable[P, R]] = {}
        self._builder: threading.Thread | None = None
        self._told = self._hurry = False

    def __call__(self, key: Hashable, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run for a shape `key`."""
        way = self._ready.get(key)
        if way is None:
            way = self._next_way(key, *args, **kwargs)
        return way(*args, **kwargs)

    @property
    def taken_over(self) -> list[Hashable]:
        """The shapes that run the faster way."""
        return list(self._ready)

    def wait(self) -> None:
        """Until nothing is being built."""
        if self._builder is not None:
            self._builder.join()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a shape is built at its first call, which waits for it."""
        self._hurry = True
        try:
            yield
        finally:
            self._hurry = False

    def _next_way(self, key: Hashable, *args: Any, **kwargs: Any) -> Callable[P, R]:
        if self._hurry:
            self.wait()
        if key not in self._built and len(self._built) < self._limit and not self._building:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[key] += 1
            if self._hurry or self._seen[key] >= self._after:
                self._built[key] = None
                # A daemon: a compiler that takes minutes must not hold up the end of the process.
                self._builder = threading.Thread(
                    target=self._work, args=(key, args, kwargs), name=f"build-{self.name}", daemon=True
                )
                self._builder.start()
                if self._hurry:
                    self.wait()
                else:
                    return self._plain
        built = self._built.get(key)
        if built is None:
            return self._plain
        try:
            self._ready[key] = self._adopt(built, *args, **kwargs)
        except Exception as error:
            self._give_up(key, error)
            return self._plain
        log.info("%s: the fast path takes over for %s", self.name, _told(key))
        return self._ready[key]

    @property
    def _building(self) -> bool:
        return self._builder is not None and self._builder.is_alive()

    def _work(self, key: Hashable, args: Any, kwargs: Any) -> None:
        try:
            self._built[key] = self._build(*args, **kwargs)
        except Exception as error:
            self._give_up(key, error)

    def _give_up(self, key: Hashable, error: Exception) -> None:
        self._built[key] = None
        if not self._told:
            self._told = True
            log.warning("%s: no fast path for %s, the plain one serves: %s", self.name, _told(key), reason_of(error))


def _told(key: Hashable) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
