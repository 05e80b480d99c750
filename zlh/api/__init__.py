"""The HTTP API: routes, sign-in, validation, ownership, errors, nothing else."""

from zlh.api.app import create_app
from zlh.api.origins import Origins
from zlh.api.reads import Reads
from zlh.api.services import Fleet, Services, Tree

__all__ = ["Fleet", "Origins", "Reads", "Services", "Tree", "create_app"]
