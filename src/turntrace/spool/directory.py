"""Where the spool of an application lives, what speaks against that place, and who may read it."""

import contextlib
import fcntl
import hashlib
import os
import re
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

import platformdirs

from turntrace.errors import SettingsError
from turntrace.settings import Secret, Settings

_OWN_DATABASE: Final = "turntrace.db"
# As SQLAlchemy reads it: what ends a host elsewhere (`/`, `#`, `?`, `[`) may stand in a password.
_PASSWORD: Final = re.compile(r"([\w+]+://[^:/]*):[^@]*@")
_TEMPORARY: Final = frozenset({"tmpfs", "ramfs"})
_LAYERED: Final = frozenset({"overlay", "aufs"})
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph", "afs"}
)


@dataclass(frozen=True, slots=True)
class Location:
    """Where to spool. `path` None: in memory only. Nothing below it exists before the first turn."""

    path: Path | None
    key_file: Path | None
    warnings: tuple[str, ...] = ()


def fingerprint(settings: Settings) -> str:
    """16 hex digits that tell applications apart: database without its password, schema and environment.

    Raises:
        SettingsError: `database_url` is no URL.
    """
    parts = "\n".join((_database(settings), settings.environment))
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _database(settings: Settings) -> str:
    if settings.database_url is None:
        return f"sqlite:{Path.cwd() / _OWN_DATABASE}"
    try:
        return _named(_split(settings.database_url))
    except ValueError:  # its text may quote the URL
        raise SettingsError("database_url: not a SQLAlchemy URL such as postgresql://user@host/name") from None


def _split(url: Secret) -> SplitResult:
    """The parts of a database URL, without its password."""
    return urlsplit(_PASSWORD.sub(r"\1@", url.reveal(), count=1))


def _named(url: SplitResult) -> str:
    dialect = url.scheme.partition("+")[0]  # the driver does not make another database
    if dialect == "sqlite":
        return f"sqlite:{_sqlite_file(url)}"
    query = sorted((key, value) for key, value in parse_qsl(url.query) if "pass" not in key.lower())
    return f"{dialect}://{url.username or ''}@{(url.hostname or '').lower()}:{url.port or ''}{url.path}?{query}"


def _sqlite_file(url: SplitResult) -> str:
    name = url.path.removeprefix("/")
    if is_in_memory(url):
        return f":memory:{os.getpid()}"  # nobody else can have it
    return str(Path.cwd() / name.removeprefix("file:"))


def is_in_memory(url: SplitResult) -> bool:
    """Whether a database URL (split) is that of an SQLite database in memory."""
    is_sqlite = url.scheme.partition("+")[0] == "sqlite"
    return is_sqlite and (url.path in ("", "/", "/:memory:") or "mode=memory" in url.query)


def has_database_in_memory(settings: Settings) -> bool:
    """Whether the database of these settings is one in memory, which a single process has."""
    return settings.database_url is not None and is_in_memory(_split(settings.database_url))


def locate(settings: Settings) -> Location:
    """The place by the settings, else the first usable of the platform's state directory and /var/tmp, else memory.

    Makes the base directory (0700 where it is new). A place that the settings name is kept even while it is unusable:
    turns wait in memory until it can be written to.
    """
    name = fingerprint(settings)
    if settings.spool_dir is not None:
        base = Path(settings.spool_dir).expanduser().absolute()
        trouble = _trouble(base, is_shared=False)
        warnings = (f"spool_dir {base} cannot be used now ({trouble}); turns wait in memory",) if trouble else ()
        return Location(base / name, base / f"{name}.key", warnings + _warnings(base))
    if has_database_in_memory(settings):
        return Location(None, None)  # what is to be stored in memory need not survive it
    refused = []
    for base, is_shared in _candidates():
        trouble = _trouble(base, is_shared=is_shared)
        if trouble is None:
            return Location(base / name, base / f"{name}.key", _warnings(base))
        refused.append(f"{base} ({trouble})")
    text = f"no directory for the spool: {', '.join(refused)}; turns are kept in memory only. Set TURNTRACE_SPOOL_DIR"
    return Location(None, None, (text,))


