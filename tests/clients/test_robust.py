"""Nothing that a caller sends makes the API fail (reliability, F-09): requests that Hypothesis makes up from
botocore's models of the operations, from what fits them to what is no HTTP, over a connection of their own.

Each is answered in time, with less than 500, a request id, and a body that botocore reads; at the end the
service goes on, and its log tells of no error. `ADIT_REQUESTS` is how many (a release: 25,000), `ADIT_SEED`
which.
"""

import functools
import json
import os
import random
import re
import socket
import ssl
import string
import time
import urllib.parse
import uuid
from typing import NamedTuple

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.parsers
import botocore.session
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from conftest import REGION

REQUESTS = int(os.environ.get("ADIT_REQUESTS", "660"))
SEED = int(os.environ.get("ADIT_SEED", str(random.randrange(2**32))))
# For an answer, in seconds; a refusal for too many calls waits for a tenth.
PATIENCE = 10.0

TUNNELING = (
    "OpenTunnel CloseTunnel DescribeTunnel ListTunnels RotateTunnelAccessToken TagResource UntagResource "
    "ListTagsForResource"
)
REGISTRY = (
    "ListThings CreateThing DescribeThing UpdateThing DeleteThing AttachThingPrincipal DetachThingPrincipal "
    "ListThingPrincipals ListPrincipalThings CreateKeysAndCertificate CreateCertificateFromCsr "
    "RegisterCertificateWithoutCA ListCertificates DescribeCertificate UpdateCertificate DeleteCertificate "
    "ListPolicies CreatePolicy GetPolicy DeletePolicy AttachPolicy DetachPolicy ListAttachedPolicies "
    "ListTargetsForPolicy DescribeEndpoint"
)
LOADER = botocore.session.Session()
MODELS = {name: LOADER.get_service_model(name) for name in ("iotsecuretunneling", "iot", "sts")}
OPERATIONS = (
    [("iotsecuretunneling", name) for name in TUNNELING.split()]
    + [("iot", name) for name in REGISTRY.split()]
    # All others of the registry, which this service lacks.
    + [("iot", None)]
    + [("sts", name) for name in ("GetCallerIdentity", "AssumeRole")]
)
OTHERS = sorted(set(MODELS["iot"].operation_names) - set(REGISTRY.split()))


# What fits a shape


def integer(shape):
    return st.integers(shape.metadata.get("min", -(2**31)), shape.metadata.get("max", 2**31))


def matching(pattern):
    """Texts of a pattern; of one that is not Python's, any."""
    try:
        return st.from_regex(re.compile(pattern), fullmatch=True)
    except re.error:
        return st.text(string.ascii_letters + string.digits + "_.:/=+-@ ", min_size=1, max_size=40)


def fitting_text(shape):
    if shape.enum:
        return st.sampled_from(shape.enum)
    least, most = shape.metadata.get("min", 0), min(shape.metadata.get("max", 60), 60)
    if "pattern" in shape.metadata:
        return matching(shape.metadata["pattern"]).map(lambda text: text[: shape.metadata.get("max")])
    return st.text(min_size=min(least, most), max_size=most)


def fitting(shape, known, is_strict, depth=0):
    """Values that a shape allows; if it is not strict, at times of members that only nearly fit."""
    kind = shape.type_name
    if depth > 5:
        return JUNK
    if kind == "structure":
        members = {
            name: member_of(name, member, known, is_strict, depth + 1) for name, member in shape.members.items()
        }
        required = {name: members[name] for name in shape.required_members}
        optional = {name: value for name, value in members.items() if name not in required}
        return st.fixed_dictionaries(required, optional=optional)
    if kind == "list":
        least = min(shape.metadata.get("min", 0), 3)
        return st.lists(fitting(shape.member, known, is_strict, depth + 1), min_size=least, max_size=4)
    if kind == "map":
        keys = fitting(shape.key, known, is_strict, depth + 1)
        return st.dictionaries(keys, fitting(shape.value, known, is_strict, depth + 1), max_size=4)
    if kind == "string":
        return fitting_text(shape)
    if kind in ("integer", "long"):
        return integer(shape)
    others = {"boolean": st.booleans(), "timestamp": st.integers(0, 2**40), "double": st.floats()}
    return others.get(kind, JUNK)


def member_of(name, shape, known, is_strict, depth):
    """Of a member that names something, mostly what is there."""
    values = [fitting(shape, known, is_strict, depth)] * 4
    if there := known.get(name):
        values += [st.sampled_from(there)] * 12
    if not is_strict:
        values += [JUNK] + ([edge(shape)] if shape.type_name == "string" else [])
    return st.one_of(*values)


