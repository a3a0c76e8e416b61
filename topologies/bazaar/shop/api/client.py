"""How others ask for prices, and what answers in a test."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import urlopen

from bazaar.shop.api.conf import CONF


class Client:
    """Asks the api that runs."""

    def prices(self):
        with urlopen(f"http://127.0.0.1:{CONF.port}/", timeout=10) as response:
            return json.loads(response.read())


class _Free(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"everything": "0.00"}')


class Mock:
    """Gives everything away: `orch up --mock shop.api`."""

    def run(self):
        HTTPServer(("127.0.0.1", CONF.port), _Free).serve_forever()
