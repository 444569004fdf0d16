"""The part `config` of an image's config, as a publisher reads it (OCI image-spec, config.md)."""

import msgspec

from lazyfs.core.oci.run_config import variables


class RunConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """The start parameters that a runtime takes from an image."""

    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None
    labels: dict[str, str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the image, by name: those that `run_config.variables` keeps."""
        return variables(self.env)
