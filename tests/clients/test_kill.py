"""`kill -9` at random moments under load: what was acknowledged is there afterwards.

`ADIT_KILLS` is how often (a release: 200), `ADIT_SEED` when.
"""

import concurrent.futures
import hashlib
import json
import os
import random
import threading
import time

import botocore.exceptions
import pytest

from conftest import REGION, Device
from handshake import handshake
from stacks import Paho

KILLS = int(os.environ.get("ADIT_KILLS", "6"))
SEED = int(os.environ.get("ADIT_SEED", str(random.randrange(2**32))))
CALLERS = 4
LOST = (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)


class Caller(threading.Thread):
    """Changes what is its own, and remembers what each answer promised.

    Of each thing it knows facts, and of each fact the values that it may have: one, or two where a call
    got no answer.
    """

    def __init__(self, service, seed, known):
        super().__init__()
        self.service = service
        self.random = random.Random(seed)
        self.known = known
        self.acknowledged = 0

    def run(self):
        try:
            while True:
                self.step()
                self.acknowledged += 1
        except LOST:
            pass

    def any_with(self, **facts):
        found = [name for name, known in self.known.items() if facts.items() <= known.items()]
        return self.random.choice(found) if found else None

    def change(self, name, call, **facts):
        """A call after which these facts have these values, and before which they had others."""
        before = self.known[name]
        self.known[name] = before | {fact: before[fact] + [value] for fact, value in facts.items()}
        answer = call()
        self.known[name] = before | {fact: [value] for fact, value in facts.items()}
        return answer

    def check(self, name):
        """Compares with what is there after a restart, and knows no more doubt."""
        known = self.known[name]
        for fact, value in self.look(name, known).items():
            assert value in known[fact], (name, fact, value, known)
            known[fact] = [value]


