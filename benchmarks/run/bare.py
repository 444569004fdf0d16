"""The starts of `true` without lazyfs, as a person would type them."""

import json
import subprocess
from pathlib import Path


def bare_commands(image: str, work: Path) -> dict[str, list[str]]:
    """Returns runtime -> command line. crun and podman are left out: without lazyfs's enclosure they need
    settings of the machine. `image`: its root on the mount."""
    bundle = work / "bundle"
    bundle.mkdir()
    subprocess.run(["runc", "spec", "--bundle", str(bundle)], check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["root"] = {"path": image, "readonly": True}
    config["process"] |= {"args": ["true"], "terminal": False}
    (bundle / "config.json").write_text(json.dumps(config))
    runc = ["runc", "--root", str(work / "state"), "run", "--bundle", str(bundle), "lazyfs-benchmark"]
    return {
        "charliecloud": ["ch-run", image, "--", "true"],
        "runc": runc,
        "apptainer": ["apptainer", "--silent", "exec", "--contain", "--no-home", image, "true"],
    }
