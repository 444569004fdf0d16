"""The path of a request: proxies, origins, failover, hedges. Pure: times and randomness are arguments."""