class Tunnels(Caller):
    """Opens, tags, rotates, closes and deletes tunnels."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.client = self.service.client()

    def step(self):
        tunnel, action = self.any_with(status=["OPEN"]), self.random.random()
        if tunnel is None or action < 0.3:
            opened = self.client.open_tunnel(tags=[{"key": "n", "value": "0"}])
            self.known[opened["tunnelId"]] = {
                "status": ["OPEN"], "n": ["0"], "token": [opened["sourceAccessToken"]], "replaced": [None],
            }
        elif action < 0.5:
            value = str(self.acknowledged)
            tags = [{"key": "n", "value": value}]
            self.change(tunnel, lambda: self.client.tag_resource(resourceArn=arn(tunnel), tags=tags), n=value)
        elif action < 0.6:
            self.change(tunnel, lambda: self.client.untag_resource(resourceArn=arn(tunnel), tagKeys=["n"]), n=None)
        elif action < 0.75:
            rotate = self.client.rotate_tunnel_access_token
            before = self.known[tunnel]["token"]
            rotated = self.change(tunnel, lambda: rotate(tunnelId=tunnel, clientMode="SOURCE"), token=None)
            self.known[tunnel] |= {"token": [rotated["sourceAccessToken"]], "replaced": before}
        else:
            delete = action > 0.9
            close = self.client.close_tunnel
            after = "GONE" if delete else "CLOSED"
            self.change(tunnel, lambda: close(tunnelId=tunnel, delete=delete), status=after)

    def look(self, tunnel, known):
        try:
            status = self.client.describe_tunnel(tunnelId=tunnel)["tunnel"]["status"]
        except self.client.exceptions.ResourceNotFoundException:
            return {"status": "GONE"}
        tags = self.client.list_tags_for_resource(resourceArn=arn(tunnel))["tags"]
        facts = {"status": status, "n": next((tag["value"] for tag in tags), None)}
        # A handshake is dear, so that few tokens are tried.
        if status == "OPEN" and self.random.random() < 0.2:
            token, replaced = known["token"][0], known["replaced"][0]
            if token is not None:
                facts["token"] = token if self.is_good(token) else None
            if replaced is not None:
                assert not self.is_good(replaced), (tunnel, known)
        return facts

    def is_good(self, token):
        """Leaves it good: with a client token of its own, it can be used again."""
        client_token = hashlib.md5(token.encode()).hexdigest()
        return handshake(self.service, token, client_token=client_token)[0] == 101


class Registry(Caller):
    """Creates, changes and deletes things, policies and certificates; attaches and detaches."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.client = self.service.client("iot")
        self.prefix = f"k{self.random.randrange(2**40):x}"

    def step(self):
        action, name = self.random.random(), f"{self.prefix}-{self.acknowledged}"
        if action < 0.2:
            self.known[name] = {"kind": ["thing"], "n": [None]}
            attributes = {"attributes": {"n": "0"}}
            self.change(name, lambda: self.client.create_thing(thingName=name, attributePayload=attributes), n="0")
        elif action < 0.35:
            self.known[name] = {"kind": ["policy"], "n": [None]}
            create = self.client.create_policy
            self.change(name, lambda: create(policyName=name, policyDocument=POLICY), n="there")
        elif action < 0.5:
            made = self.client.create_keys_and_certificate(setAsActive=True)
            self.known[made["certificateId"]] = {"kind": ["certificate"], "n": ["ACTIVE"]}
        elif action < 0.65:
            self.attach_or_detach(name)
        elif action < 0.8:
            self.update(str(self.acknowledged))
        else:
            self.remove()

    def attach_or_detach(self, name):
        """Of a thing and a certificate that both stay."""
        pair = self.any_with(kind=["pair"])
        if pair is None or self.random.random() < 0.2:
            certificate = self.client.create_keys_and_certificate(setAsActive=True)["certificateArn"]
            self.client.create_thing(thingName=name)
            self.known[name] = {"kind": ["pair"], "certificate": [certificate], "n": [None]}
            return
        place = {"thingName": pair, "principal": self.known[pair]["certificate"][0]}
        if self.known[pair]["n"] == [None]:
            self.change(pair, lambda: self.client.attach_thing_principal(**place), n="attached")
        else:
            self.change(pair, lambda: self.client.detach_thing_principal(**place), n=None)

    def update(self, value):
        certificate = self.any_with(kind=["certificate"], n=["ACTIVE"])
        thing = self.any_with(kind=["thing"])
        if thing and self.known[thing]["n"][-1] is not None:
            attributes = {"attributes": {"n": value}}
            update = self.client.update_thing
            self.change(thing, lambda: update(thingName=thing, attributePayload=attributes), n=value)
        elif certificate:
            update = self.client.update_certificate
            self.change(certificate, lambda: update(certificateId=certificate, newStatus="REVOKED"), n="REVOKED")

    def remove(self):
        policy = self.any_with(kind=["policy"], n=["there"])
        thing = self.any_with(kind=["thing"])
        if policy:
            self.change(policy, lambda: self.client.delete_policy(policyName=policy), n=None)
        elif thing and self.known[thing]["n"] != [None]:
            self.change(thing, lambda: self.client.delete_thing(thingName=thing), n=None)

    def look(self, name, known):
        try:
            match known["kind"]:
                case ["thing"]:
                    return {"n": self.client.describe_thing(thingName=name)["attributes"]["n"]}
                case ["policy"]:
                    return {"n": self.client.get_policy(policyName=name) and "there"}
                case ["pair"]:
                    attached = self.client.list_thing_principals(thingName=name)["principals"]
                    assert attached in ([], known["certificate"]), (name, attached, known)
                    return {"n": "attached" if attached else None}
                case ["certificate"]:
                    described = self.client.describe_certificate(certificateId=name)
                    return {"n": described["certificateDescription"]["status"]}
        except self.client.exceptions.ResourceNotFoundException:
            return {"n": None}


POLICY = json.dumps({
    "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}],
})


def arn(tunnel):
    return f"arn:aws:iot:{REGION}:000000000000:tunnel/{tunnel}"


