//! What the pretend device's web server has to say: the way that the request took.

use bytes::Bytes;

/// The ports of the demo, all on 127.0.0.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports {
    /// Where the source listens for the page.
    pub(super) page: u16,
    /// Where the source listens for the echo.
    pub(super) echo: u16,
    /// Where both sides of the tunnel connect to.
    pub(super) relay: u16,
    /// Where tunnels are opened.
    pub(super) api: u16,
    /// Where the device hears of them.
    pub(super) mqtt: u16,
    /// The device's web server.
    pub(super) device_page: u16,
    /// The device's echo.
    pub(super) device_echo: u16,
}

impl Ports {
    pub(super) fn all(self) -> [u16; 7] {
        [
            self.page,
            self.echo,
            self.relay,
            self.api,
            self.mqtt,
            self.device_page,
            self.device_echo,
        ]
    }
}

/// The same for two kinds of readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// For browsers.
    pub(super) html: Bytes,
    /// For terminals.
    pub(super) text: Bytes,
}

impl Page {
    /// Nothing is loaded, run or sent; the one style sheet is known by its SHA-256.
    pub(super) const POLICY: &'static str = "default-src 'none'; \
        style-src 'sha256-EVTapXhG7ca7Jjj4mIWWLuQBl5NFhhmMJGvYy9AHp/I='; \
        base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    pub(super) fn new(ports: Ports) -> Self {
        Self {
            html: filled(include_str!("page.html"), ports, 0),
            text: filled(include_str!("page.txt"), ports, 5),
        }
    }
}

fn filled(template: &str, ports: Ports, width: usize) -> Bytes {
    let mut text = template.to_owned();
    for (name, port) in [
        ("{page}", ports.page),
        ("{relay}", ports.relay),
        ("{device_page}", ports.device_page),
    ] {
        text = text.replace(name, &format!("{port:<width$}"));
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn the_policy_allows_exactly_the_style_sheet_of_the_page() {
        let html = include_str!("page.html");
        let (_, rest) = html.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let hash = digest::digest(&digest::SHA256, style.as_bytes());
        let hash = BASE64_STANDARD.encode(hash);
        assert!(
            Page::POLICY.contains(&format!("'sha256-{hash}'")),
            "the style sheet's hash is {hash}"
        );
    }

    #[test]
    fn the_page_names_the_way_and_needs_nothing_else() {
        let page = Page::new(Ports {
            page: 1,
            relay: 22,
            device_page: 333,
            ..Ports::default()
        });
        for body in [page.html, page.text] {
            let body = String::from_utf8(body.to_vec()).unwrap();
            for place in ["127.0.0.1:1", "127.0.0.1:22", "127.0.0.1:333"] {
                assert!(body.contains(place), "{place}");
            }
            for foreign in ["http", "src=", "url(", "{page}", "{relay}", "<script"] {
                assert!(!body.contains(foreign), "{foreign}");
            }
            assert!(body.len() < 4_096);
        }
    }
}
