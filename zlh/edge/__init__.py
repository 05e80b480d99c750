"""Publishes containers where others look for them, and keeps what is published true."""
