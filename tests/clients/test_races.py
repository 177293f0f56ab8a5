"""Many handshakes for one token at the same moment: one winner (reliability, T-04).

`ADIT_HANDSHAKE_RACES` is how often (a release: 10,000).
"""

import concurrent.futures
import os
import threading
import uuid

from handshake import handshake

RACES = int(os.environ.get("ADIT_HANDSHAKE_RACES", "20"))
RUNNERS = 16


def test_one_of_sixteen_handshakes_wins(new_service, store):
    service = new_service(*store)
    client = service.client()
    with concurrent.futures.ThreadPoolExecutor(RUNNERS) as pool:
        for race in range(RACES):
            token = client.open_tunnel()["destinationAccessToken"]
            start = threading.Barrier(RUNNERS)
            won = []

            def run(number):
                # Half of them with a client token of their own, half without any.
                mine = str(uuid.uuid4()) if number % 2 else None
                start.wait()
                return handshake(service, token, "destination", mine, keep=won)[0]

            statuses = sorted(pool.map(run, range(RUNNERS)))
            assert statuses == [101] + [400] * (RUNNERS - 1), (race, statuses)
            for connection in won:
                connection.close()
    print(f"{RACES} races of {RUNNERS}, one winner each")