@pytest.mark.parametrize("kind", [Tunnels, Registry])
def test_nothing_acknowledged_is_lost_by_kills(new_service, store, kind):
    print(f"ADIT_SEED={SEED}")
    moments = random.Random(SEED)
    service = new_service("--quota", "api-calls-per-second=0", *store)
    known = [{} for _ in range(CALLERS)]
    acknowledged = checked = 0

    def callers(kill):
        return [kind(service, SEED + kill * CALLERS + n, facts) for n, facts in enumerate(known)]

    for kill in range(KILLS):
        running = callers(kill)
        for caller in running:
            caller.start()
        time.sleep(moments.uniform(0.0, 0.6))
        service.kill()
        for caller in running:
            caller.join()
        acknowledged += sum(caller.acknowledged for caller in running)
        service.start()
        for caller in callers(kill):
            # All that is in doubt and some of the others: a look at each would take hours in the end.
            names = sorted(caller.known)
            doubtful = [name for name in names if any(len(may) > 1 for may in caller.known[name].values())]
            for name in {*doubtful, *moments.sample(names, min(len(names), 30))}:
                caller.check(name)
                checked += 1
    for caller in callers(KILLS):
        for name in caller.known:
            caller.check(name)
            checked += 1
    print(f"{KILLS} kills, {kind.__name__}: {acknowledged} acknowledged changes, {checked} looks, none lost")
    assert acknowledged > KILLS


def test_a_token_spent_before_the_kill_is_spent_after_it(new_service, store, tmp_path):
    """Spent by a handshake that was answered; a rotation makes the tunnel usable again."""
    service = new_service("--quota", "api-calls-per-second=0", *store)
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


class Opener(threading.Thread):
    """Opens tunnels for a device that is away, as many as wait for one; remembers what was acknowledged."""

    def __init__(self, service, device):
        super().__init__()
        self.client, self.device = service.client(), device
        self.opened = []

    def run(self):
        config = {"thingName": self.device.name, "services": ["SSH"]}
        try:
            while len(self.opened) < WAITING:
                self.opened.append(self.client.open_tunnel(destinationConfig=config))
        except LOST:
            pass


# For one device; of more the oldest would go. One may wait that was not acknowledged.
WAITING = 19
DEVICES = 4


def test_what_waits_for_devices_outlives_kills(new_service, store, tmp_path):
    print(f"ADIT_SEED={SEED}")
    moments = random.Random(SEED)
    service = new_service("--quota", "api-calls-per-second=0", *store)
    iot = service.client("iot")
    devices = [Device(iot, tmp_path, f"away-{moments.randrange(2**40):x}") for _ in range(DEVICES)]
    for device in devices:
        with Paho(service, device, keep=True) as client:
            client.ready()
    kills, delivered, more = max(KILLS // 2, 3), 0, 0
    for _ in range(kills):
        openers = [Opener(service, device) for device in devices]
        for opener in openers:
            opener.start()
        time.sleep(moments.uniform(0.0, 0.4))
        service.kill()
        for opener in openers:
            opener.join()
        service.start()
        tunneling = service.client()
        for opener in openers:
            missing = {opened["destinationAccessToken"] for opened in opener.opened}
            delivered += len(missing)
            with Paho(service, opener.device, keep=True) as client:
                assert client.next("connected"), "the session is gone"
                while missing:
                    token = json.loads(client.message())["clientAccessToken"]
                    more += token not in missing
                    missing.discard(token)
            for opened in opener.opened:
                tunneling.close_tunnel(tunnelId=opened["tunnelId"], delete=True)
    print(f"{kills} kills: {delivered} notifications of acknowledged calls, none lost; {more} of others or again")
    assert delivered


RACERS = 8


def test_a_kill_between_the_use_of_a_token_and_its_answer_costs_a_rotation_at_most(new_service, store):
    """Handshakes without a client token, each for a token of its own, are under way when the service dies.

    Who was answered has used up the token; who was not may have, which is what happens when the kill
    comes between the commit and the 101. Either way a rotation makes the side usable.
    """
    print(f"ADIT_SEED={SEED}")
    moments = random.Random(SEED)
    service = new_service("--quota", "api-calls-per-second=0", *store)
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
