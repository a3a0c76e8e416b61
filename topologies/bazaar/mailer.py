"""The mailer: sends what waits in the queue, one SMTP connection for all of it."""

import json
import smtplib
import threading
from email.message import EmailMessage

import redis

from orchestrator.component import CommonService

MAIL_CONFIG = {
    "enabled": False,
    "quiet": False,
    "version": 2,
    "host": "127.0.0.1",
    "port": 25,
    "sender": "nobody@example.org",
    "signature": "",
}


class Mailer(CommonService):
    """`app` is the connection to the server."""

    def __init__(self, hook=None):
        super().__init__(hook)
        self.turn = threading.Lock()

    def build_kube(self, hook):
        return hook.service_glob("MAIL_KUBE", {})

    def build_config(self, hook):
        return hook.service_glob("MAIL_CONFIG", MAIL_CONFIG)

    def run(self, hook=None):
        self.convert_config(hook)
        self.cache = hook.cache
        self.queue = hook.queue
        self.app = self.connect()

    def convert_config(self, hook):
        """Turn a configuration of the first version into one of the second."""
        if "default_from" in self.config:
            self.config["sender"] = self.config.pop("default_from")

    def connect(self):
        return smtplib.SMTP(self.config["host"], self.config["port"], timeout=10)

    def post_run(self, hook=None):
        self.spawn_daemon(worker=self.work)

    def work(self, stop):
        """Send letters until told to stop; the one in hand is in Redis too, so none is lost."""
        queue, in_hand = self.queue, f"{self.queue}:in-hand"
        store = self.cache.app
        while not stop.is_set():
            try:
                while store.lmove(in_hand, queue, "RIGHT", "LEFT"):
                    pass  # what another mailer, or this one, did not get rid of
                while not stop.is_set():
                    letter = store.blmove(queue, in_hand, 1, "LEFT", "RIGHT")
                    if letter is not None:
                        self.send(json.loads(letter))
                        store.lrem(in_hand, 1, letter)
            except (smtplib.SMTPException, OSError, redis.RedisError) as error:
                print(f"cannot send: {error}")
                stop.wait(1)

    def send(self, letter):
        message = EmailMessage()
        message["From"] = self.config["sender"]
        message["To"] = letter["to"]
        message["Subject"] = letter["subject"]
        message.set_content(letter["text"] + self.config["signature"])
        with self.turn:
            self.app.send_message(message)
        print(f"sent {letter['subject']!r} to {letter['to']}")

    def is_running(self):
        """Look at the server too; a connection that it has closed is reset."""
        try:
            with self.turn:
                return super().is_running() and self.app.noop()[0] == 250
        except (smtplib.SMTPException, OSError):
            return False

    def failed(self):
        super().failed()
        self.terminate_daemon("worker")

    def stop(self):
        super().stop()
        if self.app is not None:
            self.app.close()

    def reset(self, hook):
        if self.app is not None:
            self.app.close()
        super().reset(hook)
