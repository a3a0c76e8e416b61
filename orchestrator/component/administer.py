"""`python -m orchestrator.component.administer DIR COMMAND …`: a command on a built component."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.component import admin, instance, packages
from orchestrator.component.errors import SetupError
from orchestrator.errors import ExitCode


def main(arguments: list[str]) -> int:
    """Run a command on the component that was built in a directory; return the exit code."""
    if len(arguments) < 2:
        sys.stderr.write("usage: python -m orchestrator.component.administer DIR COMMAND …\n")
        return ExitCode.USAGE
    try:
        told = instance.from_directory(Path(arguments[0]))
        instance.made_for(Path(arguments[0]))
        told.enter()
        component = packages.prepared(told)
        administrator = admin.of_package(told.handler, component.service_name)
    except SetupError as error:
        sys.stderr.write("".join(f"orch: {mistake}\n" for mistake in error.mistakes))
        return ExitCode.FAILED
    return administrator.administer(component, arguments[1:], f"orch admin {told.name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
