"""Simulated agents: the whole agent contract on real sockets, with faults on demand."""

from zlh.simulators.agent.agent import SimulatedAgent
from zlh.simulators.agent.faults import Fault, FaultName, Faults
from zlh.simulators.agent.machine import Durations

__all__ = ["Durations", "Fault", "FaultName", "Faults", "SimulatedAgent"]
