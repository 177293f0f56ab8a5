"""Things, certificates and policies, by boto3 `iot`, and who one is, by `sts`
(control-plane specification, section 14.4)."""

import hashlib
import json
import re
import ssl
import subprocess
import uuid

import pytest

POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}],
    }
)
PREFIX = r"arn:aws:iot:us-east-1:\d{12}:"


@pytest.fixture
def name():
    """A name that nobody else uses, with every kind of character that a thing's may have."""
    return f"a:b_C-{uuid.uuid4().hex}"


@pytest.fixture
def certificate(iot):
    return iot.create_keys_and_certificate(setAsActive=True)


def status(iot, certificate):
    described = iot.describe_certificate(certificateId=certificate["certificateId"])
    return described["certificateDescription"]["status"]


def refused(error, code, status):
    assert error.value.response["Error"]["Code"] == code
    assert error.value.response["Error"]["Message"]
    metadata = error.value.response["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == status
    assert uuid.UUID(metadata["RequestId"])


def openssl(*arguments, stdin=None):
    done = subprocess.run(
        ["openssl", *arguments], input=stdin, capture_output=True, check=True, text=True
    )
    return done.stdout


def signing_request(directory, *key):
    path = directory / f"{uuid.uuid4().hex}.key"
    openssl("genpkey", *key, "-out", str(path))
    return openssl("req", "-new", "-key", str(path), "-subj", "/CN=of the caller's choice")


P256 = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


# Things


def test_a_thing_is_created_described_updated_and_deleted(iot, name):
    made = iot.create_thing(thingName=name, attributePayload={"attributes": {"room": "hall"}})
    assert made["thingName"] == name
    assert re.fullmatch(PREFIX + f"thing/{name}", made["thingArn"])
    assert str(uuid.UUID(made["thingId"])) == made["thingId"]

    thing = iot.describe_thing(thingName=name)
    assert thing["thingId"] == made["thingId"]
    assert thing["defaultClientId"] == name
    assert thing["attributes"] == {"room": "hall"}
    assert thing["version"] == 1
    assert "thingTypeName" not in thing

    payload = {"attributes": {"floor": "1"}, "merge": True}
    iot.update_thing(thingName=name, attributePayload=payload, thingTypeName="lamp")
    thing = iot.describe_thing(thingName=name)
    assert thing["attributes"] == {"room": "hall", "floor": "1"}
    assert thing["thingTypeName"] == "lamp"
    assert thing["version"] == 2
    iot.update_thing(thingName=name, attributePayload={"attributes": {}}, removeThingType=True)
    thing = iot.describe_thing(thingName=name)
    assert thing["attributes"] == {} and "thingTypeName" not in thing

    iot.delete_thing(thingName=name, expectedVersion=3)
    iot.delete_thing(thingName=name)
    with pytest.raises(iot.exceptions.ResourceNotFoundException) as error:
        iot.describe_thing(thingName=name)
    refused(error, "ResourceNotFoundException", 404)


def test_creating_a_thing_again_is_fine_unless_it_differs(iot, name):
    first = iot.create_thing(thingName=name)
    assert iot.create_thing(thingName=name)["thingId"] == first["thingId"]
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as error:
        iot.create_thing(thingName=name, thingTypeName="lamp")
    refused(error, "ResourceAlreadyExistsException", 409)


def test_an_unexpected_version_is_a_conflict(iot, name):
    iot.create_thing(thingName=name)
    for call in (iot.update_thing, iot.delete_thing):
        with pytest.raises(iot.exceptions.VersionConflictException) as error:
            call(thingName=name, expectedVersion=9)
        refused(error, "VersionConflictException", 409)


@pytest.mark.parametrize("bad", ["a/b", "a b", "ä", "x" * 129, "a%2Fb", "a#b"])
def test_names_that_no_thing_has_are_refused(iot, bad):
    for call in (iot.create_thing, iot.describe_thing, iot.delete_thing):
        with pytest.raises(iot.exceptions.InvalidRequestException) as error:
            call(thingName=bad)
        refused(error, "InvalidRequestException", 400)


def test_attributes_keep_to_their_bounds(iot, name):
    def create(attributes):
        iot.create_thing(thingName=name, attributePayload={"attributes": attributes})

    for attributes in (
        {"n" * 129: "v"},
        {"n": "v" * 801},
        {"a b": "v"},
        {"n": "a b"},
        {"n=": "v"},
    ):
        with pytest.raises(iot.exceptions.InvalidRequestException):
            create(attributes)
    with pytest.raises(iot.exceptions.ClientError) as error:
        create({f"n{index}": "v" for index in range(51)})
    refused(error, "LimitExceededException", 410)
    full = {f"n{index}": "v" for index in range(48)}
    full |= {"n" * 128: "v" * 800, "a_.,@/:#-": "a_.,@/:#=[]-"}
    create(full)
    assert iot.describe_thing(thingName=name)["attributes"] == full


def test_things_are_listed_page_by_page_and_filtered(new_service):
    iot = new_service().client("iot")
    names = [f"thing-{index:03}" for index in range(120)]
    for index, name in enumerate(names):
        attributes = {"even": str(index % 2 == 0).lower()} if index % 3 else {}
        kind = {"thingTypeName": "lamp"} if index % 5 == 0 else {}
        iot.create_thing(thingName=name, attributePayload={"attributes": attributes}, **kind)

    def listed(**query):
        pages = iot.get_paginator("list_things").paginate(**query)
        return [thing["thingName"] for page in pages for thing in page["things"]]

    assert listed() == names
    assert listed(PaginationConfig={"PageSize": 7}) == names
    assert len(iot.list_things(maxResults=250)["things"]) == 120
    assert "nextToken" not in iot.list_things(maxResults=120)
    even = {"attributeName": "even", "attributeValue": "true"}
    expected = [n for i, n in enumerate(names) if i % 3 and i % 2 == 0]
    assert listed(**even, PaginationConfig={"PageSize": 10}) == expected
    assert listed(attributeName="even") == [n for i, n in enumerate(names) if i % 3]
    prefix = even | {"attributeValue": "tr", "usePrefixAttributeValue": True}
    assert listed(**prefix) == expected
    assert listed(thingTypeName="lamp") == names[::5]
    both = [n for i, n in enumerate(names) if i % 3 and i % 2 == 0 and i % 5 == 0]
    assert listed(thingTypeName="lamp", **even, PaginationConfig={"PageSize": 3}) == both
    assert listed(thingTypeName="nothing") == []
    for thing in iot.list_things(thingTypeName="lamp", **even)["things"]:
        assert (thing["thingTypeName"], thing["attributes"]) == ("lamp", {"even": "true"})
    iot.update_thing(thingName=names[0], attributePayload={"attributes": {"even": "no"}})
    iot.delete_thing(thingName=names[-1])
    assert listed(attributeName="even", attributeValue="no") == [names[0]]
    assert listed() == names[:-1]
    iot.create_thing(thingName=names[-1])
    for bad in ({"maxResults": 251}, {"nextToken": "AAAA"}, {"nextToken": "?"}):
        with pytest.raises(iot.exceptions.InvalidRequestException):
            iot.list_things(**bad)


# Certificates


def test_keys_fit_their_certificate(iot, certificate, tmp_path):
    pem = certificate["certificatePem"]
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert certificate["certificateId"] == hashlib.sha256(der).hexdigest()
    arn = PREFIX + f"cert/{certificate['certificateId']}"
    assert re.fullmatch(arn, certificate["certificateArn"])
    of_certificate = openssl("x509", "-noout", "-pubkey", stdin=pem)
    of_key = openssl("pkey", "-pubout", stdin=certificate["keyPair"]["PrivateKey"])
    assert of_certificate == of_key == certificate["keyPair"]["PublicKey"]


def test_certificates_lead_to_the_services_own_authority(service, certificate, tmp_path):
    path = tmp_path / "device.pem"
    path.write_text(certificate["certificatePem"])
    openssl("verify", "-purpose", "sslclient", "-CAfile", service.ca, str(path))
    with pytest.raises(subprocess.CalledProcessError):
        openssl("verify", "-purpose", "sslserver", "-CAfile", service.ca, str(path))


def test_a_certificate_is_described_and_changes_its_status(iot):
    made = iot.create_keys_and_certificate()
    identity = made["certificateId"]
    described = iot.describe_certificate(certificateId=identity)["certificateDescription"]
    assert described["certificateArn"] == made["certificateArn"]
    assert described["certificatePem"] == made["certificatePem"]
    assert described["status"] == "INACTIVE"
    assert described["certificateMode"] == "DEFAULT"
    assert described["creationDate"] == described["lastModifiedDate"]
    validity = described["validity"]
    assert validity["notBefore"] < described["creationDate"] < validity["notAfter"]
    days = (validity["notAfter"] - validity["notBefore"]).days
    assert 3600 < days <= 3650
    for new in ("ACTIVE", "REVOKED", "ACTIVE", "INACTIVE"):
        iot.update_certificate(certificateId=identity, newStatus=new)
        assert status(iot, made) == new
    for bad in ("PENDING_TRANSFER", "PENDING_ACTIVATION", "REGISTER_INACTIVE", "active"):
        with pytest.raises(iot.exceptions.InvalidRequestException):
            iot.update_certificate(certificateId=identity, newStatus=bad)


def test_a_request_is_signed_and_says_nothing_but_its_key(iot, tmp_path):
    request = signing_request(tmp_path, *P256)
    made = iot.create_certificate_from_csr(certificateSigningRequest=request, setAsActive=True)
    assert "keyPair" not in made
    assert status(iot, made) == "ACTIVE"
    pem = made["certificatePem"]
    of_certificate = openssl("x509", "-noout", "-pubkey", stdin=pem)
    assert of_certificate == openssl("req", "-noout", "-pubkey", stdin=request)
    assert "choice" not in openssl("x509", "-noout", "-subject", stdin=pem)
    again = iot.create_certificate_from_csr(certificateSigningRequest=request)
    assert again["certificateId"] != made["certificateId"]


@pytest.mark.parametrize(
    ("key", "good"),
    [
        (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"), True),
        (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"), False),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"), True),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"), True),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"), False),
        (("-algorithm", "ED25519"), True),
    ],
)
def test_weak_and_unusual_keys_are_refused(iot, tmp_path, key, good):
    request = signing_request(tmp_path, *key)
    if good:
        iot.create_certificate_from_csr(certificateSigningRequest=request)
        return
    with pytest.raises(iot.exceptions.InvalidRequestException) as error:
        iot.create_certificate_from_csr(certificateSigningRequest=request)
    assert "RSA of 2048" in str(error.value)


