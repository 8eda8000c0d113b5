"""Scheduled events: what they are, who watches them and what is done about them."""
