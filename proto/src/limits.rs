//! Every bound of the wire format, in bytes unless the name says otherwise.

/// Size of the length in front of each tunnel message (wire specification, section 3).
pub const LENGTH_PREFIX_SIZE: usize = 2;

/// Largest tunnel message without its prefix: what the two length bytes can say.
pub const MAX_MESSAGE_SIZE: usize = 65_535;

/// Largest payload of a DATA message: 63 KiB (section 4). The sender's duty; a decoder reads whatever
/// fits [`MAX_MESSAGE_SIZE`].
pub const MAX_PAYLOAD_SIZE: usize = 63 * 1024;

/// Largest WebSocket frame payload in either direction (section 2).
pub const MAX_FRAME_PAYLOAD_SIZE: usize = 131_076;

/// Largest upgrade request, from `GET` to the empty line (section 1.3).
pub const MAX_REQUEST_HEAD_SIZE: usize = 4_096;

/// Largest head of an upgrade response that we read. Our own choice: no service is known to send more than 1 KiB.
pub const MAX_RESPONSE_HEAD_SIZE: usize = 16 * 1024;

/// What we keep of the body of a refused upgrade; it is one sentence in practice.
pub const MAX_REFUSAL_BODY_SIZE: usize = 1_024;

/// Largest chunked encoding we unpack to find that body: room for a kibibyte in tiny chunks, no more.
pub const MAX_CHUNKED_BODY_SIZE: usize = 8 * 1024;

/// Largest head of a web proxy's answer to CONNECT. Our own choice.
pub const MAX_CONNECT_REPLY_SIZE: usize = 8 * 1024;

/// Most header fields in one request or response. Our own choice: clients of this protocol send ten.
pub const MAX_HEADER_FIELDS: usize = 64;

/// Longest service id (section 5.1).
pub const MAX_SERVICE_ID_SIZE: usize = 128;

/// Longest tunnel id (control-plane API).
pub const MAX_TUNNEL_ID_SIZE: usize = 128;

/// Longest access token; one that long does not fit an upgrade request, so the request limit is the
/// tighter one (section 15).
pub const MAX_ACCESS_TOKEN_SIZE: usize = 4_096;

/// Shortest client token (section 1.2).
pub const MIN_CLIENT_TOKEN_SIZE: usize = 32;

/// Longest client token (section 1.2).
pub const MAX_CLIENT_TOKEN_SIZE: usize = 128;

/// Most services of one tunnel that [`crate::message::MessageView::service_ids`] collects.
///
/// AWS allows three by default (section 15). A message of 64 KiB could name 32,767 empty ones, which
/// as owned strings would cost twelve times the message.
pub const MAX_SERVICE_IDS: usize = 128;

/// Longest name of a region (wire specification, section 13).
pub const MAX_REGION_SIZE: usize = 64;

/// Largest notification of a tunnel: the longest token and the most and longest service ids, every
/// character of the token escaped, and as much again for members that we do not know.
pub const MAX_NOTIFICATION_SIZE: usize = 64 * 1024;

/// Largest payload of a WebSocket control frame (RFC 6455 §5.5).
pub const MAX_CONTROL_PAYLOAD_SIZE: usize = 125;

/// Largest WebSocket frame header: two bytes, a length of eight, a mask of four (RFC 6455 §5.2).
pub const MAX_FRAME_HEADER_SIZE: usize = 14;

const _: () = assert!(
    2 * (2 * MAX_ACCESS_TOKEN_SIZE + MAX_SERVICE_IDS * (3 + MAX_SERVICE_ID_SIZE))
        <= MAX_NOTIFICATION_SIZE
);
// A full payload and every other field at its largest fit one message (section 4: 149 bytes).
const _: () = assert!(MAX_PAYLOAD_SIZE + 149 <= MAX_MESSAGE_SIZE);
// A frame carries two of the largest messages (section 2).
const _: () = assert!(MAX_FRAME_PAYLOAD_SIZE == 2 * (MAX_MESSAGE_SIZE + 1 + LENGTH_PREFIX_SIZE));
// A SERVICE_IDS message with the most and longest service ids fits: type, ignorable, then three bytes each.
const _: () = assert!(4 + MAX_SERVICE_IDS * (3 + MAX_SERVICE_ID_SIZE) <= MAX_MESSAGE_SIZE);
