"""Every constraint of the model, just inside and just outside (section 3.1).

boto3 checks required members, types and minima itself and is told not to, so that the service is
what answers.
"""

import pytest


@pytest.fixture(scope="module")
def raw(service):
    """A client that sends whatever it is given."""
    return service.client(parameter_validation=False)


@pytest.fixture(scope="module")
def tunnel(raw):
    return raw.open_tunnel(destinationConfig={"services": ["SSH"]})


def tags(count, key=lambda n: f"k{n}", value=lambda _: "v"):
    return [{"key": key(n), "value": value(n)} for n in range(count)]


def services(*names):
    return {"destinationConfig": {"services": list(names)}}


def lifetime(minutes):
    return {"timeoutConfig": {"maxLifetimeTimeoutMinutes": minutes}}


OPEN_INSIDE = {
    "description of one character": {"description": "x"},
    "description of 2048": {"description": "x" * 2048},
    "description of 2048 two-byte letters": {"description": "\u00e9" * 2048},
    "one tag": {"tags": tags(1)},
    "50 tags": {"tags": tags(50)},
    "tag key of 128": {"tags": tags(1, key=lambda _: "k" * 128)},
    "tag value of 256": {"tags": tags(1, value=lambda _: "v" * 256)},
    "empty tag value": {"tags": tags(1, value=lambda _: "")},
    "letters of all scripts in a tag": {"tags": tags(1, key=lambda _: "\u043a\u043b\u044e\u0447 _.:/=+-@1")},
    "one minute": lifetime(1),
    "720 minutes": lifetime(720),
    "service of one character": services("x"),
    "service of 128": services("s" * 128),
    "service of every allowed kind": services("aZ0:_-"),
}

OPEN_OUTSIDE = {
    "empty description": {"description": ""},
    "description of 2049": {"description": "x" * 2049},
    "control character in the description": {"description": "a\x1b[31m"},
    "no tag in the list": {"tags": []},
    "201 tags": {"tags": tags(201)},
    "empty tag key": {"tags": tags(1, key=lambda _: "")},
    "tag key of 129": {"tags": tags(1, key=lambda _: "k" * 129)},
    "tag value of 257": {"tags": tags(1, value=lambda _: "v" * 257)},
    "tag key with a star": {"tags": tags(1, key=lambda _: "a*")},
    "tag key of the owner's": {"tags": tags(1, key=lambda _: "aws:x")},
    "tag without a value": {"tags": [{"key": "k"}]},
    "0 minutes": lifetime(0),
    "721 minutes": lifetime(721),
    "no service": services(),
    "empty service": services(""),
    "service of 129": services("s" * 129),
    "service with a space": services("a b"),
    "services left out": {"destinationConfig": {"thingName": "t"}},
    "empty thing name": {"destinationConfig": {"thingName": "", "services": ["SSH"]}},
    "thing name of 129": {"destinationConfig": {"thingName": "t" * 129, "services": ["SSH"]}},
    "thing name with a slash": {"destinationConfig": {"thingName": "bad/thing", "services": ["SSH"]}},
}


@pytest.mark.parametrize("request_", OPEN_INSIDE.values(), ids=OPEN_INSIDE.keys())
def test_open_tunnel_takes(raw, request_):
    opened = raw.open_tunnel(**request_)
    described = raw.describe_tunnel(tunnelId=opened["tunnelId"])["tunnel"]
    for member, value in request_.items():
        by_key = lambda tag: tag["key"]
        if member == "tags":
            assert sorted(described[member], key=by_key) == sorted(value, key=by_key)
        else:
            assert described[member] == value


@pytest.mark.parametrize("request_", OPEN_OUTSIDE.values(), ids=OPEN_OUTSIDE.keys())
def test_open_tunnel_refuses(raw, request_):
    refused(raw.open_tunnel, request_)


