"""The AWS command line: what people type, and what it prints."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

import programs
from conftest import clean_environment


def command_lines():
    """Version 1 from the Python package; version 2 from Debian's package, where it is installed or required."""
    yield "1", str(pathlib.Path(sys.executable).parent / "aws")
    second = "/usr/bin/aws"
    if programs.ARE_REQUIRED or os.access(second, os.X_OK):
        yield "2", second


def check(version, program):
    """A program of this version, or the test is skipped or fails."""
    if not os.access(program, os.X_OK):
        programs.lacking(program)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if not said.startswith(f"aws-cli/{version}."):
        programs.lacking(f"version {version} of the AWS command line: {program} is {said.split()[0]}")


@pytest.fixture(params=list(command_lines()), ids=lambda pair: f"version {pair[0]}", scope="module")
def aws(request, service):
    version, program = request.param
    check(version, program)
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


# Version 1 prints seconds, version 2 dates.
TIME = re.compile(r'\d{10}\.\d+|"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"')
TOKEN = re.compile(r"[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]{43}")
SESSION = pathlib.Path(__file__).with_name("cli_session.txt").read_text()


@pytest.mark.parametrize("version, program", list(command_lines()))
def test_a_session_word_for_word(new_service, version, program):
    """Everything that is typed and printed, with a mark where a value is another one each time."""
    check(version, program)
    service = new_service()
    place = ["--endpoint-url", service.endpoints["api"], "--ca-bundle", service.ca]
    tunnel_id, happened = "TUNNEL", ""
    for line in SESSION.splitlines():
        if not line.startswith("$ "):
            continue
        words = shlex.split(line.removeprefix("$ ").replace("TUNNEL", tunnel_id))
        output = [] if "--output" in words else ["--output", "json"]
        done = subprocess.run(
            [program, "iotsecuretunneling", *words, *place, *output],
            env=service.environment(), capture_output=True, text=True, timeout=120,
        )
        text = done.stdout or done.stderr.lstrip()
        if tunnel_id == "TUNNEL":
            tunnel_id = json.loads(text)["tunnelId"]
        assert (done.returncode == 0) == ("An error occurred" not in text), done.returncode
        text = TIME.sub("TIME", TOKEN.sub("TOKEN", text)).replace(tunnel_id, "TUNNEL")
        happened += f"{line}\n" + (text.rstrip() + "\n" if text.strip() else "")
    assert happened == SESSION


def first_version():
    return next(command_lines())[1]


def bare_environment():
    return {k: v for k, v in clean_environment().items() if not k.startswith("AWS_")}


def test_what_the_first_start_prints_points_every_tool_at_the_service(service):
    """Its lines for a shell, typed into one: nothing else is set."""
    mode = (service.directory / "credentials").stat().st_mode
    assert mode & 0o777 == 0o600
    lines = [line for line in service.log.read_text().splitlines() if line.startswith("export ")]
    assert len(lines) == 2
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE=adit", "AWS_ENDPOINT_URL"):
        assert sum(f" {variable}" in line for line in lines) == 1, variable

    def typed(*words):
        script = "\n".join([*lines, shlex.join(words)])
        return subprocess.run(
            ["sh", "-c", script], env=bare_environment(), capture_output=True, text=True, timeout=120
        )

    done = typed(first_version(), "sts", "get-caller-identity")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Arn"]
    done = typed(os.environ["ADIT_BIN"], "tunnel", "list", "--json")
    assert done.returncode == 0, done.stderr
    assert "tunnelSummaries" in json.loads(done.stdout)
    script = "import boto3; print(boto3.client('iotsecuretunneling').list_tunnels()['tunnelSummaries'])"
    done = typed(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr


def test_later_starts_keep_the_credentials_and_make_none_that_were_taken_away(new_service):
    service = new_service()
    credentials = service.directory / "credentials"
    before, keys = credentials.read_bytes(), service.keys
    service.kill().start()
    assert credentials.read_bytes() == before
    credentials.unlink()
    service.kill()
    service.log.write_text("")
    service.start()
    assert not credentials.exists() and "export " not in service.log.read_text()
    service.client(keys=keys).list_tunnels()


def profiles(service, directory):
    """The ways of section 2 of the clients' specification to say where the service is."""
    config = directory / "config"
    config.write_text(
        "[profile named]\nservices = local\nregion = us-east-1\n"
        "[services local]\niotsecuretunneling =\n"
        f"  endpoint_url = {service.endpoints['api']}\n"
        f"[profile plain]\nregion = us-east-1\nendpoint_url = {service.endpoints['api']}\n"
        f"ca_bundle = {service.ca}\n"
    )
    url, ca = service.endpoints["api"], {"AWS_CA_BUNDLE": service.ca}
    region = {"AWS_DEFAULT_REGION": "us-east-1"}
    yield {"AWS_ENDPOINT_URL": url} | ca | region
    yield {"AWS_ENDPOINT_URL_IOTSECURETUNNELING": url, "AWS_ENDPOINT_URL": "https://h.invalid"} | ca | region
    yield {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "named"} | ca
    yield {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "plain"}


def test_every_way_to_name_the_service_is_one_for_adit_as_well(service, tmp_path):
    key, secret = service.keys
    keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    for way in profiles(service, tmp_path):
        for command in (
            [first_version(), "iotsecuretunneling", "list-tunnels"],
            [os.environ["ADIT_BIN"], "tunnel", "list", "--json"],
        ):
            done = subprocess.run(
                command, env=bare_environment() | keys | way, capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, (command, way, done.stderr)
            assert "tunnelSummaries" in json.loads(done.stdout)


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
