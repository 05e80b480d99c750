"""Sending e-mail: by a submission server, into a folder, or nowhere."""

from zlh.drivers.mail.folder import Folder
from zlh.drivers.mail.message import Message, compose, parse_sender
from zlh.drivers.mail.nowhere import Nowhere
from zlh.drivers.mail.smtp import Security, Smtp

__all__ = ["Folder", "Message", "Nowhere", "Security", "Smtp", "compose", "parse_sender"]
