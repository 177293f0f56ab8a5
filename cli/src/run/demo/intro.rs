//! What runs where, and what to type next.

use super::page::Ports;
use super::text::Row;

/// The picture needs this many columns; narrower terminals get a list.
const PICTURE_WIDTH: usize = 79;

/// What is where, and what can be done with it.
pub(super) fn rows(ports: Ports, exports: &[String; 2], width: usize) -> Vec<Row> {
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
    let cut = |row: Row| row.cut(width);
    let mut rows: Vec<Row> = rows.into_iter().map(cut).collect();
    let page = format!("curl http://127.0.0.1:{}/", ports.page);
    rows.push(command(&page, "a page from the device", width));
    let echo = format!("nc 127.0.0.1 {}", ports.echo);
    rows.push(command(&echo, "the device says what you say", width));
    rows.push(Row::new());
    let api = Row::new().plain(" And its API, with the key that it has made:");
    rows.extend([cut(api), Row::new()]);
    rows.extend(exports.iter().map(|line| typed(line)));
    rows.push(command("adit tunnel list", "the tunnel", width));
    rows.push(command("adit thing list", "the device", width));
    let aws = "aws iotsecuretunneling list-tunnels";
    rows.push(command(aws, "the same by AWS's", width));
    let end = Row::new().strong(" Ctrl-C").faint(" ends it all.");
    rows.extend([Row::new(), cut(end)]);
    rows
}

fn typed(line: &str) -> Row {
    Row::new().accent(format!("   {line}"))
}

/// Something to be typed is never cut; what it does is left out where there is no room for it.
fn command(typed: &str, what: &str, width: usize) -> Row {
    let explained = self::typed(&format!("{typed:<36}")).faint(format!(" {what}"));
    if explained.width() <= width {
        explained
    } else {
        self::typed(typed)
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
            .plain("API   ")
            .accent(port(ports.api))
            .faint(" │   │ ")
            .plain("            ╭▶ ")
            .accent(port(ports.device_page))
            .plain(" page ")
            .faint("│"),
        Row::new()
            .faint(" │               ")
            .plain("├ source ╞")
            .strong("══▶")
            .faint("│ ")
            .plain("relay ")
            .accent(port(ports.relay))
            .faint(" │")
            .strong("◀══")
            .plain("╡ destination ┤              ")
            .faint("│"),
        Row::new()
            .faint(" │ ")
            .plain("nc   ▶ ")
            .accent(port(ports.echo))
            .plain(" ╯  proxy ")
            .faint("│   │ ")
            .plain("MQTT  ")
            .accent(port(ports.mqtt))
            .faint(" │")
            .strong("◀──")
            .plain("┤ agent       ╰▶ ")
            .accent(port(ports.device_echo))
            .plain(" echo ")
            .faint("│"),
        Row::new().faint(
            " ╰────────────────────────╯   ╰──────────────╯   ╰────────────────────────────╯",
        ),
        Row::new()
            .plain(" ══▶")
            .faint(" TLS and WebSocket; both sides dial the relay, the device opens no port"),
        Row::new()
            .plain(" ──▶")
            .faint(" TLS and MQTT; the device waits there, and is told of each tunnel"),
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
        step("MQTT", ports.mqtt),
        Row::new().strong("   ▲"),
        Row::new().strong("   ║ ").faint("dialled by the device"),
        Row::new().strong(" agent"),
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
            mqtt: port,
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
            mqtt: 30_005,
            device_page: 30_006,
            device_echo: 30_007,
        };
        for width in [36, 40, 60, 78, 79, 200] {
            let exports = ["export A=1 B=2", "export C=3"].map(str::to_owned);
            let rows = rows(ports, &exports, width);
            let text: String = rows.iter().map(|row| row.paint(false)).collect();
            assert!(text.contains("curl http://127.0.0.1:30001/"), "{width}");
            for port in ports.all() {
                assert!(text.contains(&port.to_string()), "{port} at {width}");
            }
            for typed in exports
                .iter()
                .chain([&"aws iotsecuretunneling list-tunnels".to_owned()])
            {
                assert!(text.contains(typed), "{typed} at {width}");
            }
            // What is to be typed is left whole and takes the rows that it needs.
            let is_typed = |row: &Row| row.paint(false).starts_with("   aws ");
            let mut others = rows.iter().filter(|row| !is_typed(row));
            assert!(others.all(|row| row.width() <= width), "{width}");
        }
    }
}
