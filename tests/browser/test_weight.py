"""How much a browser fetches: little at first, and of the static files nothing the second time."""

import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Visit

MOST_BYTES = 50 * 1024
MOST_REQUESTS = 6


@dataclass
class Wire:
    """What a page fetched over the network: the address of each answer, and all their bytes with their headers."""

    addresses: dict[str, str] = field(default_factory=dict)
    from_cache: set[str] = field(default_factory=set)
    bytes: float = 0

    def fetched(self) -> list[str]:
        return [address for request, address in self.addresses.items() if request not in self.from_cache]


def wire_of(page: Page) -> Wire:
    wire = Wire()

    def answered(event: dict[str, Any]) -> None:
        wire.addresses[event["requestId"]] = event["response"]["url"]
        if event["response"].get("fromDiskCache"):
            wire.from_cache.add(event["requestId"])

    def finished(event: dict[str, Any]) -> None:
        wire.bytes += event["encodedDataLength"]

    developer = page.context.new_cdp_session(page)
    developer.on("Network.responseReceived", answered)
    developer.on("Network.requestServedFromCache", lambda event: wire.from_cache.add(event["requestId"]))
    developer.on("Network.loadingFinished", finished)
    developer.send("Network.enable")
    return wire


def test_the_first_page_is_small_and_the_second_time_only_itself(visit: Visit) -> None:
    with visit() as patient:
        first = wire_of(patient.page)
        patient.page.goto(patient.server.url, wait_until="networkidle")
        assert 1_000 < first.bytes <= MOST_BYTES
        assert 3 <= len(first.fetched()) <= MOST_REQUESTS
        again = patient.page.context.new_page()
        second = wire_of(again)
        again.goto(patient.server.url, wait_until="networkidle")
        assert second.fetched() == [f"{patient.server.url}/"]
        assert len(second.addresses) >= 3


@pytest.mark.parametrize("path", ["/", "/book", "/api/docs", "/nothing-here"])
def test_static_files_are_named_by_their_content_and_kept_for_a_year(visit: Visit, path: str) -> None:
    with visit() as patient, patient.server.client() as client:
        patient.opens(path)
        linked = patient.page.locator("link[href], script[src]")
        addresses = linked.evaluate_all("all => all.map(one => one.getAttribute('href') ?? one.getAttribute('src'))")
        assert len(addresses) >= 3
        for address in addresses:
            file = client.get(address)
            told = re.search(r"[?&]v=([0-9a-f]{12,64})$", address)
            assert told is not None, address
            assert sha256(file.content).hexdigest().startswith(told[1])
            assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
