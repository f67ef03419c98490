"""Reading the bytes of a plain or gzip-compressed file into memory that is already there."""

import os
import zlib
from io import FileIO
from pathlib import Path

from medfl.errors import ImageReadError
from medfl.imaging.regular_file import open_regular

#: Compressed bytes that are inflated at a time, to at most 33 MB.
_CHUNK = 1 << 15
_GZIP_MAGIC = b"\x1f\x8b"
#: Deflate cannot expand a byte to more than this many bytes.
_LARGEST_EXPANSION = 1032
#: How many bytes may follow the image before a file is refused.
_LARGEST_TRAIL = 1 << 24


class ByteSource:
    """A forward-only reader of a plain or gzip-compressed file; use it as a context manager.

    Parameters
    ----------
    path : Path
        The file; gzip is recognized by its first two bytes, not by its name.

    Raises
    ------
    ImageReadError
        With reason ``"unreadable"``, ``"not_a_file"`` or ``"empty"``.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_regular(path)
        self._stored_bytes = os.fstat(self._file.fileno()).st_size
        magic = self._file.read(2)
        self._file.seek(0)
        if not magic:
            self._file.close()
            raise ImageReadError("empty", "The file must hold an image; it has no bytes.")
        self._gzip = _GzipStream(self._file) if magic == _GZIP_MAGIC else None

    def __enter__(self) -> "ByteSource":
        """Return the open source."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def could_hold(self, n_bytes: int) -> bool:
        """Tell whether a file of this size can hold `n_bytes`, compressed or not."""
        return n_bytes <= self._stored_bytes * (_LARGEST_EXPANSION if self._gzip else 1)

    def read(self, n_bytes: int) -> bytes:
        """Return the next `n_bytes` (keep it small), or fewer at the end of the file."""
        buffer = bytearray(n_bytes)
        return bytes(buffer[: self.read_into(memoryview(buffer))])

    def read_into(self, target: memoryview) -> int:
        """Fill `target`, a flat view of bytes, from the file and return how many bytes there were.

        Raises
        ------
        ImageReadError
            With reason ``"bad_gzip"`` or ``"truncated"`` when the compressed stream is damaged.
        """
        stream = self._gzip or self._file
        done = 0
        while done < len(target) and (n_read := stream.readinto(target[done:])):
            done += n_read
        return done

    def skip(self, n_bytes: int) -> None:
        """Pass over `n_bytes`, or to the end of the file."""
        if self._gzip:
            self._gzip.discard(n_bytes)
        else:
            self._file.seek(n_bytes, 1)

    def finish(self) -> None:
        """Read a gzip file to its end, so that its checksum is verified.

        Raises
        ------
        ImageReadError
            With reason ``"bad_gzip"``, or ``"trailing_data"`` when more than 16 MiB follow what was asked for.
        """
        if self._gzip and self._gzip.discard(_LARGEST_TRAIL + 1) > _LARGEST_TRAIL:
            raise ImageReadError("trailing_data", "More than 16 MiB follow the image; the file is not plausible.")


class _GzipStream:
    """Inflates one or several gzip members, a bounded piece at a time."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(wbits=31)
        self._inflated = memoryview(b"")

    def readinto(self, target: memoryview) -> int:
        """Fill the start of `target` and return how many bytes were written; 0 at the verified end."""
        piece = self._take(len(target))
        target[: len(piece)] = piece
        return len(piece)

    def discard(self, n_bytes: int) -> int:
        """Drop up to `n_bytes` and return how many there were."""
        done = 0
        while done < n_bytes and (piece := self._take(n_bytes - done)):
            done += len(piece)
        return done

    def _take(self, at_most: int) -> memoryview:
        """Return 1 to `at_most` bytes, or none after the last member, whose checksum zlib has verified."""
        while not self._inflated and self._inflate_more():
            pass
        piece, self._inflated = self._inflated[:at_most], self._inflated[at_most:]
        return piece

    def _inflate_more(self) -> bool:
        """Inflate the next chunk of the file, to at most 1032 times its size; False at the end."""
        if self._inflater.eof:
            chunk = self._start_of_next_member()
            if not chunk:
                return False
            self._inflater = zlib.decompressobj(wbits=31)
        elif not (chunk := self._file.read(_CHUNK)):
            raise ImageReadError("truncated", "The gzip stream must reach its end; it stops early.")
        try:
            self._inflated = memoryview(self._inflater.decompress(chunk))
        except zlib.error as error:
            raise ImageReadError("bad_gzip", f"The gzip stream is damaged: {error}.") from error
        return True

    def _start_of_next_member(self) -> bytes:
        """Return what follows the finished member; nothing at the end, where padding with zeros is allowed."""
        start = self._inflater.unused_data.lstrip(b"\0")
        while not start and (chunk := self._file.read(_CHUNK)):
            start = chunk.lstrip(b"\0")
        return start
