"""A component with Django: migrated, its files collected, served, asked, and mocked."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.e2e.scenario import Scenario, exits, orch, says

pytest.importorskip("django")

CONF = """
from orchestrator.component import ConfField, ConfigurationManager, DirConfField, FileConfField


def _database(conf, name, path):
    engine = "django.db.backends.sqlite3"
    conf.DJANGO = {**conf.DJANGO, "DATABASES": {"default": {"ENGINE": engine, "NAME": path}}}


class _Manager(ConfigurationManager):
    port = ConfField(8000)
    DJANGO = ConfField({
        "INSTALLED_APPS": ["django.contrib.staticfiles", "shop.web"],
        "STATIC_URL": "/static/",
        "ROOT_URLCONF": "shop.web.urls",
        "ALLOWED_HOSTS": ["127.0.0.1"],
        "SECRET_KEY": "of a test",
    })
    LOGGING = ConfField({
        "version": 1,
        "formatters": {"short": {"format": "said: %(message)s"}},
        "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "short"}},
        "root": {"handlers": ["err"], "level": "INFO"},
    })
    database = FileConfField("site.sqlite", "data", setattr_fct=_database)
    static = DirConfField("files", "static")


CONFIGURATION = _Manager("component")
CONF = CONFIGURATION.to_conf()
"""

INIT = """
from shop.web.client import Client, Mock
from shop.web.conf import CONF, CONFIGURATION

__all__ = ["CONF", "CONFIGURATION", "Client", "Mock"]
"""

CLIENT = """
from urllib.request import urlopen

from shop.web.conf import CONF


class Client:
    def notes(self):
        with urlopen(f"http://127.0.0.1:{CONF.port}/", timeout=30) as response:
            return response.read().decode()


class Mock:
    def run(self):
        from http.server import BaseHTTPRequestHandler, HTTPServer

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"mocked")

        HTTPServer(("127.0.0.1", CONF.port), Answer).serve_forever()
"""

MIGRATION = """
from django.db import migrations, models

_FIELDS = [("id", models.AutoField(primary_key=True)), ("text", models.TextField())]


class Migration(migrations.Migration):
    operations = [migrations.CreateModel("Note", _FIELDS)]
"""

MODELS = """
from django.db import models


class Note(models.Model):
    text = models.TextField()

    class Meta:
        app_label = "web"
"""

URLS = """
import logging

from django.http import HttpResponse
from django.urls import path


def notes(request):
    from shop.web.models import Note

    Note.objects.create(text="more")
    logging.getLogger("shop").info("asked")
    return HttpResponse(f"{Note.objects.count()} notes")


urlpatterns = [path("", notes)]
"""

COMPONENT = """
from orchestrator.component import Component
from shop.web.conf import CONF


class _Web(Component):
    tells_ready = True

    @property
    def django_d(self):
        return {**CONF.DJANGO, "STATIC_ROOT": CONF.static}

    def run(self):
        from wsgiref.simple_server import make_server

        from django.core.wsgi import get_wsgi_application

        with make_server("127.0.0.1", CONF.port, get_wsgi_application()) as server:
            self.ready()
            server.serve_forever()


COMPONENT = _Web("shop", "web", [CONF])
"""


def notes(scenario: Scenario) -> str:
    """Ask the component, by its Client, from outside."""
    code = "from orchestrator.component import client; print(client('shop.web').notes())"
    return scenario.command([sys.executable, "-c", code]).text.strip()


def test_django_is_set_up_initialized_served_and_mocked(scenario: Scenario) -> None:
    for name, text in {
        "shop/__init__.py": "",
        "shop/web/__init__.py": INIT,
        "shop/web/conf.py": CONF,
        "shop/web/client.py": CLIENT,
        "shop/web/models.py": MODELS,
        "shop/web/urls.py": URLS,
        "shop/web/__component__.py": COMPONENT,
        "shop/web/migrations/__init__.py": "",
        "shop/web/migrations/0001_initial.py": MIGRATION,
        "shop/web/static/site.css": "body {}",
    }.items():
        scenario.write(text, name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scenario.services(
        {"shop": {"components": {"web": {"package": "shop.web", "config": {"port": port},
                                         "ready": {"tcp": f"127.0.0.1:{port}", "every": "0.2s"}}}}}
    )  # fmt: skip
    up = scenario.step("up", orch("up", "-d", "--wait", "--init"), exits(0))
    assert "Applying web.0001_initial... OK" in up.err
    assert up.out == ""
    base = scenario.root / ".orch"
    assert (base / "data" / "shop-web-site.sqlite").is_file()
    assert (base / "static" / "shop-web-files" / "site.css").read_text() == "body {}"
    assert notes(scenario) == "1 notes"
    assert b"said: asked" in scenario.log("shop.web", "err")
    scenario.step(
        "Django's own command",
        orch("admin", "shop.web", "django", "showmigrations", "--plan"),
        exits(0),
        says(r"\[X\]  web\.0001_initial"),
    )
    scenario.step("mocked", orch("up", "-d", "--wait", "--mock", "shop.web"), exits(0))
    assert notes(scenario) == "mocked"
    scenario.step("itself again", orch("up", "-d", "--wait"), exits(0))
    assert notes(scenario) == "2 notes"


def test_what_fails_to_initialize_is_not_started(scenario: Scenario) -> None:
    scenario.write(
        """\
        from orchestrator.component import Component

        class _Api(Component):
            def initialize(self):
                raise OSError("no room")

            def run(self):
                pass

        COMPONENT = _Api("shop", "api")
        """,
        "api.py",
    )
    scenario.services({"api": {"package": "api"}})
    scenario.step(
        "refused",
        orch("up", "-d", "--init"),
        exits(1),
        says("OSError: no room", "cannot initialize api.api: it ended with exit code 1"),
    )
    scenario.step("no Mock", orch("up", "-d", "--mock", "api"), exits(1), says("ORC454"))
    scenario.step(
        "unknown", orch("up", "-d", "--mock", "apo"), exits(2), says("cannot mock 'apo'")
    )
