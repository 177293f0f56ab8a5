//! A file that is not what was written is refused, by name, and left as it is.

use super::*;

/// A directory with a few tunnels in it, and the bytes of its file.
async fn written() -> (Rig, Vec<u8>) {
    let rig = Rig::new();
    let store = rig.start();
    for name in ["first", "second"] {
        let tunnel = open(&store, rig.now(), name).await.unwrap();
        let added = tags(&[("canary", "tweet-tweet")]);
        store.tag(&tunnel.id, added).await.unwrap();
    }
    drop(store);
    let bytes = fs::read(rig.path()).unwrap();
    (rig, bytes)
}

fn refusal(rig: &Rig, bytes: &[u8], what: &str) -> String {
    fs::write(rig.path(), bytes).unwrap();
    let Err(error) = rig.try_start() else {
        panic!("{what} was accepted");
    };
    assert_eq!(fs::read(rig.path()).unwrap(), bytes, "{what}: left alone");
    let text = error.to_string();
    assert!(text.contains("/tunnels.json "), "{what}: {text}");
    assert!(text.contains("away"), "{what} says what to do: {text}");
    assert!(!text.contains("tweet"), "{what}: {text}");
    text
}

#[tokio::test]
async fn a_file_cut_off_anywhere_is_refused() {
    let (rig, bytes) = written().await;
    let sizes = (0..bytes.len()).step_by(64);
    for size in sizes.chain([1, bytes.len() - 2, bytes.len() - 1]) {
        let text = refusal(&rig, &bytes[..size], &format!("cut at {size}"));
        assert!(text.contains("is damaged: "), "{text}");
    }
    fs::write(rig.path(), &bytes).unwrap();
    rig.start();
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_refused() {
    let (rig, bytes) = written().await;
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        refusal(&rig, &bytes, &format!("a bit of byte {at}"));
    }
}

#[tokio::test]
async fn other_content_is_refused() {
    let (rig, bytes) = written().await;
    let twice = [&bytes[..], &bytes[..]].concat();
    for (what, bytes) in [
        ("zeroes", &vec![0; bytes.len()][..]),
        ("an empty document", b"{}"),
        ("a document of another kind", b"{\"version\":1}\n{}\n"),
        ("version 0", b"{\"version\":0,\"table\":\n{}\n}\n"),
        ("one byte more", &[&bytes[..], b"\n"].concat()),
        ("the file twice", &twice),
        ("no text", b"\xff\xfe"),
    ] {
        let text = refusal(&rig, bytes, what);
        assert!(text.contains("is damaged: "), "{text}");
    }
}

#[tokio::test]
async fn a_newer_format_is_not_called_damaged() {
    let (rig, _) = written().await;
    let newer = b"{\"version\":2,\"codec\":\"x\",\"table\":\nwho knows";
    let text = refusal(&rig, newer, "version 2");
    assert!(
        text.contains("newer version of this program (format 2; this one knows up to 1)"),
        "{text}"
    );
}

#[tokio::test]
async fn what_an_interrupted_write_left_behind_is_removed_and_not_believed() {
    let (rig, bytes) = written().await;
    let leftover = rig.parent.path().join(".tunnels.json.new");
    for half in [
        &b""[..],
        b"{\"version\":1",
        &bytes[..bytes.len() / 2],
        &bytes,
    ] {
        fs::write(&leftover, half).unwrap();
        let store = rig.start();
        assert!(!leftover.exists());
        let first = "first".parse().unwrap();
        assert_eq!(store.status(rig.now(), &first).await, Some(Status::Open));
    }
    // Also when there is nothing else yet.
    let rig = Rig::new();
    fs::write(rig.parent.path().join(".tunnels.json.new"), &bytes).unwrap();
    let store = rig.start();
    assert_eq!(
        store.status(rig.now(), &"first".parse().unwrap()).await,
        None
    );
}
