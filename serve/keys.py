"""Who may call: bearer keys, of which only hashes are kept, and how often each may.

python -m serve.keys NAME       # makes a key, and the line for `key_hashes`
"""

import argparse
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from hubert_ecg.errors import ConfigError

ENVIRONMENT = "HUBERT_ECG_API_KEYS"
ANYBODY = "anybody"
"""The caller's name where no keys are set."""
_BURST_SHARE = 6


def digest_of(key: str) -> str:
    """SHA-256 of a key in hex. Keys are long and random, so that a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class KeyRing:
    """The hashes of all keys that are good."""

    hashes: Mapping[str, str]
    """Name of the caller -> hash."""

    @classmethod
    def of(cls, hashes: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> "KeyRing":
        """Those of the settings and of the environment. Raises ConfigError for an entry that is no `name:key`."""
        found = dict(hashes)
        for place, entry in enumerate(filter(None, environment.get(ENVIRONMENT, "").strip().split(","))):
            name, colon, key = (part.strip() for part in entry.partition(":"))
            if not (name and colon and key):
                # The entry itself is not shown: it may be a key.
                raise ConfigError(f"{ENVIRONMENT}: wanted name:key,name:key, entry {place} is something else")
            found[name] = digest_of(key)
        return cls(hashes=found)

    def caller(self, authorization: str | None) -> str | None:
        """The name behind an Authorization header, None when it is not a good one. Takes as long for any key."""
        if not self.hashes:
            return ANYBODY
        scheme, _, key = (authorization or "").partition(" ")
        digest = digest_of(key.strip())
        found = None
        for name, known in self.hashes.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found if scheme.lower() == "bearer" else None


@dataclass(kw_only=True)
class RateLimit:
    """A bucket of tokens per caller, filled at a steady rate."""

    per_minute: int
    clock: Callable[[], float] = monotonic
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Caller -> (tokens, time of the last request)."""

    def wait_s(self, caller: str) -> float:
        """Take a token; 0, or the seconds until there will be one."""
        if not self.per_minute:
            return 0.0
        now, most = self.clock(), max(1.0, self.per_minute / _BURST_SHARE)
        tokens, since = self._buckets.get(caller, (most, now))
        tokens = min(most, tokens + (now - since) * self.per_minute / 60)
        if tokens < 1:
            self._buckets[caller] = (tokens, now)
            return (1 - tokens) * 60 / self.per_minute
        self._buckets[caller] = (tokens - 1, now)
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serve.keys", description="Make a bearer key for a caller.")
    parser.add_argument("name", help="who will call with it")
    name = parser.parse_args().name
    key = secrets.token_urlsafe(32)
    print(f"key for {name}, shown this once: {key}\nfor key_hashes:  {name}: {digest_of(key)}")


if __name__ == "__main__":
    main()
