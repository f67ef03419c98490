"""Random numbers that are a function of a key and of nothing else.

The stream is the ChaCha20 keystream (RFC 8439) under a zero nonce and a zero counter, read as little-endian unsigned
64-bit words. Every method says which words it takes, so that one key gives the same numbers on every machine and with
every version of every library. A zero nonce is right here, and only here, because each key drives a single stream.
"""

from typing import Never, SupportsIndex

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from medfl.errors import KeyFileError, ShapeError

KEY_BYTES = 32
_WORD_BYTES = 8
_NONCE = bytes(16)  # the block counter and the nonce, all zero


class Secret:
    """Something that must not leave the process: it cannot be pickled or copied, and it shows nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show the class only."""
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        """Refuse to be pickled or copied."""
        raise TypeError(f"A {type(self).__name__} holds key material, so it is never pickled or copied.")


def require_key(key: bytes, what: str) -> bytes:
    """Return `key`.

    Raises
    ------
    KeyFileError
        If it is not 32 bytes; the message tells the length only.
    """
    if not isinstance(key, bytes):
        raise KeyFileError(f"{what} must be {KEY_BYTES} bytes, but its type is {type(key).__name__}.")
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{what} must be {KEY_BYTES} bytes long, but it has {len(key)}.")
    return key


class Keystream(Secret):
    """The numbers that one key gives, in order; every call goes on where the last one stopped.

    Parameters
    ----------
    key : bytes
        Exactly 32 bytes. It must drive no other stream and no cipher.

    Raises
    ------
    KeyFileError
        If the key is not 32 bytes.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(ChaCha20(require_key(key, "The key of a keystream"), _NONCE), mode=None).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return the next `count` words, uint64 of shape (count,)."""
        _require_count(count)
        return np.frombuffer(self._encryptor.update(bytes(_WORD_BYTES * count)), dtype="<u8").astype(np.uint64)

    def integers(self, bounds: NDArray[np.int64] | int, count: int) -> NDArray[np.int64]:
        """Return integers that are exactly uniform in [0, bound).

        Rejection sampling in rounds: every index takes one word, in order; the indices whose word lies in the last,
        incomplete multiple of their bound take another one in the next round, in order. The value is the word modulo
        the bound.

        Parameters
        ----------
        bounds : int or int64 array of shape (count,)
            One bound for all, or one each; from 1 to 2^63 - 1.
        count : int
            At least 0.

        Returns
        -------
        int64 array of shape (count,)

        Raises
        ------
        ShapeError
            If a bound is out of range or the number of bounds is not `count`.
        """
        _require_count(count)
        limits = np.asarray(bounds)
        if limits.dtype.kind != "i" or (limits.ndim and limits.shape != (count,)) or np.any(limits < 1):
            raise ShapeError(f"Bounds must be one integer or {count} of them, each from 1 to 2^63 - 1.")
        bound = np.broadcast_to(limits.astype(np.uint64), (count,))
        last = np.iinfo(np.uint64).max - (np.uint64(0) - bound) % bound  # 2^64 - 1 - (2^64 mod bound)
        values = np.empty(count, dtype=np.int64)
        open_ones = np.arange(count)
        while open_ones.size:
            words = self.words(open_ones.size)
            accepted = words <= last[open_ones]
            done = open_ones[accepted]
            values[done] = (words[accepted] % bound[done]).astype(np.int64)
            open_ones = open_ones[~accepted]
        return values

    def permutation(self, count: int) -> NDArray[np.int64]:
        """Return a uniform permutation of 0 .. count - 1, int64 of shape (count,).

        Fisher-Yates from the end: position i, from count - 1 down to 1, changes places with a uniform one of 0 .. i.
        The count - 1 partners are one call of `integers` with bounds count, count - 1, .., 2.
        """
        _require_count(count)
        partners = self.integers(np.arange(count, 1, -1), max(count - 1, 0)).tolist()
        order = list(range(count))
        for position, partner in zip(range(count - 1, 0, -1), partners, strict=True):
            order[position], order[partner] = order[partner], order[position]
        return np.array(order, dtype=np.int64)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Return float64 values in [0, 1), shape (count,): the top 53 bits of one word each, times 2^-53."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def signs(self, count: int) -> NDArray[np.float64]:
        """Return +1 or -1, float64 of shape (count,): one word each, -1 where its top bit is set."""
        return 1.0 - 2.0 * (self.words(count) >> np.uint64(63)).astype(np.float64)

    def normals(self, count: int) -> NDArray[np.float64]:
        """Return standard normal values, float64 of shape (count,).

        Box-Muller: words 2k and 2k + 1 give u = 1 - uniform in (0, 1] and v in [0, 1), and these give the values
        2k and 2k + 1, sqrt(-2 ln u) times cos and sin of 2 pi v. An odd count drops the last value.
        """
        _require_count(count)
        pairs = self.uniforms(count + count % 2).reshape(-1, 2)
        radius = np.sqrt(-2.0 * np.log(1.0 - pairs[:, 0]))
        angle = 2.0 * np.pi * pairs[:, 1]
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count]


def _require_count(count: int) -> None:
    if count < 0:
        raise ShapeError(f"A count must be at least 0, but it is {count}.")
