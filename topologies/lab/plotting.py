"""What is done before the plot: curves of finished fits come in, and a script that draws them."""

import shutil
from pathlib import Path

SCRIPT = """\
set terminal svg size 900,500 background "white"
set output "decay.svg"
set logscale y
set xlabel "time / s"
set ylabel "counts"
plot {curves}
"""


class PlotService:
    """A plain class will do: its methods have the names of the hooks."""

    def prepare_input_file(self):
        curves = []
        for number, (sample, directory) in enumerate(sorted(self.param_template.fits.items()), 1):
            shutil.copy(Path(directory, "input.dat"), self.work_dir / f"{sample}.dat")
            shutil.copy(Path(directory, "curve.dat"), self.work_dir / f"{sample}.curve")
            curves += [
                f'"{sample}.dat" using 1:2:3 with yerrorbars linecolor {number} title "{sample}"',
                f'"{sample}.curve" with lines linecolor {number} notitle',
            ]
        script = SCRIPT.format(curves=", ".join(curves))
        (self.work_dir / "plot.gp").write_text(script, encoding="utf-8")
