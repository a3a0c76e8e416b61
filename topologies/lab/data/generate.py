"""Write the measured decay curves anew, the same on every machine: time, counts, their error.

python3 generate.py [DIRECTORY]
"""

import math
import random
import sys
from pathlib import Path

SAMPLES = {
    "copper": [(900.0, 2.0)],
    "silver": [(600.0, 5.0)],
    "indium": [(700.0, 0.8), (400.0, 7.0)],
}
"""For each sample the height and the lifetime, in seconds, of each of its decays."""


def main(directory: Path) -> None:
    """Write a file for each sample."""
    for name, decays in SAMPLES.items():
        chance = random.Random(name)  # noqa: S311 - noise, no secret
        lines = [f"# {name}: time in s, counts, error"]
        for step in range(100):
            time = 0.2 * step
            true = 20.0 + sum(height * math.exp(-time / life) for height, life in decays)
            counts = max(0.0, chance.gauss(true, math.sqrt(true)))
            lines.append(f"{time:.1f} {counts:.1f} {math.sqrt(true):.2f}")
        (directory / f"{name}.dat").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
