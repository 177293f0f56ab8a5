"""MQTT clients that nobody here wrote, all driven alike.

Each connects as a device and subscribes to one topic, and says in `next()` what became of it:

    ("connected", session_present)   ("refused", code)   ("granted", qos)   ("denied", code)
    ("message", payload)             ("ended", text)

`refused` is a CONNACK that says no; `ended` is a connection that is cut, in TLS or later.
"""

import base64
import json
import os
import pathlib
import queue
import re
import ssl
import subprocess
import threading

import paho.mqtt.client as paho
from awscrt import exceptions, mqtt, mqtt5
from awsiot import mqtt5_client_builder, mqtt_connection_builder
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import programs

PATIENCE = 20.0
HERE = pathlib.Path(__file__).parent
PROTOCOL = "x-amzn-mqtt-ca"
SESSION_SECONDS = 600


class Session:
    """What all have in common: who one is, and what has happened."""

    def __init__(self, service, device, *, topic=None, as_=None, alpn=False, keep=False, port=None):
        self.service, self.device = service, device
        self.topic = topic or device.topic
        self.name = as_ or device.name
        self.alpn, self.keep = alpn, keep
        self.port = port or service.mqtt_port
        self.events = queue.Queue()
        self.start()

    def next(self, *kinds):
        """The next event, which must be one of these kinds; its value."""
        kind, value = self.events.get(timeout=PATIENCE)
        assert kind in kinds, (kind, value)
        return value

    def ready(self):
        """Connected and subscribed; whether the session was there before."""
        present = self.next("connected")
        assert self.next("granted") == 1
        return present

    def message(self):
        """The next message, whether the subscription is answered before it or not."""
        kind, value = self.events.get(timeout=PATIENCE)
        return value if kind == "message" else self.next("message")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Paho(Session):
    version = paho.MQTTv311

    def start(self):
        clean = {} if self.version == paho.MQTTv5 else {"clean_session": not self.keep}
        self.client = client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=self.name, protocol=self.version, **clean
        )
        context = ssl.create_default_context(cafile=self.service.ca)
        if self.device.certificate:
            context.load_cert_chain(self.device.certificate, self.device.key)
        if self.alpn:
            context.set_alpn_protocols([PROTOCOL])
        client.tls_set_context(context)
        client.reconnect_delay_set(60, 60)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        self.messages = []
        client.on_message = self._received
        client.on_disconnect = lambda c, u, f, reason, p: self.events.put(("ended", str(reason)))
        try:
            client.connect("localhost", self.port, **self._session())
        except (ssl.SSLError, OSError) as error:
            self.events.put(("ended", str(error)))
        client.loop_start()

    def _session(self):
        if self.version != paho.MQTTv5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_SECONDS if self.keep else 0
        return {"clean_start": not self.keep, "properties": properties}

    def _connected(self, client, _, flags, reason, properties):
        if reason.is_failure:
            return self.events.put(("refused", reason.value))
        self.events.put(("connected", flags.session_present))
        client.subscribe(self.topic, 1)

    def _received(self, client, _, message):
        self.messages.append(message)
        self.events.put(("message", message.payload))

    def _subscribed(self, client, _, message, reasons, properties):
        kind = "denied" if reasons[0].is_failure else "granted"
        self.events.put((kind, reasons[0].value))

    def publish(self, topic):
        self.client.publish(topic, b"{}", qos=1)

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


class Paho5(Paho):
    version = paho.MQTTv5


class Crt(Session):
    """AWS's own device stack, MQTT 3.1.1."""

    def start(self):
        self.connection = mqtt_connection_builder.mtls_from_path(
            endpoint="localhost", port=self.port, cert_filepath=self.device.certificate,
            pri_key_filepath=self.device.key, ca_filepath=self.service.ca, client_id=self.name,
            clean_session=not self.keep, keep_alive_secs=30, reconnect_min_timeout_secs=60,
            reconnect_max_timeout_secs=60,
            on_connection_interrupted=lambda connection, error, **_: self.events.put(("ended", str(error))),
        )
        self.connection.on_message(lambda topic, payload, **_: self.events.put(("message", payload)))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        try:
            present = self.connection.connect().result(PATIENCE)["session_present"]
        except exceptions.AwsCrtError as error:
            # The stack does not tell a CONNACK's code.
            kind = "refused" if "CONNECTION_REFUSED" in str(error) or "PROTOCOL" in str(error) else "ended"
            return self.events.put((kind, str(error)))
        self.events.put(("connected", present))
        try:
            future, _ = self.connection.subscribe(self.topic, mqtt.QoS.AT_LEAST_ONCE)
            self.events.put(("granted", int(future.result(PATIENCE)["qos"])))
        except (mqtt.SubscribeError, exceptions.AwsCrtError, TimeoutError) as error:
            self.events.put(("denied", str(error)))

    def publish(self, topic):
        self.connection.publish(topic, b"{}", mqtt.QoS.AT_LEAST_ONCE)

    def stop(self):
        try:
            # Not waited for: where it was cut off, nothing comes of it.
            self.connection.disconnect()
        except RuntimeError:
            pass  # It never was connected.


