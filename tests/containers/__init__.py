"""Tests of the containers; `samples` is shared by them."""
