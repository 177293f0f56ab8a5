"""AWS's own device stack names its protocol in TLS by itself, and on port 443 only (clients' specification, section 5).

That port takes root, or leave to listen on it.
"""

import errno
import json
import socket

import pytest

import programs
from conftest import Device
from stacks import Crt, Crt5

PORT = 443


def is_ours():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", PORT))
        except OSError as error:
            assert error.errno in (errno.EACCES, errno.EADDRINUSE), error
            return False
    return True


@pytest.fixture(params=["--api-listen", "--mqtt-listen"])
def service_there(new_service, request):
    """With the port that API and devices share there, or the one of devices alone."""
    if not is_ours():
        programs.lacking(f"a free port {PORT} that this user may listen on")
    service = new_service(request.param, f"127.0.0.1:{PORT}")
    yield service
    service.stop()


@pytest.mark.parametrize("stack", [Crt, Crt5], ids=lambda stack: stack.__name__.lower())
def test_the_name_that_awss_stack_sends_leads_to_the_broker(service_there, tmp_path, stack):
    device = Device(service_there.client("iot"), tmp_path, "lamp")
    with stack(service_there, device, port=PORT) as client:
        client.ready()
        config = {"thingName": device.name, "services": ["SSH"]}
        opened = service_there.client().open_tunnel(destinationConfig=config)
        token = json.loads(client.next("message"))["clientAccessToken"]
        assert token == opened["destinationAccessToken"]