def refused(call, request, code="ValidationException"):
    with pytest.raises(call.__self__.exceptions.ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    assert error["Code"] == code
    assert error["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_51_tags_are_too_many_for_one_tunnel(raw):
    refused(raw.open_tunnel, {"tags": tags(51)}, "LimitExceededException")


@pytest.mark.parametrize("tunnel_id", ["a", "a" * 128, "aZ0_-+=:"])
def test_a_tunnel_id_of_the_right_shape_is_looked_up(raw, tunnel_id):
    refused(raw.describe_tunnel, {"tunnelId": tunnel_id}, "ResourceNotFoundException")


@pytest.mark.parametrize("tunnel_id", ["a", "a" * 128, "aZ0_-+=:"])
def test_a_tunnel_id_of_the_right_shape_is_looked_up_to_be_rotated(raw, tunnel_id):
    request = {"tunnelId": tunnel_id, "clientMode": "ALL"}
    refused(raw.rotate_tunnel_access_token, request, "ResourceNotFoundException")


@pytest.mark.parametrize("tunnel_id", ["", "a" * 129, "a/b", "\u00e9"])
@pytest.mark.parametrize("name", ["describe_tunnel", "close_tunnel"])
def test_a_tunnel_id_of_another_shape_is_refused(raw, name, tunnel_id):
    refused(getattr(raw, name), {"tunnelId": tunnel_id})


@pytest.mark.parametrize("tunnel_id", ["", "a" * 129, "a/b", "\u00e9"])
def test_a_tunnel_id_of_another_shape_is_not_rotated(raw, tunnel_id):
    refused(raw.rotate_tunnel_access_token, {"tunnelId": tunnel_id, "clientMode": "ALL"})


def destination(name, *services):
    return {"thingName": name, "services": list(services)}


def test_a_thing_name_may_have_128_characters(raw, iot):
    name = "t" * 128
    iot.create_thing(thingName=name)
    opened = raw.open_tunnel(destinationConfig=destination(name, "SSH"))
    listed = raw.list_tunnels(thingName=name)["tunnelSummaries"]
    assert [tunnel["tunnelId"] for tunnel in listed] == [opened["tunnelId"]]
    iot.create_thing(thingName="u" * 128)
    rotated = raw.rotate_tunnel_access_token(
        tunnelId=opened["tunnelId"], clientMode="DESTINATION", destinationConfig=destination("u" * 128, "SSH")
    )
    assert rotated["destinationAccessToken"]
    described = raw.describe_tunnel(tunnelId=opened["tunnelId"])["tunnel"]
    assert described["destinationConfig"] == destination("u" * 128, "SSH")


ROTATION_OUTSIDE = {
    "no service": destination("t"),
    "empty service": destination("t", ""),
    "service of 129": destination("t", "s" * 129),
    "service with a space": destination("t", "a b"),
    "services left out": {"thingName": "t"},
    "empty thing name": destination("", "SSH"),
    "thing name of 129": destination("t" * 129, "SSH"),
    "thing name with a slash": destination("bad/thing", "SSH"),
}


@pytest.mark.parametrize("config", ROTATION_OUTSIDE.values(), ids=ROTATION_OUTSIDE.keys())
def test_a_rotation_refuses_a_destination(raw, tunnel, config):
    request = {"tunnelId": tunnel["tunnelId"], "clientMode": "ALL", "destinationConfig": config}
    refused(raw.rotate_tunnel_access_token, request)


@pytest.mark.parametrize("count", [1, 100])
def test_pages_may_be_as_long_as(raw, count):
    raw.list_tunnels(maxResults=count)


@pytest.mark.parametrize("count", [0, 101, -1])
def test_pages_may_not_be_as_long_as(raw, count):
    refused(raw.list_tunnels, {"maxResults": count})


def test_page_tokens_have_bounds(raw):
    for token in ("", "a" * 4097, "a+b"):
        refused(raw.list_tunnels, {"nextToken": token})


@pytest.mark.parametrize("name", ["", "t" * 129, "a b"])
def test_lists_refuse_a_thing_name_of_another_shape(raw, name):
    refused(raw.list_tunnels, {"thingName": name})


@pytest.mark.parametrize("mode", ["BOGUS", "source", "", None])
def test_a_rotation_refuses_a_mode_that_is_none(raw, tunnel, mode):
    request = {"tunnelId": tunnel["tunnelId"]} | ({} if mode is None else {"clientMode": mode})
    refused(raw.rotate_tunnel_access_token, request)


@pytest.mark.parametrize("name", ["describe_tunnel", "close_tunnel", "rotate_tunnel_access_token",
                                  "tag_resource", "untag_resource", "list_tags_for_resource"])
def test_required_members_are_required(raw, name):
    refused(getattr(raw, name), {})


def test_tagging_has_the_bounds_of_the_model(raw, tunnel):
    arn = tunnel["tunnelArn"]
    for wrong in (
        [], tags(201), tags(1, key=lambda _: ""), tags(1, key=lambda _: "k" * 129), tags(1, key=lambda _: "a*"),
        tags(1, key=lambda _: "aws:x"), tags(1, value=lambda _: "v" * 257), tags(1, value=lambda _: "*"), [{"key": "k"}],
    ):
        refused(raw.tag_resource, {"resourceArn": arn, "tags": wrong})
    for wrong in ("", "a" * 1012):
        refused(raw.tag_resource, {"resourceArn": wrong, "tags": tags(1)})
        refused(raw.untag_resource, {"resourceArn": wrong, "tagKeys": ["k"]})
    refused(raw.tag_resource, {"resourceArn": arn, "tags": tags(200)}, "LimitExceededException")
    for wrong in (["k" * 129], [""], ["a*"], [f"k{n}" for n in range(201)]):
        refused(raw.untag_resource, {"resourceArn": arn, "tagKeys": wrong})
    for wrong in ("", "a" * 1012):
        refused(raw.list_tags_for_resource, {"resourceArn": wrong})
    raw.untag_resource(resourceArn=arn, tagKeys=[f"k{n}" for n in range(200)])
    longest = [{"key": "k" * 128, "value": "v" * 256}, {"key": "e", "value": ""}]
    raw.tag_resource(resourceArn=arn, tags=longest)
    listed = raw.list_tags_for_resource(resourceArn=arn)["tags"]
    assert sorted(listed, key=lambda tag: tag["key"]) == sorted(longest, key=lambda tag: tag["key"])
    raw.untag_resource(resourceArn=arn, tagKeys=["k" * 128, "e"])
    assert raw.list_tags_for_resource(resourceArn=arn)["tags"] == []
    refused(raw.list_tags_for_resource, {"resourceArn": "a" * 1011}, "ResourceNotFoundException")
