"""A caller of the API that costs little itself: one connection, signed by hand."""

import datetime
import hashlib
import hmac
import json
import os
import socket
import ssl
import urllib.parse

from conftest import REGION

SERVICE = "IoTSecuredTunneling"
# Whether what is measured has to reach its goal: only where nothing else uses the machine.
JUDGES = os.environ.get("ADIT_JUDGE") == "1"


def hashed(data):
    return hashlib.sha256(data).hexdigest()


def keyed(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Caller:
    """One connection that is kept; `agent` goes into the user agent as it is, byte by byte."""

    def __init__(self, service, keys=None, agent=b"tests"):
        self.key, secret = keys or service.keys
        self.agent = agent
        address = urllib.parse.urlsplit(service.endpoints["api"])
        self.host = address.netloc
        context = ssl.create_default_context(cafile=service.ca)
        plain = socket.create_connection((address.hostname, address.port), timeout=60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname=address.hostname)
        self.reader = self.socket.makefile("rb")
        # Good for as long as the date is the same.
        self.day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d")
        key = ("AWS4" + secret).encode()
        for part in (self.day, REGION, SERVICE, "aws4_request"):
            key = keyed(key, part)
        self.signing_key = key

    def call(self, operation, **request):
        """Status and answer."""
        body = json.dumps(request).encode()
        moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "host": self.host,
            "x-amz-date": moment,
            "x-amz-target": f"{SERVICE}.{operation}",
        }
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"POST\n/\n\n{lines}\n{names}\n{hashed(body)}"
        scope = f"{self.day}/{REGION}/{SERVICE}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed(canonical.encode())}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, "
            f"Signature={keyed(self.signing_key, text).hex()}"
        )
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        agent = b"user-agent: " + self.agent + b"\r\n"
        length = f"content-length: {len(body)}\r\n\r\n".encode()
        self.socket.sendall(b"POST / HTTP/1.1\r\n" + head.encode() + agent + length + body)
        return self._answer()

    def _answer(self):
        status = int(self.reader.readline().split()[1])
        size = 0
        while (line := self.reader.readline().strip()):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        body = self.reader.read(size)
        return status, json.loads(body) if body else None

    def ok(self, operation, **request):
        status, answer = self.call(operation, **request)
        assert status == 200, (operation, status, answer)
        return answer


def percentiles(samples):
    """Median and 99th percentile, in milliseconds."""
    ordered = sorted(samples)
    return tuple(1000 * ordered[int((len(ordered) - 1) * part)] for part in (0.5, 0.99))
