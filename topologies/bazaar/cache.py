"""A cache: Redis, as a service of its own and as a default service on every hook."""

import redis

from orchestrator.component import CommonService

CACHE_CONFIG = {"enabled": False, "quiet": False, "host": "127.0.0.1", "port": 6379, "timeout": 5}


class CacheService(CommonService):
    """Redis: `app` is its client."""

    def build_config(self, hook):
        return hook.service_glob("CACHE_CONFIG", CACHE_CONFIG)

    def run(self, hook=None):
        config = self.config
        self.app = redis.Redis(
            config["host"], config["port"], socket_timeout=config["timeout"], decode_responses=True
        )
        self.app.ping()

    def get(self, key, make):
        """Return the value of a key; when there is none it is made, and kept for an hour."""
        found = self.app.get(key)
        if found is None:
            found = make()
            self.app.set(key, found, ex=3600)
        return found

    def is_running(self):
        """Look at the server too."""
        try:
            return super().is_running() and self.app.ping()
        except redis.RedisError:
            return False


class CacheWatch(CacheService):
    """Tells how many keys there are, whenever the number changes."""

    def build_config(self, hook):
        return hook.service_glob("CACHE_WATCH_CONFIG", {**CACHE_CONFIG, "every": 1.0})

    def post_run(self, hook=None):
        self.spawn_daemon(counter=self.count)

    def count(self, stop):
        known = None
        while not stop.wait(self.config["every"]):
            try:
                keys = self.app.dbsize()
            except redis.RedisError as error:
                print(f"cannot count: {error}")  # keep_alive sees to it
                continue
            if keys != known:
                print(f"{keys} keys")
                known = keys
