"""What devices are told, and when (control-plane specification, section 9).

By one client, paho; that every other one hears the same is in `test_devices.py`.
"""

import json

from conftest import Device
from stacks import Paho


def open_for(tunneling, device, services=("SSH",)):
    config = {"thingName": device.name, "services": list(services)}
    return tunneling.open_tunnel(destinationConfig=config)


def check(payload, opened, services=("SSH",)):
    assert json.loads(payload) == {
        "clientAccessToken": opened["destinationAccessToken"],
        "clientMode": "destination",
        "region": "us-east-1",
        "services": list(services),
    }


def test_a_device_hears_of_each_of_its_tunnels(service, tunneling, device):
    with Paho(service, device) as client:
        client.ready()
        for services in (("SSH",), ("SSH", "VNC", "HTTP")):
            opened = open_for(tunneling, device, services)
            check(client.next("message"), opened, services)
        for message in client.messages:
            assert (message.topic, message.qos, message.retain) == (device.topic, 1, False)


def test_a_rotation_notifies_the_device_anew(service, tunneling, device):
    with Paho(service, device) as client:
        client.ready()
        opened = open_for(tunneling, device)
        check(client.next("message"), opened)
        for mode in ("DESTINATION", "ALL"):
            rotated = tunneling.rotate_tunnel_access_token(
                tunnelId=opened["tunnelId"], clientMode=mode
            )
            check(client.next("message"), rotated)
        tunneling.rotate_tunnel_access_token(tunnelId=opened["tunnelId"], clientMode="SOURCE")
        other = open_for(tunneling, device)
        check(client.next("message"), other)


def test_a_token_rotated_away_is_never_delivered(service, tunneling, device):
    with Paho(service, device, keep=True) as client:
        client.ready()
    opened = open_for(tunneling, device)
    rotated = tunneling.rotate_tunnel_access_token(tunnelId=opened["tunnelId"], clientMode="ALL")
    closed = open_for(tunneling, device)
    tunneling.close_tunnel(tunnelId=closed["tunnelId"])
    last = open_for(tunneling, device)
    with Paho(service, device, keep=True) as client:
        assert client.next("connected")
        check(client.message(), rotated)
        check(client.message(), last)


def test_what_came_before_the_first_subscription_comes_with_a_rotation(service, tunneling, device):
    """Which is how `adit ssh` and `adit connect` tell a device again."""
    opened = open_for(tunneling, device)
    with Paho(service, device, keep=True) as client:
        client.ready()
        config = {"thingName": device.name, "services": ["SSH"]}
        rotated = tunneling.rotate_tunnel_access_token(
            tunnelId=opened["tunnelId"], clientMode="DESTINATION", destinationConfig=config
        )
        check(client.next("message"), rotated)


def test_the_topics_of_others_are_refused(service, new_device):
    mine, theirs = new_device(), new_device()
    for topic in (
        theirs.topic, "#", "$aws/#", "$aws/things/+/tunnels/notify", "$aws/things/#", "+/+/+/+/+",
        f"$aws/things/{mine.name}/tunnels/#", f"$aws/things/{mine.name}/+/notify",
        f"$aws/things/{mine.name}/tunnels/notify/", f"$share/g/{theirs.topic}", "other",
    ):
        with Paho(service, mine, topic=topic) as client:
            client.next("connected")
            client.next("denied")


def test_what_waits_for_a_device_outlives_a_killed_service(new_service, tmp_path):
    service = new_service()
    device = Device(service.client("iot"), tmp_path, "survivor")
    with Paho(service, device, keep=True) as client:
        client.ready()
    opened = open_for(service.client(), device)
    service.kill()
    service.start()
    with Paho(service, device, keep=True) as client:
        assert client.next("connected")
        check(client.message(), opened)
