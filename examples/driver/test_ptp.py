"""The driver keeps what Fairlead relies on, and what it promises.  Run as root, with the package installed."""

from fairlead.drivers.conformance import Case, check

REACHES = ("host", "outside", "published")


def test_a_wire_leads_to_the_host_and_out() -> None:
    check(Case(driver="ptp", reaches=REACHES, refuses=({"open": "maybe"},)))


def test_an_open_network_lets_everybody_in() -> None:
    check(Case(driver="ptp", options={"open": "true"}, reaches=(*REACHES, "neighbour")))


def test_an_internal_network_leads_nowhere() -> None:
    check(Case(driver="ptp", internal=True, reaches=("host",)))
