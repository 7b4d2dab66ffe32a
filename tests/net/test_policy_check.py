"""What can be said of a URL before anything is looked up."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from mediagen.core.errors import InvalidRequest, UrlNotAllowed
from mediagen.net.policy import AddressPolicy

PUBLIC = AddressPolicy(allow=(), deny=(), ports=(80, 443))
WIDER = AddressPolicy(allow=(ip_network("127.0.0.0/8"), ip_network("10.1.0.0/16")), deny=(), ports=(80, 443))


@pytest.mark.parametrize(
    "url", ["https://example.org/hook", "http://93.184.215.14/", "https://[2606:4700::1111]/x?y=1"]
)
def test_what_may_be_public_passes(url: str) -> None:
    assert str(PUBLIC.check(url)) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f.0.0.1/",
        "http://2130706433/",
        "http://017700000001/",
        "http://localhost/",
        "http://a.LOCALHOST./",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.1.2.3/",
        "https://example.org:8443/",
        "http://93.184.215.14:22/",
        "http://user@example.org/",
        "http://example.org\\@127.0.0.1/",
        "ftp://example.org/",
        "file:///etc/passwd",
    ],
)
def test_what_can_only_lead_to_a_forbidden_place_is_refused(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        PUBLIC.check(url)


@pytest.mark.parametrize("url", ["http://localhost:9000/", "http://127.0.0.1:1/", "http://10.1.2.3:8080/"])
def test_what_the_operator_lists_passes_on_any_port(url: str) -> None:
    WIDER.check(url)


def test_a_name_may_lead_to_what_is_listed_so_its_port_says_nothing() -> None:
    WIDER.check("http://builder.internal:8080/")
    with pytest.raises(UrlNotAllowed):
        WIDER.check("http://10.2.0.1/")


@pytest.mark.parametrize(
    "url", ["", "http://", "http:///x", "http://a..b/", "http://a:99999/", "https://" + "x" * 5000]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidRequest):
        PUBLIC.check(url)