@functools.cache
def inputs(service, operation, is_strict):
    """Values for an operation's input; made once, for that takes longer than to draw one."""
    shape = MODELS[service].operation_model(operation).input_shape
    return fitting(shape, KNOWN, is_strict) if shape else st.just({})


# Names of what there is, by the members that take them; see the fixture `known`.
KNOWN = {}


# What does not


def edge(shape):
    """As long as allowed, a character less or more, of letters that are more than a byte, or mean something."""
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 256)
    sizes = sorted({max(least - 1, 0), least, most, most + 1})
    letters = ["a", "\u00e9", "\u4e00", "\U0001f600", "\0", "\x1b", "/", "%", " ", "\ud800", "\u202e"]
    longest = 20_000
    return st.builds(
        lambda letter, size: letter * min(size, longest), st.sampled_from(letters), st.sampled_from(sizes)
    )


LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -0.0, "", "null", "a" * 5000])
    | st.floats()
    | st.text(st.characters(), max_size=20)
)
JUNK = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
GARBAGE = st.binary(max_size=200) | st.sampled_from(
    [b"", b"null", b"[]", b"{", b'{"a":1}{"b":2}', b"\xef\xbb\xbf{}", '{"tunnelId":"a"}'.encode("utf-16"), b"a=b&c=d"]
)
# Deeper than anybody reads, larger than a body may be, and larger than what is thrown away in silence.
HEAVY = st.sampled_from(
    [b"[" * 60_000, b'{"a":' * 12_000, b'{"tags":' + b"[" * 500 + b"]" * 500 + b"}", b'"' + b"x" * 70_000 + b'"',
     b'"' + b"x" * 330_000 + b'"', b" " * 327_680 + b"{}", b"1" * 60_000,
     b'{"description":"' + b"x" * 1_200_000 + b'"}']
)


class Request(NamedTuple):
    """One request as it leaves, but for its signature."""

    method: str
    target: str
    headers: dict
    body: bytes
    # Whose output a success is; unknown where the request was changed.
    operation: object
    # None: not at all.
    signing: object
    version: str = "HTTP/1.1"


