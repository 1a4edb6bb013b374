"""Searching a registry's index: ``GET /v1/search``, of the first version of Docker's registry protocol.

The Docker Hub has it, and registries that are compatible with it (moby, registry/search.go).  A registry of the second
version alone has no search and answers 404.
"""

from __future__ import annotations

import aiohttp
import msgspec

from fairlead.errors import Invalid, Unavailable
from fairlead.images.reference import DEFAULT_DOMAIN, Reference
from fairlead.images.skopeo import Credentials

SECONDS = 30
"""How long an index may take."""

LIMITS = range(1, 101)
"""How many results may be asked for."""

_HUB = "index.docker.io"
_MOST = 4 << 20
"""Bytes of an answer; a hundred results take some 50 kB."""


class Found(msgspec.Struct, frozen=True):
    """One result, as the index and Docker's API both write it (ImageSearchResponseItem)."""

    name: str
    description: str | None = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


class _Page(msgspec.Struct):
    results: list[Found] | None = None


async def search(term: str, limit: int, credentials: Credentials | None = None) -> list[Found]:
    """What an index knows by a term, ``NAME`` for the Docker Hub or ``HOST[:PORT]/NAME``; raises `Invalid` for a wrong
    term or limit, `Unavailable` when the index does not answer."""
    if limit not in LIMITS:
        raise Invalid(f"Limit {limit} is outside the range of [{LIMITS[0]}, {LIMITS[-1]}]")
    if "://" in term:
        raise Invalid(f"invalid repository name: repository name ({term}) should not have a scheme")
    where = Reference.parse(term)
    on_hub = where.domain == DEFAULT_DOMAIN
    words = {"q": where.path.removeprefix("library/") if on_hub else where.path, "n": str(limit)}
    login = aiohttp.BasicAuth(credentials.username, credentials.password) if credentials else None
    schemes = ("https", "http") if where.on_loopback else ("https",)  # As Docker has it.
    async with aiohttp.ClientSession(auth=login, timeout=aiohttp.ClientTimeout(SECONDS)) as session:
        for scheme in schemes:
            try:
                return await _ask(session, f"{scheme}://{_HUB if on_hub else where.domain}/v1/search", words)
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = str(error) or f"no answer within {SECONDS} s"
    raise Unavailable(f"the index {_HUB if on_hub else where.domain} cannot be asked: {reason}")


async def _ask(session: aiohttp.ClientSession, address: str, words: dict[str, str]) -> list[Found]:
    async with session.get(address, params=words) as response:
        if response.status != 200:
            raise Unavailable(f"the index cannot be searched: {address} answered with status {response.status}")
        answer = bytearray()
        async for chunk in response.content.iter_any():
            answer += chunk
            if len(answer) > _MOST:
                raise Unavailable(f"{address} gave more than {_MOST >> 20} MiB of search results")
        try:
            page = msgspec.json.decode(answer, type=_Page)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"{address} gave no search results: {error}") from None
    return page.results or []
