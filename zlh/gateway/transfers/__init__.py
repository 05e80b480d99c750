"""Files on their way between customers and agents: nothing of them is kept here but the piece that is passing."""

from zlh.gateway.transfers.door import TransfersDoor

__all__ = ["TransfersDoor"]
