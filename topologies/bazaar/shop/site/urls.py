"""The one page: what the api says, and how many have seen it."""

from bazaar.shop.admin.conf import SHOP
from django.http import HttpResponse
from django.urls import path

from orchestrator.component import client


def page(request):
    from bazaar.shop.site.models import Visit  # noqa: PLC0415 - needs Django set up

    Visit.objects.create()
    lines = [f"{ware}: {price}" for ware, price in sorted(client("shop.api").prices().items())]
    lines += [f"visits: {Visit.objects.count()}", f"contact: {SHOP.contact}"]
    return HttpResponse("\n".join([*lines, ""]), content_type="text/plain")


urlpatterns = [path("", page)]
