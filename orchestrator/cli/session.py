"""What one command works on: the options, the system they name, and its daemon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from orchestrator import client
from orchestrator.cli.invocation import Options
from orchestrator.cli.screen import Screen
from orchestrator.client import place
from orchestrator.client.place import Place
from orchestrator.config import paths
from orchestrator.errors import DaemonUnreachable

if TYPE_CHECKING:
    from orchestrator.client import Client


class Session:
    """One command's view of the world; a context manager that closes what it opened."""

    def __init__(self, options: Options, environment: Mapping[str, str]) -> None:
        self.options = options
        self.environment = environment
        self.screen = Screen(options.color, environment, quiet=options.quiet)
        self._file = options.file
        self._client: Client | None = None
        self._place: Place | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def choose(self, file: str) -> None:
        """Work on `file`, as if the user had named it with -f."""
        self._file = file
        self._place = None

    @property
    def topology(self) -> Path:
        """The topology file: the named one, or the nearest above the working directory.

        Raises:
            UsageError: None was named and none is found.
        """
        return self.place.topology

    @property
    def place(self) -> Place:
        """Where the system is."""
        if self._place is None:
            self._place = place.find(self._file, self.options.project, self.environment)
        return self._place

    @property
    def runtime_dir(self) -> Path:
        """Where the daemon's socket is."""
        return self.place.runtime_dir

    @property
    def surroundings(self) -> Mapping[str, str]:
        """The environment in which the topology is read: sockets are where the daemon has them."""
        place = self.place
        if place.is_usual:
            return self.environment
        return {**self.environment, "XDG_RUNTIME_DIR": str(place.runtime_dir.parent.parent)}

    @property
    def base_dir(self) -> Path:
        """Where the system keeps its files, unless its topology says otherwise."""
        return paths.base_dir(self.topology, None, self.options.project)

    @property
    def starter(self) -> str:
        """The command that starts this system's daemon."""
        return self.place.starter

    def connect(self) -> Client:
        """Return the client of this system's daemon, closed when the command ends.

        Raises:
            DaemonUnreachable: It does not run.
        """
        if self._client is None:
            self._place = None  # It may be another since we looked.
            self._client = client.connect(self.runtime_dir, starter=self.starter)
            self._client.silent = self._tell_silence
        return self._client

    def _tell_silence(self) -> None:
        self.screen.note("orch: the daemon does not answer; it may be suspended, or starting")

    def disconnect(self) -> None:
        """Forget the daemon; `connect` looks for it again."""
        if self._client is not None:
            self._client.close()
        self._client = None
        self._place = None

    def try_connect(self) -> Client | None:
        """Return the client, or None when no daemon runs."""
        if self._client is None:
            self._place = None
            if not self.place.has_socket:
                return None
        try:
            return self.connect()
        except DaemonUnreachable:
            return None
