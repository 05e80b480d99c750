from tests.drivers.dns_contract import DnsContract


class TestContract(DnsContract):
    pass
