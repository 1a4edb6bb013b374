"""Names for containers whose user gave none: an adjective and a scientist or engineer of networks and measurement."""

from __future__ import annotations

import secrets
from collections.abc import Callable


def _words(text: str) -> list[str]:
    return text.split()


_ADJECTIVES = _words(
    "able agile amber ample apt avid awake bold brave breezy bright brisk calm candid careful cheerful clever cosmic "
    "cozy crisp curious daring deft eager earnest easy elegant epic exact fair fancy fast fearless fine firm fleet "
    "fond frank fresh gallant gentle glad golden good grand happy hardy hearty honest hopeful humble jolly keen kind "
    "lively loyal lucid lucky mellow merry mighty mild modest neat nifty nimble noble patient placid plucky polite "
    "proud pure quick quiet rapid ready robust serene sharp silent sincere smart snappy solid spry steady still stoic "
    "strong subtle sunny swift tidy tranquil true trusty upbeat useful vivid warm wise witty zesty"
)

_PEOPLE = _words(
    "ampere babbage baran bell bernerslee boole braun cerf clarke cohen curie davies diffie dijkstra elion erlang "
    "estrin faraday feinler floyd franklin galois gauss germain goodall hamilton hamming hedy hellman hertz hilbert "
    "hodgkin hopper hypatia jacobson johnson joule kahn keldysh kelvin kepler kirchhoff kleinrock knuth kovalevskaya "
    "lamport leavitt leibniz liskov lovelace marconi maxwell meitner merkle metcalfe mills mirzakhani morse newton "
    "noether nyquist ohm pascal perlman planck poincare popov postel ramanujan ritchie roberts shannon shirley "
    "somerville steinmetz tesla thompson torvalds turing volta wien wilkes wing wright wu yonath zuse"
)


def random_name(taken: Callable[[str], bool]) -> str:
    """A free name such as ``nimble_perlman``; after a few collisions with a digit at the end, as Docker does."""
    for attempt in range(1000):
        name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_PEOPLE)}"
        if attempt >= 5:
            name += str(secrets.randbelow(10 ** min(attempt - 4, 9)))
        if not taken(name):
            return name
    raise AssertionError("a billion suffixes and none is free")