def encoded(value):
    """As JSON, with what is no character as it is."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def in_address(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return urllib.parse.quote(text.encode("utf-8", "surrogatepass"), safe="")


@st.composite
def requests(draw, service, operation):
    """A request of this operation that its model allows, or one that was changed somewhere."""
    model = MODELS[service]
    operation = model.operation_model(operation or draw(st.sampled_from(OTHERS)))
    shape = operation.input_shape
    value = draw(inputs(service, operation.name, draw(st.booleans())))
    signing = model.signing_name
    protocol = model.metadata["protocol"]
    if protocol == "json":
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"{model.metadata['targetPrefix']}.{operation.name}",
        }
        request = Request("POST", "/", headers, encoded(value), operation, signing)
    elif protocol == "rest-json":
        request = rest(operation, shape, value, signing)
    else:
        form = {"Action": operation.name, "Version": model.api_version} | value
        body = "&".join(f"{in_address(name)}={in_address(part)}" for name, part in form.items()).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        request = Request("POST", "/", headers, body, operation, signing)
    changes = draw(st.lists(st.sampled_from(CHANGES), max_size=2)) if draw(st.integers(0, 2)) == 0 else []
    for change in changes:
        request = change(draw, request)._replace(operation=None)
    return request


def rest(operation, shape, value, signing):
    """Members go where the model says: path, query, headers, body."""
    path, query, headers, body = operation.http["requestUri"].partition("?")[0], [], {}, {}
    for name, part in value.items():
        where = shape.members[name].serialization if shape else {}
        wire = where.get("name", name)
        location = where.get("location")
        if location == "uri":
            path = re.sub(r"\{" + re.escape(wire) + r"\+?\}", lambda _: in_address(part), path)
        elif location == "querystring":
            query.append(f"{in_address(wire)}={in_address(part)}")
        elif location == "header":
            # HTTP has no way to write more of them.
            headers[wire.lower()] = "".join(c for c in str(part) if " " <= c <= "~").strip()
        else:
            body[wire] = part
    body = encoded(body) if body else b""
    headers.setdefault("content-type", "application/json")
    target = path + ("?" + "&".join(query) if query else "")
    return Request(operation.http["method"], target, headers, body, operation, signing)


# Changes of a request


def other_body(draw, request):
    return request._replace(body=draw(GARBAGE | HEAVY))


def damaged_body(draw, request):
    body = bytearray(request.body or b"{}")
    at = draw(st.integers(0, len(body) - 1))
    how = draw(st.integers(0, 3))
    if how == 0:
        body[at] ^= 1 << draw(st.integers(0, 7))
    elif how == 1:
        del body[at:]
    elif how == 2:
        body[at:at] = draw(st.binary(max_size=8))
    else:
        # Every member twice.
        body = bytearray(body[:-1] + b"," + body[1:] if len(body) > 2 else body * 2)
    return request._replace(body=bytes(body))


def other_method(draw, request):
    methods = ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "POST", "post", "BREW"]
    return request._replace(method=draw(st.sampled_from(methods)))


def other_target(draw, request):
    words = [f"IoTSecuredTunneling.{name}" for name in TUNNELING.split()]
    words += ["", ".", "IoTSecuredTunneling", "IoTSecuredTunneling.", "AWSIotService.ListThings", "x" * 9000]
    words.append("\u00e9.\u00ff")
    word = draw(st.sampled_from(words) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
    return request._replace(headers=request.headers | {"x-amz-target": word.strip()})


def other_type(draw, request):
    types = ["", "text/plain", "application/x-amz-json-1.0", "application/cbor", "application/x-www-form-urlencoded",
             "APPLICATION/JSON; charset=utf-16", "multipart/form-data; boundary=x", "application/xml", "a" * 300]
    return request._replace(headers=request.headers | {"content-type": draw(st.sampled_from(types))})


def more_headers(draw, request):
    extra = draw(st.sampled_from([
        {"expect": "100-continue"}, {"accept": "text/html"}, {"content-encoding": "gzip"},
        {"upgrade": "h2c", "connection": "upgrade"},
        {f"x-{n}": "y" for n in range(60)}, {f"x-{n}": "y" for n in range(120)}, {"x-large": "y" * 30_000},
        {"x-amz-security-token": "token"}, {"x-amz-content-sha256": "0" * 64}, {"x-http-method-override": "DELETE"},
        {"cookie": "\u00ff\u00fe"}, {"range": "bytes=0-"}, {"if-match": "*"}, {"transfer-encoding": "chunked"},
        {"transfer-encoding": "gzip, chunked"},
    ]))
    return request._replace(headers=request.headers | extra)


def other_path(draw, request):
    start = draw(st.sampled_from([
        "//", "/.", "/..", "/%2e%2e/", "/%00", "/%ff", "/%", "/a%2Fb", "/things/..%2f..", "/?", "/?a=b&a=c",
        "/?x=%zz", "/" + "a/" * 300, "/" + "a" * 7000, "/things", "/things/", "/principals/things", "*",
        "/?Action=GetCallerIdentity",
    ]))
    return request._replace(target=start if draw(st.booleans()) else start + request.target)


def not_signed(draw, request):
    return request._replace(signing=draw(st.sampled_from([None, "s3", "iot", "sts", "IoTSecuredTunneling"])))


def wrong_signature(draw, request):
    words = ["", "AWS4-HMAC-SHA256", "Basic YTpi", "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=;;, Signature=zz",
             "AWS4-HMAC-SHA256 " + "," * 500, "AWS4-ECDSA-P256-SHA256 Credential=a", "\u00ff" * 20]
    dates = ["20260101T000000Z", "", "99999999T999999Z", "20261332T256199Z", "now", "0" * 200]
    wrong = {"authorization": draw(st.sampled_from(words)), "x-amz-date": draw(st.sampled_from(dates))}
    return request._replace(headers=request.headers | wrong, signing=None)


def other_version(draw, request):
    versions = ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/9.9", "http/1.1", ""]
    return request._replace(version=draw(st.sampled_from(versions)))


# Bodies most often.
CHANGES = [other_body, damaged_body, damaged_body, other_method, other_target, other_type, more_headers, other_path,
           not_signed, wrong_signature, other_version]


# One connection, and what comes back


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes


class Connection:
    """Sends what it is given and reads one answer; dials again where the service has ended the last one."""

    def __init__(self, service):
        self.address = urllib.parse.urlsplit(service.endpoints["api"])
        self.context = ssl.create_default_context(cafile=service.ca)
        self.credentials = botocore.credentials.Credentials(*service.keys)
        self.socket = None

    def send(self, request):
        data = self._bytes(request)
        is_fresh = self.socket is None
        try:
            return self._exchange(data, request)
        except (ConnectionError, ssl.SSLEOFError, EOFError):
            self.close()
            # It may have ended while nothing was under way.
            if is_fresh:
                raise
        return self._exchange(data, request)

    def _exchange(self, data, request):
        if self.socket is None:
            plain = socket.create_connection((self.address.hostname, self.address.port), timeout=PATIENCE)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = self.context.wrap_socket(plain, server_hostname=self.address.hostname)
            self.reader = self.socket.makefile("rb")
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            # Refused before all of it was sent: the answer may be there already.
            pass
        answer = self._read(request)
        if answer.headers.get("connection", "") == "close" or request.version != "HTTP/1.1":
            self.close()
        return answer

    def _bytes(self, request):
        headers = {"host": self.address.netloc} | request.headers
        url = f"https://{self.address.netloc}{request.target}"
        if request.signing:
            signed = botocore.awsrequest.AWSRequest(request.method, url, headers=headers, data=request.body)
            botocore.auth.SigV4Auth(self.credentials, request.signing, REGION).add_auth(signed)
            headers = dict(signed.headers.items())
        body = request.body
        if "transfer-encoding" in headers:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        else:
            headers["content-length"] = str(len(body))
        lines = [f"{request.method} {request.target} {request.version}".rstrip()]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body

    def _read(self, request):
        status = 100
        while status == 100:
            line = self.reader.readline()
            if not line:
                raise EOFError("no answer")
            status = int(line.split()[1])
            headers = {}
            while line := self.reader.readline().strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
        size = 0 if request.method == "HEAD" else int(headers.get("content-length", "0"))
        return Answer(status, headers, self.reader.read(size))

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None


PARSERS = {
    "application/x-amz-json-1.1": botocore.parsers.create_parser("json"),
    "application/json": botocore.parsers.create_parser("rest-json"),
    "text/xml": botocore.parsers.create_parser("query"),
}


def check(request, answer):
    """What holds for every answer."""
    assert 200 <= answer.status < 500, answer
    assert str(uuid.UUID(answer.headers["x-amzn-requestid"])) == answer.headers["x-amzn-requestid"]
    parser = PARSERS[answer.headers["content-type"]]
    if request.method == "HEAD":
        return
    read = botocore.awsrequest.HeadersDict(answer.headers)
    response = {"status_code": answer.status, "headers": read, "body": answer.body, "context": {}}
    parsed = parser.parse(response, request.operation.output_shape if request.operation else None)
    if answer.status >= 300:
        assert re.fullmatch("[A-Za-z]+", parsed["Error"]["Code"]), (answer, parsed)
        assert parsed["Error"]["Message"], answer
    elif "json" in answer.headers["content-type"]:
        assert isinstance(json.loads(answer.body), dict), answer


# The tests


@pytest.fixture(scope="module")
def service(new_service):
    return new_service("--quota", "api-calls-per-second=0")


@pytest.fixture(scope="module")
def known(service):
    """Things, tunnels, certificates and policies to speak of. Some of them end on the way."""
    tunneling, iot = service.client(), service.client("iot")
    things = [f"robust-{n}" for n in range(8)]
    for name in things:
        iot.create_thing(thingName=name)
    tunnels = [tunneling.open_tunnel(description="robust") for _ in range(8)]
    made = [iot.create_keys_and_certificate(setAsActive=True) for _ in range(4)]
    arns = [certificate["certificateArn"] for certificate in made]
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    policies = [f"robust-{n}" for n in range(4)]
    for name in policies:
        iot.create_policy(policyName=name, policyDocument=document)
    KNOWN.update({
        "tunnelId": [tunnel["tunnelId"] for tunnel in tunnels],
        "resourceArn": [tunnel["tunnelArn"] for tunnel in tunnels],
        "thingName": things,
        "certificateId": [certificate["certificateId"] for certificate in made],
        "certificatePem": [certificate["certificatePem"] for certificate in made],
        "principal": arns,
        "target": arns,
        "policyName": policies,
        "policyDocument": [document],
        "services": [["SSH"]],
    })


@pytest.fixture(scope="module")
def connection(service):
    made = Connection(service)
    made.counts = {}
    made.slowest = 0.0
    yield made
    made.close()
    sums = ", ".join(f"{count} x {status}" for status, count in sorted(made.counts.items()))
    total = sum(made.counts.values())
    print(f"\nF-09: seed {SEED}, {total} requests, answers {sums}; the slowest after {1000 * made.slowest:.0f} ms")


@pytest.mark.parametrize("name, operation", OPERATIONS, ids=[f"{name}-{operation}" for name, operation in OPERATIONS])
@pytest.mark.usefixtures("known")
def test_whatever_is_asked_is_answered_in_good_order(connection, name, operation):
    @seed(SEED)
    @settings(
        max_examples=max(REQUESTS // len(OPERATIONS), 1), deadline=None, database=None,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )
    @given(requests(name, operation))
    def holds(request):
        start = time.monotonic()
        answer = connection.send(request)
        connection.slowest = max(connection.slowest, time.monotonic() - start)
        connection.counts[answer.status] = connection.counts.get(answer.status, 0) + 1
        check(request, answer)

    holds()


def test_the_service_goes_on_afterwards(service, connection):
    assert connection.counts.get(200), "some of it was good"
    service.client().list_tunnels()
    assert service.process.poll() is None
    bad = [line for line in service.log.read_text().splitlines() if re.search("ERROR|panicked", line)]
    assert not bad, bad[:5]
