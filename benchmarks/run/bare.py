"""The starts of `true` without lazyfs, as a person would type them."""


def bare_commands(image: str) -> dict[str, list[str]]:
    """Returns runtime -> command line. runc, crun and podman are left out: without lazyfs's enclosure they
    need settings of the machine, control groups among them. `image`: its root on the mount."""
    return {
        "charliecloud": ["ch-run", image, "--", "true"],
        "apptainer": ["apptainer", "--silent", "exec", "--contain", "--no-home", image, "true"],
    }
