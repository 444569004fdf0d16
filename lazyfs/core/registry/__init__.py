"""What a conversation with a registry means, without the network: challenges, reasons, who is let in."""
