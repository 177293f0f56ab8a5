"""The JavaScript SDK, whose parser forgives nothing."""

import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).parent


def test_the_javascript_sdk_understands_every_answer(service):
    environment = service.environment() | {
        "ADIT_ENDPOINT": service.endpoints["api"],
        # Modules are looked for beside the script, so the script is copied to where they are.
    }
    script = pathlib.Path(os.environ["ADIT_NODE_DIR"]) / "javascript.mjs"
    script.write_text((HERE / "javascript.mjs").read_text())
    done = subprocess.run(
        ["node", str(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all is well\n"
