"""Artifacts on storage: a directory, a local path or ``s3://`` / ``gs://``, that holds whole artifacts or none.

An artifact is a folder of files and a ``manifest.json`` that lists them with sizes and SHA-256, carries the whole spec
and a free record, and is sealed by a checksum of its own. Every file is published by one atomic step (rename on a
local disk, close of the upload on an object store), the manifest last: a reader that finds it finds everything.
Two writers of one address write the same bytes, so the worst a lost lease costs is time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from pyarrow import ArrowException
from pyarrow import fs as arrow_fs

from scaleback.core.cache import Cache
from scaleback.core.direct import DirectFile
from scaleback.core.errors import DriftError, InputError, IntegrityError, StoreError, short
from scaleback.core.lease import Lease
from scaleback.core.spec import Plain, Spec

MANIFEST = "manifest.json"
FAILURE = "failure.json"
TEMPORARY = ".tmp"
F = TypeVar("F", IO[bytes], DirectFile)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an artifact says of itself."""

    address: str
    spec: dict[str, Plain]
    fingerprint: str
    files: dict[str, dict[str, Any]]
    """File name to ``{"bytes": size, "sha256": hex}``."""
    record: dict[str, Any]
    """What the stage measured or realised; never part of identity."""

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(int(entry["bytes"]) for entry in self.files.values())