def test_requests_that_are_none_are_refused(iot, certificate):
    for bad in ("x", certificate["certificatePem"], certificate["keyPair"]["PrivateKey"]):
        with pytest.raises(iot.exceptions.InvalidRequestException) as error:
            iot.create_certificate_from_csr(certificateSigningRequest=bad)
        assert "PRIVATE KEY" not in str(error.value)


def test_a_certificate_of_somebody_else_is_registered_once(iot, tmp_path):
    key = tmp_path / "own.key"
    openssl("genpkey", *P256, "-out", str(key))
    pem = openssl("req", "-x509", "-key", str(key), "-subj", "/CN=own", "-days", "2")
    with pytest.raises(iot.exceptions.CertificateValidationException) as error:
        iot.register_certificate_without_ca(certificatePem="not one", status="ACTIVE")
    refused(error, "CertificateValidationException", 400)
    made = iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert made["certificateId"] == hashlib.sha256(der).hexdigest()
    described = iot.describe_certificate(certificateId=made["certificateId"])
    assert described["certificateDescription"]["status"] == "ACTIVE"
    assert described["certificateDescription"]["certificateMode"] == "SNI_ONLY"
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as error:
        iot.register_certificate_without_ca(certificatePem=pem)
    refused(error, "ResourceAlreadyExistsException", 409)
    assert "already provisioned or registered" in str(error.value)


