"""The configuration of the page: `DJANGO` is what Django is configured with."""

from orchestrator.component import ConfField, ConfigurationManager, FileConfField


def _database(conf, name, path):
    default = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
    conf.DJANGO = {**conf.DJANGO, "DATABASES": {"default": default}}


class _Manager(ConfigurationManager):
    port = ConfField(8081)
    DJANGO = ConfField(
        {
            "ROOT_URLCONF": "bazaar.shop.site.urls",
            "INSTALLED_APPS": ["bazaar.shop.site"],
            "ALLOWED_HOSTS": ["127.0.0.1"],
            "SECRET_KEY": "of an example: nothing here is signed",
        }
    )
    database = FileConfField("visits.sqlite", "data", setattr_fct=_database)


CONFIGURATION = _Manager("component")
CONF = CONFIGURATION.to_conf()
