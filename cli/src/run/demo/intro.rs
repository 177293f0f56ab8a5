//! What runs where, and what to type next.

use std::time::Duration;

use super::page::Ports;
use super::quantity::short_time;
use super::text::Row;

/// The picture needs this many columns; narrower terminals get a list.
const PICTURE_WIDTH: usize = 79;

/// The first screen of the demo.
pub(super) fn rows(ports: Ports, backend: &str, up_in: Duration, width: usize) -> Vec<Row> {
    let mut rows = vec![
        Row::new(),
        Row::new()
            .strong(" adit demo")
            .plain("  a tunnel and everything it takes, in this one process"),
        Row::new(),
    ];
    if width >= PICTURE_WIDTH {
        rows.extend(picture(ports));
    } else {
        rows.extend(list(ports));
    }
    rows.extend([
        Row::new(),
        Row::new()
            .strong(" Try it")
            .plain(" from another terminal:"),
        Row::new(),
    ]);
    let mut rows: Vec<Row> = rows.into_iter().map(|row| row.cut(width)).collect();
    let page = format!("curl http://127.0.0.1:{}/", ports.page);
    rows.push(command(&page, "a page from the device", width));
    let echo = format!("nc 127.0.0.1 {}", ports.echo);
    rows.push(command(&echo, "the device says what you say", width));
    let up_in = format!(" Up in {} on {backend}. ", short_time(up_in));
    let end = Row::new()
        .faint(up_in)
        .strong("Ctrl-C")
        .faint(" ends it all.");
    rows.extend([Row::new(), end.cut(width)]);
    rows
}

/// Something to be typed is never cut; what it does is left out where there is no room for it.
fn command(typed: &str, what: &str, width: usize) -> Row {
    let row = Row::new().accent(format!("   {typed:<32}"));
    let explained = row.faint(format!(" {what}"));
    if explained.width() <= width {
        explained
    } else {
        Row::new().accent(format!("   {typed}"))
    }
}

/// Three machines, all of them this one.
fn picture(ports: Ports) -> Vec<Row> {
    let port = |port: u16| format!(":{port:<5}");
    vec![
        Row::new()
            .faint(" ╭─ ")
            .strong("your side")
            .faint(" ────────────╮   ╭─ ")
            .strong("service")
            .faint(" ────╮   ╭─ ")
            .strong("device")
            .faint(" ───────────────────╮"),
        Row::new()
            .faint(" │ ")
            .plain("curl ▶ ")
            .accent(port(ports.page))
            .plain(" ╮        ")
            .faint("│   │ ")
            .plain("relay ")
            .accent(port(ports.relay))
            .faint(" │   │ ")
            .plain("            ╭▶ ")
            .accent(port(ports.device_page))
            .plain(" page ")
            .faint("│"),
        Row::new()
            .faint(" │               ")
            .plain("├ source ╞")
            .strong("══▶")
            .faint("│              │")
            .strong("◀══")
            .plain("╡ destination ┤              ")
            .faint("│"),
        Row::new()
            .faint(" │ ")
            .plain("nc   ▶ ")
            .accent(port(ports.echo))
            .plain(" ╯  proxy ")
            .faint("│   │ ")
            .plain("API   ")
            .accent(port(ports.api))
            .faint(" │   │ ")
            .plain("   proxy    ╰▶ ")
            .accent(port(ports.device_echo))
            .plain(" echo ")
            .faint("│"),
        Row::new().faint(
            " ╰────────────────────────╯   ╰──────────────╯   ╰────────────────────────────╯",
        ),
        Row::new()
            .plain(" ══▶")
            .faint(" TLS and WebSocket; both sides dial the relay, the device opens no port"),
    ]
}

/// The same from top to bottom.
fn list(ports: Ports) -> Vec<Row> {
    let place = |port: u16| format!("127.0.0.1:{port}");
    let step = |name: &str, port: u16| {
        Row::new()
            .strong(format!(" {name:<13}"))
            .accent(place(port))
    };
    vec![
        step("source", ports.page).plain(" page"),
        step("", ports.echo).plain(" echo"),
        Row::new().strong("   ║ ").faint("TLS and WebSocket"),
        Row::new().strong("   ▼"),
        step("relay", ports.relay),
        step("API", ports.api),
        Row::new().strong("   ▲"),
        Row::new().strong("   ║ ").faint("dialled by the device"),
        Row::new().strong(" destination"),
        Row::new().faint("   │ TCP"),
        step("device", ports.device_page).plain(" page"),
        step("", ports.device_echo).plain(" echo"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(port: u16) -> Ports {
        Ports {
            page: port,
            echo: port,
            relay: port,
            api: port,
            device_page: port,
            device_echo: port,
        }
    }

    #[test]
    fn the_picture_is_straight_whatever_the_ports_are() {
        for port in [1, 8_080, 65_535] {
            let rows = picture(ports(port));
            for row in &rows[..5] {
                assert_eq!(row.width(), PICTURE_WIDTH, "{}", row.paint(false));
            }
            assert!(rows.iter().all(|row| row.width() <= PICTURE_WIDTH));
        }
    }

    #[test]
    fn every_port_is_shown_whole_at_any_usual_width() {
        let ports = Ports {
            page: 30_001,
            echo: 30_002,
            relay: 30_003,
            api: 30_004,
            device_page: 30_005,
            device_echo: 30_006,
        };
        for width in [36, 40, 60, 78, 79, 200] {
            let rows = rows(ports, "epoll", Duration::from_millis(40), width);
            let text: String = rows.iter().map(|row| row.paint(false)).collect();
            assert!(text.contains("curl http://127.0.0.1:30001/"), "{width}");
            for port in ports.all() {
                assert!(text.contains(&port.to_string()), "{port} at {width}");
            }
            assert!(rows.iter().all(|row| row.width() <= width));
        }
    }
}
