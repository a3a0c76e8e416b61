"""Django in a component: configured, migrated, its static files collected.

Django itself is the user's to install; it is imported where a component configures it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.component.errors import SetupError


def setup(settings: Mapping[str, Any] | str) -> None:
    """Configure Django and load its applications, once per process.

    Logging is left as the component has set it up, unless the settings have `LOGGING`.

    Args:
        settings: Django's settings, or the name of the module that holds them.

    Raises:
        SetupError: Django is not installed, or refuses the settings.
    """
    try:
        django = importlib.import_module("django")
        conf = importlib.import_module("django.conf")
    except ImportError as error:
        raise SetupError(f"cannot set up Django: {error}; pip install django") from error
    try:
        if isinstance(settings, str):
            os.environ["DJANGO_SETTINGS_MODULE"] = settings
        elif not conf.settings.configured:
            quiet = {} if settings.get("LOGGING") else {"LOGGING_CONFIG": None}
            conf.settings.configure(**{**quiet, **settings})
        django.setup()
    except Exception as error:  # what settings name is user code
        raise SetupError(f"cannot set up Django: {type(error).__name__}: {error}") from error


def migrate() -> None:
    """Bring every database to the state of the migrations.

    Raises:
        SetupError: A migration failed.
    """
    connections = importlib.import_module("django.db").connections
    for alias in connections:
        if connections[alias].vendor != "unknown":  # `dummy`: Django without a database
            command("migrate", "--no-input", "--verbosity", "1", "--database", alias)


def collect_static() -> None:
    """Copy static files to STATIC_ROOT, where Django has one.

    Raises:
        SetupError: They cannot be collected.
    """
    settings = importlib.import_module("django.conf").settings
    if settings.STATIC_ROOT and "django.contrib.staticfiles" in settings.INSTALLED_APPS:
        command("collectstatic", "--no-input", "--verbosity", "1")


def command_line(words: Sequence[str]) -> None:
    """Run one of Django's own commands as `manage.py` does, with its words.

    Raises:
        SystemExit: As Django ends it.
    """
    management = importlib.import_module("django.core.management")
    management.execute_from_command_line(["django", *words])


def command(*words: str) -> None:
    """Run one of Django's own commands.

    Raises:
        SetupError: There is no such command, or it failed.
    """
    management = importlib.import_module("django.core.management")
    try:
        management.call_command(*words)
    except Exception as error:  # migrations are user code
        raise SetupError(f"django {words[0]} failed: {type(error).__name__}: {error}") from error
