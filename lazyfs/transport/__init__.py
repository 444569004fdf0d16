"""How stored bytes travel: the Fetcher protocol and what implements it."""
