"""Every MQTT client against every rule of section 5 of the clients' specification, the refusals included."""

import json
import subprocess
import types

import pytest

import programs
from handshake import handshake
from stacks import STACKS, Crt, Crt5, Mosquitto


def every(*but):
    stacks = [stack for stack in STACKS if stack not in but]
    return pytest.mark.parametrize("stack", stacks, ids=lambda stack: stack.__name__.lower())


EVERY = every()
# AWS's own sends the protocol's name by itself, on port 443 only: `test_port_443.py` has that.
EVERY_THAT_IS_TOLD = every(Crt, Crt5)


def open_for(tunneling, device):
    config = {"thingName": device.name, "services": ["SSH"]}
    return tunneling.open_tunnel(destinationConfig=config)


def check(payload, opened):
    assert json.loads(payload) == {
        "clientAccessToken": opened["destinationAccessToken"],
        "clientMode": "destination",
        "region": "us-east-1",
        "services": ["SSH"],
    }


@EVERY
def test_a_notification_arrives_and_its_token_opens_the_data_plane(service, tunneling, device, stack):
    with stack(service, device) as client:
        assert not client.ready()
        opened = open_for(tunneling, device)
        payload = client.next("message")
    check(payload, opened)
    token = json.loads(payload)["clientAccessToken"]
    status, body = handshake(service, token, "destination")
    assert status == 101, body


@EVERY_THAT_IS_TOLD
def test_the_protocols_name_is_taken_on_the_devices_port(service, tunneling, device, stack):
    with stack(service, device, alpn=True) as client:
        client.ready()
        opened = open_for(tunneling, device)
        check(client.next("message"), opened)


@EVERY_THAT_IS_TOLD
def test_the_protocols_name_leads_to_the_broker_on_the_shared_port(service, tunneling, device, stack):
    port = int(service.endpoints["api"].rpartition(":")[2])
    with stack(service, device, alpn=True, port=port) as client:
        client.ready()
        opened = open_for(tunneling, device)
        check(client.next("message"), opened)


@EVERY
def test_what_was_published_while_a_device_was_away_waits_for_it(service, tunneling, device, stack):
    with stack(service, device, keep=True) as client:
        assert not client.ready()
    opened = open_for(tunneling, device)
    with stack(service, device, keep=True) as client:
        assert client.next("connected") in (True, None)
        check(client.message(), opened)


@EVERY
def test_another_devices_topic_is_refused(service, tunneling, new_device, stack):
    mine, theirs = new_device(), new_device()
    with stack(service, mine, topic=theirs.topic) as client:
        client.next("connected")
        client.next("denied")
        open_for(tunneling, theirs)
        # Nothing follows but, with some, the end.
        assert all(kind == "ended" for kind, _ in client.events.queue)


@EVERY
def test_another_devices_name_is_refused(service, new_device, stack):
    mine, theirs = new_device(), new_device()
    with stack(service, mine, as_=theirs.name) as client:
        code = client.next("refused")
        # Not authorized: 5 in MQTT 3.1.1, 0x87 in 5. Some only say that it was refused.
        assert code in (5, 0x87) or isinstance(code, str), code


# AWS's own has no way to connect without one.
@every(Crt, Crt5)
def test_no_certificate_is_no_device(service, device, stack):
    bare = types.SimpleNamespace(**vars(device) | {"certificate": None, "key": None})
    with stack(service, bare) as client:
        client.next("ended")


@EVERY
def test_a_certificate_that_nobody_registered_is_no_device(service, device, stack, tmp_path):
    certificate, key = str(tmp_path / "stranger.pem"), str(tmp_path / "stranger.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={device.name}"],
        check=True, capture_output=True,
    )
    stranger = types.SimpleNamespace(**vars(device) | {"certificate": certificate, "key": key})
    with stack(service, stranger) as client:
        client.next("ended")


@EVERY
@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
def test_a_certificate_that_is_not_active_is_no_device(service, iot, device, stack, status):
    iot.update_certificate(certificateId=device.certificate_id, newStatus=status)
    with stack(service, device) as client:
        client.next("ended")


@EVERY
def test_a_device_that_publishes_is_cut_off(service, device, stack):
    with stack(service, device) as client:
        client.ready()
        client.publish(device.topic)
        client.next("ended")


@EVERY
def test_revocation_cuts_a_live_connection(service, iot, device, stack):
    with stack(service, device) as client:
        client.ready()
        iot.update_certificate(certificateId=device.certificate_id, newStatus="REVOKED")
        client.next("ended")


# mosquitto_sub connects again by itself, and displaces the newer one.
@every(Mosquitto)
def test_the_newer_connection_of_a_device_displaces_the_older(service, tunneling, device, stack):
    with stack(service, device) as old:
        old.ready()
        with stack(service, device) as new:
            new.ready()
            old.next("ended")
            opened = open_for(tunneling, device)
            check(new.next("message"), opened)


def test_a_device_that_is_taken_out_keeps_its_tunnels_until_they_are_closed(service, tunneling, iot, device):
    """As with AWS: tokens let into a tunnel, and no certificate. README and SECURITY say so."""
    opened = open_for(tunneling, device)
    token, links = opened["destinationAccessToken"], []
    client_token = "0123456789abcdef0123456789abcdef"
    assert handshake(service, token, "destination", client_token, keep=links)[0] == 101
    iot.update_certificate(certificateId=device.certificate_id, newStatus="REVOKED")
    iot.detach_thing_principal(thingName=device.name, principal=device.certificate_arn)
    iot.delete_certificate(certificateId=device.certificate_id)
    iot.delete_thing(thingName=device.name)
    tunnel = tunneling.describe_tunnel(tunnelId=opened["tunnelId"])["tunnel"]
    assert tunnel["destinationConnectionState"]["status"] == "CONNECTED"
    assert handshake(service, token, "destination", client_token)[0] == 101, "it may come back"
    listed = tunneling.list_tunnels(thingName=device.name)["tunnelSummaries"]
    assert [summary["tunnelId"] for summary in listed] == [opened["tunnelId"]]
    tunneling.close_tunnel(tunnelId=opened["tunnelId"])
    assert handshake(service, token, "destination", client_token)[0] == 400


def test_the_exit_statuses_of_mosquitto_sub(service, iot, new_device):
    """5 for a name that is not its own, 7 for a certificate that is not taken: scripts go by them."""
    if Mosquitto not in STACKS:
        programs.lacking("mosquitto_sub")
    mine, theirs = new_device(), new_device()
    with Mosquitto(service, mine, as_=theirs.name) as client:
        client.next("refused")
        assert client.next("ended") == "exit status 5"
    iot.update_certificate(certificateId=mine.certificate_id, newStatus="INACTIVE")
    with Mosquitto(service, mine) as client:
        assert client.next("ended") == "exit status 7"
