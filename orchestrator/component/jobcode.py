"""Whether a job's code can be run, asked at a submit: `python -m orchestrator.component.jobcode`.

Reads one JSON object from stdin and answers with one on stdout. The user's code is imported here,
in a process that does nothing else and ends then; whatever it prints goes to stderr.

    directory    that of the topology, which relative paths count from
    names        by what a service or handler that nobody names may be found: job, program
    service, handler, python_path
    snapshots    where to keep the code as it is now; null to keep none

    digest, snapshot     the code, and the directory it is kept in; null when there is none
    service, handler     where they are, with their class; null when there is none
    required             what the job's own template asks for, by attribute
    files                what was read and kept, with time, size and inode: as long as these are
                         the same the answer is
    error                file, line and message of what is wrong, else null
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from orchestrator.component import streams
from orchestrator.component.errors import SetupError
from orchestrator.component.runs import code
from orchestrator.component.runs.templates import ServiceParamTemplate


def examine(request: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a job's code, or where and why it cannot be run."""
    base = Path(request["directory"])
    names = tuple(dict.fromkeys(request.get("names") or ()))
    service = request.get("service") or code.conventional(code.SERVICE, base, names)
    handler = request.get("handler") or code.conventional(code.HANDLER, base, names)
    answer: dict[str, Any] = {
        "digest": None,
        "snapshot": None,
        "service": service,
        "handler": handler,
        "required": [],
        "files": {},
        "error": None,
    }
    if not (service or handler):
        return answer
    try:
        python_path = tuple(request.get("python_path") or ())
        found, sources = code.load(base, python_path, service, handler)
        answer["service"] = found.service and found.service.spec
        answer["handler"] = found.handler and found.handler.spec
        if found.template is not ServiceParamTemplate:
            answer["required"] = list(found.template.not_null_attr)
        if request.get("snapshots"):
            digest, directory = code.keep(sources, Path(request["snapshots"]))
            answer |= {"digest": digest, "snapshot": str(directory)}
        answer["files"] = sources.stamps
    except SetupError as error:
        answer["error"] = streams.error(error)
    except OSError as error:
        message = f"cannot keep the code of the job: {error}"
        answer["error"] = {"file": None, "line": None, "message": message}
    return answer


def main() -> int:
    """Answer the one request."""
    requests, answers = streams.private()
    with requests, answers:
        answers.write(json.dumps(examine(json.loads(requests.readline()))) + "\n")
        answers.flush()
        # Threads that the user's code has begun are in nobody's way.
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
