"""Have every measured curve explained, one way or the other, and all of them drawn."""

import json
import shutil
from pathlib import Path

from orchestrator.client import Jobs

MOST = 2
"""How many decays a law may have."""


def main(_to_send, config):
    """Fit all curves at once, look at what was found, and go on from there."""
    with Jobs() as jobs:
        simple = {path.stem: submit(jobs, path, 1) for path in sorted(Path("data").glob("*.dat"))}
        fits = {sample: explained(jobs, run, config["limit"]) for sample, run in simple.items()}
        directories = {sample: str(run.path()) for sample, run in fits.items()}
        plot = jobs.submit("lab.plot", after=fits.values(), fits=directories).wait()
        if not plot.succeeded:
            raise SystemExit(plot.message)
        shutil.copy(plot.path("decay.svg"), ".")
    found = {sample: run.custom["lives"] for sample, run in fits.items()}
    Path("result.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("Wrote result.json and decay.svg")


def submit(jobs, path, decays):
    """Submit a fit of so many decays."""
    attributes = {"input_file": str(path.absolute()), "sample": path.stem}
    return jobs.submit("lab.fit", attributes, args={"decays": decays})


def explained(jobs, run, limit):
    """Return a fit that explains the curve: this one, or one with more decays."""
    path = Path(run.template["g_input_file"])
    for decays in range(1, MOST + 1):
        if not run.wait().succeeded:
            raise SystemExit(f"{path.stem}: {run.message}")
        rest = run.custom["rest"]
        if rest < limit:
            lives = " and ".join(f"{life:.1f} s" for life in run.custom["lives"])
            print(f"{path.stem}: {lives} (rest {rest:.2f})")
            return run
        print(f"{path.stem}: not explained by {decays} (rest {rest:.2f})")
        if decays < MOST:
            run = submit(jobs, path, decays + 1)
    raise SystemExit(f"{path.stem}: nothing explains it")
