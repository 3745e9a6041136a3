"""Record and patient ids replaced by keyed hashes, so that tables can leave a hospital and still tell persons apart."""

import hashlib
import hmac
import os
from dataclasses import replace

import pyarrow as pa

from hubert_ecg.datasets.source import Listing
from hubert_ecg.errors import ConfigError, InputError
from hubert_ecg.storage import files

_FROM_ENVIRONMENT = "env:"
_FEWEST_SALT_BYTES = 8
_HEX_DIGITS = 32
"""128 bits: no two of a billion ids will ever share a hash."""


def load_salt(spec: str) -> bytes:
    """The secret of a hospital's hashes, from a file or, as `env:NAME`, from an environment variable.

    Never given itself on a command line, where other users and the shell's history see it, nor written into a table.
    Line ends around it do not count. Raises ConfigError or InputError when it is absent or shorter than 8 bytes.
    """
    if spec.startswith(_FROM_ENVIRONMENT):
        name = spec.removeprefix(_FROM_ENVIRONMENT)
        value = os.environ.get(name)
        if value is None:
            raise ConfigError(f"salt: wanted an environment variable {name}, got none of that name; set it")
        salt = value.encode().strip(b"\r\n")
    elif files.is_file(spec):
        salt = files.read_bytes(spec).strip(b"\r\n")
    else:
        # What was given is not repeated: it may be the secret itself.
        raise InputError("salt: wanted the path of a file that holds the salt, or env:NAME; there is no such file")
    if len(salt) < _FEWEST_SALT_BYTES:
        raise ConfigError(f"salt: wanted at least {_FEWEST_SALT_BYTES} bytes, got {len(salt)}; take a longer secret")
    return salt


def hash_id(text: str, salt: bytes) -> str:
    """32 hex digits that stand for an id: the same for the same salt, of no use without it (HMAC-SHA256)."""
    return hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()[:_HEX_DIGITS]


def hash_ids(listing: Listing, salt: bytes) -> Listing:
    """The listing with hashed record and patient ids, and without the names of what was dropped.

    Paths stay, for files are read by them; whoever writes tables leaves them out. Tags are folders' names at most.
    """
    table = listing.table
    for column in ("record_id", "patient_id"):
        hashed = [None if value is None else hash_id(value, salt) for value in table[column].to_pylist()]
        table = table.set_column(table.column_names.index(column), column, pa.array(hashed, pa.string()))
    dropped = [(hash_id(thing, salt), "not listed") for thing, _ in listing.dropped]
    return replace(listing, table=table, dropped=dropped)
