# The libraries are in the image, not here.
# mypy: ignore-errors
"""A Django site with one page, which a template makes."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import path

PAGE = """{% for order in orders %}{{ order.name|title }}: {{ order.amount|floatformat:2 }}
{% endfor %}result {{ orders|length }}
"""


def orders(request):
    """Answers with a line for each order."""
    del request
    shown = [{"name": f"order {number}", "amount": number * 1.5} for number in range(5)]
    return HttpResponse(Template(PAGE).render(Context({"orders": shown})), content_type="text/plain")


urlpatterns = [path("orders/", orders)]
settings.configure(
    ALLOWED_HOSTS=["site.example"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="known to everybody",
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
application = get_wsgi_application()
