"""The eight operations, by boto3 (control-plane specification, sections 3 to 7)."""

import datetime
import re
import uuid

import pytest

ARN = re.compile(r"arn:aws:iot:us-east-1:\d{12}:tunnel/(.+)")


def describe(tunneling, tunnel_id):
    return tunneling.describe_tunnel(tunnelId=tunnel_id)["tunnel"]


def test_an_empty_request_opens_a_tunnel_with_the_defaults(tunneling):
    opened = tunneling.open_tunnel()
    assert str(uuid.UUID(opened["tunnelId"])) == opened["tunnelId"]
    assert ARN.fullmatch(opened["tunnelArn"]).group(1) == opened["tunnelId"]
    tokens = {opened["sourceAccessToken"], opened["destinationAccessToken"]}
    assert len(tokens) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{43,1023}", token) for token in tokens)
    tunnel = describe(tunneling, opened["tunnelId"])
    assert tunnel["status"] == "OPEN"
    assert tunnel["sourceConnectionState"]["status"] == "DISCONNECTED"
    assert tunnel["destinationConnectionState"]["status"] == "DISCONNECTED"
    assert tunnel["timeoutConfig"] == {"maxLifetimeTimeoutMinutes": 720}
    assert "destinationConfig" not in tunnel
    assert not tokens & set(map(str, tunnel.values()))


def test_what_was_said_at_the_opening_is_described(tunneling, thing):
    tags = [{"key": "Owner", "value": "Zoë"}, {"key": "empty", "value": ""}]
    config = {"thingName": thing, "services": ["SSH", "HTTP-1"]}
    before = datetime.datetime.now(datetime.timezone.utc)
    opened = tunneling.open_tunnel(
        description="h\u00e9llo \u2603",
        tags=tags,
        destinationConfig=config,
        timeoutConfig={"maxLifetimeTimeoutMinutes": 30},
    )
    tunnel = describe(tunneling, opened["tunnelId"])
    assert tunnel["description"] == "h\u00e9llo \u2603"
    assert sorted(tunnel["tags"], key=lambda tag: tag["key"]) == tags
    assert tunnel["destinationConfig"] == config
    assert tunnel["timeoutConfig"] == {"maxLifetimeTimeoutMinutes": 30}
    assert tunnel["tunnelArn"] == opened["tunnelArn"]
    assert abs((tunnel["createdAt"] - before).total_seconds()) < 60
    assert tunnel["lastUpdatedAt"] >= tunnel["createdAt"]


def test_services_without_a_device_are_fine(tunneling):
    opened = tunneling.open_tunnel(destinationConfig={"services": ["WSS"]})
    config = describe(tunneling, opened["tunnelId"])["destinationConfig"]
    assert config == {"services": ["WSS"]}


def test_a_device_that_nobody_registered_is_refused(tunneling):
    with pytest.raises(tunneling.exceptions.ResourceNotFoundException) as refused:
        tunneling.open_tunnel(destinationConfig={"thingName": "nobody", "services": ["SSH"]})
    assert "nobody" in str(refused.value)


def test_every_answer_has_a_request_id(tunneling):
    ids = {tunneling.list_tunnels()["ResponseMetadata"]["RequestId"] for _ in range(3)}
    assert len(ids) == 3
    with pytest.raises(tunneling.exceptions.ResourceNotFoundException) as refused:
        tunneling.describe_tunnel(tunnelId="none")
    metadata = refused.value.response["ResponseMetadata"]
    assert uuid.UUID(metadata["RequestId"])
    assert metadata["HTTPStatusCode"] == 400
    assert metadata["HTTPHeaders"]["content-type"] == "application/x-amz-json-1.1"


def test_lists_show_the_newest_first_in_pages_of_any_size(tunneling, thing):
    config = {"thingName": thing, "services": ["SSH"]}
    opened = [tunneling.open_tunnel(destinationConfig=config)["tunnelId"] for _ in range(5)]
    for size in (1, 2, 5, 100):
        seen, token = [], {}
        while True:
            page = tunneling.list_tunnels(thingName=thing, maxResults=size, **token)
            assert len(page["tunnelSummaries"]) <= size
            seen += [tunnel["tunnelId"] for tunnel in page["tunnelSummaries"]]
            if not page.get("nextToken"):
                break
            assert re.fullmatch(r"[a-zA-Z0-9_=-]{1,4096}", page["nextToken"])
            token = {"nextToken": page["nextToken"]}
        assert seen == opened[::-1], size


def test_a_list_of_another_device_is_empty(tunneling):
    assert tunneling.list_tunnels(thingName="nobody")["tunnelSummaries"] == []


def test_a_page_token_that_nobody_gave_out_is_refused(tunneling):
    for token in ("x", "AAAA", "=" * 4096):
        with pytest.raises(tunneling.exceptions.ClientError) as refused:
            tunneling.list_tunnels(nextToken=token)
        assert refused.value.response["Error"]["Code"] == "ValidationException", token


def test_a_closed_tunnel_stays_visible_and_closing_again_is_fine(tunneling):
    tunnel_id = tunneling.open_tunnel(description="closed")["tunnelId"]
    for _ in range(2):
        tunneling.close_tunnel(tunnelId=tunnel_id)
        assert describe(tunneling, tunnel_id)["status"] == "CLOSED"
    listed = tunneling.list_tunnels()["tunnelSummaries"]
    assert {"CLOSED"} == {t["status"] for t in listed if t["tunnelId"] == tunnel_id}


