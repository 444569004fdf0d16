"""A site of a thousand workers behind two proxies, simulated on recorded starts and the client's own policy
code, and compared with real mounts."""
