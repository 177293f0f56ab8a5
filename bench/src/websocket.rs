//! Masking and frames.
//!
//! Held fixed: one buffer that stays in the cache; binary frames of one size, one after the other.

use crate::Case;
use crate::input::{LARGE, Payload, SMALL, bytes, frame};
use adit_engine::tunnel::compose::{End, finish_frame};
use adit_proto::limits::MAX_FRAME_PAYLOAD_SIZE;
use adit_proto::websocket::{FrameEvent, FrameReader, Role, mask, move_masked};
use fastwebsockets::{OpCode, WebSocket};
use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A frame that is not neutral, for what does not read its own output again.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Ours.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [SMALL, LARGE] {
        cases.push(mask_bytes(payload));
        cases.push(read(End::Client, payload));
        cases.push(read(End::Server, payload));
    }
    cases.push(move_bytes());
    cases.push(compose());
    cases
}

/// The frame reader and the masking loop of fastwebsockets.
pub fn rivals() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [SMALL, LARGE] {
        cases.push(fast_mask(payload));
        cases.push(fast_read(End::Client, payload));
        cases.push(fast_read(End::Server, payload));
    }
    cases
}

fn mask_bytes(Payload { label, size, count }: Payload) -> Case {
    Case::new(
        format!("mask/in_place/ours/{label}"),
        count,
        size,
        move || {
            let mut data = bytes(size);
            move || {
                for _ in 0..count {
                    mask(KEY, 0, black_box(&mut data));
                }
            }
        },
    )
}

fn fast_mask(Payload { label, size, count }: Payload) -> Case {
    let name = format!("mask/in_place/fastwebsockets/{label}");
    Case::new(name, count, size, move || {
        let mut data = bytes(size);
        move || {
            for _ in 0..count {
                fastwebsockets::unmask(black_box(&mut data), KEY);
            }
        }
    })
}

/// As a short frame is masked: it moves by two bytes on the way.
fn move_bytes() -> Case {
    Case::new(
        "mask/moved_by_2_B/ours/64_B",
        SMALL.count,
        SMALL.size,
        || {
            let mut data = bytes(SMALL.size + 2);
            move || {
                for _ in 0..SMALL.count {
                    move_masked(black_box(&mut data), 2..SMALL.size + 2, 0, KEY);
                }
            }
        },
    )
}

/// The header around content that was composed in place, masked.
fn compose() -> Case {
    Case::new("frame/compose/client/64_B", SMALL.count, SMALL.size, || {
        let mut area = bytes(End::Client.header_room() + SMALL.size);
        move || {
            for _ in 0..SMALL.count {
                let size = finish_frame(black_box(&mut area), End::Client, SMALL.size, KEY);
                black_box(size);
            }
        }
    })
}

const fn form(end: End) -> &'static str {
    match end {
        End::Client => "masked",
        End::Server => "unmasked",
    }
}

fn frames(end: End, Payload { size, count, .. }: Payload) -> Vec<u8> {
    frame(end, &bytes(size)).repeat(count)
}

/// Frames that `end` has sent.
fn read(end: End, payload: Payload) -> Case {
    let Payload { label, size, count } = payload;
    let name = format!("frame/read_{}/ours/{label}", form(end));
    Case::new(name, count, size, move || {
        let mut buffer = frames(end, payload);
        let role = match end {
            End::Client => Role::Server,
            End::Server => Role::Client,
        };
        let mut reader = FrameReader::new(role, MAX_FRAME_PAYLOAD_SIZE);
        move || {
            let (mut position, mut total) = (0, 0);
            while let Some(event) = reader.next(&mut buffer, &mut position).expect("frames") {
                let FrameEvent::Data(range) = event else {
                    panic!("{event:?}")
                };
                total += range.len();
                black_box(&buffer[range]);
            }
            assert_eq!(total, size * count);
        }
    })
}

fn fast_read(end: End, payload: Payload) -> Case {
    let Payload { label, size, count } = payload;
    let name = format!("frame/read_{}/fastwebsockets/{label}", form(end));
    Case::new(name, count, size, move || {
        let role = match end {
            End::Client => fastwebsockets::Role::Server,
            End::Server => fastwebsockets::Role::Client,
        };
        let stream = Endless {
            frames: frames(end, payload),
            position: 0,
        };
        let mut socket = WebSocket::after_handshake(stream, role);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        move || {
            runtime.block_on(async {
                for _ in 0..count {
                    let frame = socket.read_frame().await.expect("a frame");
                    assert_eq!((frame.opcode, frame.payload.len()), (OpCode::Binary, size));
                    black_box(&frame);
                }
            });
        }
    })
}

/// A connection over which the same frames come again and again.
struct Endless {
    frames: Vec<u8>,
    position: usize,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let position = self.position;
        let rest = &self.frames[position..];
        let size = rest.len().min(into.remaining());
        into.put_slice(&rest[..size]);
        self.position = (position + size) % self.frames.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
