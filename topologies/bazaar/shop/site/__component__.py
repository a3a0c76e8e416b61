"""What runs as shop.site: Django behind a server of the standard library."""

from wsgiref.simple_server import make_server

from bazaar.shop.admin.conf import SHOP
from bazaar.shop.site.conf import CONF

from orchestrator.component import Component


class _Site(Component):
    tells_ready = True

    def run(self):
        from django.core.wsgi import get_wsgi_application  # noqa: PLC0415 - not to import this

        with make_server("127.0.0.1", CONF.port, get_wsgi_application()) as server:
            self.ready()
            server.serve_forever()


COMPONENT = _Site("shop", "site", [CONF, SHOP])
