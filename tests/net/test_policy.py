from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.errors import InvalidRequest, UrlNotAllowed
from mediagen.net.policy import MAX_URL, AddressPolicy, check_text

PUBLIC = AddressPolicy(allow=(), deny=(), ports=(80, 443))

# Every class of address that is not public unicast, in every notation that a socket address can have.
FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.5",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.5",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::127.0.0.1",  # compatible
    "::7f00:1",
    "::ffff:0:127.0.0.1",  # translated
    "64:ff9b::127.0.0.1",  # NAT64
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::10.0.0.5",
    "100::1",
    "2001::1",  # Teredo
    "2001:0:7f00:1::",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:1ff::1",
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4
    "2002:0808:0808::",
    "3fff::1",
    "3fff:fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "4000::1",
    "1fff::1",
]
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.15",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700:4700::1111",
    "2a00:1450::1",
]
NO_ADDRESS = [
    "",
    "localhost",
    "example.org",
    "0x7f.1",
    "2130706433",
    "127.1",
    "1.2.3.4.5",
    "127.0.0.1 ",
    ":::",
    "1.2.3.256",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_what_is_not_public_unicast_is_refused_on_every_port(address: str) -> None:
    assert not any(PUBLIC.allows(address, port) for port in (22, 80, 443, 8080))


@pytest.mark.parametrize("address", ALLOWED)
def test_public_unicast_is_allowed_on_the_ports_listed(address: str) -> None:
    assert [port for port in (0, 22, 25, 80, 443, 8080, 65535) if PUBLIC.allows(address, port)] == [80, 443]


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_what_is_no_address_is_refused_whatever_is_allowed(address: str) -> None:
    everything = AddressPolicy(allow=(ip_network("0.0.0.0/0"), ip_network("::/0")), deny=(), ports=(80,))

    assert not everything.allows(address, 80)


def test_listed_networks_are_allowed_on_any_port_and_denied_ones_never() -> None:
    policy = AddressPolicy(
        allow=(ip_network("127.0.0.2/32"), ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        deny=(ip_network("10.9.0.0/16"), ip_network("8.8.8.8/32"), ip_network("2606:4700::/32")),
        ports=(80,),
    )

    assert policy.allows("127.0.0.2", 8080)
    assert policy.allows("::ffff:127.0.0.2", 8080)
    assert policy.allows("10.1.2.3", 22)
    assert policy.allows("fd00::1", 9000)
    assert policy.allows("8.8.4.4", 80)
    for address in ("127.0.0.1", "127.0.0.3", "10.9.0.1", "::ffff:10.9.0.1", "8.8.8.8", "::ffff:8.8.8.8", "fc00::1"):
        assert not policy.allows(address, 80)
    assert not policy.allows("2606:4700::1", 80)
    assert not policy.allows("8.8.4.4", 8080)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_ipv4_address_is_judged_alike_in_all_its_ipv6_disguises(address: IPv4Address) -> None:
    number = int(address)
    plain = PUBLIC.allows(str(address), 443)

    assert PUBLIC.allows(str(IPv6Address((0xFFFF << 32) | number)), 443) is plain
    assert PUBLIC.allows(f"::ffff:{address}", 443) is plain
    for prefix in (0, 0xFFFF << 48, 0x64FF9B << 96, 0x64FF9B0001 << 80):  # compatible, translated, NAT64 twice
        assert not PUBLIC.allows(str(IPv6Address(prefix | number)), 443)
    assert not PUBLIC.allows(str(IPv6Address((0x2002 << 112) | (number << 80))), 443)  # 6to4
    assert not PUBLIC.allows(str(IPv6Address((0x2001 << 112) | (number << 64))), 443)  # Teredo


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_no_address_outside_global_unicast_is_public(address: IPv6Address) -> None:
    if PUBLIC.allows(str(address), 443):
        assert (int(address) >> 125) == 1 or address.ipv4_mapped is not None
        assert not address.is_private or address.ipv4_mapped is not None
        assert not address.is_multicast
        assert not address.is_loopback


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_what_the_standard_library_calls_private_is_never_public(address: IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
        assert not PUBLIC.allows(str(address), 443)


@given(st.text(max_size=30), st.integers(-1, 70_000))
def test_any_text_in_place_of_an_address_has_an_answer(text: str, port: int) -> None:
    PUBLIC.allows(text, port)


# -- the text of a URL


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://example.org/a", "example.org", 80),
        ("https://example.org", "example.org", 443),
        ("HTTP://EXAMPLE.ORG:8080/?q=a b".replace(" ", "%20"), "example.org", 8080),
        ("http://[2001:db8::1]:81/x", "2001:db8::1", 81),
        ("http://127.0.0.1/", "127.0.0.1", 80),
        ("http://bücher.example/ä?ö#ü", "bücher.example", 80),
        ("https://example.org/a@b:c?d=@e", "example.org", 443),
        ("https://example.org?u=http://user@host/", "example.org", 443),
        ("http://example.org:/", "example.org", 80),
        ("http://example.org.:81/", "example.org.", 81),
        ("http://" + "a" * 63 + ".org/", "a" * 63 + ".org", 80),
    ],
)
def test_plain_urls_pass(text: str, host: str, port: int) -> None:
    url = check_text(text)

    assert (url.host, url.port) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "http://user@example.org/",
        "http://user:word@example.org/",
        "http://@example.org/",
        "http://example.org\\@127.0.0.1/",
        "http://127.0.0.1\\.example.org/",
        "http:\\\\127.0.0.1\\",
        "http://example.org@127.0.0.1/",
        "http://example.org%00@127.0.0.1/",
        "http://example.org%2f@127.0.0.1/",
        "http://127.0.0.1%2f.example.org/",
        "http://127.0.0.1%23.example.org/",
        "http://[fe80::1%25lo]/",
        "http://[fe80::1%lo]/",
        "http://exa\tmple.org/",
        "http://exa\nmple.org/",
        "http://example.org/\r\nHost: 127.0.0.1",
        "http://example.org/ ",
        " http://example.org/",
        "http://exam ple.org/a",
        "http://example.org/\x00",
        "http://example.org/\x7f",
        "file:///etc/passwd",
        "ftp://example.org/",
        "gopher://127.0.0.1:25/",
        "data:text/plain,hello",
        "javascript:alert(1)",
        "ws://example.org/",
        "http:/example.org/",
        "http:example.org",
        "//example.org/",
        "/path",
        "example.org",
        "",
        "://example.org",
        "httpx://example.org/",
        "http+unix://%2fvar%2frun%2fx/",
    ],
)
def test_urls_that_parsers_read_differently_are_refused(text: str) -> None:
    with pytest.raises(UrlNotAllowed):
        check_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http:///path",
        "http://?query",
        "http://#fragment",
        "http://:80/",
        "http://example.org:0/",
        "http://example.org:65536/",
        "http://example.org:-1/",
        "http://example.org:80x/",
        "http://example.org:٨٠/",
        "http://example.org:+80/",
        "http://example.org:8_0/",
        "http://[::1]:\uff18\uff10/",
        "http://[::1/",
        "http://[]/",
        "http://[127.0.0.1/",
        "http://" + "a" * 64 + ".org/",
        "http://a..b/",
        "http://.example.org/",
        "http://example.org../",
        "http://./",
        "http://example.org/" + "a" * MAX_URL,
    ],
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        check_text(text)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("http://h/f?sig=a%2Fb%2bc%3D", "/f?sig=a%2Fb%2bc%3D"),
        ("http://h/%7Euser/%2e%2e/x", "/%7Euser/%2e%2e/x"),
        ("http://h/a/../b", "/b"),
        ("http://h/.well-known/x", "/.well-known/x"),
        ("http://h", "/"),
        ("http://h?q=1", "/?q=1"),
        ("http://h/a|b%", "/a%7Cb%"),
        ("http://h/\u00e9", "/%C3%A9"),
    ],
)
def test_a_url_is_sent_as_it_is_spelled_when_its_spelling_is_right(text: str, sent: str) -> None:
    assert check_text(text).raw_path_qs == sent


@given(st.text(max_size=60) | st.text("htps:/\\@%#?[]0123456789.x\t ", max_size=40).map("http://{}".format))
def test_any_text_is_a_url_with_a_host_or_an_error_of_ours(text: str) -> None:
    try:
        url = check_text(text)
    except InvalidRequest:
        return
    assert url.host
    assert url.scheme in ("http", "https")
    assert url.user is None
    assert url.password is None
    assert url.port is not None
    assert 0 < url.port < 65536
    assert check_text(str(url)) == url


def test_networks_of_the_policy_are_what_they_say() -> None:
    assert AddressPolicy(allow=(IPv4Network("127.0.0.0/8"),), deny=(), ports=()).allows("127.9.9.9", 1)
