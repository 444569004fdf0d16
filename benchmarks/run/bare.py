"""Starts of `true` without lazyfs, as a person would type them."""


def bare_commands(image: str) -> dict[str, list[str]]:
    """Returns runtime -> command line for the image root `image`, which lies on a mount. runc, crun and
    podman are missing, because without lazyfs's preparations they need settings of the machine, such as
    control groups."""
    return {
        "charliecloud": ["ch-run", image, "--", "true"],
        "apptainer": ["apptainer", "--silent", "exec", "--contain", "--no-home", image, "true"],
    }
