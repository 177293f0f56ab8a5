//! Lists: newest first, in pages that do not shift.

use super::*;

fn page(fixture: &Fixture, thing: Option<&str>, after: Option<Cursor>, count: usize) -> Page {
    let request = ListRequest {
        thing: thing.and_then(ThingName::new),
        after,
        count: NonZeroUsize::new(count).unwrap(),
    };
    fixture.tunnels.list(fixture.now(), &request)
}

fn ids(page: &Page) -> Vec<&str> {
    page.tunnels.iter().map(|t| t.id.as_str()).collect()
}

#[test]
fn newest_first_whatever_the_time_of_day_does() {
    let mut fixture = Fixture::new();
    for jump in [0, -100_000, 50_000] {
        fixture.clock.jump_wall(jump);
        fixture.open();
    }
    let page = page(&fixture, None, None, 10);
    assert_eq!(ids(&page), ["tunnel-3", "tunnel-2", "tunnel-1"]);
    assert_eq!(page.next, None);
}

#[test]
fn the_last_page_has_no_cursor() {
    let mut fixture = Fixture::new();
    assert!(page(&fixture, None, None, 1).tunnels.is_empty());
    for _ in 0..4 {
        fixture.open();
    }
    for (count, more) in [(3, true), (4, false), (5, false)] {
        let page = page(&fixture, None, None, count);
        assert_eq!(page.next.is_some(), more, "{count}");
        assert_eq!(page.tunnels.len(), count.min(4));
    }
    let second = page(&fixture, None, page(&fixture, None, None, 3).next, 3);
    assert_eq!((ids(&second), second.next), (vec!["tunnel-1"], None));
}

#[test]
fn pages_are_stable_under_inserts_and_removals() {
    let mut fixture = Fixture::new();
    let tunnels: Vec<_> = (0..10).map(|_| fixture.open()).collect();
    let mut seen = Vec::new();
    let mut after = None;
    for round in 0.. {
        let page = page(&fixture, None, after, 3);
        seen.extend(ids(&page).iter().map(|id| id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
        // New ones come in front; the very tunnel that the cursor stands on goes away.
        fixture.open();
        if round == 0 {
            let last = &tunnels[7];
            fixture
                .tunnels
                .close(fixture.now(), &last.id, true)
                .unwrap();
        }
    }
    let expected: Vec<_> = (1..=10).rev().map(|n| format!("tunnel-{n}")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_device_has_its_own_list_with_closed_tunnels_in_it() {
    let mut fixture = Fixture::new();
    for number in 0..9 {
        let thing = ["a", "b"].get(number % 3).copied();
        let config = config(thing, &["SSH"]);
        let tunnel = fixture.try_open(Some(config), 720).unwrap();
        if number == 3 {
            fixture.close(&tunnel);
        }
    }
    let first = page(&fixture, Some("a"), None, 2);
    assert_eq!(ids(&first), ["tunnel-7", "tunnel-4"]);
    assert_eq!(first.tunnels[1].status, Status::Closed);
    let second = page(&fixture, Some("a"), first.next, 2);
    assert_eq!((ids(&second), second.next), (vec!["tunnel-1"], None));
    assert!(page(&fixture, Some("c"), None, 2).tunnels.is_empty());
}