class Store:
    """Reads and publishes artifacts below one root.

    A remote one keeps what it has read in the node's cache, so tasks may run on any node: what several runs on a node
    read is fetched once. The cache belongs to the node: a store that is sent to another finds that one's.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        if "://" in self.root:
            try:
                self._fs, self._base = arrow_fs.FileSystem.from_uri(self.root)
            except (ArrowException, OSError) as error:
                reason = " ".join(str(error).split())[:120]
                raise InputError(
                    f"--storage: must be a folder, s3:// or gs://; got {short(self.root)} ({reason})"
                ) from None
            self.local = isinstance(self._fs, arrow_fs.LocalFileSystem)
        else:
            self.root = os.path.abspath(self.root)
            self._fs, self._base, self.local = arrow_fs.LocalFileSystem(), self.root, True
        self._cache = None if self.local else Cache.of_node()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.root,)

    # Files ----------------------------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """The path of a file below the root, as this store's file system knows it."""
        return f"{self._base}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Publish one file atomically; an older one of that name is replaced."""
        path = self.path(name)
        with self._told(name, f"cannot write {len(data):,} bytes"):
            if self.local:
                _put_local(path, data)
                return
            with self._fs.open_output_stream(path) as stream:
                stream.write(data)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Writing]:
        """Publish one large file that is written piece by piece.

        On a local disk it lies in memory until the body ends, and nothing is there if that raises.
        """
        with contextlib.ExitStack() as finish:
            with self._told(name, "cannot be written"):
                if self.local:
                    file = finish.enter_context(_temporary(self.path(name), DirectFile))
                else:
                    file = finish.enter_context(self._fs.open_output_stream(self.path(name)))
            yield Writing(file, lambda: self._told(name, "cannot be written"))
            with self._told(name, "cannot be written"):
                if self.local:
                    _sync(file)
                    os.replace(file.name, self.path(name))
                finish.close()

    def get(self, name: str) -> bytes | None:
        """The bytes of a file, or None if there is none."""
        with self._told(name, "cannot be read"):
            try:
                if self.local:
                    return Path(self.path(name)).read_bytes()
                with self._fs.open_input_stream(self.path(name)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def _told(self, name: str, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.root}/{name}: {what}: {error.strerror or error}") from error

    def remove(self, name: str) -> None:
        """Delete a file or an artifact; what is not there is not an error."""
        path = self.path(name)
        with self._told(name, "cannot be removed"):
            kind = self._fs.get_file_info(path).type
            if kind == arrow_fs.FileType.Directory:
                self._fs.delete_dir(path)
            elif kind == arrow_fs.FileType.File:
                self._fs.delete_file(path)

    def modified(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970 by the storage's clock; None if it does not say."""
        with self._told(name, "cannot be looked at"):
            stamp = self._fs.get_file_info(self.path(name)).mtime_ns
        return None if stamp is None else stamp / 1e9

    def files(self, folder: str) -> list[str]:
        """Names of all files below ``folder``, sorted, at any depth: one listing."""
        selector = arrow_fs.FileSelector(self.path(folder), recursive=True, allow_not_found=True)
        start = len(self._base) + 1
        with self._told(folder, "cannot be listed"):
            found = self._fs.get_file_info(selector)
        files = (info.path[start:] for info in found if info.type == arrow_fs.FileType.File)
        return sorted(name for name in files if not name.endswith(TEMPORARY))

    def addresses(self, folder: str, file: str = MANIFEST) -> list[str]:
        """Addresses below ``folder`` that hold ``file``; by default those of whole artifacts."""
        return [name.removesuffix(f"/{file}") for name in self.files(folder) if name.endswith(f"/{file}")]

    def scratch(self, folder: str) -> str:
        """A path or URI below the root for files that other libraries write and nobody reads back."""
        return f"{self.root}/scratch/{folder}"

    # Artifacts ------------------------------------------------------------------------------------------------------

    def publish(
        self, address: str, files: Mapping[str, bytes | Writing], *, spec: Spec, record: Mapping[str, Any]
    ) -> Manifest:
        """Write the files that are not written yet, then the manifest; only then does the artifact exist."""
        stated = {}
        for name, data in files.items():
            if isinstance(data, bytes):
                self.put(f"{address}/{name}", data)
                stated[name] = {"bytes": len(data), "sha256": _sha256(data)}
            else:
                stated[name] = data.stated
        manifest = Manifest(
            address=address,
            spec=spec.plain(),
            fingerprint=spec.fingerprint,
            files=stated,
            record=dict(record),
        )
        body = {field: getattr(manifest, field) for field in Manifest.__slots__}
        self.put(f"{address}/{MANIFEST}", _json({**body, "seal": _sha256(_json(body))}))
        self.remove(f"{address}/{FAILURE}")
        return manifest

    def manifest(self, address: str, spec: Spec | None = None) -> Manifest | None:
        """The manifest at an address, or None; compared with ``spec`` where one is given.

        Raises:
            IntegrityError: the manifest is damaged.
            DriftError: it belongs to another spec.
        """
        data = self.get(f"{address}/{MANIFEST}")
        if data is None:
            return None
        try:
            body = json.loads(data)
            seal = body.pop("seal")
            manifest = Manifest(**body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{self.root}/{address}/{MANIFEST}: is not a manifest ({error})") from error
        if seal != _sha256(_json(body)):
            raise IntegrityError(
                f"{self.root}/{address}/{MANIFEST}: damaged; its seal is {seal[:12]}, found {_sha256(_json(body))[:12]}"
            )
        if manifest.address != address:
            raise IntegrityError(f"{self.root}/{address}: holds the artifact {manifest.address}, put in its place")
        if spec is not None and manifest.fingerprint != spec.fingerprint:
            held, asked = manifest.fingerprint[:12], spec.fingerprint[:12]
            raise DriftError(f"{self.root}/{address}: holds {held}, not {asked}, the spec asked for")
        return manifest

    def read(self, manifest: Manifest, file: str, *, anew: bool = False) -> bytes:
        """One file of an artifact, verified; from the node's cache unless it is to be read ``anew`` from storage.

        Raises:
            IntegrityError: missing, of another size, or of another checksum; the message says which.
        """
        where, expected = f"{self.root}/{manifest.address}/{file}", manifest.files[file]
        if self._cache is not None and not anew and (kept := self._cache.get(expected["sha256"])) is not None:
            return kept
        data = self.get(f"{manifest.address}/{file}")
        if data is None:
            raise IntegrityError(f"{where}: is missing; expected {expected['bytes']:,} bytes")
        if len(data) != expected["bytes"]:
            raise IntegrityError(f"{where}: holds {len(data):,} bytes; expected {expected['bytes']:,}")
        found = _sha256(data)
        if found != expected["sha256"]:
            raise IntegrityError(f"{where}: has checksum {found[:12]}; expected {expected['sha256'][:12]}")
        if self._cache is not None:
            self._cache.put(expected["sha256"], data)
        return data

    def fail(self, address: str, failure: Mapping[str, Any]) -> None:
        """Leave a failure record in place of an artifact."""
        self.put(f"{address}/{FAILURE}", _json(dict(failure)))

    def failure(self, address: str) -> dict[str, Any] | None:
        """The failure record at an address, or None."""
        data = self.get(f"{address}/{FAILURE}")
        if data is None:
            return None
        try:
            failure: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise IntegrityError(f"{self.root}/{address}/{FAILURE}: is not a failure record ({error})") from error
        return failure

    @contextlib.contextmanager
    def lease(self, address: str) -> Iterator[Lease]:
        """Hold the right to compute ``address``; waits while another live process does."""
        lease = Lease(self, address)
        lease.acquire()
        try:
            yield lease
        finally:
            lease.release()

    def create(self, name: str, data: bytes) -> bool:
        """Put a file only if there is none. Exact on a local disk; a check and a write on an object store."""
        if self.local:
            with self._told(name, f"cannot write {len(data):,} bytes"):
                return _create_local(self.path(name), data)
        if self.get(name) is not None:
            return False
        self.put(name, data)
        return self.get(name) == data


class Writing:
    """A file on its way to storage, counted and summed up as it is written; what pyarrow asks of a file."""

    closed = False

    def __init__(self, file: Any, told: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._file, self._told = file, told
        self._bytes, self._sha256 = 0, hashlib.sha256()

    @property
    def stated(self) -> dict[str, Any]:
        """Size and checksum of what was written."""
        return {"bytes": self._bytes, "sha256": self._sha256.hexdigest()}

    def write(self, data: Any) -> int:
        """The next piece."""
        self._sha256.update(data)
        self._bytes += len(data)
        with self._told():
            self._file.write(data)
        return len(data)

    def tell(self) -> int:
        """How many bytes were written."""
        return self._bytes

    def flush(self) -> None:
        """Nothing waits here."""


@contextlib.contextmanager
def _temporary(path: str, made: Callable[[str], F]) -> Iterator[F]:
    """A new file beside ``path`` that is gone at the end, whatever happens."""
    name = f"{path}.{uuid.uuid4().hex[:8]}{TEMPORARY}"
    try:
        with _made(name, made) as file:
            yield file
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _made(path: str, made: Callable[[str], F]) -> F:
    """Its folder is made if there is none, which is asked for last since there mostly is."""
    try:
        return made(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return made(path)


def _plain(path: str) -> IO[bytes]:
    return open(path, "wb")


def _sync(file: IO[bytes] | DirectFile) -> None:
    file.flush()
    os.fsync(file.fileno())


def _put_local(path: str, data: bytes) -> None:
    with _temporary(path, _plain) as file:
        file.write(data)
        _sync(file)
        os.replace(file.name, path)


def _create_local(path: str, data: bytes) -> bool:
    """A link fails if the name is taken, and the name never stands for half a file.

    It need not outlive a power cut, so nothing is synced: who holds a lease is gone then, too.
    """
    with _temporary(path, _plain) as file:
        file.write(data)
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            return False
    return True


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode()
