"""`kill -9` at random moments under load: what was acknowledged is there afterwards.

`ADIT_KILLS` is how often (a release: 200), `ADIT_SEED` when.
"""

import concurrent.futures
import os
import random
import threading
import time

import botocore.exceptions
import pytest

KILLS = int(os.environ.get("ADIT_KILLS", "6"))
SEED = int(os.environ.get("ADIT_SEED", str(random.randrange(2**32))))
CALLERS = 4
LOST = (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)


class Caller(threading.Thread):
    """Opens, tags, rotates, closes and deletes its own tunnels, and remembers each answer."""

    def __init__(self, client, seed, tunnels):
        super().__init__()
        self.client = client
        self.random = random.Random(seed)
        # By id: what has to hold. Two values where a call got no answer: either of them.
        self.tunnels = tunnels
        self.acknowledged = 0

    def run(self):
        try:
            while True:
                self.step()
                self.acknowledged += 1
        except LOST:
            pass

    def step(self):
        open_ = [id for id, states in self.tunnels.items() if states == ["OPEN"]]
        if not open_ or self.random.random() < 0.5:
            opened = self.client.open_tunnel(tags=[{"key": "n", "value": "0"}])
            self.tunnels[opened["tunnelId"]] = ["OPEN"]
            return
        tunnel = self.random.choice(open_)
        delete = self.random.random() < 0.3
        after = "GONE" if delete else "CLOSED"
        self.tunnels[tunnel] = ["OPEN", after]
        self.client.close_tunnel(tunnelId=tunnel, delete=delete)
        self.tunnels[tunnel] = [after]


def state_of(client, tunnel):
    try:
        return client.describe_tunnel(tunnelId=tunnel)["tunnel"]["status"]
    except client.exceptions.ResourceNotFoundException:
        return "GONE"


def test_nothing_acknowledged_is_lost_by_kills(new_service, store):
    print(f"ADIT_SEED={SEED}")
    moments = random.Random(SEED)
    service = new_service(*store)
    known = [{} for _ in range(CALLERS)]
    acknowledged = 0
    for kill in range(KILLS):
        callers = [
            Caller(service.client(), SEED + kill * CALLERS + n, tunnels)
            for n, tunnels in enumerate(known)
        ]
        for caller in callers:
            caller.start()
        time.sleep(moments.uniform(0.0, 0.6))
        service.kill()
        for caller in callers:
            caller.join()
        acknowledged += sum(caller.acknowledged for caller in callers)
        service.start()
        client = service.client()
        for tunnels in known:
            # All of the last round and some of those before: a look at each would take hours in the end.
            for tunnel in moments.sample(sorted(tunnels), min(len(tunnels), 40)):
                state = state_of(client, tunnel)
                assert state in tunnels[tunnel], (kill, tunnel, state, tunnels[tunnel])
                tunnels[tunnel] = [state]
    client = service.client()
    for tunnels in known:
        for tunnel, states in tunnels.items():
            assert state_of(client, tunnel) in states
    print(f"{KILLS} kills, {acknowledged} acknowledged changes, none lost")
    assert acknowledged > KILLS


def test_a_token_spent_before_the_kill_is_spent_after_it(new_service, store, tmp_path):
    """Spent by a handshake that was answered; a rotation makes the tunnel usable again."""
    from handshake import handshake

    service = new_service(*store)
    client = service.client()
    opened = client.open_tunnel()
    token = opened["sourceAccessToken"]
    assert handshake(service, token)[0] == 101
    service.kill().start()
    client = service.client()
    status, body = handshake(service, token)
    assert (status, "previously used" in body) == (400, True)
    rotated = client.rotate_tunnel_access_token(tunnelId=opened["tunnelId"], clientMode="SOURCE")
    assert handshake(service, rotated["sourceAccessToken"])[0] == 101
    assert handshake(service, token)[0] == 400


RACERS = 8


def test_a_kill_between_the_use_of_a_token_and_its_answer_costs_a_rotation_at_most(new_service, store):
    """Handshakes without a client token, each for a token of its own, are under way when the service dies.

    Who was answered has used up the token; who was not may have, which is what happens when the kill
    comes between the commit and the 101. Either way a rotation makes the side usable.
    """
    from handshake import handshake

    print(f"ADIT_SEED={SEED}")
    moments = random.Random(SEED)
    service = new_service(*store)
    answered = between = untouched = 0

    def run(opened):
        try:
            return handshake(service, opened["sourceAccessToken"])[0]
        except (OSError, IndexError):
            return None

    kills = max(KILLS // 2, 3)
    for kill in range(kills):
        client = service.client()
        opened = [client.open_tunnel() for _ in range(RACERS)]
        with concurrent.futures.ThreadPoolExecutor(RACERS) as pool:
            runs = [pool.submit(run, tunnel) for tunnel in opened]
            time.sleep(moments.uniform(0.0, 0.03))
            service.kill()
            statuses = [run.result() for run in runs]
        service.start()
        client = service.client()
        for tunnel, status in zip(opened, statuses):
            assert status in (101, None), (kill, status)
            again, body = handshake(service, tunnel["sourceAccessToken"])
            spent = again == 400 and "previously used" in body
            assert spent or again == 101, (kill, again, body)
            assert spent or status is None, (kill, "an answered handshake was forgotten")
            answered += status == 101
            between += spent and status is None
            untouched += not spent
            rotated = client.rotate_tunnel_access_token(
                tunnelId=tunnel["tunnelId"], clientMode="SOURCE"
            )
            assert handshake(service, rotated["sourceAccessToken"])[0] == 101
            client.close_tunnel(tunnelId=tunnel["tunnelId"], delete=True)
    print(f"{kills} kills under {RACERS} handshakes each: {answered} answered, {between} spent and not "
          f"answered, {untouched} not spent; no token was good twice, each rotation was")
