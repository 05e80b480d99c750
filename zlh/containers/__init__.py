"""The containers: one supervised actor each, and the fleet that is their face to the rest."""

from zlh.containers.fleet import Fleet
from zlh.containers.options import Options, Polling
from zlh.containers.uploads import ResumableUploads

__all__ = ["Fleet", "Options", "Polling", "ResumableUploads"]
