"""Many processes on one mount at once: their processor time and their operations, compared in one run with an
unpacked tree and with squashfs."""
