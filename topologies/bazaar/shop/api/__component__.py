"""What runs as shop.api: an HTTP server that answers with the price list."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bazaar.shop.admin.conf import SHOP
from bazaar.shop.api.conf import CONF

from orchestrator.component import Component


def read():
    path = Path(CONF.prices)
    return json.loads(path.read_text()) if path.exists() else dict(CONF.wares)


def write(prices):
    new = Path(f"{CONF.prices}.new")
    new.write_text(json.dumps(prices))
    new.replace(CONF.prices)


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        prices = {ware: f"{price} {SHOP.currency}" for ware, price in read().items()}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(prices).encode())


class _Api(Component):
    tells_ready = True

    def run(self):
        with ThreadingHTTPServer(("127.0.0.1", CONF.port), _Answer) as server:
            self.ready()
            server.serve_forever()


COMPONENT = _Api("shop", "api", [CONF, SHOP])
