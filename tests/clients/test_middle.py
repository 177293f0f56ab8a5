"""A request that is changed on the way is refused, by whatever it was signed (section 2)."""

import os
import pathlib
import subprocess
import sys

import boto3
import botocore.config
import botocore.exceptions
import pytest

from conftest import REGION
from middle import Middle


@pytest.fixture(scope="module")
def middle(service, tmp_path_factory):
    between = Middle(service, tmp_path_factory.mktemp("middle"))
    yield between
    between.stop()


@pytest.fixture
def through(service, middle):
    """Clients that speak to the one in the middle, and take it for the service."""
    key, secret = service.keys
    config = botocore.config.Config(retries={"total_max_attempts": 1})
    middle.change = lambda headers, body: (headers, body)

    def client(name="iotsecuretunneling"):
        return boto3.session.Session().client(
            name, region_name=REGION, endpoint_url=middle.url, verify=middle.ca,
            aws_access_key_id=key, aws_secret_access_key=secret, config=config,
        )

    return client


def byte_changed(old, new):
    """One byte of the body, the length stays."""

    def change(headers, body):
        assert body.count(old) == 1 and len(old) == len(new)
        assert sum(a != b for a, b in zip(old, new)) == 1
        return headers, body.replace(old, new)

    return change


def header_changed(name, value):
    def change(headers, body):
        assert name in [key for key, _ in headers]
        return [(key, value if key == name else old) for key, old in headers], body

    return change


def refused(call, code="InvalidSignatureException", status=403, **request):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**request)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_what_is_left_alone_passes(service, middle, through):
    before = middle.passed
    opened = through().open_tunnel(description="as it was sent")
    described = service.client().describe_tunnel(tunnelId=opened["tunnelId"])["tunnel"]
    assert described["description"] == "as it was sent"
    through("iot").create_thing(thingName="middle-thing")
    assert middle.passed == before + 2


@pytest.mark.parametrize(
    "old, new",
    [(b'"SSH"', b'"SSX"'), (b" 30}", b" 90}"), (b'"Admin"', b'"admin"'), (b"description", b"descriptioN")],
    ids=["service", "number", "tag", "name of a member"],
)
def test_a_body_with_one_byte_changed_opens_no_tunnel(service, middle, through, old, new):
    middle.change = byte_changed(old, new)
    before = len(service.client().list_tunnels()["tunnelSummaries"])
    refused(
        through().open_tunnel, description="demo", destinationConfig={"services": ["SSH"]},
        timeoutConfig={"maxLifetimeTimeoutMinutes": 30}, tags=[{"key": "Owner", "value": "Admin"}],
    )
    assert len(service.client().list_tunnels()["tunnelSummaries"]) == before


def test_a_body_that_grows_or_goes_is_refused(middle, through):
    for change in (lambda body: body + b" ", lambda body: body[:-1], lambda body: b""):
        middle.change = lambda headers, body, change=change: (headers, change(body))
        refused(through().list_tunnels, maxResults=10)


@pytest.mark.parametrize(
    "name, value",
    [
        ("X-Amz-Target", "IoTSecuredTunneling.OpenTunnel"),
        ("Content-Type", "application/x-amz-json-1.0"),
    ],
)
def test_a_signed_header_that_is_changed_is_refused(middle, through, name, value):
    middle.change = header_changed(name, value)
    refused(through().list_tunnels)


def test_a_signed_header_that_is_taken_out_is_refused(middle, through):
    middle.change = lambda headers, body: ([h for h in headers if h[0] != "X-Amz-Date"], body)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        through().list_tunnels()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_another_date_in_the_signature_is_refused(middle, through):
    def tomorrow(headers, body):
        moved = {"X-Amz-Date": lambda value: value[:-2] + ("0Z" if value[-2] != "0" else "1Z")}
        return [(key, moved.get(key, str)(value)) for key, value in headers], body

    middle.change = tomorrow
    refused(through().list_tunnels)


def test_a_header_that_nobody_signed_may_change(middle, through):
    """As every proxy does with some of them: only what is signed is held against the signature."""
    middle.change = header_changed("User-Agent", "somebody in the middle")
    through().list_tunnels()


def test_a_registry_call_led_to_another_device_is_refused(service, middle, through):
    service.client("iot").create_thing(thingName="middle-here")

    def other_principal(headers, body):
        return [(k, "x" if k.lower() == "x-amzn-principal" else v) for k, v in headers], body

    middle.change = other_principal
    arn = "arn:aws:iot:us-east-1:000000000000:cert/" + "a" * 64
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        through("iot").attach_thing_principal(thingName="middle-here", principal=arn)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_command_line_says_that_the_signature_does_not_match(service, middle, through):
    middle.change = byte_changed(b"demo", b"demO")
    program = str(pathlib.Path(sys.executable).parent / "aws")
    done = subprocess.run(
        [program, "iotsecuretunneling", "open-tunnel", "--description", "demo",
         "--endpoint-url", middle.url, "--ca-bundle", middle.ca],
        env=service.environment(), capture_output=True, text=True, timeout=120,
    )
    assert done.returncode != 0
    assert "(InvalidSignatureException) when calling the OpenTunnel operation" in done.stderr


def test_adits_own_client_says_whose_secret_or_way_is_wrong(service, middle, through):
    middle.change = byte_changed(b'"demo"', b'"demO"')
    done = subprocess.run(
        [os.environ["ADIT_BIN"], "tunnel", "open", "--description", "demo",
         "--endpoint", middle.url, "--ca-bundle", middle.ca],
        env=service.environment(), capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 4
    assert "InvalidSignatureException" in done.stderr and "hint: " in done.stderr