def test_a_certificate_that_was_deleted_comes_back_as_the_same(iot):
    """The id is that of its bytes, whoever brings it, and however often."""
    made = iot.create_keys_and_certificate(setAsActive=True)
    identity, pem = made["certificateId"], made["certificatePem"]
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException):
        iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")
    iot.update_certificate(certificateId=identity, newStatus="REVOKED")
    iot.delete_certificate(certificateId=identity)
    pages = iot.get_paginator("list_certificates").paginate()
    assert identity not in [one["certificateId"] for page in pages for one in page["certificates"]]
    back = iot.register_certificate_without_ca(certificatePem=pem, status="INACTIVE")
    assert back["certificateId"] == identity
    assert back["certificateArn"] == made["certificateArn"]
    assert status(iot, back) == "INACTIVE"
    iot.delete_certificate(certificateId=identity)


def test_only_an_idle_certificate_is_deleted(iot, name, certificate):
    arn, identity = certificate["certificateArn"], certificate["certificateId"]
    policy = f"p-{uuid.uuid4().hex}"
    iot.create_thing(thingName=name)
    iot.create_policy(policyName=policy, policyDocument=POLICY)
    iot.attach_policy(policyName=policy, target=arn)
    iot.attach_thing_principal(thingName=name, principal=arn)
    with pytest.raises(iot.exceptions.CertificateStateException) as error:
        iot.delete_certificate(certificateId=identity, forceDelete=True)
    refused(error, "CertificateStateException", 406)
    iot.update_certificate(certificateId=identity, newStatus="INACTIVE")
    with pytest.raises(iot.exceptions.DeleteConflictException) as error:
        iot.delete_certificate(certificateId=identity, forceDelete=True)
    refused(error, "DeleteConflictException", 409)
    with pytest.raises(iot.exceptions.InvalidRequestException):
        iot.delete_thing(thingName=name)
    iot.detach_thing_principal(thingName=name, principal=arn)
    iot.delete_thing(thingName=name)
    with pytest.raises(iot.exceptions.DeleteConflictException):
        iot.delete_certificate(certificateId=identity)
    with pytest.raises(iot.exceptions.DeleteConflictException):
        iot.delete_policy(policyName=policy)
    iot.delete_certificate(certificateId=identity, forceDelete=True)
    iot.delete_policy(policyName=policy)
    with pytest.raises(iot.exceptions.ResourceNotFoundException):
        iot.describe_certificate(certificateId=identity)


