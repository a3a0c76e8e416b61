"""What is done around a fit: gnuplot knows nothing of it."""

import shutil
from pathlib import Path

from orchestrator.component import ServiceProgramTemplate, WatcherHandler

HERE = Path(__file__).parent


class FitService(ServiceProgramTemplate):
    """Bring the measured curve and the script into the run's directory."""

    def build(self):
        shutil.copy(HERE / "fit.gp", self.work_dir)

    def prepare_input_file(self):
        super().prepare_input_file()
        measured = self.work_dir / Path(self.param_template.g_input_file).name
        measured.rename(self.work_dir / "input.dat")


class FitHandler(WatcherHandler):
    """Tell how far the fit is by what it has written, and at its end what it found."""

    def before_watch_callback(self, instance):
        instance.set_progress(0.0, text="fitting")

    def file_change_callback(self, file_list, instance):
        if "starts.dat" in file_list:
            done = (instance.work_dir / "starts.dat").read_text(encoding="utf-8").count("\n")
            instance.set_progress(done, int(instance.param_template.s_service_args["starts"]))

    def after_watch_callback(self, file_list, instance):
        if instance.exit_code == 0 and "result.dat" in file_list:
            found = read(instance.work_dir / "result.dat")
            instance.set_state(rest=found["rest"][0], lives=sorted(found["life"]))


def read(path):
    """Return the numbers of a result by their names."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, number = line.split()
        found.setdefault(name, []).append(float(number))
    return found
