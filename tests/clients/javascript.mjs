// The strictest parser of all: it throws where a time is a text or an error is not JSON.
import assert from "node:assert/strict";
import {
  CloseTunnelCommand, DescribeTunnelCommand, IoTSecureTunnelingClient, LimitExceededException,
  ListTunnelsCommand, OpenTunnelCommand, ResourceNotFoundException, RotateTunnelAccessTokenCommand,
} from "@aws-sdk/client-iotsecuretunneling";

const { ADIT_ENDPOINT: endpoint, AWS_DEFAULT_REGION: region } = process.env;
const client = new IoTSecureTunnelingClient({ endpoint, region, maxAttempts: 1 });
const call = (Command, input = {}) => client.send(new Command(input));

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