def test_a_deleted_tunnel_is_gone(tunneling):
    for close_first in (False, True):
        tunnel_id = tunneling.open_tunnel()["tunnelId"]
        if close_first:
            tunneling.close_tunnel(tunnelId=tunnel_id)
        tunneling.close_tunnel(tunnelId=tunnel_id, delete=True)
        for call in (tunneling.describe_tunnel, tunneling.close_tunnel):
            with pytest.raises(tunneling.exceptions.ResourceNotFoundException):
                call(tunnelId=tunnel_id)
        listed = tunneling.list_tunnels()["tunnelSummaries"]
        assert tunnel_id not in {t["tunnelId"] for t in listed}


@pytest.mark.parametrize(
    "mode, sides", [("SOURCE", {"source"}), ("DESTINATION", {"destination"}), ("ALL", {"source", "destination"})]
)
def test_a_rotation_answers_the_new_tokens_of_its_sides_and_no_others(tunneling, mode, sides):
    opened = tunneling.open_tunnel(destinationConfig={"services": ["SSH"]})
    rotated = tunneling.rotate_tunnel_access_token(tunnelId=opened["tunnelId"], clientMode=mode)
    assert rotated["tunnelArn"] == opened["tunnelArn"]
    for side in ("source", "destination"):
        name = f"{side}AccessToken"
        assert (name in rotated) == (side in sides)
        assert rotated.get(name) != opened[name]


def test_a_rotation_may_name_the_device_and_keeps_it(tunneling, thing):
    tunnel_id = tunneling.open_tunnel(destinationConfig={"services": ["SSH"]})["tunnelId"]
    config = {"thingName": thing, "services": ["SSH"]}
    tunneling.rotate_tunnel_access_token(
        tunnelId=tunnel_id, clientMode="DESTINATION", destinationConfig=config
    )
    assert describe(tunneling, tunnel_id)["destinationConfig"] == config


def test_a_rotation_cannot_change_the_services_nor_a_sources_device(tunneling):
    tunnel_id = tunneling.open_tunnel(destinationConfig={"services": ["SSH"]})["tunnelId"]
    for mode, services in (("ALL", ["VNC"]), ("SOURCE", ["SSH"])):
        with pytest.raises(tunneling.exceptions.ClientError) as refused:
            tunneling.rotate_tunnel_access_token(
                tunnelId=tunnel_id, clientMode=mode, destinationConfig={"services": services}
            )
        assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_a_closed_tunnel_is_described_and_tagged_but_not_rotated(tunneling):
    opened = tunneling.open_tunnel()
    tunneling.close_tunnel(tunnelId=opened["tunnelId"])
    tags = [{"key": "k", "value": "v"}]
    tunneling.tag_resource(resourceArn=opened["tunnelArn"], tags=tags)
    assert describe(tunneling, opened["tunnelId"])["tags"] == tags
    with pytest.raises(tunneling.exceptions.ResourceNotFoundException) as refused:
        tunneling.rotate_tunnel_access_token(tunnelId=opened["tunnelId"], clientMode="ALL")
    assert "closed" in str(refused.value)


def test_tags_are_added_overwritten_and_removed(tunneling):
    arn = tunneling.open_tunnel(tags=[{"key": "a", "value": "1"}])["tunnelArn"]

    def tags():
        answer = tunneling.list_tags_for_resource(resourceArn=arn)
        return {tag["key"]: tag["value"] for tag in answer["tags"]}

    tunneling.tag_resource(
        resourceArn=arn, tags=[{"key": "a", "value": "2"}, {"key": "b c", "value": "\u00fc@/+"}]
    )
    assert tags() == {"a": "2", "b c": "\u00fc@/+"}
    tunneling.untag_resource(resourceArn=arn, tagKeys=["a", "never there"])
    assert tags() == {"b c": "\u00fc@/+"}
    tunneling.untag_resource(resourceArn=arn, tagKeys=[])
    assert tags() == {"b c": "\u00fc@/+"}


def test_tags_of_what_is_not_there_are_refused(tunneling):
    arn = tunneling.open_tunnel()["tunnelArn"]
    foreign = [arn + "0", arn.replace("us-east-1", "eu-west-1"), "arn:aws:iot:::thing/x", "x"]
    for wrong in foreign:
        with pytest.raises(tunneling.exceptions.ResourceNotFoundException):
            tunneling.list_tags_for_resource(resourceArn=wrong)
        with pytest.raises(tunneling.exceptions.ResourceNotFoundException):
            tunneling.tag_resource(resourceArn=wrong, tags=[{"key": "k", "value": "v"}])
        with pytest.raises(tunneling.exceptions.ResourceNotFoundException):
            tunneling.untag_resource(resourceArn=wrong, tagKeys=["k"])


def test_quotas_answer_the_modelled_exception(new_service):
    tunneling = new_service("--quotas", "aws").client()
    tunneling.open_tunnel(destinationConfig={"services": ["A", "B", "C"]})
    with pytest.raises(tunneling.exceptions.LimitExceededException):
        tunneling.open_tunnel(destinationConfig={"services": ["A", "B", "C", "D"]})
