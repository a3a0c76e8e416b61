"""Runs of jobs, from the inside: what the worker process does for one execution of a program.

    order       what the daemon wants: one file of plain data
    directory   the run's directory: made, filled, listed, followed
    attendant   the program, its `output` and its end, in a thread that no hook can hold up
    progress    how far the run is, for everybody to read
    templates   what users write: parameters, `ServiceProgramTemplate`, `WatcherHandler`
    hooks       calling what users wrote, whatever it does

`orchestrator.component.worker` puts them together. Nothing here knows of queues, retries or
schedules: those are the daemon's.
"""
