"""A post office: an SMTP server that puts letters into a maildir."""

import logging
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from orchestrator.component import CommonService

OFFICE_CONFIG = {"enabled": False, "host": "127.0.0.1", "port": 8025, "maildir": "letters"}


class PostOffice(CommonService):
    """The server: `app` is its controller, which has a thread of its own."""

    def build_config(self, hook):
        return hook.service_glob("OFFICE_CONFIG", OFFICE_CONFIG)

    def run(self, hook=None):
        logging.getLogger("mail.log").setLevel(logging.WARNING)  # else every word of SMTP
        maildir = Path(self.config["maildir"])
        maildir.parent.mkdir(parents=True, exist_ok=True)
        server = Controller(Mailbox(maildir), self.config["host"], self.config["port"])
        server.start()
        self.app = server

    def stop(self):
        if self.app is not None:
            self.app.stop()
        super().stop()

    def reset(self, hook):
        if self.is_running():
            self.app.stop()  # before the next one listens where it did
        super().reset(hook)
