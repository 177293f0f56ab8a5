"""The JavaScript SDK, whose parser forgives nothing."""

import os
import pathlib
import subprocess

from conftest import Postgres

HERE = pathlib.Path(__file__).parent


def run(service, **more):
    environment = service.environment() | {"ADIT_ENDPOINT": service.endpoints["api"]} | more
    # Modules are looked for beside the script, so the script is copied to where they are.
    script = pathlib.Path(os.environ["ADIT_NODE_DIR"]) / "javascript.mjs"
    script.write_text((HERE / "javascript.mjs").read_text())
    done = subprocess.run(
        ["node", str(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_javascript_sdk_understands_every_answer(service):
    assert run(service) == "all is well\n"


def test_the_javascript_sdk_understands_a_service_whose_store_is_away(new_service, tmp_path):
    postgres = Postgres(tmp_path)
    service = new_service("--store", postgres.url)
    postgres.stop()
    assert run(service, ADIT_STORE_IS_AWAY="1") == "it is away\n"
