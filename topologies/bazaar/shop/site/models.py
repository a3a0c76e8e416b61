"""What the page remembers."""

from django.db import models


class Visit(models.Model):
    """One look at the page."""

    id = models.AutoField(primary_key=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Where the model belongs to."""

        app_label = "site"
