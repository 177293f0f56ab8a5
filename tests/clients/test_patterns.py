"""The calls that tools in use make, in their order (clients' specification, section 6)."""

import datetime
import time

import pytest

from handshake import handshake

PATIENCE = 20.0
QUARTER = datetime.timedelta(minutes=15)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def becomes(client, tunnel_id, wanted):
    """The service tells of a link that came or went in its own time."""
    deadline = time.monotonic() + PATIENCE
    while True:
        tunnel = client.describe_tunnel(tunnelId=tunnel_id)["tunnel"]
        if (status := tunnel["destinationConnectionState"]["status"]) == wanted:
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.02)


def editor_extension(client, description):
    """AWS's extension of an editor: the first page, a tunnel of its own by its description, both tokens
    anew while a quarter of an hour is left, else another tunnel. No device is named."""
    for summary in client.list_tunnels()["tunnelSummaries"]:
        if summary.get("description") != description or summary["status"].lower() != "open":
            continue
        tunnel = client.describe_tunnel(tunnelId=summary["tunnelId"])["tunnel"]
        lifetime = datetime.timedelta(minutes=tunnel["timeoutConfig"]["maxLifetimeTimeoutMinutes"])
        if tunnel["createdAt"] + lifetime - now() >= QUARTER:
            rotated = client.rotate_tunnel_access_token(tunnelId=tunnel["tunnelId"], clientMode="ALL")
            return tunnel["tunnelId"], rotated
        client.close_tunnel(tunnelId=tunnel["tunnelId"], delete=False)
    opened = client.open_tunnel(
        description=description,
        timeoutConfig={"maxLifetimeTimeoutMinutes": 720},
        destinationConfig={"services": ["WSS"]},
    )
    return opened["tunnelId"], opened


def works(service, tokens):
    for side in ("source", "destination"):
        status, body = handshake(service, tokens[f"{side}AccessToken"], side)
        assert status == 101, (side, body)


def test_an_editor_extension_uses_its_tunnel_again(service, tunneling):
    first, opened = editor_extension(tunneling, "an editor")
    works(service, opened)
    second, rotated = editor_extension(tunneling, "an editor")
    assert second == first
    works(service, rotated)
    other, _ = editor_extension(tunneling, "another editor")
    assert other != first


def test_an_editor_extension_leaves_a_tunnel_that_soon_ends(service, tunneling):
    short = tunneling.open_tunnel(
        description="short", timeoutConfig={"maxLifetimeTimeoutMinutes": 14},
        destinationConfig={"services": ["WSS"]},
    )
    next_, tokens = editor_extension(tunneling, "short")
    assert next_ != short["tunnelId"]
    works(service, tokens)
    assert tunneling.describe_tunnel(tunnelId=short["tunnelId"])["tunnel"]["status"] == "CLOSED"


def command_line_tool(client, thing):
    """`aws-iot-tunnel`: the newest open tunnel of the device; the source's token alone if the device is
    there, both if it is not; a new one if there is none."""
    listed = client.list_tunnels(thingName=thing)["tunnelSummaries"]
    open_ = [tunnel for tunnel in listed if tunnel["status"] == "OPEN"]
    if not open_:
        return client.open_tunnel(destinationConfig={"thingName": thing, "services": ["SSH"]})
    newest = sorted(open_, key=lambda tunnel: tunnel["createdAt"], reverse=True)[0]
    tunnel = client.describe_tunnel(tunnelId=newest["tunnelId"])["tunnel"]
    is_there = tunnel["destinationConnectionState"]["status"] == "CONNECTED"
    rotated = client.rotate_tunnel_access_token(
        tunnelId=newest["tunnelId"], clientMode="SOURCE" if is_there else "ALL"
    )
    return rotated | {"tunnelId": newest["tunnelId"]}


def test_a_command_line_tool_takes_the_newest_tunnel_of_a_device(service, tunneling, thing):
    opened = command_line_tool(tunneling, thing)
    newer = tunneling.open_tunnel(destinationConfig={"thingName": thing, "services": ["SSH"]})
    rotated = command_line_tool(tunneling, thing)
    assert rotated["tunnelId"] == newer["tunnelId"] != opened["tunnelId"]
    connections = []
    try:
        token = rotated["destinationAccessToken"]
        assert handshake(service, token, "destination", keep=connections)[0] == 101
        becomes(tunneling, newer["tunnelId"], "CONNECTED")
        again = command_line_tool(tunneling, thing)
        assert again["tunnelId"] == newer["tunnelId"]
        # The device is there: it is left alone.
        assert "sourceAccessToken" in again and "destinationAccessToken" not in again
        becomes(tunneling, newer["tunnelId"], "CONNECTED")
        assert handshake(service, again["sourceAccessToken"])[0] == 101
    finally:
        for connection in connections:
            connection.close()
    tunneling.close_tunnel(tunnelId=newer["tunnelId"])
    assert command_line_tool(tunneling, thing)["tunnelId"] == opened["tunnelId"]


def test_the_steps_of_awss_documentation(service, tunneling, thing):
    """Open for a device, look until it is connected, send its token again, close."""
    config = {"thingName": thing, "services": ["SSH"]}
    opened = tunneling.open_tunnel(destinationConfig=config)

    becomes(tunneling, opened["tunnelId"], "DISCONNECTED")
    connections = []
    try:
        token = opened["destinationAccessToken"]
        assert handshake(service, token, "destination", keep=connections)[0] == 101
        becomes(tunneling, opened["tunnelId"], "CONNECTED")
        rotated = tunneling.rotate_tunnel_access_token(
            tunnelId=opened["tunnelId"], clientMode="DESTINATION", destinationConfig=config
        )
        # Its token is revoked, so it is cut off and comes back with the new one.
        becomes(tunneling, opened["tunnelId"], "DISCONNECTED")
        assert handshake(service, token, "destination")[0] in range(400, 500)
        token = rotated["destinationAccessToken"]
        assert handshake(service, token, "destination", keep=connections)[0] == 101
        becomes(tunneling, opened["tunnelId"], "CONNECTED")
        tunneling.close_tunnel(tunnelId=opened["tunnelId"])
    finally:
        for connection in connections:
            connection.close()
    becomes(tunneling, opened["tunnelId"], "DISCONNECTED")
    tokens = opened | rotated
    for side in ("source", "destination"):
        assert handshake(service, tokens[f"{side}AccessToken"], side)[0] in range(400, 500)
    with pytest.raises(tunneling.exceptions.ResourceNotFoundException):
        tunneling.rotate_tunnel_access_token(tunnelId=opened["tunnelId"], clientMode="ALL")
