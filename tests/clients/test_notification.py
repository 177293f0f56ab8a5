"""Devices that AWS's own stack, paho and mosquitto play (clients' specification, section 5)."""

import json
import queue
import shutil
import ssl
import subprocess

import paho.mqtt.client as paho
import pytest
from awscrt import mqtt5
from awsiot import mqtt5_client_builder, mqtt_connection_builder

PATIENCE = 20.0


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


# ---------------------------------------------------------------------------------------- mosquitto


def mosquitto(service, device, *options, topic=None, as_=None, count=1):
    return [
        "mosquitto_sub", "-h", "localhost", "-p", str(service.mqtt_port), "--cafile", service.ca,
        "--cert", device.certificate, "--key", device.key, "-i", as_ or device.name, "-q", "1",
        "-C", str(count), "-W", "20", "-t", topic or device.topic, *options,
    ]


needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto_sub") is None, reason="mosquitto-clients is not installed"
)


@needs_mosquitto
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
@pytest.mark.parametrize("alpn", [(), ("--tls-alpn", "x-amzn-mqtt-ca")], ids=["no alpn", "alpn"])
def test_mosquitto_sub_receives_what_waits_for_its_session(service, tunneling, device, version, alpn):
    command = mosquitto(service, device, "-V", version, "-c", *alpn)
    if version == "mqttv5":
        command += ["-x", "600"]
    # Makes the session, and leaves.
    subprocess.run([*command, "-E"], timeout=PATIENCE, check=True)
    opened = open_for(tunneling, device)
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    check(done.stdout, opened)


@needs_mosquitto
def test_mosquitto_sub_is_refused_as_somebody_else(service, device):
    done = subprocess.run(mosquitto(service, device, as_="other"), timeout=PATIENCE)
    assert done.returncode == 5


@needs_mosquitto
def test_a_certificate_that_is_not_active_is_cut_off(service, iot, device):
    iot.update_certificate(certificateId=device.certificate_id, newStatus="INACTIVE")
    done = subprocess.run(mosquitto(service, device), timeout=PATIENCE)
    assert done.returncode == 7


# --------------------------------------------------------------------------------------------- paho


class Paho:
    """A device by paho, whose events arrive in a queue."""

    def __init__(self, service, device, port=None, alpn=None, as_=None, clean=True):
        self.events = queue.Queue()
        version = paho.CallbackAPIVersion.VERSION2
        self.client = paho.Client(version, client_id=as_ or device.name, clean_session=clean)
        context = ssl.create_default_context(cafile=service.ca)
        if device:
            context.load_cert_chain(device.certificate, device.key)
        if alpn:
            context.set_alpn_protocols(alpn)
        self.client.tls_set_context(context)
        self.client.on_connect = lambda c, u, f, reason, p: self.events.put(("connect", reason))
        self.client.on_subscribe = lambda c, u, m, codes, p: self.events.put(("subscribe", codes[0]))
        self.client.on_message = lambda c, u, message: self.events.put(("message", message))
        self.client.on_disconnect = lambda c, u, f, reason, p: self.events.put(("end", reason))
        self.client.connect("localhost", port or service.mqtt_port)
        self.client.loop_start()

    def next(self, kind):
        name, value = self.events.get(timeout=PATIENCE)
        assert name == kind, (name, value)
        return value

    def subscribed(self, topic, qos=1):
        assert not self.next("connect").is_failure
        self.client.subscribe(topic, qos)
        return self.next("subscribe")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()


def test_paho_receives_each_tunnel_of_its_device(service, tunneling, device):
    with Paho(service, device) as client:
        assert not client.subscribed(device.topic).is_failure
        for services in (("SSH",), ("SSH", "VNC", "HTTP")):
            opened = open_for(tunneling, device, services)
            message = client.next("message")
            assert (message.topic, message.qos, message.retain) == (device.topic, 1, False)
            check(message.payload, opened, services)


def test_a_rotation_notifies_the_device_anew(service, tunneling, device):
    with Paho(service, device) as client:
        client.subscribed(device.topic)
        opened = open_for(tunneling, device)
        check(client.next("message").payload, opened)
        for mode in ("DESTINATION", "ALL"):
            rotated = tunneling.rotate_tunnel_access_token(
                tunnelId=opened["tunnelId"], clientMode=mode
            )
            check(client.next("message").payload, rotated)
        tunneling.rotate_tunnel_access_token(tunnelId=opened["tunnelId"], clientMode="SOURCE")
        other = open_for(tunneling, device)
        check(client.next("message").payload, other)


