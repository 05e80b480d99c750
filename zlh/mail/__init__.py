"""E-mail on its way: the outbox is emptied, letter by letter, whatever the mail server does."""

from zlh.mail.postman import Postman, Transport

__all__ = ["Postman", "Transport"]
