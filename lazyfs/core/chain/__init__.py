"""Which way a request takes: proxies, origins, failover, hedges. Pure: times and randomness are arguments."""
