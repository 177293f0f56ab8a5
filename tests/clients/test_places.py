"""Who is known cannot keep others off the API by holding all of its connections."""

import threading
import time

from caller import Caller
from test_crowd import second_key

# All that the API takes at once.
PLACES = 512
# Twice what the service waits for a next request, in seconds.
PATIENCE = 30.0


class Holder:
    """Connections of one key, on each of which it asks for something again and again."""

    def __init__(self, service):
        self.connections = []
        for _ in range(PLACES):
            self.connections.append(Caller(service))
            assert self._asks(self.connections[-1])

    @staticmethod
    def _asks(connection):
        try:
            return connection.call("ListTunnels")[0] in (200, 400)
        except (OSError, IndexError):
            return False

    def hold(self, until):
        while not until():
            self.connections = [each for each in self.connections if until() or self._asks(each)]
            time.sleep(0.1)


def test_one_key_that_holds_every_connection_keeps_no_other_out(service):
    keys = second_key(service)
    holder = Holder(service)
    answers = []
    other = threading.Thread(target=lambda: answers.append(Caller(service, keys).call("ListTunnels")[0]))
    other.daemon = True
    other.start()
    deadline = time.monotonic() + PATIENCE
    holder.hold(lambda: answers or time.monotonic() > deadline)
    assert answers == [200], f"{len(holder.connections)} connections of one key kept another out"
    # And the quarter of all places that one key can have for good is still its own.
    assert len(holder.connections) >= PLACES // 4