def test_certificates_are_listed_by_age(new_service):
    iot = new_service().client("iot")
    made = [iot.create_keys_and_certificate()["certificateId"] for _ in range(7)]

    def listed(**query):
        config = {"PageSize": 3}
        pages = iot.get_paginator("list_certificates").paginate(PaginationConfig=config, **query)
        return [one["certificateId"] for page in pages for one in page["certificates"]]

    # Those of one millisecond are ordered by their ids.
    oldest_first = listed(ascendingOrder=True)
    assert sorted(oldest_first) == sorted(made)
    assert listed() == oldest_first[::-1]
    one = iot.list_certificates(pageSize=1)["certificates"][0]
    assert set(one) == {
        "certificateArn",
        "certificateId",
        "certificateMode",
        "creationDate",
        "status",
    }


@pytest.mark.parametrize("bad", ["a" * 63, "a" * 65, "g" * 64, "0x" + "a" * 62])
def test_ids_that_no_certificate_has_are_refused(iot, bad):
    with pytest.raises((iot.exceptions.InvalidRequestException, Exception)) as error:
        iot.describe_certificate(certificateId=bad)
    if len(bad) >= 64:
        refused(error, "InvalidRequestException", 400)


# Policies


def test_a_policy_is_created_read_listed_and_deleted(iot):
    policy = f"P_+=,.@-{uuid.uuid4().hex}"
    made = iot.create_policy(policyName=policy, policyDocument=POLICY)
    arn = made["policyArn"]
    assert re.fullmatch(PREFIX + "policy/" + re.escape(policy), arn)
    assert (made["policyVersionId"], made["policyDocument"]) == ("1", POLICY)
    read = iot.get_policy(policyName=policy)
    assert read["policyDocument"] == POLICY and read["policyArn"] == arn
    assert read["defaultVersionId"] == "1"
    pages = iot.get_paginator("list_policies").paginate(PaginationConfig={"PageSize": 1})
    listed = [one for page in pages for one in page["policies"]]
    assert {"policyName": policy, "policyArn": arn} in listed
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException):
        iot.create_policy(policyName=policy, policyDocument=POLICY)
    iot.delete_policy(policyName=policy)
    for call in (iot.get_policy, iot.delete_policy):
        with pytest.raises(iot.exceptions.ResourceNotFoundException) as error:
            call(policyName=policy)
        refused(error, "ResourceNotFoundException", 404)


