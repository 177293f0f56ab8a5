"""A running `adit serve` for each test module, and clients that nobody here wrote.

`ADIT_BIN` names the program. Each module has a service of its own, on ports of its own, with
everything it keeps in a temporary directory; nothing of the caller's AWS settings reaches a client.
"""

import configparser
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import boto3
import botocore.config
import pytest

import programs

READY_TIMEOUT = 30.0
STOP_TIMEOUT = 20.0
REGION = "us-east-1"

# Variables that would lead a client elsewhere, or make it trust something else.
FOREIGN = (
    "AWS_", "SSL_CERT", "REQUESTS_CA", "NODE_EXTRA", "CURL_CA", "https_proxy", "HTTPS_PROXY", "http_proxy",
    "HTTP_PROXY", "all_proxy", "ALL_PROXY",
)


def clean_environment():
    """The environment without anything that AWS's clients read."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    return kept | {
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": REGION,
    }


for name in [name for name in os.environ if name.startswith(FOREIGN)]:
    del os.environ[name]
os.environ.update(clean_environment())


class Service:
    """One `adit serve` over one data directory, which outlives its process."""

    def __init__(self, directory, options=(), environment=None):
        self.directory = pathlib.Path(directory)
        self.options = list(options)
        self.variables = environment or {}
        self.process = None
        self.log = self.directory.with_suffix(".log")

    def start(self):
        listen = ["--api-listen", "--tunnel-listen", "--mqtt-listen"]
        listen = [name for name in listen if name not in self.options]
        listen = [word for name in listen for word in (name, "127.0.0.1:0")]
        command = [os.environ["ADIT_BIN"], "serve", "--data-dir", str(self.directory)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command + listen + self.options,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | self.variables,
            )
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._is_ready():
            if self.process.poll() is not None:
                raise AssertionError(f"adit serve ended: {self.log.read_text()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"adit serve is not ready: {self.log.read_text()}")
            time.sleep(0.02)
        return self

    def _is_ready(self):
        # Written when all listeners are ready, removed at an orderly end; one that a killed
        # process left behind names that process's ports.
        path = self.directory / "endpoints.json"
        try:
            changed = path.stat().st_mtime_ns
            self.endpoints = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return False
        return changed != getattr(self, "_stale", None)

    def stop(self):
        """Ends it as systemd would."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_TIMEOUT)
        return self

    def kill(self):
        """Ends it without any warning."""
        self._stale = (self.directory / "endpoints.json").stat().st_mtime_ns
        self.process.kill()
        self.process.wait(STOP_TIMEOUT)
        return self

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    @property
    def ca(self):
        return str(self.directory / "ca.pem")

    @property
    def tunnel_port(self):
        return int(self.endpoints["tunnel"].rpartition(":")[2])

    @property
    def mqtt_port(self):
        return int(self.endpoints["mqtt"].rpartition(":")[2])

    @property
    def keys(self):
        """Access key id and secret that the first start made."""
        parser = configparser.ConfigParser()
        parser.read(self.directory / "credentials")
        profile = parser["adit"]
        return profile["aws_access_key_id"], profile["aws_secret_access_key"]

    def client(self, name="iotsecuretunneling", keys=None, **config):
        """A boto3 client; each call is made once, so that what is asserted is what was answered."""
        key, secret = keys or self.keys
        config.setdefault("retries", {"total_max_attempts": 1})
        return boto3.session.Session().client(
            name,
            region_name=REGION,
            endpoint_url=self.endpoints["api"],
            verify=self.ca,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=botocore.config.Config(**config),
        )

    def environment(self):
        """For programs that read AWS's variables."""
        key, secret = self.keys
        return clean_environment() | {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL": self.endpoints["api"],
            "AWS_CA_BUNDLE": self.ca,
            "NODE_EXTRA_CA_CERTS": self.ca,
        }


@pytest.fixture(scope="module")
def new_service(tmp_path_factory):
    """Starts services with options of a test's own; all are stopped at the end of the module."""
    started = []

    def start(*options, environment=None):
        directory = tmp_path_factory.mktemp("service") / "data"
        nodes = [node for node in started if "--store" in node.options]
        if "--store" in options and nodes:
            # Nodes of one store have one key.
            directory.mkdir(mode=0o700)
            shutil.copy(nodes[0].directory / "notify.key", directory)
        started.append(Service(directory, options, environment))
        return started[-1].start()

    yield start
    for service in started:
        service.stop()


@pytest.fixture(scope="module")
def service(new_service):
    return new_service()


class Postgres:
    """A PostgreSQL server of our own: Debian's programs, a temporary directory, a free port."""

    def __init__(self, directory):
        servers = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not servers:
            programs.lacking("postgres")
        place = servers[-1].parent
        # The server refuses to run as root; nobody else may look into pytest's directories.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="adit-postgres-"))
        prefix = []
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            prefix = ["setpriv", *ids, "--clear-groups"]
        data = self.directory / "data"
        initdb = [place / "initdb", "-D", data, "-U", "adit", "--auth=trust", "--no-sync"]
        subprocess.run([*prefix, *initdb], check=True, capture_output=True, cwd="/")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"]
        self.log = open(directory / "postgres.log", "wb")
        self.process = subprocess.Popen(
            [*prefix, place / "postgres", "-D", data, "-p", str(self.port), *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd="/",
        )
        deadline = time.monotonic() + READY_TIMEOUT
        ready = [place / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, "PostgreSQL is not ready"
            time.sleep(0.05)

    @property
    def url(self):
        return f"postgres://adit@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_TIMEOUT)
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def store(request):
    """Options of `adit serve` for each store that outlives it."""
    if request.param == "sqlite":
        return []
    return ["--store", request.getfixturevalue("postgres").url]


@pytest.fixture(scope="module")
def tunneling(service):
    return service.client()


@pytest.fixture(scope="module")
def iot(service):
    return service.client("iot")


@pytest.fixture(scope="module")
def sts(service):
    return service.client("sts")


@pytest.fixture
def thing(iot):
    """A device's name, registered."""
    name = f"thing-{time.monotonic_ns()}"
    iot.create_thing(thingName=name)
    return name


class Device:
    """A registered device, with its certificate and key as files."""

    def __init__(self, iot, directory, name):
        self.name = name
        iot.create_thing(thingName=name)
        made = iot.create_keys_and_certificate(setAsActive=True)
        self.certificate_arn = made["certificateArn"]
        self.certificate_id = made["certificateId"]
        iot.attach_thing_principal(thingName=name, principal=self.certificate_arn)
        self.certificate = str(directory / f"{name}.pem")
        self.key = str(directory / f"{name}.key")
        pathlib.Path(self.certificate).write_text(made["certificatePem"])
        key = pathlib.Path(self.key)
        key.touch(mode=0o600)
        key.write_text(made["keyPair"]["PrivateKey"])
        self.topic = f"$aws/things/{name}/tunnels/notify"


@pytest.fixture
def new_device(iot, tmp_path):
    count = iter(range(1000))
    return lambda: Device(iot, tmp_path, f"device-{time.monotonic_ns()}-{next(count)}")


@pytest.fixture
def device(new_device):
    return new_device()
