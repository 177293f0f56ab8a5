// The strictest parser of all: it throws where a time is a text or an error is not JSON.
import assert from "node:assert/strict";
import {
  CloseTunnelCommand, DescribeTunnelCommand, IoTSecureTunnelingClient, LimitExceededException,
  ListTagsForResourceCommand, ListTunnelsCommand, OpenTunnelCommand, ResourceNotFoundException,
  RotateTunnelAccessTokenCommand, TagResourceCommand, UntagResourceCommand,
} from "@aws-sdk/client-iotsecuretunneling";

const { ADIT_ENDPOINT: endpoint, AWS_DEFAULT_REGION: region, ADIT_STORE_IS_AWAY: isAway } = process.env;
const made = (more = {}) => new IoTSecureTunnelingClient({ endpoint, region, maxAttempts: 1, ...more });
const client = made();
const call = (Command, input = {}) => client.send(new Command(input));
const fails = (promise, name, status) => assert.rejects(promise, (error) => {
  assert.equal(error.name, name, error.message);
  assert.equal(error.$metadata.httpStatusCode, status);
  assert.equal(error.$metadata.requestId?.length, 36);
  assert.ok(error.message.length > 0);
  return true;
});

if (isAway) {
  await fails(call(ListTunnelsCommand), "ServiceUnavailableException", 503);
  console.log("it is away");
  process.exit(0);
}

const opened = await call(OpenTunnelCommand, {
  description: "h\u00e9llo \u2603",
  destinationConfig: { services: ["SSH"] },
  tags: [{ key: "k", value: "v" }],
});
const { tunnelId } = opened;
const { tunnel } = await call(DescribeTunnelCommand, { tunnelId });
assert.equal(tunnel.status, "OPEN");
assert.equal(tunnel.description, "h\u00e9llo \u2603");
assert.ok(tunnel.createdAt instanceof Date);
assert.ok(Math.abs(tunnel.createdAt - Date.now()) < 60_000);
assert.ok(tunnel.lastUpdatedAt instanceof Date);

const { tunnelSummaries } = await call(ListTunnelsCommand, { maxResults: 1 });
assert.equal(tunnelSummaries[0].tunnelId, tunnelId);
assert.ok(tunnelSummaries[0].createdAt instanceof Date);

const rotated = await call(RotateTunnelAccessTokenCommand, { tunnelId, clientMode: "SOURCE" });
assert.ok(rotated.sourceAccessToken);
assert.equal(rotated.destinationAccessToken, undefined);

const { tunnelArn: resourceArn } = tunnel;
await call(TagResourceCommand, { resourceArn, tags: [{ key: "h\u00e9", value: "" }, { key: "k", value: "w" }] });
await call(UntagResourceCommand, { resourceArn, tagKeys: ["none", "h\u00e9"] });
const { tags } = await call(ListTagsForResourceCommand, { resourceArn });
assert.deepEqual(tags, [{ key: "k", value: "w" }]);

const stranger = made({ credentials: { accessKeyId: process.env.AWS_ACCESS_KEY_ID, secretAccessKey: "x".repeat(40) } });
await fails(stranger.send(new ListTunnelsCommand({})), "InvalidSignatureException", 403);
await fails(call(OpenTunnelCommand, { description: "x".repeat(330_000) }), "RequestEntityTooLargeException", 413);
// The protocol itself has no 404: the registry's has, for a path that there is not. It is signed for under another name.
const lost = made({ signingName: "iot" });
lost.middlewareStack.add((next) => (args) => {
  args.request.path = "/no/such/thing";
  delete args.request.headers["x-amz-target"];
  return next(args);
}, { step: "build", priority: "low" });
await fails(lost.send(new ListTunnelsCommand({})), "UnknownOperationException", 404);

const many = Array.from({ length: 1000 }, (_, n) => `service-${n}`);
await assert.rejects(
  call(OpenTunnelCommand, { destinationConfig: { services: many } }),
  (error) => error instanceof LimitExceededException && error.message.length > 0,
);
await assert.rejects(
  call(OpenTunnelCommand, { timeoutConfig: { maxLifetimeTimeoutMinutes: 721 } }),
  { name: "ValidationException" },
);
await call(CloseTunnelCommand, { tunnelId, delete: true });
await assert.rejects(
  call(DescribeTunnelCommand, { tunnelId }),
  (error) => error instanceof ResourceNotFoundException && error.$metadata.requestId.length === 36,
);
console.log("all is well");