def _candidates() -> tuple[tuple[Path, bool], ...]:
    state = platformdirs.user_state_path("turntrace", appauthor=False)
    return (state, False), (Path(f"/var/tmp/turntrace-{os.getuid()}"), True)  # noqa: S108 - checked by _trouble


def _trouble(base: Path, *, is_shared: bool) -> str | None:
    """Why a directory cannot be used. In a world-writable parent somebody else may have put it there first."""
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = base.lstat()
        if is_shared and (found.st_uid != os.getuid() or base.is_symlink() or found.st_mode & 0o022):
            return "not ours alone"
    except (OSError, RuntimeError) as error:
        return getattr(error, "strerror", None) or type(error).__name__
    return None if os.access(base, os.W_OK | os.X_OK) else "not writable"


def _warnings(base: Path) -> tuple[str, ...]:
    kind = filesystem(base)
    if kind in _TEMPORARY:
        return (f"the spool {base} is on {kind}: turns that are not stored yet are lost at a reboot",)
    if kind in _LAYERED:
        return (f"the spool {base} is on {kind}: turns that are not stored yet are lost with the container",)
    if kind in _NETWORK:
        return (f"the spool {base} is on {kind}: locks and appends are not reliable there; use a local disk",)
    return ()


def filesystem(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Type of the file system that `path` is on, by the mount table; None where there is none (not Linux)."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    wanted = os.path.realpath(path)
    best, kind = -1, None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        prefix = point.rstrip("/") + "/"
        if f"{wanted}/".startswith(prefix) and len(prefix) >= best:  # the last mount over a point is the visible one
            best, kind = len(prefix), fields[2]
    return kind


class WorkerLock:
    """Elects the one worker of an application on this host. Held until `release` or the end of the process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._descriptor = -1
        _locks.add(self)

    @property
    def is_held(self) -> bool:
        """Whether we hold it."""
        return self._descriptor >= 0

    def acquire(self) -> bool:
        """Try to get it, at once. False when another holds it, or no lock can be made."""
        if self.is_held and self._is_in_place(self._descriptor):
            return True
        self.release()
        descriptor = self._open()
        if descriptor is None:
            return False
        if _try_lock(descriptor) and self._is_in_place(descriptor):
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False

    def descriptor(self) -> int:
        """The open file that stands for the lock while it is held: a child process that inherits it holds it too."""
        return self._descriptor

    def inherit(self, descriptor: int) -> bool:
        """Hold the lock by a file that our parent had open. False where that is not this lock's file."""
        try:
            os.set_inheritable(descriptor, False)
            is_ours = self._is_in_place(descriptor)
        except OSError:
            return False
        if is_ours:
            self.release()
            self._descriptor = descriptor
        return is_ours

    def release(self) -> None:
        """Give it up."""
        if self.is_held:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def is_held_elsewhere(self) -> bool:
        """Whether another process (or object) holds it. Asking takes it for an instant: whoever is refused just then
        asks again."""
        if self.is_held:
            return False
        descriptor = self._open(is_making=False)
        if descriptor is None:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, *, is_making: bool = True) -> int | None:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if is_making else 0)
        try:
            if is_making:
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._path, flags, 0o600)
        except OSError:
            return None

    @property
    def _path(self) -> Path:
        return self._root / "worker.lock"

    def _is_in_place(self, descriptor: int) -> bool:
        """Whether the file is still the one that others would lock."""
        try:
            return os.stat(self._path).st_ino == os.fstat(descriptor).st_ino
        except OSError:
            return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


_locks: "weakref.WeakSet[WorkerLock]" = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_locks):  # closed, not unlocked: the lock is the parent's
        lock.release()


os.register_at_fork(after_in_child=_after_fork)