class Crt5(Session):
    """AWS's own device stack, MQTT 5."""

    def start(self):
        behavior = mqtt5.ClientSessionBehaviorType
        self.client = mqtt5_client_builder.mtls_from_path(
            endpoint="localhost", port=self.port, cert_filepath=self.device.certificate,
            pri_key_filepath=self.device.key, ca_filepath=self.service.ca,
            connect_options=mqtt5.ConnectPacket(
                client_id=self.name, keep_alive_interval_sec=30,
                session_expiry_interval_sec=SESSION_SECONDS if self.keep else 0,
            ),
            session_behavior=behavior.REJOIN_ALWAYS if self.keep else behavior.CLEAN,
            min_reconnect_delay_ms=60_000, max_reconnect_delay_ms=60_000,
            on_lifecycle_connection_success=self._connected,
            on_lifecycle_connection_failure=self._failed,
            on_lifecycle_disconnection=lambda data: self.events.put(("ended", str(data.exception))),
            on_publish_received=lambda data: self.events.put(("message", data.publish_packet.payload)),
        )
        self.client.start()

    def _connected(self, data):
        self.events.put(("connected", data.connack_packet.session_present))
        subscription = mqtt5.Subscription(self.topic, mqtt5.QoS.AT_LEAST_ONCE)
        future = self.client.subscribe(mqtt5.SubscribePacket([subscription]))
        future.add_done_callback(self._subscribed)

    def _subscribed(self, future):
        if future.exception():
            return self.events.put(("denied", str(future.exception())))
        code = future.result().reason_codes[0]
        self.events.put(("granted" if code < 0x80 else "denied", int(code)))

    def _failed(self, data):
        if data.connack_packet:
            return self.events.put(("refused", int(data.connack_packet.reason_code)))
        self.events.put(("ended", str(data.exception)))

    def publish(self, topic):
        self.client.publish(mqtt5.PublishPacket(topic=topic, payload=b"{}", qos=mqtt5.QoS.AT_LEAST_ONCE))

    def stop(self):
        self.client.stop()


class Program(Session):
    """A client that is a program of its own and says line by line what happens."""

    def run(self, command, environment=None):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environment, text=True, bufsize=1,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            if event := self.read(line.rstrip("\n")):
                self.events.put(event)
        self.events.put(("ended", f"exit status {self.process.wait()}"))

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


class Node(Program):
    """The `mqtt` package of Node."""

    version = 4

    def start(self):
        # Modules are looked for beside the script, so the script is copied to where they are.
        script = pathlib.Path(os.environ["ADIT_NODE_DIR"]) / "device.mjs"
        script.write_text((HERE / "device.mjs").read_text())
        settings = {
            "port": self.port, "ca": self.service.ca, "certificate": self.device.certificate,
            "key": self.device.key, "clientId": self.name, "topic": self.topic, "version": self.version,
            "clean": not self.keep, "sessionSeconds": SESSION_SECONDS,
            "alpn": [PROTOCOL] if self.alpn else [],
        }
        self.run(["node", str(script), json.dumps(settings)], self.service.environment())

    def read(self, line):
        kind, value = json.loads(line)
        return kind, base64.b64decode(value) if kind == "message" else value

    def publish(self, topic):
        self.process.stdin.write(topic + "\n")


class Node5(Node):
    version = 5


class Mosquitto(Program):
    """mosquitto_sub, whose log says what it was answered."""

    version = "mqttv311"

    def options(self):
        options = [
            "-h", "localhost", "-p", str(self.port), "--cafile", self.service.ca, "-q", "1", "-d",
            "-V", self.version, "-i", self.name,
        ]
        if self.device.certificate:
            options += ["--cert", self.device.certificate, "--key", self.device.key]
        if self.alpn:
            options += ["--tls-alpn", PROTOCOL]
        return options

    def start(self):
        keep = ["-c"] if self.keep else []
        if self.keep and self.version == "mqttv5":
            keep += ["-x", str(SESSION_SECONDS)]
        # Line by line, although nobody looks at a terminal.
        command = ["stdbuf", "-oL", "mosquitto_sub", *self.options(), "-t", self.topic, *keep]
        self.run([*command, "-F", "payload %x"])

    def read(self, line):
        if match := re.search(r"received CONNACK \((\d+)\)", line):
            code = int(match[1])
            # Its log does not tell whether there was a session.
            return ("refused", code) if code else ("connected", None)
        if match := re.search(r"Subscribed \(mid: \d+\): (\d+)", line):
            code = int(match[1])
            return ("granted" if code < 0x80 else "denied"), code
        if match := re.match(r"payload ([0-9a-f]*)$", line):
            return "message", bytes.fromhex(match[1])
        return None

    def publish(self, topic):
        """By its sister program, as the same device."""
        self.stop()
        while self.events.get(timeout=PATIENCE)[0] != "ended":
            pass
        self.run(["mosquitto_pub", *self.options(), "-t", topic, "-m", "{}"])
        self.next("connected")


class Mosquitto5(Mosquitto):
    version = "mqttv5"


STACKS = [Paho, Paho5, Crt, Crt5, Node, Node5]
# Where it is required and missing, its tests fail.
if programs.ARE_REQUIRED or programs.find("mosquitto_sub"):
    STACKS += [Mosquitto, Mosquitto5]
