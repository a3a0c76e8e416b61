"""The first table."""

from django.db import migrations, models

_FIELDS = [
    ("id", models.AutoField(primary_key=True)),
    ("at", models.DateTimeField(auto_now_add=True)),
]


class Migration(migrations.Migration):
    """Make the table of visits."""

    operations = (migrations.CreateModel("Visit", _FIELDS),)