def test_a_token_rotated_away_is_never_delivered(service, tunneling, device):
    with Paho(service, device, clean=False) as client:
        client.subscribed(device.topic)
    opened = open_for(tunneling, device)
    rotated = tunneling.rotate_tunnel_access_token(tunnelId=opened["tunnelId"], clientMode="ALL")
    closed = open_for(tunneling, device)
    tunneling.close_tunnel(tunnelId=closed["tunnelId"])
    last = open_for(tunneling, device)
    with Paho(service, device, clean=False) as client:
        assert not client.next("connect").is_failure
        check(client.next("message").payload, rotated)
        check(client.next("message").payload, last)


def test_the_shared_port_serves_devices_by_their_protocol_name(service, tunneling, device):
    port = int(service.endpoints["api"].rpartition(":")[2])
    with Paho(service, device, port=port, alpn=["x-amzn-mqtt-ca"]) as client:
        client.subscribed(device.topic)
        opened = open_for(tunneling, device)
        check(client.next("message").payload, opened)


def test_the_topics_of_others_are_refused(service, new_device):
    mine, theirs = new_device(), new_device()
    for topic in (
        theirs.topic, "#", "$aws/#", "$aws/things/+/tunnels/notify", "$aws/things/#", "+/+/+/+/+",
        f"$aws/things/{mine.name}/tunnels/#", f"$aws/things/{mine.name}/+/notify",
        f"$aws/things/{mine.name}/tunnels/notify/", f"$share/g/{theirs.topic}", "other",
    ):
        with Paho(service, mine) as client:
            assert client.subscribed(topic).is_failure, topic


def test_a_device_that_publishes_is_cut_off(service, device):
    with Paho(service, device) as client:
        client.subscribed(device.topic)
        client.client.publish(device.topic, b"{}", qos=1)
        client.next("end")


def test_another_devices_name_is_refused(service, new_device):
    mine, theirs = new_device(), new_device()
    with Paho(service, mine, as_=theirs.name) as client:
        assert client.next("connect").is_failure


def test_the_newer_connection_of_a_device_displaces_the_older(service, tunneling, device):
    with Paho(service, device) as old:
        old.subscribed(device.topic)
        old.client.reconnect_delay_set(60, 60)
        with Paho(service, device) as new:
            new.subscribed(device.topic)
            old.next("end")
            opened = open_for(tunneling, device)
            check(new.next("message").payload, opened)


def test_revocation_cuts_a_live_connection(service, iot, device):
    with Paho(service, device) as client:
        client.subscribed(device.topic)
        iot.update_certificate(certificateId=device.certificate_id, newStatus="REVOKED")
        client.next("end")


# -------------------------------------------------------------------------------- AWS's device stack


def paths(service, device):
    return {
        "endpoint": "localhost", "port": service.mqtt_port, "cert_filepath": device.certificate,
        "pri_key_filepath": device.key, "ca_filepath": service.ca, "client_id": device.name,
    }


def test_awss_stack_receives_by_mqtt_3(service, tunneling, device):
    messages = queue.Queue()
    connection = mqtt_connection_builder.mtls_from_path(
        **paths(service, device), clean_session=False, keep_alive_secs=30
    )
    connection.connect().result(PATIENCE)
    subscribed, _ = connection.subscribe(
        device.topic, mqtt5.QoS.AT_LEAST_ONCE, lambda topic, payload, **_: messages.put(payload)
    )
    assert subscribed.result(PATIENCE)["qos"] == mqtt5.QoS.AT_LEAST_ONCE
    opened = open_for(tunneling, device)
    check(messages.get(timeout=PATIENCE), opened)
    connection.disconnect().result(PATIENCE)


def test_awss_stack_receives_by_mqtt_5(service, tunneling, device):
    events = queue.Queue()
    client = mqtt5_client_builder.mtls_from_path(
        **paths(service, device),
        on_lifecycle_connection_success=lambda _: events.put("connected"),
        on_publish_received=lambda data: events.put(data.publish_packet.payload),
    )
    client.start()
    assert events.get(timeout=PATIENCE) == "connected"
    subscription = mqtt5.Subscription(device.topic, mqtt5.QoS.AT_LEAST_ONCE)
    codes = client.subscribe(mqtt5.SubscribePacket([subscription])).result(PATIENCE).reason_codes
    assert codes == [mqtt5.SubackReasonCode.GRANTED_QOS_1]
    opened = open_for(tunneling, device)
    check(events.get(timeout=PATIENCE), opened)
    client.stop()


# ----------------------------------------------------------------------------------------- restarts


def test_what_waits_for_a_device_outlives_a_killed_service(new_service, tmp_path):
    from conftest import Device

    service = new_service()
    device = Device(service.client("iot"), tmp_path, "survivor")
    with Paho(service, device, clean=False) as client:
        client.subscribed(device.topic)
    opened = open_for(service.client(), device)
    service.kill()
    service.start()
    with Paho(service, device, clean=False) as client:
        assert not client.next("connect").is_failure
        check(client.next("message").payload, opened)