@pytest.mark.parametrize("bad", ["", "{", "[]", '"text"'])
def test_documents_that_are_no_policies_are_refused(iot, bad):
    with pytest.raises(iot.exceptions.MalformedPolicyException) as error:
        iot.create_policy(policyName="malformed", policyDocument=bad)
    refused(error, "MalformedPolicyException", 400)


def test_attachments_show_from_both_ends(iot, name, certificate):
    arn = certificate["certificateArn"]
    policy = f"p-{uuid.uuid4().hex}"
    iot.create_thing(thingName=name)
    iot.create_policy(policyName=policy, policyDocument=POLICY)
    for _ in range(2):
        iot.attach_thing_principal(thingName=name, principal=arn)
        iot.attach_policy(policyName=policy, target=arn)
    assert iot.list_thing_principals(thingName=name)["principals"] == [arn]
    assert iot.list_principal_things(principal=arn)["things"] == [name]
    policies = iot.list_attached_policies(target=arn)["policies"]
    assert [one["policyName"] for one in policies] == [policy]
    assert iot.list_targets_for_policy(policyName=policy)["targets"] == [arn]
    for _ in range(2):
        iot.detach_thing_principal(thingName=name, principal=arn)
        iot.detach_policy(policyName=policy, target=arn)
    assert iot.list_thing_principals(thingName=name)["principals"] == []
    assert iot.list_attached_policies(target=arn)["policies"] == []


def test_attachments_need_both_ends(iot, name, certificate):
    arn = certificate["certificateArn"]
    missing = arn[:-64] + "0" * 64
    iot.create_thing(thingName=name)
    for thing, principal in ((name, missing), ("nowhere", arn)):
        with pytest.raises(iot.exceptions.ResourceNotFoundException) as error:
            iot.attach_thing_principal(thingName=thing, principal=principal)
        refused(error, "ResourceNotFoundException", 404)
    with pytest.raises(iot.exceptions.ResourceNotFoundException):
        iot.attach_policy(policyName="nowhere", target=arn)
    for bad in ("x", arn[:-1], arn.replace(":cert/", ":thing/"), "us-east-1:not-a-certificate"):
        with pytest.raises(iot.exceptions.InvalidRequestException) as error:
            iot.attach_thing_principal(thingName=name, principal=bad)
        refused(error, "InvalidRequestException", 400)


# The rest


def test_the_endpoint_of_devices(service, iot):
    for kind in ("iot:Data-ATS", "iot:Data"):
        address = iot.describe_endpoint(endpointType=kind)["endpointAddress"]
        assert address == service.endpoints["mqtt"]
    assert iot.describe_endpoint()["endpointAddress"] == service.endpoints["mqtt"]
    for kind in ("iot:CredentialProvider", "iot:Jobs", "nonsense"):
        with pytest.raises(iot.exceptions.InvalidRequestException):
            iot.describe_endpoint(endpointType=kind)


