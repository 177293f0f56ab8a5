"""Who is let in: signatures, clocks, changed requests, policies (sections 2, 4 and 11)."""

import datetime
import json
import time
import urllib.request

import botocore
import botocore.auth
import botocore.config
import botocore.crt.auth
import botocore.exceptions
import pytest


def code_of(call, **request):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        call(**request)
    response = refused.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_a_wrong_secret_is_refused(service):
    key, secret = service.keys
    client = service.client(keys=(key, secret[:-1] + ("a" if secret[-1] != "a" else "b")))
    assert code_of(client.list_tunnels) == (403, "InvalidSignatureException")


def test_an_unknown_key_is_refused(service):
    client = service.client(keys=("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
    assert code_of(client.list_tunnels) == (403, "UnrecognizedClientException")


def test_an_unsigned_request_is_refused(service):
    client = service.client(signature_version=botocore.UNSIGNED)
    assert code_of(client.list_tunnels) == (403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize("minutes, accepted", [(-60, False), (-6, False), (-4, True), (4, True), (6, False), (60, False)])
def test_the_clock_may_be_off_by_five_minutes(service, monkeypatch, minutes, accepted):
    offset = datetime.timedelta(minutes=minutes)
    real = botocore.auth.get_current_datetime
    for signers in (botocore.auth, botocore.crt.auth):
        monkeypatch.setattr(
            signers, "get_current_datetime", lambda *a, **k: real(*a, **k) + offset
        )
    client = service.client()
    if accepted:
        client.list_tunnels()
    else:
        assert code_of(client.list_tunnels) == (403, "InvalidSignatureException")


def changed(client, change):
    """The client, with its requests changed after they were signed."""

    def before_send(request, **_):
        change(request)

    client.meta.events.register("before-send", before_send)
    return client


def test_a_body_changed_on_the_way_is_refused(service):
    def other_limit(request):
        request.body = request.body.replace(b"10", b"11")

    client = changed(service.client(), other_limit)
    assert code_of(client.list_tunnels, maxResults=10) == (403, "InvalidSignatureException")


def test_an_operation_changed_on_the_way_is_refused(service):
    def other_operation(request):
        request.headers["X-Amz-Target"] = "IoTSecuredTunneling.OpenTunnel"

    client = changed(service.client(), other_operation)
    assert code_of(client.list_tunnels) == (403, "InvalidSignatureException")


def test_a_signature_for_another_service_is_refused(service):
    """A signature made for the registry does not open tunnels."""

    def to_tunneling(request):
        request.headers["X-Amz-Target"] = "IoTSecuredTunneling.OpenTunnel"

    client = changed(service.client("iot"), to_tunneling)
    status, _ = code_of(client.list_things)
    assert status in (400, 403)
    assert service.client().list_tunnels()["tunnelSummaries"] == []


def test_errors_are_json_whatever_is_asked(service):
    import ssl

    context = ssl.create_default_context(cafile=service.ca)
    for path, method in (("/", "GET"), ("/nothing/here", "POST"), ("/", "BREW")):
        request = urllib.request.Request(service.endpoints["api"] + path, method=method, data=b"{}")
        request.add_header("Content-Type", "application/json")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, context=context)
        json.loads(refused.value.read())


KEY = "AKIAADITTEST{:08d}"
SECRET = "a" * 40


def with_policy(service, number, *statements, **more):
    """A client with a new access key of just these rights."""
    path = service.directory / "access-keys.json"
    document = json.loads(path.read_text())
    keys = document["keys"] if isinstance(document, dict) else document
    entry = {
        "accessKeyId": KEY.format(number),
        "secretAccessKey": SECRET,
        "user": f"user-{number}",
        "policy": {"Version": "2012-10-17", "Statement": list(statements)},
    }
    keys.append(entry | more)
    path.write_text(json.dumps(document))
    service.reload()
    client = service.client(keys=(entry["accessKeyId"], SECRET))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            client.describe_tunnel(tunnelId="none")
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "UnrecognizedClientException":
                return client
        time.sleep(0.02)
    raise AssertionError("the key is not taken up")


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


def deny(action, resource="*", **more):
    return allow(action, resource, **more) | {"Effect": "Deny"}


DENIED = (403, "AccessDeniedException")


def test_what_no_statement_allows_is_denied(service):
    client = with_policy(service, 1, allow("iot:ListTunnels"))
    client.list_tunnels()
    assert code_of(client.open_tunnel) == DENIED
    assert code_of(client.describe_tunnel, tunnelId="none") == DENIED


def test_a_denial_beats_any_permission(service):
    client = with_policy(service, 2, allow("iot:*"), deny("iot:CloseTunnel"))
    tunnel_id = client.open_tunnel()["tunnelId"]
    assert code_of(client.close_tunnel, tunnelId=tunnel_id) == DENIED


def test_devices_and_services_can_be_limited(service, iot):
    for name in ("lab-1", "field-1"):
        iot.create_thing(thingName=name)
    only_ssh = {"ForAllValues:StringEquals": {"iot:TunnelDestinationService": ["SSH"]}}
    client = with_policy(
        service, 3,
        allow("iot:OpenTunnel", ["arn:aws:iot:*:*:tunnel/*", "arn:aws:iot:*:*:thing/lab-*"], Condition=only_ssh),
    )
    open_ = lambda thing, *services: {"destinationConfig": {"thingName": thing, "services": list(services)}}
    client.open_tunnel(**open_("lab-1", "SSH"))
    assert code_of(client.open_tunnel, **open_("field-1", "SSH")) == DENIED
    assert code_of(client.open_tunnel, **open_("lab-1", "SSH", "VNC")) == DENIED


def test_tags_decide_who_may_look_and_close(service):
    mine = {"StringEquals": {"aws:ResourceTag/team": "mine"}}
    client = with_policy(
        service, 4, allow(["iot:DescribeTunnel", "iot:CloseTunnel"], "arn:aws:iot:*:*:tunnel/*", Condition=mine)
    )
    everything = service.client()
    ours = everything.open_tunnel(tags=[{"key": "team", "value": "mine"}])["tunnelId"]
    theirs = everything.open_tunnel(tags=[{"key": "team", "value": "yours"}])["tunnelId"]
    client.describe_tunnel(tunnelId=ours)
    assert code_of(client.describe_tunnel, tunnelId=theirs) == DENIED
    assert code_of(client.close_tunnel, tunnelId=theirs) == DENIED
    client.close_tunnel(tunnelId=ours)


def test_deleting_can_be_kept_from_those_who_may_close(service):
    not_delete = {"Bool": {"iot:Delete": "false"}}
    client = with_policy(service, 5, allow("iot:CloseTunnel", Condition=not_delete))
    tunnel_id = service.client().open_tunnel()["tunnelId"]
    assert code_of(client.close_tunnel, tunnelId=tunnel_id, delete=True) == DENIED
    client.close_tunnel(tunnelId=tunnel_id, delete=False)


def test_rotating_one_side_does_not_allow_the_other(service):
    source = {"StringEquals": {"iot:ClientMode": "SOURCE"}}
    client = with_policy(service, 6, allow("iot:RotateTunnelAccessToken", Condition=source))
    tunnel_id = service.client().open_tunnel()["tunnelId"]
    client.rotate_tunnel_access_token(tunnelId=tunnel_id, clientMode="SOURCE")
    for mode in ("DESTINATION", "ALL"):
        request = {"tunnelId": tunnel_id, "clientMode": mode}
        assert code_of(client.rotate_tunnel_access_token, **request) == DENIED


def test_a_broken_file_of_keys_changes_nothing(service):
    path = service.directory / "access-keys.json"
    good = path.read_text()
    path.write_text(good[: len(good) // 2])
    service.reload()
    time.sleep(0.5)
    assert service.process.poll() is None
    service.client().list_tunnels()
    path.write_text(good)
    service.reload()


def test_whoever_calls_is_told_who_that_is(service):
    identity = service.client("sts").get_caller_identity()
    assert len(identity["Account"]) == 12
    assert identity["Arn"].startswith(f"arn:aws:iam::{identity['Account']}:")
    assert identity["UserId"]
