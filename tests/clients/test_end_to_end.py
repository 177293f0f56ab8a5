"""The whole way, once: boto3 opens a tunnel, the device's agent hears of it over MQTT, and ssh logs in.

Nothing here is played: a real `adit serve`, a real `adit agent`, OpenSSH at both ends, and `adit proxy` or
`adit ssh` as the source.
"""

import os
import pathlib
import pwd
import shlex
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

import programs

PATIENCE = 60.0


class Sshd:
    """OpenSSH's server without privileges: it lets in the one user that it runs as, by one key."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="adit-sshd-"))
        prefix = []
        user = pwd.getpwuid(os.getuid())
        if os.getuid() == 0:
            # Some user of this machine that has a shell, and is not root.
            user = next(u for u in pwd.getpwall() if u.pw_uid and u.pw_shell.endswith("/bash"))
            ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            prefix = ["setpriv", *ids, "--clear-groups"]
        self.user = user.pw_name
        for name in ("host", "client"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / name]
            subprocess.run(command, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": self.directory / "host",
            "AuthorizedKeysFile": self.directory / "client.pub", "PidFile": "none", "StrictModes": "no",
            "UsePAM": "no", "PasswordAuthentication": "no",
        }
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        (self.directory / "config").write_text(lines)
        for path in [self.directory, *self.directory.iterdir()]:
            os.chown(path, user.pw_uid, user.pw_gid)
        self.log = open(self.directory / "log", "wb")
        self.process = subprocess.Popen(
            [*prefix, programs.find("sshd"), "-D", "-e", "-f", self.directory / "config"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd="/",
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, (self.directory / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.02)

    def options(self):
        """For a client that asks nothing and knows nothing of its user's own."""
        words = ["-F", "none", "-i", str(self.directory / "client")]
        for option in (
            "BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null", "LogLevel=ERROR",
        ):
            words += ["-o", option]
        return words

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def sshd():
    for name in ("sshd", "ssh", "ssh-keygen"):
        if not programs.find(name):
            programs.lacking(name)
    server = Sshd()
    yield server
    server.stop()


class Agent:
    """A real `adit agent` with the certificate of a registered device."""

    def __init__(self, service, device, directory, sshd):
        config = directory / "agent.toml"
        tunnel = service.endpoints["tunnel"]
        config.write_text(
            f'endpoint = "localhost:{service.mqtt_port}"\ntunnel_endpoint = "{tunnel}"\n'
            f'certificate = "{device.certificate}"\nkey = "{device.key}"\nca = "{service.ca}"\n'
            f'thing = "{device.name}"\nservices.SSH = "127.0.0.1:{sshd.port}"\n'
        )
        os.chmod(device.key, 0o600)
        self.log = directory / "agent.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [os.environ["ADIT_BIN"], "agent", "--config", config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def says(self, text):
        deadline = time.monotonic() + PATIENCE
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"it does not say {text}: {self.log.read_text()}"
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE)


@pytest.fixture
def agent(service, device, tmp_path, sshd):
    running = Agent(service, device, tmp_path, sshd)
    running.says("waiting for tunnels")
    yield running
    assert running.stop() == 0, running.log.read_text()


# What the device has to say for itself: more than one packet, not only text, and an exit status.
SCRIPT = "id -un; head -c 300000 /dev/zero | tr '\\0' x | sha256sum; printf '\\001\\377'; exit 5"


def check(done, sshd):
    here = subprocess.run(["sh", "-c", SCRIPT], capture_output=True)
    _, _, rest = here.stdout.partition(b"\n")
    assert done.returncode == here.returncode == 5, done.stderr
    assert done.stdout == sshd.user.encode() + b"\n" + rest


def test_ssh_through_a_tunnel_that_boto3_opened(service, tunneling, device, agent, sshd, tmp_path):
    config = {"thingName": device.name, "services": ["SSH"]}
    opened = tunneling.open_tunnel(destinationConfig=config)
    agent.says("tunnel connected")
    token = tmp_path / "source-token"
    token.touch(mode=0o600)
    token.write_text(opened["sourceAccessToken"])
    proxy = [
        os.environ["ADIT_BIN"], "proxy", "-e", service.endpoints["tunnel"], "-c", service.ca,
        "-s", "stdio:", "--access-token-file", str(token), "-v", "3",
    ]
    options = [*sshd.options(), "-o", f"ProxyCommand={shlex.join(proxy)}"]
    done = subprocess.run(
        ["ssh", *options, f"{sshd.user}@{device.name}", SCRIPT], capture_output=True, timeout=PATIENCE
    )
    check(done, sshd)
    described = tunneling.describe_tunnel(tunnelId=opened["tunnelId"])["tunnel"]
    assert described["destinationConnectionState"]["status"] == "CONNECTED"
    tunneling.close_tunnel(tunnelId=opened["tunnelId"])
    agent.says("tunnel closed")
    assert opened["destinationAccessToken"] not in agent.log.read_text()


def test_ssh_by_one_command(service, tunneling, device, agent, sshd):
    """`adit ssh` takes the profile and the endpoints as AWS's tools do, and leaves nothing open."""
    command = [
        os.environ["ADIT_BIN"], "ssh", f"{sshd.user}@{device.name}",
        "--tunnel-endpoint", service.endpoints["tunnel"], "--", *sshd.options(), SCRIPT,
    ]
    environment = service.environment()
    done = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE)
    check(done, sshd)
    listed = tunneling.list_tunnels(thingName=device.name)["tunnelSummaries"]
    assert [tunnel["status"] for tunnel in listed] == ["CLOSED"]
