"""What decides: pure, no disk, no database, no clock of its own."""