def test_operations_that_are_not_here_say_so(iot):
    for call in (iot.list_jobs, iot.list_thing_groups, iot.list_topic_rules):
        with pytest.raises(iot.exceptions.ClientError) as error:
            call()
        refused(error, "UnknownOperationException", 404)


def test_who_one_is(sts):
    identity = sts.get_caller_identity()
    account = identity["Account"]
    assert re.fullmatch(r"\d{12}", account)
    assert re.fullmatch(f"arn:aws:iam::{account}:user/[a-z]+", identity["Arn"])
    assert identity["UserId"]
    with pytest.raises(sts.exceptions.ClientError) as error:
        sts.get_session_token()
    assert error.value.response["Error"]["Code"] == "InvalidAction"


def test_a_policy_bounds_what_a_key_may_do(new_service, tmp_path):
    allowed = ["iot:CreateThing", "iot:DescribeThing", "iot:AttachThingPrincipal"]
    things = {"Effect": "Allow", "Action": allowed, "Resource": "arn:aws:iot:*:*:thing/lamp-*"}
    anything = ["iot:CreateKeysAndCertificate"]
    key = {
        "accessKeyId": "AKIAREGISTRYTEST0000",
        "secretAccessKey": "x" * 40,
        "user": "installer",
        "policy": {
            "Version": "2012-10-17",
            "Statement": [things, {"Effect": "Allow", "Action": anything, "Resource": "*"}],
        },
    }
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps([key]))
    service = new_service("--access-keys", str(path))
    keys = (key["accessKeyId"], key["secretAccessKey"])
    iot = service.client("iot", keys)
    iot.create_thing(thingName="lamp-1")
    arn = iot.create_keys_and_certificate()["certificateArn"]
    for refusal in (
        lambda: iot.create_thing(thingName="door-1"),
        lambda: iot.delete_thing(thingName="lamp-1"),
        lambda: iot.list_things(),
        # It takes a right on the certificate too.
        lambda: iot.attach_thing_principal(thingName="lamp-1", principal=arn),
    ):
        with pytest.raises(iot.exceptions.ClientError) as error:
            refusal()
        refused(error, "AccessDeniedException", 403)
    identity = service.client("sts", keys).get_caller_identity()
    assert identity["Arn"].endswith(":user/installer")


def test_a_script_for_the_command_line_runs_unchanged(service, tmp_path):
    """What tutorials do to provision a device."""
    script = r"""
set -eu
aws iot create-thing --thing-name scripted --attribute-payload attributes={room=hall} >/dev/null
ARN=$(aws iot create-keys-and-certificate --set-as-active --certificate-pem-outfile device.pem \
    --public-key-outfile public.key --private-key-outfile private.key \
    --query certificateArn --output text)
aws iot create-policy --policy-name scripted --policy-document file://policy.json >/dev/null
aws iot attach-policy --policy-name scripted --target "$ARN"
aws iot attach-thing-principal --thing-name scripted --principal "$ARN"
aws iot list-thing-principals --thing-name scripted --query 'principals[0]' --output text
aws iot update-certificate --certificate-id "${ARN##*/}" --new-status INACTIVE
aws iot detach-thing-principal --thing-name scripted --principal "$ARN"
aws iot detach-policy --policy-name scripted --target "$ARN"
aws iot delete-certificate --certificate-id "${ARN##*/}"
aws iot delete-policy --policy-name scripted
aws iot delete-thing --thing-name scripted
aws iot list-things --query 'length(things)'
aws sts get-caller-identity --query Account --output text
echo "$ARN"
"""
    (tmp_path / "policy.json").write_text(POLICY)
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env=service.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    principal, things, account, arn = done.stdout.split()
    assert principal == arn
    assert re.fullmatch(r"\d{12}", account) and int(things) >= 0
    for made in ("device.pem", "private.key", "public.key"):
        assert (tmp_path / made).read_text().startswith("-----BEGIN")
