"""The rules of a conversation with a registry, without the network: challenges, reasons, identities."""
