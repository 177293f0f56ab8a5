"""The AWS command line: what people type, and what it prints."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest


def command_lines():
    """Version 1 from the Python package; version 2, where the machine has Debian's package."""
    yield "1", str(pathlib.Path(sys.executable).parent / "aws")
    if second := shutil.which("aws", path="/usr/bin"):
        yield "2", second


@pytest.fixture(params=list(command_lines()), ids=lambda pair: f"version {pair[0]}", scope="module")
def aws(request, service):
    _, program = request.param
    place = ["--endpoint-url", service.endpoints["api"], "--ca-bundle", service.ca]

    def run(*words, name="iotsecuretunneling", ok=True):
        done = subprocess.run(
            [program, name, *words, *place, "--output", "json"],
            env=service.environment(), capture_output=True, text=True, timeout=120,
        )
        assert (done.returncode == 0) == ok, done.stderr
        return done.stderr if not ok else json.loads(done.stdout or "{}")

    return run


def test_a_tunnel_from_opening_to_deletion(aws):
    aws("create-thing", "--thing-name", "cli-thing", name="iot")
    opened = aws(
        "open-tunnel", "--description", "demo",
        "--destination-config", "thingName=cli-thing,services=SSH,HTTP1",
        "--timeout-config", "maxLifetimeTimeoutMinutes=30",
        "--tags", "key=Owner,value=Admin",
    )
    assert sorted(opened) == [
        "destinationAccessToken", "sourceAccessToken", "tunnelArn", "tunnelId",
    ]
    tunnel = ["--tunnel-id", opened["tunnelId"]]
    described = aws("describe-tunnel", *tunnel)["tunnel"]
    assert described["destinationConfig"] == {"thingName": "cli-thing", "services": ["SSH", "HTTP1"]}
    assert described["timeoutConfig"] == {"maxLifetimeTimeoutMinutes": 30}
    listed = aws("list-tunnels", "--thing-name", "cli-thing", "--max-results", "100")
    assert opened["tunnelId"] in [t["tunnelId"] for t in listed["tunnelSummaries"]]
    rotated = aws("rotate-tunnel-access-token", *tunnel, "--client-mode", "ALL")
    assert {"sourceAccessToken", "destinationAccessToken"} < rotated.keys()
    resource = ["--resource-arn", opened["tunnelArn"]]
    aws("tag-resource", *resource, "--tags", "key=k,value=v")
    aws("untag-resource", *resource, "--tag-keys", "Owner")
    assert aws("list-tags-for-resource", *resource)["tags"] == [{"key": "k", "value": "v"}]
    aws("close-tunnel", *tunnel, "--no-delete")
    assert aws("describe-tunnel", *tunnel)["tunnel"]["status"] == "CLOSED"
    aws("close-tunnel", *tunnel, "--delete")
    text = aws("describe-tunnel", *tunnel, ok=False)
    assert "An error occurred (ResourceNotFoundException) when calling the DescribeTunnel" in text


def test_the_credentials_of_the_first_start_are_a_profile(service):
    """With the profile and the endpoint alone, as the first start prints them."""
    environment = {k: v for k, v in service.environment().items() if not k.startswith("AWS_")}
    environment |= {
        "AWS_SHARED_CREDENTIALS_FILE": str(service.directory / "credentials"),
        "AWS_PROFILE": "adit",
        "AWS_ENDPOINT_URL": service.endpoints["api"],
        "AWS_CA_BUNDLE": service.ca,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    program = str(pathlib.Path(sys.executable).parent / "aws")
    done = subprocess.run(
        [program, "sts", "get-caller-identity"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Arn"]
    assert os.stat(service.directory / "credentials").st_mode & 0o777 == 0o600


def test_a_device_made_with_the_iot_commands(aws, tmp_path):
    name = tmp_path.name
    aws("create-thing", "--thing-name", name, name="iot")
    files = {
        option: str(tmp_path / option)
        for option in ("--certificate-pem-outfile", "--public-key-outfile", "--private-key-outfile")
    }
    words = [word for pair in files.items() for word in pair]
    made = aws("create-keys-and-certificate", "--set-as-active", *words, name="iot")
    arn = made["certificateArn"]
    aws("attach-thing-principal", "--thing-name", name, "--principal", arn, name="iot")
    principals = aws("list-thing-principals", "--thing-name", name, name="iot")
    assert principals["principals"] == [arn]
    endpoint = aws("describe-endpoint", "--endpoint-type", "iot:Data-ATS", name="iot")
    assert endpoint["endpointAddress"]
    certificate = pathlib.Path(files["--certificate-pem-outfile"]).read_text()
    assert certificate.startswith("-----BEGIN CERTIFICATE-----")
